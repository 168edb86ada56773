//! Reads `agents`. No hash is ever shown: what stands in its place may be the key itself.
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

use super::{Access, AgentKey, Agents, Certificate, KeyHash, Network, Peer};
use crate::config::Secret;
use crate::config::file::Kind;
use crate::config::keys::{ACCESS, AGENT_KEY, AGENTS, CERTIFICATE, PEER, RUNGS};
use crate::config::known::Known;
use crate::config::read::{At, Fields, Reader};
use crate::config::upstream::{header_name, holds_credentials};
use crate::identity::Rung;
use crate::units::{self, UnitError, glob_covers};

/// The overflow id: in a user namespace of its own the kernel shows every other user as this one.
const NAMELESS: u64 = 65_534;
const GLOB: &str = "a glob like gpt-*";

pub(in crate::config) fn agents<'r>(
    reader: &'r Reader<'r>,
    at: &At<'_>,
    known: &Known<'_>,
) -> Option<Agents> {
    let fields = reader.section(at, &AGENTS)?;
    let default = Agents::default();
    let listed = ["keys", "certificates", "peers"].iter().any(|key| fields.get(key).is_some());
    let access = if listed { Access::Known } else { Access::Open };
    let pepper = fields.get("pepper").is_some();
    let agents = Agents {
        access: fields
            .read("access", access, |r, at| r.choice(at, ACCESS, &[Access::Open, Access::Known])),
        identify: fields.read("identify", default.identify, identify),
        header: fields.read("header", default.header, header),
        team_header: fields.maybe("team_header", header),
        trust: fields.read("trust", Vec::new(), |r, at| Some(trust(r, at))),
        pepper: fields.maybe("pepper", Reader::secret),
        keys: fields.read("keys", Vec::new(), |r, at| Some(keys(r, at, pepper, known))),
        certificates: fields.read("certificates", Vec::new(), |r, at| Some(certificates(r, at))),
        peers: fields.read("peers", Vec::new(), |r, at| Some(peers(r, at))),
    };
    idle_keys(reader, &fields, &agents, known);
    let kept = known.state && agents.identify.contains(&Rung::Key);
    if let Some(at) = fields.get("access")
        && agents.access == Access::Known
        && !listed
        && !kept
    {
        let expected = "`keys`, `certificates` or `peers` here, or `state` to keep keys in, and \
                        `key` in `identify`";
        reader.wrong(&at, "`known`, but nobody is", expected);
    }
    Some(agents)
}

fn identify(reader: &Reader<'_>, at: &At<'_>) -> Option<Vec<Rung>> {
    let mut rungs: Vec<Rung> = Vec::new();
    for item in reader.list(at, "a list like [key, header, address]") {
        let Some(rung) = reader.choice(&item, RUNGS, &Rung::ALL) else { continue };
        if rungs.contains(&rung) {
            reader.wrong(&item, format!("`{}` a second time", rung.as_str()), "each word once");
        }
        rungs.push(rung);
    }
    (!rungs.is_empty()).then_some(rungs)
}

fn header(reader: &Reader<'_>, at: &At<'_>) -> Option<HeaderName> {
    const EXPECTED: &str = "the name of a header, like x-agent-id";
    let text = reader.text(at, EXPECTED)?;
    let name = header_name(&text.value);
    match name {
        Some(name) if holds_credentials(&name) => {
            let found = format!("`{name}`, which holds credentials");
            reader.wrong(at, found, "a header whose value may be seen, like x-agent-id");
            None
        }
        Some(name) => Some(name),
        None => {
            reader.wrong(at, text.shown(), EXPECTED);
            None
        }
    }
}

fn trust(reader: &Reader<'_>, at: &At<'_>) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    for item in reader.list(at, "a list of networks like [10.0.0.0/8, ::1]") {
        let Some(text) = reader.text(&item, NETWORK) else { continue };
        match network(&text.value) {
            Ok(network) => networks.push(network),
            Err(error) => reader.wrong(&item, text.shown(), &error.0),
        }
    }
    networks
}

const NETWORK: &str = "a network like 10.0.0.0/8, or an address";

/// Reads `10.0.0.0/8` or `::1`, which is a network of one.
pub(super) fn network(text: &str) -> Result<Network, UnitError> {
    let wrong = || UnitError::expected(NETWORK);
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|prefix| *prefix <= longest).ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
        None => longest,
    };
    let first = first_of(address, prefix);
    if first != address {
        return Err(UnitError(format!("the first address of the network: {first}/{prefix}")));
    }
    Ok(Network { address, prefix })
}

fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// `pepper` alone, of the whole section.
pub(in crate::config) fn pepper<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Secret> {
    reader.section(at, &AGENTS)?.maybe("pepper", Reader::secret)
}

fn keys<'r>(reader: &'r Reader<'r>, at: &At<'_>, pepper: bool, known: &Known<'_>) -> Vec<AgentKey> {
    let mut keys: Vec<AgentKey> = Vec::new();
    for item in reader.list(at, "a list of keys like { agent: researcher, sha256: … }") {
        let Some(key) = agent_key(reader, &item, pepper, known) else { continue };
        if keys.iter().any(|earlier| earlier.hash == key.hash) {
            reader.wrong(&item, "the hash of an earlier key", "a key of its own for each");
        }
        keys.push(key);
    }
    keys
}

fn agent_key<'r>(
    reader: &'r Reader<'r>,
    at: &At<'_>,
    pepper: bool,
    known: &Known<'_>,
) -> Option<AgentKey> {
    let fields = reader.section(at, &AGENT_KEY)?;
    let sha256 = fields.maybe("sha256", hash).map(KeyHash::Sha256);
    let hmac = fields.maybe("hmac", hash).map(KeyHash::Hmac);
    match (fields.get("sha256"), fields.get("hmac")) {
        (None, None) => {
            let expected = "`sha256` or `hmac`; `tidegate keys new` prints it";
            reader.wrong(at, "a key without its hash", expected);
        }
        (Some(_), Some(hmac)) => {
            reader.wrong(&hmac, "a second hash of the key", "`sha256` or `hmac`, not both");
        }
        (None, Some(hmac)) if !pepper => {
            reader.wrong(
                &hmac,
                "`hmac` without a pepper",
                "`pepper` in `agents`, or `sha256` here",
            );
        }
        _ => {}
    }
    let globs = |name: &str, read: &dyn Fn(&Reader<'r>, &At<'_>) -> Option<Arc<str>>| {
        fields.read(name, Vec::new(), |r, at| {
            let items = r.list(at, "a list of globs like [\"gpt-*\"]");
            Some(items.iter().filter_map(|item| read(r, item)).collect())
        })
    };
    let key = AgentKey {
        agent: fields.maybe("agent", name),
        team: fields.maybe("team", name),
        expires: fields.maybe("expires", |r, at| r.quantity(at, EXPIRES, units::instant)),
        models: globs("models", &|r, at| r.shared(at, GLOB)),
        routes: globs("routes", &|r, at| known.route(r, at)),
        // the rest was read for its faults
        hash: sha256.or(hmac)?,
    };
    Some(key)
}

const EXPIRES: &str = "a date like 2027-01-31, or a time like 2027-01-31T12:00:00Z";

/// Never shows what it found.
fn hash(reader: &Reader<'_>, at: &At<'_>) -> Option<[u8; 32]> {
    const EXPECTED: &str = "64 hexadecimal digits, the hash of a key (and never the key itself)";
    let Kind::Text(_) = &at.node.kind else {
        let expected = format!("{EXPECTED}, in quotes if there are only decimal ones");
        reader.wrong(at, at.node.what(), &expected);
        return None;
    };
    let text = reader.text(at, EXPECTED)?;
    let bytes = unhex(&text.value);
    if bytes.is_none() {
        let found = format!("{} characters that are no hash", text.value.chars().count());
        reader.wrong(at, found, EXPECTED);
    }
    bytes
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |index: usize| char::from(pair[index]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(bytes)
}

/// Of an agent or a team: it becomes a label and a field of the log.
fn name(reader: &Reader<'_>, at: &At<'_>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a name of visible ASCII characters, 128 at most";
    let text = reader.text(at, EXPECTED)?;
    if text.value.len() > 128 || !text.value.bytes().all(|b| b.is_ascii_graphic()) {
        reader.wrong(at, text.shown(), EXPECTED);
        return None;
    }
    Some(Arc::from(text.value))
}

fn certificates<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Vec<Certificate> {
    let mut certificates: Vec<Certificate> = Vec::new();
    for item in reader.list(at, "a list like { san: \"*.agents.internal\", team: growth }") {
        let Some(certificate) = certificate(reader, &item) else { continue };
        if certificates.iter().any(|earlier| glob_covers(&earlier.san, &certificate.san)) {
            unreached(reader, &item);
        }
        certificates.push(certificate);
    }
    certificates
}

fn certificate<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Certificate> {
    const EXPECTED: &str = "the key `san` with a glob over DNS names and URIs";
    let fields = reader.section(at, &CERTIFICATE)?;
    let san = fields.needed("san", EXPECTED);
    let (agent, team) = (fields.maybe("agent", name), fields.maybe("team", name));
    Some(Certificate { san: reader.shared(&san?, EXPECTED)?, agent, team })
}

fn peers<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for item in reader.list(at, "a list like { uid: 1000, agent: builder }") {
        let Some(peer) = peer(reader, &item) else { continue };
        if peers.iter().any(|earlier| covers(earlier, &peer)) {
            unreached(reader, &item);
        }
        peers.push(peer);
    }
    peers
}

fn peer<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Peer> {
    let fields = reader.section(at, &PEER)?;
    // the last number says "unchanged" to the kernel and is nobody's
    let id = |name: &str| {
        let id = fields.maybe(name, |r, at| {
            let id = r.count(at, 0, u64::from(u32::MAX) - 1)?;
            if id == NAMELESS {
                let found = "65534, which the kernel shows of everybody whom it cannot name here";
                r.wrong(at, found, "an id of the peer's own");
                return None;
            }
            Some(id)
        });
        id.map(|id| id as u32)
    };
    let peer = Peer {
        uid: id("uid"),
        gid: id("gid"),
        process: fields.maybe("process", |r, at| r.shared(at, "a glob like python*")),
        agent: fields.maybe("agent", name),
        team: fields.maybe("team", name),
    };
    let asked = ["uid", "gid", "process"].iter().filter(|key| fields.get(key).is_some()).count();
    if asked == 0 {
        reader.wrong(at, "a peer that could be anyone", "`uid`, `gid` or `process`");
        return None;
    }
    // one that is at fault would seem to take more peers than it is meant to
    let read = [peer.uid.is_some(), peer.gid.is_some(), peer.process.is_some()];
    (read.into_iter().filter(|read| *read).count() == asked).then_some(peer)
}

/// Does `early` take every peer that `late` would?
fn covers(early: &Peer, late: &Peer) -> bool {
    let process = match (&early.process, &late.process) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => glob_covers(wide, narrow),
        (Some(_), None) => false,
    };
    process
        && (early.uid.is_none() || early.uid == late.uid)
        && (early.gid.is_none() || early.gid == late.gid)
}

fn unreached(reader: &Reader<'_>, at: &At<'_>) {
    let found = "a rule that is never reached: an earlier one takes all it would";
    reader.wrong(at, found, "the narrower rule before the wider one");
}

/// A key that would do nothing here is a fault.
fn idle_keys(reader: &Reader<'_>, fields: &Fields<'_, '_>, agents: &Agents, known: &Known<'_>) {
    for (key, rung) in [
        ("keys", Rung::Key),
        ("certificates", Rung::Mtls),
        ("peers", Rung::Peer),
        ("header", Rung::Header),
    ] {
        if let Some(at) = fields.get(key).filter(|_| !agents.identify.contains(&rung)) {
            let found = format!("`{key}`, which `identify` does not ask for");
            reader.wrong(&at, found, &format!("`{}` in `identify`", rung.as_str()));
        }
    }
    if let Some(at) = fields.get("certificates").filter(|_| !known.certificates) {
        let found = "`certificates`, but no listener asks for any";
        reader.wrong(&at, found, "`client_ca` in the `tls` of a listener");
    }
    if let Some(at) =
        fields.get("team_header").filter(|_| agents.team_header.as_ref() == Some(&agents.header))
    {
        let found = format!("`{}`, which names the agent", agents.header);
        reader.wrong(&at, found, "a header of its own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_read_and_refuse() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("fd00::/8", "fd00::/8"),
        ] {
            assert_eq!(network(text).expect(text).to_string(), shown);
        }
        for (text, word) in [
            ("", "like 10.0.0.0/8"),
            ("10.0.0.0/", "like 10.0.0.0/8"),
            ("10.0.0.0/33", "like 10.0.0.0/8"),
            ("10.0.0.0/+8", "like 10.0.0.0/8"),
            ("localhost", "like 10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fd12::/8", "fd00::/8"),
        ] {
            let error = network(text).expect_err(text);
            assert!(error.0.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_hash_is_64_digits() {
        let hash = unhex(&"0aF".repeat(22)[..64]).expect("right");
        assert_eq!(hash[..4], [0x0a, 0xf0, 0xaf, 0x0a]);
        for wrong in ["", &"a".repeat(63), &"a".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
