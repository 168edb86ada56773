//! A running instance, as commands find it and ask it: over its admin listener.
//!
//! One request a connection, plain HTTP/1.1, bounded in time and size. Where the instance has a
//! store, the token in the directory of that store is the proof that whoever asks may.
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{Admin, CANNOT_START, admin, refuse, tell};
use crate::config::{Address, Faults, Overrides, Source};
use crate::store::{self, Token};

/// To connect, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const LARGEST: u64 = 64 << 20;

/// Which instance is meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Where the instance's admin listener is; without it, where the policy file says
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN", value_parser = admin)]
    admin: Option<Admin>,
    /// The policy file of the instance; without it, 127.0.0.1:8081 is asked
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
}

/// Why there is none to ask.
pub(super) enum Lost {
    Policy(Faults),
    /// A sentence.
    Why(String),
}

/// Where to ask, and with what proof.
pub(super) struct Instance {
    pub at: Address,
    pub token: Option<Token>,
}

impl Lost {
    /// Says so, for the command of that name; what it is ended with.
    pub(super) fn end(self, command: &str) -> ExitCode {
        match self {
            Self::Policy(faults) => refuse(&faults),
            Self::Why(why) => {
                tell(&format!("{command}: {why}\n"));
                ExitCode::from(CANNOT_START)
            }
        }
    }
}

impl Which {
    /// Without a proof: what everybody may see.
    pub(super) fn address(&self) -> Result<Address, Lost> {
        let at = match &self.admin {
            Some(Admin(at)) => at.clone(),
            None => self.policy()?.0,
        };
        reachable(at).map_err(Lost::Why)
    }

    /// With the token of its store, if the policy file says where that is.
    pub(super) fn with_proof(&self) -> Result<Instance, Lost> {
        let (by_policy, state) = match (&self.admin, &self.config) {
            (Some(_), None) => (None, None),
            _ => self.policy()?,
        };
        let at = self.admin.as_ref().map_or(by_policy, |Admin(at)| at.clone());
        let at = reachable(at).map_err(Lost::Why)?;
        let token = state.filter(|state| store::exists(state));
        let token = token.as_deref().map(store::read_token).transpose();
        Ok(Instance { at, token: token.map_err(|error| Lost::Why(error.to_string()))? })
    }

    /// Its admin listener, and the directory of its state.
    fn policy(&self) -> Result<(Option<Address>, Option<PathBuf>), Lost> {
        let source = Source { path: self.config.clone(), overrides: Overrides::default() };
        let config = source.load().map_err(Lost::Policy)?.config;
        Ok((config.admin.map(|admin| admin.at), config.state))
    }
}

impl Instance {
    /// Status and body of its answer; `None` where it is none of a Tidegate's.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<Option<(u16, Value)>> {
        let proof = self.token.as_ref().map_or_else(String::new, |token| {
            format!("authorization: Bearer {}\r\n", token.expose())
        });
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{proof}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = match &self.at {
            Address::Tcp(at) => {
                let stream = TcpStream::connect_timeout(&near(*at), PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                talk(stream, &request)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                talk(stream, &request)
            }
            Address::Inherited(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        Ok(parse(&answer?))
    }
}

/// Where to connect for an admin listener at this address. The error is a sentence.
pub(super) fn reachable(at: Option<Address>) -> Result<Address, String> {
    match at {
        Some(Address::Tcp(at)) if at.port() == 0 => Err("the policy lets the admin listener \
            take any free port; say which one it took with --admin"
            .to_owned()),
        Some(Address::Tcp(at)) => Ok(Address::Tcp(near(at))),
        Some(at @ Address::Unix(_)) => Ok(at),
        Some(Address::Inherited(_)) => {
            Err("the admin socket comes from systemd; say where it is with --admin".to_owned())
        }
        None => Err("the admin listener is off; without it nobody can be asked".to_owned()),
    }
}

/// What listens everywhere listens here.
fn near(mut at: SocketAddr) -> SocketAddr {
    match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    at
}

pub(super) fn show(at: &Address) -> String {
    match at {
        Address::Tcp(at) => format!("http://{at}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Inherited(_) => "systemd:".to_owned(),
    }
}

fn talk(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body; the connection's end ends the body.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let line = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = std::str::from_utf8(line).ok()?.parse().ok()?;
    Some((status, serde_json::from_slice(&answer[head + 4..]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        let at = |text: &str| reachable(Some(crate::config::address(text).unwrap()));
        assert_eq!(show(&at("0.0.0.0:8081").unwrap()), "http://127.0.0.1:8081");
        assert_eq!(show(&at("[::]:8081").unwrap()), "http://[::1]:8081");
        assert_eq!(show(&at("10.0.0.1:8081").unwrap()), "http://10.0.0.1:8081");
        assert_eq!(show(&at("unix:/a").unwrap()), "unix:/a");
        assert!(at("127.0.0.1:0").is_err() && at("systemd:").is_err() && reachable(None).is_err());
    }
}
