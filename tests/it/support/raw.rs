//! A client that sends bytes as they are and reads replies without judging them.
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the next bytes of a reply.
const PATIENCE: Duration = Duration::from_secs(2);

/// One reply, its body without framing.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What became of many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    Taken,
    /// The server did not take all of them in the time.
    Held,
    /// The server has ended the connection.
    Cut,
}

/// One connection.
pub struct Raw {
    io: TcpStream,
    unread: Vec<u8>,
    /// The server let us wait in vain.
    silent: bool,
}

impl Raw {
    pub async fn connect(to: SocketAddr) -> Raw {
        let io = TcpStream::connect(to).await.expect("the server listens");
        io.set_nodelay(true).expect("a TCP option");
        Raw { io, unread: Vec::new(), silent: false }
    }

    /// Sends bytes; a server that has hung up already is no fault of the sender.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// Sends as much of these bytes as is taken within the time; what is not stays.
    pub async fn flood(&mut self, bytes: &mut &[u8], time: Duration) -> Flood {
        match timeout(time, self.io.write_all_buf(bytes)).await {
            Ok(Ok(())) => Flood::Taken,
            Ok(Err(_)) => Flood::Cut,
            Err(_) => Flood::Held,
        }
    }

    /// The next reply; `None` when the connection ends, or nothing comes. A reply without a length
    /// has no body here.
    pub async fn reply(&mut self) -> Option<Reply> {
        let end = loop {
            match memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.more().await => {}
                None => return None,
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end);
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |v| v.parse().expect("a length"));
        while self.unread.len() < length && self.more().await {}
        reply.body = self.unread.drain(..length.min(self.unread.len())).collect();
        Some(reply)
    }

    /// Whether the server closes, with nothing more to say.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await && !self.silent
    }

    /// Whether the last wait was in vain, on a connection that is open still.
    pub fn was_silent(&self) -> bool {
        self.silent
    }

    /// Whether the server closes, whatever it says until then.
    pub async fn ends(&mut self) -> bool {
        while self.more().await {}
        !self.silent
    }

    /// Exactly so many bytes.
    pub async fn exact(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.unread.len() < len {
            if !self.more().await {
                return None;
            }
        }
        Some(self.unread.drain(..len).collect())
    }

    /// Reads some bytes; false at the end of the connection and when none come in time.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.io.read_buf(&mut self.unread)).await;
        self.silent = read.is_err();
        matches!(read, Ok(Ok(1..)))
    }
}
