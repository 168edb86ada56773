//! HTTP/2 by hand: headers that no well-behaved client library would send.
use std::net::SocketAddr;

use super::raw::Raw;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const HAS_PRIORITY: u8 = 0x20;

/// How the server ended stream 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Status(u16),
    Reset,
    /// The whole connection.
    Away,
}

/// What the server says of a stream, with the codes of RFC 9113 section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Status(u16),
    Reset(u32),
    /// GOAWAY, of the whole connection.
    Away(u32),
    /// The connection ended without a word.
    Closed,
    /// Nothing, for as long as anybody would wait.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// One connection, frame by frame.
pub struct Frames {
    pub raw: Raw,
}

impl Frames {
    /// With these settings of the client's, as they go into the frame.
    pub async fn connect(to: SocketAddr, settings: &[u8]) -> Self {
        let mut raw = Raw::connect(to).await;
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
        Self { raw }
    }

    pub async fn send(&mut self, frames: &[Vec<u8>]) {
        self.raw.send(&frames.concat()).await;
    }

    /// The next frame; `None` at the end of the connection, and when none comes in time.
    pub async fn next(&mut self) -> Option<Frame> {
        let head = self.raw.exact(9).await?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.raw.exact(len).await?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// What is said of a stream first.
    pub async fn said(&mut self, stream: u32) -> Said {
        let code = |at: &[u8]| u32::from_be_bytes([at[0], at[1], at[2], at[3]]);
        loop {
            let Some(next) = self.next().await else {
                return if self.raw.was_silent() { Said::Nothing } else { Said::Closed };
            };
            match next.kind {
                HEADERS if next.stream == stream => return Said::Status(status(&next.payload)),
                RST_STREAM if next.stream == stream => return Said::Reset(code(&next.payload)),
                GOAWAY => return Said::Away(code(&next.payload[4..])),
                _ => {}
            }
        }
    }
}

/// Sends one request, headers in the given order, on a connection of its own.
pub async fn ask(to: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Ended {
    ask_with(to, headers, body, true).await
}

/// Like [`ask`]; the body may stay without an end.
pub async fn ask_with(to: SocketAddr, headers: &[(&str, &str)], body: &[u8], ends: bool) -> Ended {
    let mut frames = Frames::connect(to, &[]).await;
    let end = if body.is_empty() { END_STREAM } else { 0 };
    let mut sent = vec![frame(HEADERS, END_HEADERS | end, 1, &block(headers))];
    if !body.is_empty() {
        sent.push(frame(DATA, if ends { END_STREAM } else { 0 }, 1, body));
    }
    frames.send(&sent).await;
    match frames.said(1).await {
        Said::Status(status) => Ended::Status(status),
        Said::Reset(_) => Ended::Reset,
        Said::Away(_) | Said::Closed | Said::Nothing => Ended::Away,
    }
}

/// A block of literals without indexing and without Huffman coding (RFC 7541 6.2.2).
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        literal(&mut block, 0, name.as_bytes(), value.as_bytes());
    }
    block
}

/// One literal; `first` is its first byte, which says whether it is to be indexed.
pub fn literal(block: &mut Vec<u8>, first: u8, name: &[u8], value: &[u8]) {
    block.push(first);
    for text in [name, value] {
        number(block, text.len());
        block.extend_from_slice(text);
    }
}

/// A length in HPACK, with a prefix of seven bits (RFC 7541 5.1).
fn number(block: &mut Vec<u8>, number: usize) {
    if number < 127 {
        return block.push(number as u8);
    }
    block.push(127);
    let mut left = number - 127;
    while left >= 128 {
        block.push((left % 128) as u8 | 128);
        left /= 128;
    }
    block.push(left as u8);
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The `:status` that a header block of a server begins with: an entry of the static table, or
/// a literal whose three digits are Huffman-coded.
fn status(block: &[u8]) -> u16 {
    let known = [200, 204, 206, 304, 400, 404, 500];
    // a table size update may come first
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    if let Some(at) = block[0].checked_sub(0x88) {
        return known[usize::from(at)];
    }
    assert_eq!(block[0] & 0x3f, 8, "a literal :status");
    let len = usize::from(block[1] & 0x7f);
    let text = &block[2..2 + len];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(text).expect("digits").parse().expect("a status");
    }
    let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut status = 0;
    for _ in 0..3 {
        // codes of 5 bits for 0 to 2, of 6 bits for 3 to 9 (RFC 7541 B)
        let mut code =
            (0..5).fold(0_u16, |code, _| code << 1 | u16::from(bits.next().expect("a bit")));
        if code > 2 {
            code = (code << 1 | u16::from(bits.next().expect("a bit"))) - 0x19 + 3;
        }
        status = status * 10 + code;
    }
    status
}
