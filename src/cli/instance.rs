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

use super::{Admin, BAD_USAGE, CANNOT_START, admin, admin_token, refuse, tell};
use crate::config::{Address, Faults, Overrides, Reach, Source, is_far};
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

/// Why a command did not do what it is for.
pub(super) enum Failure {
    Lost(Lost),
    /// Nobody answers; a sentence.
    Nobody(String),
    /// An exit code and a text for stderr.
    Said(u8, String),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Failure {
    /// Says so, for the command of that name; what it is ended with.
    pub(super) fn end(self, command: &str) -> ExitCode {
        let (code, text) = match self {
            Self::Lost(lost) => return lost.end(command),
            Self::Nobody(text) => (CANNOT_START, text),
            Self::Said(code, text) => (code, text),
        };
        tell(&format!("{command}: {text}\n"));
        ExitCode::from(code)
    }
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
    /// With the proof it asks for: `TIDEGATE_ADMIN_TOKEN`, or what the policy file names: `token`, or
    /// the token of its store. `needed`: a store that cannot be read is a fault.
    fn find(&self, needed: bool) -> Result<Instance, Lost> {
        let policy = match (&self.admin, &self.config) {
            (Some(_), None) => None,
            _ => Some(self.policy()?),
        };
        let admin = policy.as_ref().and_then(|config| config.admin.clone());
        if self.admin.is_none() && admin.as_ref().is_some_and(|admin| admin.tls.is_some()) {
            let why = "the admin listener speaks TLS, and this command does not: ask it with curl";
            return Err(Lost::Why(why.to_owned()));
        }
        let by_policy = admin.as_ref().map(|admin| admin.at.clone());
        let at = self.admin.as_ref().map_or(by_policy, |Admin(at)| at.clone());
        let at = reachable(at).map_err(Lost::Why)?;
        let own = admin_token().or_else(|| admin.and_then(|admin| admin.token));
        if let Some(own) = own {
            return Ok(Instance { at, token: Some(Token::of(own.expose())) });
        }
        // what a listener on this machine does not ask for is not shown to whoever has taken its port
        if !needed && !matches!(at, Address::Tcp(at) if is_far(at.ip())) {
            return Ok(Instance { at, token: None });
        }
        let state = policy.and_then(|config| config.state).filter(|state| store::exists(state));
        let token = match state.as_deref().map(store::read_token).transpose() {
            Err(error) if needed => return Err(Lost::Why(error.to_string())),
            token => token.unwrap_or_default(),
        };
        Ok(Instance { at, token })
    }

    /// For what everybody may see, where the instance does not ask for more.
    pub(super) fn to_look(&self) -> Result<Instance, Lost> {
        self.find(false)
    }

    /// For what asks for a proof everywhere.
    pub(super) fn with_proof(&self) -> Result<Instance, Lost> {
        self.find(true)
    }

    /// Where it is: the rest of the policy is not looked at.
    fn policy(&self) -> Result<Reach, Lost> {
        let source = Source { path: self.config.clone(), overrides: Overrides::default() };
        source.reach().map_err(Lost::Policy)
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
        Ok(parse(&self.exchange(method, path, body)?))
    }

    /// Status and text of a page; `None` where it is none of a Tidegate's.
    pub(super) fn text(&self, path: &str) -> io::Result<Option<(u16, String)>> {
        let answer = self.exchange("GET", path, "")?;
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        Ok(split(&answer).map(|(status, body)| (status, text(body))))
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let proof = self.token.as_ref().map_or_else(String::new, |token| {
            format!("authorization: Bearer {}\r\n", token.expose())
        });
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{proof}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        match &self.at {
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
        }
    }
}

impl Instance {
    /// What it told, if it did what it was asked for. `about`: what it should know of (`a cache`).
    pub(super) fn told(
        &self,
        method: &str,
        path: &str,
        body: &str,
        about: &str,
    ) -> Result<Value, Failure> {
        let at = show(&self.at);
        let answer = self.ask(method, path, body).map_err(|error| {
            Failure::Nobody(format!(
                "nobody answers at {at}: {error}. Is it running, and is this its admin listener? \
                 --admin says another address"
            ))
        })?;
        let (status, told) = answer.ok_or_else(|| self.stranger(about))?;
        let said = || told["error"]["message"].as_str().unwrap_or("no reason is given").to_owned();
        match status {
            200..300 => Ok(told),
            // one of ours knows what it was asked about
            404 if told["error"]["code"] != "unknown_task" => Err(self.stranger(about)),
            400 | 404 => Err(Failure::Said(BAD_USAGE, said())),
            401 if self.token.is_none() => {
                let text = format!(
                    "the instance at {at} asks for its token: set TIDEGATE_ADMIN_TOKEN, or say with \
                     --config which policy file names its `token` or its `state`"
                );
                Err(Failure::Said(CANNOT_START, text))
            }
            401 => {
                let text =
                    format!("the instance at {at} has another token or store than was named");
                Err(Failure::Said(CANNOT_START, text))
            }
            _ => Err(Failure::Said(CANNOT_START, said())),
        }
    }

    pub(super) fn stranger(&self, about: &str) -> Failure {
        let at = show(&self.at);
        let text = format!("what answers at {at} is no Tidegate that tells about {about}");
        Failure::Said(CANNOT_START, text)
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
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let line = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = std::str::from_utf8(line).ok()?.parse().ok()?;
    Some((status, &answer[head + 4..]))
}

fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let (status, body) = split(answer)?;
    Some((status, serde_json::from_slice(body).ok()?))
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
