//! The client side of HTTP/1.1, as small as the load needs it: one request after the other on one
//! connection, answers with a length, in chunks, or up to the end of the connection.
//!
//! It sends prepared bytes and hands out the decoded body as it arrives; it keeps nothing.
use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Connection {
    io: TcpStream,
    buffer: Box<[u8]>,
    /// Received and not yet used: `buffer[start..end]`.
    start: usize,
    end: usize,
    body: Body,
}

/// What is still to come of the answer's body.
#[derive(Clone, Copy)]
enum Body {
    Length(u64),
    /// Chunk data still to come, and the line ending after it.
    Chunk(u64),
    /// A line comes next: a chunk's size (`false`), or a trailer (`true`).
    Line(bool),
    UntilClose,
    Done,
}

impl Connection {
    /// `buffer` bytes bound the answer's head, and what one read can take.
    pub(super) async fn open(to: SocketAddr, buffer: usize) -> anyhow::Result<Self> {
        let io = TcpStream::connect(to).await.context("connect")?;
        io.set_nodelay(true)?;
        Ok(Self::over(io, buffer))
    }

    /// Over a socket with settings of its own.
    pub(super) fn over(io: TcpStream, buffer: usize) -> Self {
        let buffer = vec![0; buffer].into_boxed_slice();
        Self { io, buffer, start: 0, end: 0, body: Body::Done }
    }

    /// Sends a whole request and reads the answer's head; returns the status.
    pub(super) async fn send(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.io.write_all(request).await.context("write")?;
        loop {
            if let Some(status) = self.parse_head()? {
                return Ok(status);
            }
            self.fill().await?;
        }
    }

    /// Hands the next piece of the body to `sink`; `false` when the body has ended.
    pub(super) async fn data(&mut self, mut sink: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        loop {
            if self.decode(&mut sink)? {
                return Ok(true);
            }
            if matches!(self.body, Body::Done) {
                return Ok(false);
            }
            if matches!(self.body, Body::UntilClose) {
                if self.fill().await.is_err() {
                    self.body = Body::Done;
                }
            } else {
                self.fill().await?;
            }
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        ensure!(self.end < self.buffer.len(), "a head or a chunk line is too long");
        let read = self.io.read(&mut self.buffer[self.end..]).await.context("read")?;
        ensure!(read > 0, "the connection was closed inside an answer");
        self.end += read;
        Ok(())
    }

    fn parse_head(&mut self) -> anyhow::Result<Option<u16>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(&self.buffer[self.start..self.end])? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        self.body = Body::UntilClose;
        for header in head.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                self.body = Body::Length(std::str::from_utf8(header.value)?.trim().parse()?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                self.body = Body::Line(false);
            }
        }
        let status = head.code.unwrap_or_default();
        self.start += length;
        Ok(Some(status))
    }

    /// Uses up what is buffered; `true` when data went to `sink`.
    fn decode(&mut self, sink: &mut impl FnMut(&[u8])) -> anyhow::Result<bool> {
        let mut some = false;
        loop {
            let input = &self.buffer[self.start..self.end];
            match self.body {
                Body::Done | Body::Length(0) => {
                    self.body = Body::Done;
                    return Ok(some);
                }
                _ if input.is_empty() => return Ok(some),
                Body::UntilClose => {
                    sink(input);
                    self.start = self.end;
                    return Ok(true);
                }
                Body::Length(left) => {
                    let taken = take(input, left, sink);
                    self.start += taken;
                    self.body = Body::Length(left - taken as u64);
                    some = true;
                }
                // The last two bytes are the line ending: no data.
                Body::Chunk(left) if left > 2 => {
                    let taken = take(input, left - 2, sink);
                    self.start += taken;
                    self.body = Body::Chunk(left - taken as u64);
                    some = true;
                }
                Body::Chunk(left) => {
                    let taken = input.len().min(left as usize);
                    self.start += taken;
                    let left = left - taken as u64;
                    self.body = if left == 0 { Body::Line(false) } else { Body::Chunk(left) };
                }
                Body::Line(trailer) => {
                    let Some(end) = memchr::memchr(b'\n', input) else { return Ok(some) };
                    self.body = next(&input[..end], trailer)?;
                    self.start += end + 1;
                }
            }
        }
    }
}

fn take(input: &[u8], left: u64, sink: &mut impl FnMut(&[u8])) -> usize {
    let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    sink(&input[..taken]);
    taken
}

/// What follows a line of the chunked coding.
fn next(line: &[u8], trailer: bool) -> anyhow::Result<Body> {
    let line = std::str::from_utf8(line)?.trim_end();
    if trailer {
        return Ok(if line.is_empty() { Body::Done } else { Body::Line(true) });
    }
    let digits = line.split(';').next().unwrap_or_default().trim();
    match u64::from_str_radix(digits, 16) {
        Ok(0) => Ok(Body::Line(true)),
        Ok(size) => Ok(Body::Chunk(size + 2)),
        Err(_) => bail!("not a chunk size: {digits:?}"),
    }
}
