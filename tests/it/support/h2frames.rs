//! HTTP/2 by hand: headers that no well-behaved client library would send.
use std::net::SocketAddr;

use super::raw::Raw;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How the server ended stream 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Status(u16),
    Reset,
    /// The whole connection.
    Away,
}

/// Sends one request, headers in the given order, on a connection of its own.
pub async fn ask(to: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Ended {
    ask_with(to, headers, body, true).await
}

/// Like [`ask`]; the body may stay without an end.
pub async fn ask_with(to: SocketAddr, headers: &[(&str, &str)], body: &[u8], ends: bool) -> Ended {
    let mut raw = Raw::connect(to).await;
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    let mut block = Vec::new();
    for (name, value) in headers {
        // a literal without indexing and without Huffman coding (RFC 7541 6.2.2)
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let end = if body.is_empty() { END_STREAM } else { 0 };
    sent.extend(frame(HEADERS, END_HEADERS | end, 1, &block));
    if !body.is_empty() {
        sent.extend(frame(DATA, if ends { END_STREAM } else { 0 }, 1, body));
    }
    raw.send(&sent).await;
    loop {
        let Some(head) = raw.exact(9).await else { return Ended::Away };
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = raw.exact(len).await.expect("a whole frame");
        match head[3] {
            HEADERS => return Ended::Status(status(&payload)),
            RST_STREAM => return Ended::Reset,
            GOAWAY => return Ended::Away,
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, stream];
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
