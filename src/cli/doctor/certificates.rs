//! Our own certificates: whether they can be used, for how long, for which names, and whether
//! clients of this machine's trust would take them.
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::finding::Finding;
use crate::config::Config;
use crate::io::pem;
use crate::listen::tls::{ServerTls, validity};
use crate::upstream::tls::system_roots;

const CHECK: &str = "certificates";
/// A renewal that is due has failed for a while by then.
pub(super) const SOON: Duration = Duration::from_hours(14 * 24);

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let admin = config.admin.as_ref().and_then(|admin| admin.tls.as_ref());
    let own = config.listen.iter().filter_map(|listen| listen.tls.as_ref()).chain(admin);
    let mut found: Vec<Finding> = own
        .map(|tls| match ServerTls::new(tls) {
            Ok(_) => look(&tls.cert),
            Err(error) => {
                let advice = "mend the file that it names; a chain and its key, both in PEM";
                Finding::fail(CHECK, error.to_string(), advice)
            }
        })
        .collect();
    for tls in config.upstreams.iter().map(|upstream| &upstream.tls) {
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            found.push(match pem::identity(cert, key) {
                Ok(_) => look(cert),
                Err(error) => Finding::fail(CHECK, error.to_string(), "mend the file"),
            });
        }
        if let Some(ca) = &tls.ca
            && let Err(error) = pem::authorities(ca)
        {
            found.push(Finding::fail(CHECK, error.to_string(), "mend the file"));
        }
    }
    found
}

fn look(path: &Path) -> Finding {
    let shown = path.display();
    let chain = match pem::certificates(path, "certificate") {
        Ok(chain) => chain,
        Err(error) => return Finding::fail(CHECK, error.to_string(), "mend the file"),
    };
    let Some((leaf, rest)) = chain.split_first() else {
        return Finding::fail(CHECK, format!("{shown}: it is empty"), "mend the file");
    };
    let mut says = shown.to_string();
    let names = names(leaf);
    if !names.is_empty() {
        // a String takes all that is written
        let _ = write!(says, ", for {}", names.join(", "));
    }
    let Some(dates) = validity::dates(leaf) else {
        return Finding::skip(CHECK, format!("{says}: its dates cannot be read"));
    };
    let dated = dated(&says, dates, SystemTime::now());
    if dated.verdict != super::Verdict::Ok {
        return dated;
    }
    let trust = if trusted(leaf, rest, names.first()) {
        "trusted on this machine"
    } else if rest.is_empty() {
        "clients need its CA; with a public one, the file lacks the chain behind the certificate"
    } else {
        "clients need its CA"
    };
    Finding::ok(CHECK, format!("{}; {trust}", dated.says))
}

/// `dates`: from when until when it is good.
pub(super) fn dated(what: &str, dates: (SystemTime, SystemTime), now: SystemTime) -> Finding {
    let (begin, end) = dates;
    let until = day(end);
    if end <= now {
        let says = format!("{what}: it ended on {until}");
        return Finding::fail(CHECK, says, "renew it; it is read again by itself");
    }
    if begin > now {
        let says = format!("{what}: it begins on {}", day(begin));
        return Finding::fail(CHECK, says, "look at the clock of this machine, and at the CA's");
    }
    let left = end.duration_since(now).unwrap_or(Duration::ZERO);
    let days = left.as_secs() / 86_400;
    let says = format!("{what}: good until {until}, {days} days");
    if left < SOON {
        return Finding::warn(CHECK, says, "renew it; it is read again by itself");
    }
    Finding::ok(CHECK, says)
}

fn day(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(
        |_| "a day that cannot be said".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}

fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let parsed = EndEntityCert::try_from(leaf);
    parsed.map_or_else(|_| Vec::new(), |leaf| leaf.valid_dns_names().map(str::to_owned).collect())
}

/// As a client here would verify it.
fn trusted(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], name: Option<&String>) -> bool {
    let verifier = WebPkiServerVerifier::builder_with_provider(system_roots(), pem::provider());
    let Ok(verifier) = verifier.build() else { return false };
    let name = name.map_or("localhost", |name| name.trim_start_matches("*."));
    let Ok(name) = ServerName::try_from(name) else { return false };
    verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::now()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok, Warn};
    use super::*;

    #[test]
    fn dates_are_told() {
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_hours(days * 24);
        let verdict = |begin, end| dated("x", (at(begin), at(end)), at(20_000)).verdict;
        assert_eq!(verdict(19_000, 20_090), Ok);
        assert_eq!(verdict(19_000, 20_013), Warn);
        assert_eq!(verdict(19_000, 20_000), Fail);
        assert_eq!(verdict(20_001, 20_090), Fail);
        let ended = dated("x", (at(0), at(19_000)), at(20_000));
        assert_eq!(ended.says, "x: it ended on 2022-01-08");
    }
}
