//! Asks the instance that has the store open, over its admin listener.
//!
//! One request a connection, plain HTTP/1.1: a client for `/keys` and nothing else. The token in
//! the store's directory is the proof that whoever asks may.
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use crate::config::{Address, Config};
use crate::store::{self, KeyView, NewRecord, Token};

/// To connect, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const LARGEST: u64 = 64 << 20;

/// A running one.
pub(super) struct Instance {
    at: Address,
    token: Token,
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<KeyView>,
}

impl Instance {
    /// By the policy's admin address. The text says why it cannot be asked.
    pub(super) fn find(config: &Config, state: &Path) -> Result<Self, String> {
        let held = format!("another process has {} open", state.display());
        let at = match config.admin.as_ref().map(|admin| &admin.at) {
            Some(Address::Tcp(at)) if at.port() == 0 => {
                Err("the policy's `admin` has no port to ask it at")
            }
            Some(at @ (Address::Tcp(_) | Address::Unix(_))) => Ok(at.clone()),
            Some(Address::Inherited(_)) => Err("its admin listener is known to systemd alone"),
            None => Err("the policy has no `admin` to ask it at"),
        };
        let at = at.map_err(|why| format!("{held}, and {why}: stop it first"))?;
        let token = store::read_token(state).map_err(|error| format!("{held}, but {error}"))?;
        Ok(Self { at, token })
    }

    pub(super) fn add(&self, record: &NewRecord) -> Result<(), Failure> {
        let body = serde_json::to_string(record).map_err(Failure::cannot)?;
        self.ask("POST", "/keys", &body).map(drop)
    }

    pub(super) fn list(&self) -> Result<Vec<KeyView>, Failure> {
        let answer = self.ask("GET", "/keys", "")?;
        let listed: Listed = serde_json::from_value(answer).map_err(|_| self.strange())?;
        Ok(listed.keys)
    }

    pub(super) fn revoke(&self, id: &str) -> Result<KeyView, Failure> {
        // what stands in no path can be no id
        let plain: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        let answer = self.ask("DELETE", &format!("/keys/{plain}"), "")?;
        serde_json::from_value(answer).map_err(|_| self.strange())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        let answer = self.exchange(method, path, body).map_err(|error| {
            Failure::cannot(format!(
                "the instance that has the store open does not answer at {}: {error}",
                self.shown()
            ))
        })?;
        let (status, value) = parse(&answer).ok_or_else(|| self.strange())?;
        let said = || value["error"]["message"].as_str().unwrap_or("no reason is given").to_owned();
        match status {
            200..300 => Ok(value),
            400 | 404 | 409 => Err(Failure::usage(said())),
            401 => Err(Failure::cannot(format!(
                "the instance at {} does not know the token: another one has the store open",
                self.shown()
            ))),
            _ => Err(Failure::cannot(said())),
        }
    }

    fn strange(&self) -> Failure {
        Failure::cannot(format!("what answers at {} is no Tidegate with this store", self.shown()))
    }

    fn shown(&self) -> String {
        match &self.at {
            Address::Tcp(at) => at.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Inherited(_) => "systemd:".to_owned(),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.token.expose(),
            body.len()
        );
        match &self.at {
            Address::Tcp(at) => {
                let stream = TcpStream::connect_timeout(&reachable(*at), PATIENCE)?;
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

fn talk(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Who listens everywhere is asked on the loopback.
fn reachable(mut at: SocketAddr) -> SocketAddr {
    if at.ip().is_unspecified() {
        at.set_ip(match at.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    at
}

/// Status and body; the connection's end ends the body.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let line = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = std::str::from_utf8(line).ok()?.parse().ok()?;
    Some((status, serde_json::from_slice(&answer[head + 4..]).ok()?))
}
