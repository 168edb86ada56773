//! Addresses we listen on: `listen`, and that no two of them clash; `admin` is in `config/admin.rs`.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::file::{Kind, Place};
use super::keys::{CLIENT_AUTH, LISTEN, LISTEN_TLS};
use super::read::{At, Reader};
use super::url::socket_path;
use super::{Address, Listen, ListenTls};

pub(super) const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
pub(super) const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// A listener and where the file says so; no place for one that is a default.
pub(super) struct Placed {
    pub listen: Listen,
    pub place: Place,
    pub path: String,
}

impl Placed {
    pub fn default_at(address: SocketAddr, path: &str) -> Self {
        let listen = Listen { at: Address::Tcp(address), tls: None };
        Self { listen, place: Place::default(), path: path.to_owned() }
    }
}

/// Reads `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`, `systemd:` or `systemd:NAME`.
/// The error says what was expected.
pub fn address(text: &str) -> Result<Address, String> {
    const FORM: &str =
        "an address: 127.0.0.1:8080, [::1]:8080, unix:/path, systemd: or systemd:NAME";
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(Address::Unix).map_err(str::to_owned);
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        // systemd.socket(5): FileDescriptorName= has no colon and 255 characters at most
        if name.len() > 255 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            return Err("systemd: and the FileDescriptorName= of a socket".to_owned());
        }
        return Ok(Address::Inherited((!name.is_empty()).then(|| name.to_owned())));
    }
    if let Ok(address) = text.parse() {
        return Ok(Address::Tcp(address));
    }
    let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
    let Ok(port) = port.parse::<u16>() else { return Err(FORM.to_owned()) };
    let host = text.rsplit_once(':').map_or("", |(host, _)| host);
    Err(match host {
        "" | "*" => format!(
            "an IP address and a port: 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface"
        ),
        "localhost" => format!("an IP address and a port: 127.0.0.1:{port} or [::1]:{port}"),
        _ => FORM.to_owned(),
    })
}

const ONE: &str = "an address like 127.0.0.1:8080 or unix:/path";
const ONE_OR_OFF: &str = "an address like 127.0.0.1:8081 or unix:/path, or off";

fn address_at(reader: &Reader<'_>, at: &At<'_>, form: &str) -> Option<Address> {
    if let Kind::Int(port) = at.node.kind {
        let expected = format!("an IP address and a port, like 127.0.0.1:{port}");
        reader.wrong(at, format!("the number {port}"), &expected);
        return None;
    }
    let text = reader.text(at, form)?;
    address(&text.value).map_err(|expected| reader.wrong(at, text.shown(), &expected)).ok()
}

/// `listen`: one or a list.
pub(super) fn listeners<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Vec<Placed> {
    if let Kind::List(_) = at.node.kind {
        let items = reader.list(at, "an address or a list of them");
        return items.iter().filter_map(|item| listener(reader, item)).collect();
    }
    listener(reader, at).into_iter().collect()
}

fn listener<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Placed> {
    let placed = |listen| Placed { listen, place: at.node.place, path: at.path.clone() };
    if !matches!(at.node.kind, Kind::Map(_)) {
        return address_at(reader, at, ONE).map(|at| placed(Listen { at, tls: None }));
    }
    let fields = reader.section(at, &LISTEN)?;
    let tls_at = fields.get("tls");
    let tls = tls_at.as_ref().and_then(|tls| listen_tls(reader, tls));
    let address = address_at(reader, &fields.needed("at", "the key `at` with an address")?, ONE)?;
    if let (Some(tls), Address::Unix(_)) = (&tls_at, &address) {
        reader.wrong(tls, "TLS on a Unix socket", "TLS on TCP only");
    }
    Some(placed(Listen { at: address, tls }))
}

pub(super) fn listen_tls<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<ListenTls> {
    let fields = reader.section(at, &LISTEN_TLS)?;
    let cert = fields.needed("cert", "`cert` and `key`, both");
    let key = fields.needed("key", "`cert` and `key`, both");
    let client_ca = fields.maybe("client_ca", |r, at| r.pem(at));
    let auth = fields.maybe("client_auth", |r, at| r.word(at, CLIENT_AUTH));
    if let Some(auth_at) = fields.get("client_auth").filter(|_| fields.get("client_ca").is_none()) {
        reader.wrong(&auth_at, "client_auth without client_ca", "`client_ca` beside it");
    }
    let cert = cert.and_then(|at| reader.pem(&at));
    let key = key.and_then(|at| reader.pem(&at));
    Some(ListenTls { cert: cert?, key: key?, client_ca, client_required: auth != Some(0) })
}

/// Where the admin listener is.
pub(super) fn admin_address(reader: &Reader<'_>, at: &At<'_>) -> Option<Address> {
    address_at(reader, at, ONE_OR_OFF)
}

/// No two listeners may want the same socket.
pub(super) fn clashes(reader: &Reader<'_>, all: &[Placed]) {
    for (index, late) in all.iter().enumerate() {
        if let Some(early) =
            all[..index].iter().find(|early| clash(&early.listen.at, &late.listen.at))
        {
            // a default cannot be mended; the line that meets it can
            let (at, other) =
                if late.place == Place::default() { (early, late) } else { (late, early) };
            let found = format!("an address that `{}` takes as well", other.path);
            reader.fault(at.place, &at.path, found, "an address of its own for each listener");
        }
    }
}

/// Would the second bind fail?
pub(super) fn clash(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp(a), Address::Tcp(b)) => {
            let same_ip = a.ip() == b.ip()
                || (a.is_ipv4() == b.is_ipv4()
                    && (a.ip().is_unspecified() || b.ip().is_unspecified()));
            a.port() == b.port() && a.port() != 0 && same_ip
        }
        (a, b) => a == b,
    }
}
