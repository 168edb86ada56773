//! `tasks.webhooks`: who is told of the ends of tasks. By name, so that no caller can have us send
//! anything to an address of its own choice.
//!
//! Secrets are those of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. What is wrong with
//! one is said without a letter of it.
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::file::{Kind, Place};
use super::keys::{ENDS, WEBHOOK};
use super::read::{At, Fields, Reader};
use super::{Host, Origin, Secret, TaskEnd, url};
use crate::io::{base64, reach};

const PREFIX: &str = "whsec_";
const SECRET: &str =
    "`whsec_` and 24 to 64 bytes in base64, as `openssl rand -base64 32` writes them";
const LIST: &str = "a list of secrets like [${NEW}, ${OLD}]";

/// A target of webhooks.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    pub name: Arc<str>,
    /// Where to connect; its path is empty, never a Unix socket.
    pub origin: Origin,
    /// As it was written, with its first slash.
    pub path: Arc<str>,
    /// Without its `?`. Kept as a secret, for it often is one.
    pub query: Option<Secret>,
    /// At least one; every message is signed with each.
    pub secrets: Vec<SigningSecret>,
    /// Ends of which it is told; at least one.
    pub events: Vec<TaskEnd>,
    /// It may be at an address that is not public, and without TLS.
    pub private: bool,
}

/// The key of an HMAC. No Debug shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Arc<[u8]>);

impl SigningSecret {
    /// From `whsec_` and base64. `None`: it is of another form, or too short or long.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = base64::decode(text.strip_prefix(PREFIX)?)?;
        (24..=64).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The bytes themselves; for an HMAC, and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// In the order of the file. One without a sound address or secret is left out.
pub(super) fn webhooks(reader: &Reader<'_>, at: &At<'_>) -> Vec<Webhook> {
    let names = reader.names(at, "names of webhooks, each with its url and secret");
    names.iter().filter_map(|(name, place, at)| webhook(reader, name, *place, at)).collect()
}

fn webhook<'r>(reader: &'r Reader<'r>, name: &str, place: Place, at: &At<'_>) -> Option<Webhook> {
    check_name(reader, name, place, at);
    let fields = reader.section(at, &WEBHOOK)?;
    let private = fields.read("private", false, Reader::flag);
    let to = fields
        .needed("url", "the key `url`, like https://ops.example/hook")
        .and_then(|at| address(reader, &at, private));
    let secrets = secrets(reader, &fields);
    let events = fields.read("events", TaskEnd::ALL.to_vec(), |r, at| Some(events(r, at)));
    let (origin, path, query) = to?;
    let name = Arc::from(name);
    Some(Webhook { name, origin, path, query, secrets: secrets?, events, private })
}

/// Callers write it in a header.
fn check_name(reader: &Reader<'_>, name: &str, place: Place, at: &At<'_>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        let expected = "a name of letters, digits, `-`, `_` and `.`; 64 at most";
        reader.fault(place, &at.path, "a name that cannot stand in a header", expected);
    }
}

fn address(
    reader: &Reader<'_>,
    at: &At<'_>,
    private: bool,
) -> Option<(Origin, Arc<str>, Option<Secret>)> {
    let text = reader.text(at, "a URL like https://ops.example/hook")?;
    let read = url::webhook(&text.value);
    let (origin, path, query) = read.map_err(|expected| wrong_url(reader, at, expected)).ok()?;
    if private {
        return Some((origin, path, query));
    }
    if !origin.tls {
        let expected = "a URL that starts with https://, or `private: true`";
        reader.wrong(at, "a URL without TLS", expected);
    }
    if let Host::Name(host) = &origin.host
        && host.parse::<IpAddr>().is_ok_and(|ip| !reach::is_public(ip))
    {
        let expected = "a public address, or `private: true`";
        reader.wrong(at, "an address that is not public", expected);
    }
    Some((origin, path, query))
}

/// Whatever it is, it may hold a secret.
fn wrong_url(reader: &Reader<'_>, at: &At<'_>, expected: &str) {
    reader.wrong(at, "text of another form", expected);
}

/// One, or several of which each signs: so that a new one can be given out before the old one ends.
fn secrets(reader: &Reader<'_>, fields: &Fields<'_, '_>) -> Option<Vec<SigningSecret>> {
    let at = fields.needed("secret", "the key `secret`, like ${NAME} or file:/path")?;
    let items = match &at.node.kind {
        Kind::List(_) => reader.list(&at, LIST),
        _ => vec![at],
    };
    let mut secrets: Vec<SigningSecret> = Vec::with_capacity(items.len());
    for item in &items {
        let Some(text) = reader.secret(item) else { continue };
        match SigningSecret::read(text.expose()) {
            Some(secret) if secrets.contains(&secret) => {
                reader.wrong(item, "a secret that is in the list already", "each secret once");
            }
            Some(secret) => secrets.push(secret),
            None => reader.wrong(item, "a secret of another form", SECRET),
        }
    }
    (!secrets.is_empty()).then_some(secrets)
}

fn events(reader: &Reader<'_>, at: &At<'_>) -> Vec<TaskEnd> {
    let mut events: Vec<TaskEnd> = Vec::new();
    for item in reader.list(at, "a list of ends like [succeeded, failed]") {
        let Some(end) = reader.choice(&item, ENDS, &TaskEnd::ALL) else { continue };
        if events.contains(&end) {
            reader.wrong(&item, "the same end a second time", "each end once");
        } else {
            events.push(end);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_its_form_and_is_not_shown() {
        // the one of the reference implementations' tests
        let secret = SigningSecret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(secret.expose().len(), 24);
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        let of = |bytes: usize| format!("whsec_{}", base64::encode(&vec![7; bytes]));
        assert!([24, 32, 64].iter().all(|bytes| SigningSecret::read(&of(*bytes)).is_some()));
        assert!([0, 23, 65].iter().all(|bytes| SigningSecret::read(&of(*bytes)).is_none()));
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqr=wjU"] {
            assert!(SigningSecret::read(wrong).is_none(), "{wrong}");
        }
    }
}
