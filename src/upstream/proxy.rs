//! Outbound HTTP proxies: when to use one, and the CONNECT handshake.
//!
//! Only `https` origins go through a proxy, so a proxy never sees a call. Loopback never does.
//! From the environment: `https_proxy` before `HTTPS_PROXY`, as curl has it, and `no_proxy` /
//! `NO_PROXY`: a comma-separated list of `*`, names (with all names under them), `host:port`,
//! IP addresses and CIDR blocks. The credential of a proxy URL appears in no error and no log.
use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{self, ProxyRule, Secret};

/// Longest answer head that a proxy may send, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// What the environment says cannot be used. The value is not shown: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{variable} is not a proxy URL: expected http://[user:password@]host[:port]")]
pub struct ProxySetupError {
    pub variable: &'static str,
}

/// Why a proxy gave no tunnel.
#[derive(Debug, Error)]
pub enum TunnelError {
    #[error("it answered CONNECT with status {0}")]
    Refused(u16),
    #[error("its answer to CONNECT is not HTTP/1.x, or longer than 8 KiB")]
    Garbled,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The proxy rule of one upstream.
#[derive(Debug, Default)]
pub struct Proxy {
    via: Option<Via>,
    bypass: Vec<Bypass>,
}

/// One proxy.
#[derive(Debug, PartialEq, Eq)]
pub struct Via {
    /// Without brackets.
    pub host: Arc<str>,
    pub port: u16,
    /// The whole value of `Proxy-Authorization`.
    authorization: Option<Secret>,
}

#[derive(Debug, PartialEq, Eq)]
enum Bypass {
    All,
    /// The name and every name under it, on this port or on any.
    Name(String, Option<u16>),
    Block(IpAddr, u8, Option<u16>),
}

impl Proxy {
    /// Reads `rule`; `env` gives the value of an environment variable.
    pub fn new(
        rule: &ProxyRule,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ProxySetupError> {
        let set = |name| env(name).filter(|value| !value.trim().is_empty());
        match rule {
            ProxyRule::Never => Ok(Self::default()),
            ProxyRule::Through { host, port, authorization } => {
                let authorization = authorization.clone();
                let via = Via { host: Arc::clone(host), port: *port, authorization };
                Ok(Self { via: Some(via), bypass: Vec::new() })
            }
            ProxyRule::Environment => {
                let found = ["https_proxy", "HTTPS_PROXY"]
                    .into_iter()
                    .find_map(|variable| set(variable).map(|value| (variable, value)));
                let Some((variable, url)) = found else { return Ok(Self::default()) };
                let via = Via::parse(url.trim()).ok_or(ProxySetupError { variable })?;
                let list = set("no_proxy").or_else(|| set("NO_PROXY")).unwrap_or_default();
                let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
                Ok(Self { via: Some(via), bypass: entries.map(Bypass::parse).collect() })
            }
        }
    }

    /// The proxy for an `https` origin, if it needs one. `host` is without brackets.
    pub fn for_origin(&self, host: &str, port: u16) -> Option<&Via> {
        let via = self.via.as_ref()?;
        let host = host.trim_end_matches('.');
        let address: Option<IpAddr> = host.parse().ok();
        let ours = host.eq_ignore_ascii_case("localhost")
            || address.is_some_and(|address| address.to_canonical().is_loopback());
        let passed_by = || self.bypass.iter().any(|entry| entry.covers(host, address, port));
        (!ours && !passed_by()).then_some(via)
    }
}

impl Via {
    /// As in the policy file; a bare `host:port`, usual in the environment, is taken too.
    fn parse(url: &str) -> Option<Self> {
        let bare = !url.contains("://");
        let rule = if bare { config::proxy(&format!("http://{url}")) } else { config::proxy(url) };
        match rule.ok()? {
            ProxyRule::Through { host, port, authorization } => {
                Some(Self { host, port, authorization })
            }
            ProxyRule::Environment | ProxyRule::Never => None,
        }
    }

    /// Asks for a tunnel to `host:port` on a fresh connection to the proxy.
    pub async fn tunnel(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> Result<(), TunnelError> {
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let target = format!("{open}{host}{close}:{port}");
        let mut ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            ask.push_str("Proxy-Authorization: ");
            ask.push_str(authorization.expose());
            ask.push_str("\r\n");
        }
        ask.push_str("\r\n");
        stream.write_all(ask.as_bytes()).await?;
        match read_status(stream).await? {
            200..=299 => Ok(()),
            status => Err(TunnelError::Refused(status)),
        }
    }
}

/// Reads an answer head to its end. Nothing may follow it: in TLS the client speaks first.
async fn read_status(stream: &mut TcpStream) -> Result<u16, TunnelError> {
    let mut head = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&head) {
            Ok(httparse::Status::Complete(length)) => {
                let status = answer.code.ok_or(TunnelError::Garbled)?;
                // a refusal may carry a body; a tunnel that speaks first is none of ours
                let garbled = length < head.len() && (200..300).contains(&status);
                return if garbled { Err(TunnelError::Garbled) } else { Ok(status) };
            }
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => {}
            _ => return Err(TunnelError::Garbled),
        }
    }
}

impl Bypass {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        if let Some((address, bits)) = entry.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse(), bits.parse())
        {
            return Self::Block(address, bits, None);
        }
        if let Ok(address) = entry.parse() {
            return Self::Block(address, u8::MAX, None);
        }
        let (host, port) = split_port(entry).unwrap_or((entry, None));
        if let Ok(address) = host.parse() {
            return Self::Block(address, u8::MAX, port);
        }
        let name = host.trim_start_matches('*').trim_matches('.');
        Self::Name(name.to_ascii_lowercase(), port)
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Name(name, on) => {
                let under = host.len().checked_sub(name.len()).is_some_and(|cut| {
                    host.as_bytes()[cut..].eq_ignore_ascii_case(name.as_bytes())
                        && (cut == 0 || host.as_bytes()[cut - 1] == b'.')
                });
                !name.is_empty() && under && on.is_none_or(|on| on == port)
            }
            Self::Block(block, bits, on) => {
                address.is_some_and(|address| within(address, *block, *bits))
                    && on.is_none_or(|on| on == port)
            }
        }
    }
}

/// Whether the first `bits` bits of both are the same; more bits than there are mean all.
fn within(address: IpAddr, block: IpAddr, bits: u8) -> bool {
    let (a, b, width) = match (address.to_canonical(), block.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let rest = width - u32::from(bits).min(width);
    a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; the host without brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => rest.is_empty().then_some((host, None)),
    }
}

#[cfg(test)]
mod tests;
