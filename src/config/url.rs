//! URLs of upstreams, proxies and webhooks. Strict: no credentials in an upstream's URL, no query, no
//! fragment; a host of letters, digits, `-`, `_` and dots, or an IP address.
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;

use http::uri::{Authority, Uri};

use super::{Host, Origin, ProxyRule, Secret};
use crate::io::base64;

/// What a URL should have been. The texts hold nothing of the URL: it may hold a password.
type Expected = &'static str;

/// Longest path of a Unix socket, in bytes: what `sun_path` holds without its final zero.
pub(super) const LONGEST_SOCKET: usize = 107;

/// Reads `http://host[:port][/path]`, `https://…` or `unix:/path`.
pub(super) fn origin(text: &str) -> Result<Origin, Expected> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = socket_path(path)?;
        return Ok(Origin { tls: false, host: Host::Unix(path), port: 0, path: Arc::from("") });
    }
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        _ => return Err("a URL that starts with http://, https:// or unix:"),
    };
    if rest.contains(['?', '#']) {
        return Err("a URL without a query or fragment");
    }
    let uri: Uri = text.parse().map_err(|_| "a URL like https://host[:port][/path]")?;
    let authority = uri.authority().ok_or("a URL with a host")?;
    if authority.as_str().contains('@') {
        return Err("a URL without credentials; give them with `key`");
    }
    let (host, port) = host_and_port(authority, if tls { 443 } else { 80 })?;
    let path = path(uri.path())?;
    Ok(Origin { tls, host: Host::Name(host), port, path })
}

/// Reads `http[s]://host[:port][/path][?query]`: the origin without a path, the path as it is written,
/// and the query without its `?`.
pub(super) fn webhook(text: &str) -> Result<(Origin, Arc<str>, Option<Secret>), Expected> {
    const FORM: Expected = "a URL like https://host[:port][/path][?query]";
    let (base, query) = match text.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (text, None),
    };
    let uri: Uri = text.parse().map_err(|_| FORM)?;
    let origin = origin(base)?;
    if matches!(origin.host, Host::Unix(_)) || text.contains('#') {
        return Err(FORM);
    }
    let path = Arc::from(uri.path());
    Ok((Origin { path: Arc::from(""), ..origin }, path, query.map(Secret::new)))
}

/// An absolute path that fits into a socket's address.
pub(super) fn socket_path(path: &str) -> Result<PathBuf, Expected> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err("unix: and the absolute path of a socket, like unix:/run/x.sock");
    }
    if path.len() > LONGEST_SOCKET {
        return Err("a socket path of 107 bytes at most");
    }
    Ok(PathBuf::from(path))
}

/// Reads `http://[user:password@]host[:port]`, the form of `HTTPS_PROXY` too. The port is 80
/// unless said. `authorization` becomes the whole value of `Proxy-Authorization`.
pub fn proxy(text: &str) -> Result<ProxyRule, Expected> {
    const FORM: Expected = "env, off or http://[user:password@]host[:port]";
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err("a proxy that is spoken to over http:// (TLS goes through it)");
        }
        _ => return Err(FORM),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, address) = match rest.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, rest),
    };
    let authority: Authority = address.parse().map_err(|_| FORM)?;
    let (host, port) = host_and_port(&authority, 80)?;
    let authorization = match user {
        Some(user) => Some(basic(user).ok_or("user:password with %-escapes that are right")?),
        None => None,
    };
    Ok(ProxyRule::Through { host, port, authorization })
}

fn host_and_port(authority: &Authority, default: u16) -> Result<(Arc<str>, u16), Expected> {
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host).unwrap_or_default().strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port > 0),
        None => Some(default),
    };
    let port = port.ok_or("a URL with a port from 1 to 65535")?;
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| "an IPv6 address in brackets")?;
        return Ok((Arc::from(address.to_string()), port));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let labels = host.trim_end_matches('.').split('.');
    let well_formed = host.len() <= 253
        && host.bytes().all(allowed)
        && labels.into_iter().all(|label| !label.is_empty() && label.len() <= 63);
    if !well_formed {
        return Err("a URL with a host name or an IP address");
    }
    Ok((Arc::from(host.to_ascii_lowercase()), port))
}

/// Without a trailing slash; plain segments only, so that what is joined stays what it was.
fn path(path: &str) -> Result<Arc<str>, Expected> {
    let path = path.trim_end_matches('/');
    let odd = |segment: &str| segment.is_empty() || segment == "." || segment == "..";
    if path.split('/').skip(1).any(odd) {
        return Err("a path without empty, `.` or `..` segments");
    }
    Ok(Arc::from(path))
}

/// `Basic` credentials (RFC 7617) from `user:password` with %-escapes.
fn basic(user: &str) -> Option<Secret> {
    let mut bytes = without_escapes(user)?;
    if !bytes.contains(&b':') {
        bytes.push(b':');
    }
    Some(Secret::new(format!("Basic {}", base64::encode(&bytes))))
}

/// Text with its %-escapes resolved.
pub(super) fn unescaped(text: &str) -> Option<String> {
    String::from_utf8(without_escapes(text)?).ok()
}

fn without_escapes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            (high * 16 + low) as u8
        } else {
            byte
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tls: bool, host: &str, port: u16, path: &str) -> Origin {
        Origin { tls, host: Host::Name(Arc::from(host)), port, path: Arc::from(path) }
    }

    #[test]
    fn origins_are_read() {
        for (text, want) in [
            ("https://api.openai.com", name(true, "api.openai.com", 443, "")),
            ("HTTP://Example.COM:81/a/b/", name(false, "example.com", 81, "/a/b")),
            ("http://10.0.0.4:8000/", name(false, "10.0.0.4", 8000, "")),
            ("https://[2001:DB8::1]:8443", name(true, "2001:db8::1", 8443, "")),
            ("http://vllm_0", name(false, "vllm_0", 80, "")),
        ] {
            assert_eq!(origin(text), Ok(want), "{text}");
        }
        assert_eq!(
            origin("unix:/run/b.sock").map(|o| o.host),
            Ok(Host::Unix(PathBuf::from("/run/b.sock")))
        );
    }

    #[test]
    fn bad_origins_are_refused() {
        for text in [
            "",
            "api.openai.com",
            "ftp://x",
            "http://",
            "http:///x",
            "https://u:p@host",
            "http://h?x=1",
            "http://h#x",
            "http://h:0",
            "http://h:65536",
            "http://h:",
            "http://[::g]",
            "http://a..b",
            "http://h/a//b",
            "http://h/../b",
            "http://h o",
            "unix:run.sock",
            "unix:",
            "http://münchen.de",
            "http://h:80x",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
        assert!(origin(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn webhooks_keep_their_path_and_query() {
        for (text, path, query) in [
            ("https://ops.example", "/", None),
            ("https://ops.example/hook/", "/hook/", None),
            ("https://ops.example/a?code=1?", "/a", Some("code=1?")),
        ] {
            let (origin, got, said) = webhook(text).expect(text);
            assert_eq!(origin, name(true, "ops.example", 443, ""), "{text}");
            assert_eq!((&*got, said.as_ref().map(Secret::expose)), (path, query), "{text}");
        }
        for text in
            ["", "ops.example", "unix:/run/x", "https://h/#a", "https://h?a b", "https://u@h"]
        {
            assert!(webhook(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies_are_read() {
        let Ok(ProxyRule::Through { host, port, authorization }) =
            proxy("http://al%3Ain:open%20sesame@Proxy.local:3128/")
        else {
            panic!("not read")
        };
        assert_eq!((host.as_ref(), port), ("proxy.local", 3128));
        // printf 'al:in:open sesame' | base64
        assert_eq!(authorization.expect("given").expose(), "Basic YWw6aW46b3BlbiBzZXNhbWU=");
        assert!(matches!(
            proxy("http://p"),
            Ok(ProxyRule::Through { port: 80, authorization: None, .. })
        ));
        for text in ["", "p:80", "https://p:80", "http://u:%zz@p", "http://p/x", "socks5://p:1"] {
            assert!(proxy(text).is_err(), "{text}");
        }
    }
}
