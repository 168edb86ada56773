//! The fault suite: what goes wrong between agents and model backends, one case a test.
//!
//! The number in a name (`a23_…`) is the case's number in a catalogue of such faults; a case may
//! have several tests. Every one of them ends with the same checks ([`after`]): what the client
//! got, that the backend was let go or never asked, that nothing is held any more, that each call
//! has one line in the log, and that no key is shown anywhere. Where the catalogue leaves a choice,
//! the test says what the program does and why.
//!
//! `LONG=1` in the environment takes the real numbers where a test usually takes smaller ones.
mod after;
mod client;
mod environment;
mod frames;
mod input;
mod smuggling;
mod upstream;
mod websocket;

use crate::support::app::App;
use crate::support::client::{self as http, Answer};
use crate::support::origin::{self, Origin};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// A path that nobody knows: bodies stream through unread.
const UPLOAD: &str = "/v1/files";

const PLAIN: &str =
    r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"hi there"}]}"#;
const STREAM: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi there"}]}"#;

/// What a backend says to a chat, with what it used.
const SAID: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}"#;

/// One upstream for every path, called with the policy's own key. `more` are its settings, each
/// followed by a comma; `rest` are further lines of the file.
fn policy(url: &str, more: &str, rest: &str) -> String {
    format!(
        "upstreams: {{ up: {{ pacing: off, key: '${{CANARY}}', {more} url: '{url}' }} }}\n\
         routes: [{{ to: up }}]\n{rest}"
    )
}

/// Limits that count all there is to count, and that no test reaches. Where tokens are counted,
/// bodies must be readable.
const COUNTED: &str = "policies:\n  - name: all\n    per: agent\n    limits: { requests: 100k/day \
     calendar, tokens: 900M/day calendar, output_tokens: 900M/day calendar, concurrency: 5000 }\n";

/// The program under limits.
fn limited(url: &str, more: &str, rest: &str) -> App {
    App::start(&policy(url, more, &format!("{COUNTED}{rest}")))
}

/// The program without limits.
fn open(url: &str, more: &str, rest: &str) -> App {
    App::start(&policy(url, more, rest))
}

/// A backend that answers everything with a chat's answer.
async fn answering() -> Origin {
    Origin::saying(origin::whole("200 OK", "content-type: application/json\r\n", SAID)).await
}

/// One request on a connection of its own, and what came of it.
async fn ask(app: &App, request: &[u8]) -> Answer {
    after::told(http::ask(app.addr, request).await)
}

/// The real number with `LONG=1`, else the usual one.
fn many(usual: usize, long: usize) -> usize {
    if std::env::var_os("LONG").is_some_and(|long| long == "1") { long } else { usual }
}
