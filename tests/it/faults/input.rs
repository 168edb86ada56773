//! Requests that are malformed, too large, or not what they seem: cases 23 to 47.
mod bodies;
mod heads;
mod places;
mod sizes;

use super::{CHAT, PLAIN, after, answering, ask, limited, open};
use crate::support::client::post;
use crate::support::raw::Raw;

/// Each of these is answered with the status, its connection is closed, nothing of it reaches the
/// backend, and the next client is served. What the parser answers by itself never was a call, so
/// it has no id and no line.
async fn all_refused(status: u16, requests: &[(&str, Vec<u8>)]) {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "server: { max_body: 64KiB }\n");
    let mut calls = Vec::new();
    for (name, request) in requests {
        let mut raw = Raw::connect(app.addr).await;
        raw.send(request).await;
        let got = raw.reply().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(got.status, status, "{name}: {}", got.head);
        assert!(raw.is_closed().await, "{name}: the connection goes on");
        serde_json::from_slice::<serde_json::Value>(&got.body)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if got.header("x-tidegate-request-id").is_some() {
            calls.push((status, "refused"));
        }
    }
    after::unheard(&origin);
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 200);
    calls.push((200, "complete"));
    after::over(&app, &calls).await;
    after::let_go(&app, &origin).await;
}

/// A POST with these lines of the head, and this after it.
fn posting(lines: &str, rest: &str) -> Vec<u8> {
    format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}").into_bytes()
}
