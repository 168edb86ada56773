//! One connection: its requests are read, answered and forgotten one after the other; pipelined
//! ones wait in the buffer. While an answer waits for its time the socket is watched, so that a
//! client that leaves is noticed at once. A half-closed client counts as one that left.
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::faults::put_error;
use super::http::{self, Chunks, Delimited, Framing, Head, Unreadable, put_head};
use super::plan::{Plan, Received, plan};
use super::text::Put;
use super::worker::Worker;
use crate::wire::Dialect;

/// A buffer that grew beyond this is given back after the request.
const KEPT_BUFFER: usize = 1 << 20;
/// What a client may send ahead while it waits for an answer.
const AHEAD: usize = 1 << 20;

pub(super) struct Connection {
    pub io: TcpStream,
    pub worker: Rc<Worker>,
    inbox: Vec<u8>,
    /// A body that came in chunks.
    unchunked: Vec<u8>,
    /// The body, or the events, of the answer.
    pub body: Vec<u8>,
    /// What is written next.
    pub out: Vec<u8>,
    /// Requests answered.
    pub served: u32,
    /// The next request is answered with RST.
    pub stale: bool,
    /// Between a request's head and its answer's end.
    busy: bool,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Keep,
    /// FIN, then wait a moment for the client's.
    Close,
    /// RST
    Reset,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.counters().closed.fetch_add(1, Relaxed);
    }
}

impl Connection {
    pub fn new(io: TcpStream, worker: Rc<Worker>) -> Self {
        Self {
            io,
            worker,
            inbox: Vec::new(),
            unchunked: Vec::new(),
            body: Vec::new(),
            out: Vec::new(),
            served: 0,
            stale: false,
            busy: false,
        }
    }

    pub async fn serve(mut self) {
        loop {
            match self.exchange().await {
                Ok(End::Keep) => {}
                Ok(End::Close) => {
                    if self.io.shutdown().await.is_ok() {
                        let gone = self.until_gone();
                        _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
                    }
                    return;
                }
                Ok(End::Reset) => {
                    // what was sent before arrives before
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    _ = self.io.set_zero_linger();
                    return;
                }
                Err(_) => {
                    if self.busy {
                        self.worker.counters().cancelled.fetch_add(1, Relaxed);
                    }
                    return;
                }
            }
        }
    }

    /// One request and its answer.
    async fn exchange(&mut self) -> io::Result<End> {
        self.busy = false;
        let head = loop {
            match http::head(&self.inbox) {
                Ok(Some(head)) => break head,
                Ok(None) => self.receive(8192).await?,
                Err(unreadable) => return self.unreadable(unreadable).await,
            }
            if self.stale {
                return Ok(End::Reset);
            }
        };
        if self.stale {
            return Ok(End::Reset);
        }
        self.busy = true;
        self.worker.counters().requests.fetch_add(1, Relaxed);
        let early = self.answers_early(&head);
        let whole = if early {
            Ok(None)
        } else {
            match self.read_body(&head).await? {
                Ok(whole) => Ok(Some(whole)),
                Err(unreadable) => Err(unreadable),
            }
        };
        let whole = match whole {
            Ok(whole) => whole,
            Err(unreadable) => return self.unreadable(unreadable).await,
        };
        let plan = self.plan(&head);
        if let Some(bytes) = whole {
            self.consume(bytes);
        }
        let end = self.send(&head, plan).await?;
        self.served += 1;
        Ok(if early && end == End::Keep { End::Close } else { end })
    }

    /// Decides the answer to the request in the buffer.
    fn plan(&mut self, head: &Head) -> Plan {
        let body = match head.framing {
            Framing::Chunked => &self.unchunked[..],
            Framing::Length(bytes) => {
                self.inbox.get(head.bytes..head.bytes + bytes).unwrap_or_default()
            }
        };
        self.body.clear();
        plan(&self.worker, Received { head, buffer: &self.inbox, body }, &mut self.body)
    }

    /// Whether the script wants an answer before the body.
    fn answers_early(&self, head: &Head) -> bool {
        let Some(range) = head.script.clone() else { return false };
        let mut script = self.worker.script();
        let header = std::str::from_utf8(&self.inbox[range]).unwrap_or_default();
        script.apply(header).is_ok() && script.early && script.fault.is_some()
    }

    /// Reads until the body is in the buffer; says how many bytes the request has.
    async fn read_body(&mut self, head: &Head) -> io::Result<Result<usize, Unreadable>> {
        let complete = match head.framing {
            Framing::Length(bytes) => self.inbox.len() >= head.bytes + bytes,
            Framing::Chunked => self.inbox.len() > head.bytes,
        };
        if head.expects_continue && !complete {
            self.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match head.framing {
            Framing::Length(bytes) => {
                let whole = head.bytes + bytes;
                while self.inbox.len() < whole {
                    self.receive(whole - self.inbox.len()).await?;
                }
                Ok(Ok(whole))
            }
            Framing::Chunked => {
                self.unchunked.clear();
                let mut chunks = Chunks::new(head.bytes);
                loop {
                    match chunks.read(&self.inbox, &mut self.unchunked) {
                        Ok(true) => return Ok(Ok(chunks.at)),
                        Ok(false) => self.receive(16 << 10).await?,
                        Err(unreadable) => return Ok(Err(unreadable)),
                    }
                }
            }
        }
    }

    /// Forgets the request that was planned.
    fn consume(&mut self, bytes: usize) {
        if self.inbox.len() == bytes {
            self.inbox.clear();
        } else {
            self.inbox.drain(..bytes);
        }
        for buffer in [&mut self.inbox, &mut self.unchunked] {
            if buffer.capacity() > KEPT_BUFFER && buffer.len() < KEPT_BUFFER {
                buffer.shrink_to(0);
            }
        }
    }

    /// Gives back what an open stream does not need.
    pub fn slim(&mut self) {
        self.inbox.shrink_to_fit();
        self.unchunked = Vec::new();
    }

    /// Reads once, with room for `more` bytes.
    async fn receive(&mut self, more: usize) -> io::Result<()> {
        self.inbox.reserve(more.max(1024));
        match self.io.read_buf(&mut self.inbox).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.worker.counters().bytes_in.fetch_add(bytes as u64, Relaxed);
                Ok(())
            }
        }
    }

    /// Writes and empties `out`.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.io.write_all(&self.out).await?;
        self.worker.counters().bytes_out.fetch_add(self.out.len() as u64, Relaxed);
        self.out.clear();
        Ok(())
    }

    /// Waits, unless the client leaves before.
    pub async fn pause(&mut self, until: Instant) -> io::Result<()> {
        let mut sleep = pin!(tokio::time::sleep_until(until));
        loop {
            let due = std::future::poll_fn(|cx| {
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(true));
                }
                if self.inbox.len() > AHEAD {
                    return Poll::Pending;
                }
                ready!(self.io.poll_read_ready(cx))?;
                Poll::Ready(io::Result::Ok(false))
            });
            if due.await? {
                return Ok(());
            }
            self.look()?;
        }
    }

    /// Takes what has arrived; an error if the client has left.
    fn look(&mut self) -> io::Result<()> {
        let mut some = [0; 512];
        match self.io.try_read(&mut some) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.inbox.extend_from_slice(&some[..bytes]);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Waits until the client leaves; never returns anything else.
    pub async fn until_gone(&mut self) -> io::Result<End> {
        loop {
            self.inbox.clear();
            self.receive(4096).await?;
        }
    }

    /// Every byte comes back, until the client leaves.
    pub async fn tunnel(&mut self) -> io::Result<End> {
        loop {
            self.out.append(&mut self.inbox);
            self.flush().await?;
            if self.receive(16 << 10).await.is_err() {
                return Ok(End::Close);
            }
        }
    }

    /// Answers what cannot be understood, and ends the connection.
    async fn unreadable(&mut self, why: Unreadable) -> io::Result<End> {
        self.body.clear();
        put_error(&mut self.body, Dialect::OpenAi, why.0, None, 0);
        let delimited = Delimited::Length(self.body.len());
        let close = http::Connection::Close;
        put_head(&mut self.out, why.0, "application/json", delimited, close);
        self.out.put("\r\n").extend_from_slice(&self.body);
        self.flush().await?;
        Ok(End::Close)
    }
}
