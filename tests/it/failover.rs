//! Several backends behind one door: which of them a call goes to, and what becomes of it when one
//! fails. The backends are scripted origins; what each of them saw is counted, byte by byte where it
//! matters.
mod counting;
mod errors;
mod exhausted;
mod hedging;
mod holding;
mod keeping;
mod keys;
mod probing;
mod retrying;
mod routing;
mod slow;
mod spreading;

use crate::support::app::App;
use crate::support::client::{Answer, ask, post};
use crate::support::origin::{Origin, whole};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/m:generateContent";
const GEMINI: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";
const OLLAMA: &str = "/api/chat";

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

const GOOD: &str = r#"{"choices":[{"message":{"content":"good"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const ERROR: &str =
    "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"code\":null}}\n\n";

/// An answer as JSON.
fn json(status: &str, body: &str) -> Vec<u8> {
    whole(status, "content-type: application/json\r\n", body)
}

fn good() -> Vec<u8> {
    json("200 OK", GOOD)
}

fn unavailable() -> Vec<u8> {
    json("503 Service Unavailable", "{}")
}

/// The settings of an upstream, each with a comma behind it; a 429 from it slows nobody down.
fn up(name: &str, url: &str, more: &str) -> String {
    format!("{name}: {{ pacing: off, {more} url: '{url}' }}")
}

/// A policy with these upstreams, and one route to the first of them that falls back to the others.
/// `more`: settings of the route, each with a comma before it.
fn policy(ups: &[String], more: &str) -> String {
    let name = |up: &String| up.split(':').next().unwrap().to_owned();
    let names: Vec<_> = ups.iter().map(name).collect();
    let fallback = match &names[1..] {
        [] => String::new(),
        others => format!(", fallback: [{}]", others.join(", ")),
    };
    let (ups, to) = (ups.join(", "), &names[0]);
    format!("upstreams: {{ {ups} }}\nroutes: [{{ to: {to}{fallback}{more} }}]\n")
}

/// The program in front of `a`, with `b` behind it. `more`: settings of `a`.
fn pair(a: &str, b: &str, more: &str) -> App {
    App::start(&policy(&[up("a", a, more), up("b", b, "")], ""))
}

/// A call on a connection of its own.
async fn call(app: &App) -> Answer {
    ask(app.addr, &post(CHAT, "", PLAIN)).await
}

/// How many requests each has seen.
fn counts<const N: usize>(origins: [&Origin; N]) -> [usize; N] {
    origins.map(Origin::requests)
}

/// A URL that nobody listens at.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
