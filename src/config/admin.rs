//! The operators' door: where it listens, and what is asked of who comes.
//!
//! What can be reached from another machine never stands open: `token`, a client certificate that is
//! required, or the token that lies in the directory of `state`. [`open_to_strangers`] is the rule; it
//! is asked here for what the policy says, and at the start for a socket that was handed over.
use std::net::IpAddr;

use super::fault::Faults;
use super::file::Kind;
use super::keys::{ADMIN, SWITCH};
use super::listen::{Placed, admin_address, listen_tls};
use super::read::{At, Reader};
use super::{Address, Listen, ListenTls, Secret};

/// A shorter token could be guessed.
const LEAST: usize = 16;
const SHORT: &str = "a secret of 16 characters or more";

#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    pub at: Address,
    pub tls: Option<ListenTls>,
    /// Asked of everybody, but for probes.
    pub token: Option<Secret>,
    /// Whether the page may end calls and tasks.
    pub actions: bool,
}

impl Admin {
    /// Nothing is asked there.
    pub fn at(at: Address) -> Self {
        Self { at, tls: None, token: None, actions: false }
    }

    /// Whether nobody comes in without a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() && tls.client_required)
    }

    /// Whether strangers can reach it, as far as the policy tells.
    fn is_far(&self) -> bool {
        matches!(self.at, Address::Tcp(at) if is_far(at.ip()))
    }

    /// What keeps it from being served; `state`: there is a directory with a token.
    pub(super) fn check(&self, source: &str, state: bool) -> Result<(), Faults> {
        let short = |token: &Secret| token.expose().len() < LEAST;
        if self.token.as_ref().is_some_and(short) {
            let found = "admin.token: a secret that is too short".to_owned();
            return Err(Faults::whole(source, found, SHORT));
        }
        if self.is_far() && open_to_strangers(self, state) {
            let found = format!("admin: {}, open to other machines", self.at);
            return Err(Faults::whole(source, found, &remedy(&self.at)));
        }
        Ok(())
    }
}

/// Whether an address can be reached from other machines.
pub fn is_far(ip: IpAddr) -> bool {
    !ip.to_canonical().is_loopback()
}

/// Whether nothing at all is asked of who reaches it.
pub fn open_to_strangers(admin: &Admin, state: bool) -> bool {
    admin.token.is_none() && !admin.asks_for_certificates() && !state
}

/// What to write.
pub fn remedy(at: &Address) -> String {
    format!(
        "a proof of who comes: admin: {{ at: '{at}', token: '${{TIDEGATE_ADMIN_TOKEN}}' }}, or `tls` \
         with a `client_ca` beside `at`, or `state`, whose admin.token is asked for then; or an \
         address on loopback"
    )
}

/// `admin`: an address, a mapping, or `off`.
pub(super) fn admin<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<(Placed, Admin)> {
    let placed = |admin: Admin| {
        let listen = Listen { at: admin.at.clone(), tls: None };
        (Placed { listen, place: at.node.place, path: at.path.clone() }, admin)
    };
    match &at.node.kind {
        Kind::Text(text) if text == "off" => return None,
        Kind::Map(_) => {}
        _ => return admin_address(reader, at).map(|at| placed(Admin::at(at))),
    }
    let fields = reader.section(at, &ADMIN)?;
    let tls_at = fields.get("tls");
    let tls = tls_at.as_ref().and_then(|tls| listen_tls(reader, tls));
    let token = fields.maybe("token", Reader::secret);
    let actions = fields.maybe("actions", |r, at| r.word(at, SWITCH)) == Some(1);
    let address = admin_address(reader, &fields.needed("at", "the key `at` with an address")?)?;
    if let (Some(tls), Address::Unix(_)) = (&tls_at, &address) {
        reader.wrong(tls, "TLS on a Unix socket", "TLS on TCP only");
    }
    Some(placed(Admin { at: address, tls, token, actions }))
}
