//! Backends that are away, silent, torn, odd or at their limits: cases 48 to 80.
mod breaking;
mod connecting;
mod counting;
mod heads;
mod limited;
mod refusing;
mod silence;
mod streams;

use std::sync::Arc;

use super::{CHAT, COUNTED, MESSAGES, PLAIN, SAID, STREAM, after, answering, ask, limited, many};
use crate::support::app::App;
use crate::support::origin::{self, Conn, Origin, chunk};

/// A policy under which one failure opens the breaker, for long.
const TOUCHY: &str = "breaker: { failures: 1, open: 1m },";

/// Whether the first upstream's breaker is open.
fn tripped(app: &App) -> bool {
    app.upstream()["breaker"]["state"] == "open"
}

/// A token of a chat's stream, in a chunk of its own.
fn token(word: &str) -> Vec<u8> {
    chunk(&format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n"
    ))
}

const DONE: &str = "data: [DONE]\n\n";
const LAST: &[u8] = b"0\r\n\r\n";

/// A backend that does this with each request, and then waits until it is left.
async fn then_left<F>(script: impl Fn(Conn) -> F + Copy + Send + Sync + 'static) -> Origin
where
    F: Future<Output = Conn> + Send,
{
    Origin::start(move |mut conn| async move {
        if conn.request().await.is_some() {
            script(conn).await.until_gone().await;
        }
    })
    .await
}

/// A backend that answers each request with these pieces, each a write of its own.
async fn in_pieces(pieces: Vec<Vec<u8>>) -> Origin {
    let pieces = Arc::new(pieces);
    Origin::start(move |mut conn| {
        let pieces = Arc::clone(&pieces);
        async move {
            while conn.request().await.is_some() {
                for piece in &*pieces {
                    conn.send(piece).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await
}

/// A backend whose streams are these chunks and come to a clean end.
async fn streaming(chunks: &[&str]) -> Origin {
    let mut all = vec![origin::STREAM.to_vec()];
    all.extend(chunks.iter().map(|data| chunk(data)));
    all.push(LAST.to_vec());
    in_pieces(vec![all.concat()]).await
}

/// A route to `one`, and where that fails to `other`; each is called with the policy's own key.
fn falling_back(one: &str, other: &str, more: &str, rest: &str) -> App {
    App::start(&format!(
        "upstreams:\n  one: {{ pacing: off, key: '${{CANARY}}', {more} url: '{one}' }}\n  \
         other: {{ pacing: off, key: '${{CANARY}}', url: '{other}' }}\n\
         routes: [{{ to: one, fallback: [other] }}]\n{COUNTED}{rest}"
    ))
}
