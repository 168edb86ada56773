//! A client of HTTP/1.1 by hand: it sees every chunk as it arrives, and how an answer ended.
use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::app::AGENT_KEY;

pub struct Client {
    pub io: TcpStream,
    unread: Vec<u8>,
    /// How the connection ended, once it has.
    ended: Option<End>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By its framing.
    Whole,
    /// The connection was closed before, or (without framing) at its end.
    Closed,
    Reset,
}

#[derive(Debug, Clone)]
pub struct Head {
    pub status: u16,
    pub text: String,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    pub end: End,
}

impl Head {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.get("content-length").map(|length| length.parse().expect("a length"))
    }
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// A request with a body, the test's key, and more lines of the head (each with its end).
pub fn request(method: &str, target: &str, lines: &str, body: &str) -> Vec<u8> {
    let length = if body.is_empty() && method != "POST" {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    format!(
        "{method} {target} HTTP/1.1\r\nhost: sidecar.test\r\nauthorization: Bearer {AGENT_KEY}\r\n\
         {length}{lines}\r\n{body}"
    )
    .into_bytes()
}

/// A POST that the simulator answers as `script` says.
pub fn post(target: &str, script: &str, body: &str) -> Vec<u8> {
    let script =
        if script.is_empty() { String::new() } else { format!("x-simulate: {script}\r\n") };
    request("POST", target, &format!("content-type: application/json\r\n{script}"), body)
}

pub fn get(target: &str, lines: &str) -> Vec<u8> {
    request("GET", target, lines, "")
}

/// Sends a request on a connection of its own, and reads the whole answer.
pub async fn ask(to: SocketAddr, request: &[u8]) -> Answer {
    let mut client = Client::connect(to).await;
    client.send(request).await;
    client.answer().await
}

impl Client {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::try_connect(to).await.expect("the server listens")
    }

    /// `None`: nobody listens any more.
    pub async fn try_connect(to: SocketAddr) -> Option<Self> {
        let io = TcpStream::connect(to).await.ok()?;
        io.set_nodelay(true).ok()?;
        Some(Self { io, unread: Vec::new(), ended: None })
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // a server that has hung up already will show it when it is read
        let _ = timeout(PATIENCE, self.io.write_all(bytes)).await.expect("it reads in time");
    }

    /// Reads some bytes; false at the end of the connection.
    async fn more(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.unread.reserve(64 * 1024);
        let read = timeout(PATIENCE, self.io.read_buf(&mut self.unread)).await;
        match read.expect("something arrives in time") {
            Ok(0) => self.ended = Some(End::Closed),
            Ok(_) => return true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.ended = Some(End::Reset);
            }
            Err(error) => panic!("{error}"),
        }
        false
    }

    /// The next head, interim ones included; `None` when the connection has ended.
    pub async fn head(&mut self) -> Option<Head> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                let text = String::from_utf8(self.unread.drain(..at + 4).collect()).expect("text");
                let status = text.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
                return Some(Head { status, text });
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next chunk of a chunked body; the last is empty. `Err` when it does not come.
    pub async fn chunk(&mut self) -> Result<Vec<u8>, End> {
        let (start, size) = loop {
            if let Some(at) = memchr::memmem::find(&self.unread, b"\r\n") {
                let line = std::str::from_utf8(&self.unread[..at]).expect("a chunk's size");
                break (at + 2, usize::from_str_radix(line, 16).expect("a chunk's size"));
            }
            if !self.more().await {
                return Err(self.ended.expect("it ended"));
            }
        };
        while self.unread.len() < start + size + 2 {
            if !self.more().await {
                return Err(self.ended.expect("it ended"));
            }
        }
        let chunk = self.unread[start..start + size].to_vec();
        self.unread.drain(..start + size + 2);
        Ok(chunk)
    }

    /// One whole answer, or what came of it.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await.expect("an answer");
        self.rest(head, false).await
    }

    /// The answer to a HEAD: it has no body, whatever its head says.
    pub async fn headless(&mut self) -> Answer {
        let head = self.head().await.expect("an answer");
        self.rest(head, true).await
    }

    /// The body of an answer whose head was read.
    pub async fn rest(&mut self, head: Head, no_body: bool) -> Answer {
        let mut body = Vec::new();
        let end = if no_body || head.status < 200 || matches!(head.status, 204 | 304) {
            End::Whole
        } else if head.is_chunked() {
            loop {
                match self.chunk().await {
                    Ok(chunk) if chunk.is_empty() => break End::Whole,
                    Ok(chunk) => body.extend(chunk),
                    Err(end) => break end,
                }
            }
        } else {
            let length = head.length();
            while length.is_none_or(|length| self.unread.len() < length) && self.more().await {}
            let taken = length.map_or(self.unread.len(), |length| length.min(self.unread.len()));
            body = self.unread.drain(..taken).collect();
            if Some(body.len()) == length { End::Whole } else { self.ended.expect("it ended") }
        };
        Answer { status: head.status, head, body, end }
    }

    /// Whether nothing more comes and the connection ends.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }

    /// Exactly so many bytes.
    pub async fn exact(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.more().await, "the connection ended early");
        }
        self.unread.drain(..count).collect()
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        self.io.set_zero_linger().expect("a TCP option");
    }
}
