//! Who calls: from a connection's facts and a request's headers to one [`Identity`].
//!
//! The ladder of the policy is asked rung by rung; the first that answers names the agent. Only a
//! key, a certificate or a Unix peer credential proves anything. The other rungs are the client's
//! word: they sort calls, and open no door. A name that the policy gives to a proof cannot be
//! taken by a mere word, unless the policy trusts the peer's. What clients may choose is bounded
//! ([`names`]); what lasts over a change of policy stands in [`Shared`]. Which status a caller
//! gets who is not known is said elsewhere.
mod again;
mod grant;
mod hash;
mod hints;
mod keys;
pub mod names;
mod presented;
mod said;
mod secret;
pub mod seen;

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

pub use self::again::Known;
pub use self::hints::Hints;
pub use self::keys::{Keyring, StoredKey};
pub use self::presented::{Place, Places, Presented, strip_protocol};
pub use self::seen::Seen;

use self::keys::{Judged, Stored};
use self::names::{Called, NameKind, Names, spelled};
use self::said::Said;
use self::secret::{HashKey, hex};
use self::seen::Origin;
use crate::config::{self, Access, Certificate, Network, Peer};
use crate::identity::{Fingerprint, Identity, Name, Rung};
use crate::units::glob_matches;

/// What outlives a policy: the names, the keys of the store, the key of the hashes.
pub struct Shared {
    names: Names,
    stored: Stored,
    hash_key: HashKey,
}

impl Shared {
    /// `pepper` is the store's: with it the store's keys can be known, and names made from
    /// credentials stay the same over restarts. Without it there are no stored keys.
    pub fn new(pepper: Option<&[u8; 32]>) -> Self {
        let hash_key = pepper.map_or_else(HashKey::random, HashKey::derived);
        Self { names: Names::default(), stored: Stored::new(pepper, &hash_key), hash_key }
    }

    /// A secret for one purpose; the same over restarts where there is a pepper.
    pub fn secret(&self, purpose: &str) -> [u8; 32] {
        self.hash_key.secret(purpose)
    }

    /// These are the keys of the store from now on: for every policy, and at once.
    pub fn replace_stored(&self, keys: Vec<StoredKey>) {
        self.stored.replace(keys, &self.hash_key);
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What a client wrote, as a name.
    fn name(&self, kind: NameKind, raw: &[u8]) -> Option<Name> {
        spelled(&self.hash_key, raw, |name| self.names.share(kind, name))
    }

    /// The same, with the whole of it where it came out as `other`.
    fn called(&self, kind: NameKind, raw: &[u8]) -> Option<Called> {
        spelled(&self.hash_key, raw, |name| self.names.call(kind, name))
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(None)
    }
}

/// Why a caller is refused. It says nothing of what was presented, but the name of a known key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("a tidegate key is needed")]
    NoKey,
    #[error("this tidegate key is not valid")]
    UnknownKey,
    #[error("this tidegate key has expired")]
    Expired(Name),
    #[error("this tidegate key is not valid")]
    Revoked(Name),
}

impl Unknown {
    /// For logs and metrics. A caller is not told that a key was revoked: it could be anybody's.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::UnknownKey => "unknown_key",
            Self::Expired(_) => "key_expired",
            Self::Revoked(_) => "key_revoked",
        }
    }

    /// Which key it was, where it is a known one.
    pub fn key(&self) -> Option<&Name> {
        match self {
            Self::Expired(id) | Self::Revoked(id) => Some(id),
            Self::NoKey | Self::UnknownKey => None,
        }
    }
}

/// Who makes a call, and where its tidegate keys stood.
#[derive(Debug, Clone)]
pub struct Identified {
    pub identity: Identity,
    /// To be stripped before the call goes on.
    pub ours: Places,
}

/// The ladder of one policy.
pub struct Ladder {
    access: Access,
    rungs: Vec<Rung>,
    header: HeaderName,
    team_header: Option<HeaderName>,
    trust: Vec<Network>,
    certificates: Vec<Certificate>,
    peers: Vec<Peer>,
    keyring: Keyring,
    /// Agents and teams of certificates and peers.
    reserved: HashSet<Name>,
    /// Where no rung answers.
    nobody: Name,
    shared: Arc<Shared>,
}

/// A rung that proves who calls.
struct Proof {
    rung: Rung,
    agent: Option<Called>,
    team: Option<Name>,
}

impl Ladder {
    pub fn new(policy: &config::Agents, shared: &Arc<Shared>) -> Self {
        let of_certificates = policy.certificates.iter().flat_map(|c| [&c.agent, &c.team]);
        let of_peers = policy.peers.iter().flat_map(|peer| [&peer.agent, &peer.team]);
        Self {
            access: policy.access,
            rungs: policy.identify.clone(),
            header: policy.header.clone(),
            team_header: policy.team_header.clone(),
            trust: policy.trust.clone(),
            certificates: policy.certificates.clone(),
            peers: policy.peers.clone(),
            keyring: Keyring::new(&policy.keys, policy.pepper.as_ref(), shared),
            reserved: of_certificates.chain(of_peers).flatten().cloned().collect(),
            nobody: Name::from("anonymous"),
            shared: Arc::clone(shared),
        }
    }

    /// What outlives this policy.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Who calls. `now` is in Unix seconds: keys expire by it, and it is asked for none else.
    ///
    /// Costs a hash for each credential and kind of key, a look at each name, and no allocation
    /// where all names are known.
    pub fn identify(
        &self,
        seen: &Seen,
        headers: &HeaderMap,
        query: Option<&str>,
        now: impl Fn() -> i64,
    ) -> Result<Identified, Unknown> {
        let said = Said::read(headers, query, &self.header, self.team_header.as_ref());
        let judged = self.keyring.judge(&said.presented, now)?;
        let proofs = self.proofs(seen, &judged);
        if self.access == Access::Known && proofs.iter().all(Option::is_none) {
            return Err(Unknown::NoKey);
        }
        let (agent, rung) = self
            .rungs
            .iter()
            .find_map(|rung| Some((self.agent_by(*rung, seen, &said, &judged, &proofs)?, *rung)))
            .unwrap_or_else(|| (Arc::clone(&self.nobody).into(), Rung::Address));
        let proven_team = proofs.iter().flatten().find_map(|proof| proof.team.clone());
        let name = |kind, raw: Option<&[u8]>| raw.and_then(|raw| self.shared.name(kind, raw));
        let team_proven = proven_team.is_some();
        let team =
            proven_team.map(Called::from).or_else(|| self.told(seen, NameKind::Team, said.team?));
        let (agent, team, unlisted) = Called::apart(agent, team);
        let Judged { key, ours, credential } = judged;
        let identity = Identity {
            agent,
            rung,
            parent: name(NameKind::Parent, said.parent),
            session: name(NameKind::Session, said.session_id()),
            team,
            team_proven,
            class: said.urgency(),
            credential,
            grant: key.map(|key| Arc::clone(&key.grant)),
            unlisted,
        };
        Ok(Identified { identity, ours })
    }

    /// What proves who calls, in the order of the ladder.
    fn proofs(&self, seen: &Seen, judged: &Judged) -> [Option<Proof>; 3] {
        let mut rungs = self.rungs.iter().copied().filter(|rung| rung.authorizes());
        std::array::from_fn(|_| {
            let rung = rungs.next()?;
            let (agent, team) = match rung {
                Rung::Key => judged
                    .key
                    .as_ref()
                    .map(|key| (key.agent.clone().map(Called::from), key.team.clone())),
                Rung::Mtls => self.by_certificate(seen),
                Rung::Peer => self.by_peer(seen),
                _ => None,
            }?;
            Some(Proof { rung, agent, team })
        })
    }

    fn by_certificate(&self, seen: &Seen) -> Option<(Option<Called>, Option<Name>)> {
        self.certificates.iter().find_map(|known| {
            let san = seen.sans.iter().find(|san| glob_matches(&known.san, &san.name))?;
            let agent = known.agent.as_ref().unwrap_or(&san.agent);
            Some((Some(Arc::clone(agent).into()), known.team.clone()))
        })
    }

    fn by_peer(&self, seen: &Seen) -> Option<(Option<Called>, Option<Name>)> {
        let Origin::Unix { uid, gid, process, .. } = &seen.origin else { return None };
        let known = self.peers.iter().find(|peer| {
            let fits = |glob: &Arc<str>| process.as_ref().is_some_and(|p| glob_matches(glob, p));
            peer.uid.is_none_or(|wanted| wanted == *uid)
                && peer.gid.is_none_or(|wanted| wanted == *gid)
                && peer.process.as_ref().is_none_or(fits)
        })?;
        // a process may call itself anything: its name is bounded, and takes nobody else's
        let own = || {
            let name = process.as_ref().filter(|name| !self.is_reserved(name));
            self.shared.names.call(NameKind::Agent, name.unwrap_or(&seen.address))
        };
        let agent = known.agent.clone().map_or_else(own, Called::from);
        Some((Some(agent), known.team.clone()))
    }

    fn agent_by(
        &self,
        rung: Rung,
        seen: &Seen,
        said: &Said<'_>,
        judged: &Judged,
        proofs: &[Option<Proof>; 3],
    ) -> Option<Called> {
        match rung {
            Rung::Key | Rung::Mtls | Rung::Peer => {
                proofs.iter().flatten().find(|proof| proof.rung == rung)?.agent.clone()
            }
            Rung::Header => self.told(seen, NameKind::Agent, said.agent?),
            Rung::Session => {
                let raw = said.sub_agent.or(said.session_id())?;
                let called = self.shared.called(NameKind::Agent, raw);
                called.filter(|called| !self.is_anothers(called))
            }
            Rung::Credential => Some(self.of_credential(judged.credential?)),
            Rung::Address => Some(self.shared.names.call(NameKind::Agent, &seen.address)),
        }
    }

    /// A name from one of the two headers of the policy.
    fn told(&self, seen: &Seen, kind: NameKind, raw: &[u8]) -> Option<Called> {
        let named = seen.comes_from(&self.trust);
        if !named && !self.trust.is_empty() {
            return None;
        }
        // anybody's word is not enough for a name that others must prove
        self.shared.called(kind, raw).filter(|called| named || !self.is_anothers(called))
    }

    /// Judged by the whole name: a full table changes nobody's rung.
    fn is_anothers(&self, called: &Called) -> bool {
        self.is_reserved(called.whole()) || self.is_reserved(&called.name)
    }

    fn is_reserved(&self, name: &str) -> bool {
        self.reserved.contains(name) || self.keyring.names(name)
    }

    fn of_credential(&self, fingerprint: Fingerprint) -> Called {
        let mut text = *b"key:0123456789abcdef";
        text[4..].copy_from_slice(&hex(fingerprint));
        let text = std::str::from_utf8(&text).unwrap_or("key:");
        self.shared.names.call(NameKind::Agent, text)
    }
}

#[cfg(test)]
mod tests;
