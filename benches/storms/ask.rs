//! Calls of the storms, and what came of each.
use std::net::SocketAddr;

use anyhow::ensure;

use crate::http::Connection;

/// A whole answer, as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub hash: blake3::Hash,
    pub bytes: usize,
    /// With its terminal event, where it is a stream.
    pub whole: bool,
}

/// A chat on the route `route`; `simulate` tells the backend how to answer.
pub fn chat(route: &str, stream: bool, seed: u64, simulate: &str) -> Vec<u8> {
    let body = body(stream, seed);
    format!(
        "POST {route}/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n\
         authorization: Bearer sk-storm\r\ncontent-type: application/json\r\n\
         x-simulate: {simulate}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub fn body(stream: bool, seed: u64) -> String {
    format!(
        "{{\"model\":\"sim-1\",\"seed\":{seed},\"stream\":{stream},\
         \"messages\":[{{\"role\":\"user\",\"content\":\"a question in a storm\"}}]}}"
    )
}

pub async fn open(to: SocketAddr) -> anyhow::Result<Connection> {
    Connection::open(to, 16 * 1024).await
}

/// Sends one and reads its answer; `begun` is called at the first byte of the body.
pub async fn ask(
    connection: &mut Connection,
    request: &[u8],
    mut begun: impl FnMut(),
) -> anyhow::Result<Answer> {
    let status = connection.send(request).await?;
    let (mut hash, mut bytes, mut tail) = (blake3::Hasher::new(), 0, Vec::new());
    let mut sink = |piece: &[u8]| {
        hash.update(piece);
        if bytes == 0 && !piece.is_empty() {
            begun();
        }
        bytes += piece.len();
        tail.extend_from_slice(piece);
        tail.drain(..tail.len().saturating_sub(32));
    };
    while connection.data(&mut sink).await? {}
    let whole = tail.trim_ascii_end().ends_with(b"[DONE]");
    Ok(Answer { status, hash: hash.finalize(), bytes, whole })
}

/// One on a connection of its own, whose answer must be a 200.
pub async fn ask_once(to: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    let answer = ask(&mut open(to).await?, request, || ()).await?;
    ensure!(answer.status == 200, "{}", answer.status);
    Ok(answer)
}
