//! Several backends behind one door: which of them a call goes to, and what becomes of it when one
//! fails. The backends are scripted origins; what each of them saw is counted, byte by byte where it
//! matters.
mod retrying;

use crate::support::app::App;
use crate::support::client::{Answer, ask, post};
use crate::support::origin::{Origin, whole};

const CHAT: &str = "/v1/chat/completions";

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

const GOOD: &str = r#"{"choices":[{"message":{"content":"good"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

/// An answer as JSON.
fn json(status: &str, body: &str) -> Vec<u8> {
    whole(status, "content-type: application/json\r\n", body)
}

fn good() -> Vec<u8> {
    json("200 OK", GOOD)
}

/// The settings of an upstream: a 429 from it slows nobody down.
fn up(name: &str, url: &str, more: &str) -> String {
    format!("{name}: {{ pacing: off, url: '{url}', {more} }}")
}

/// A policy with these upstreams, and one route to the first of them that falls back to the others.
/// `more`: settings of the route, each behind a comma.
fn policy(ups: &[String], more: &str) -> String {
    let name = |up: &String| up.split(':').next().unwrap().to_owned();
    let names: Vec<_> = ups.iter().map(name).collect();
    let fallback = match &names[1..] {
        [] => String::new(),
        others => format!(", fallback: [{}]", others.join(", ")),
    };
    format!(
        "upstreams: {{ {} }}\nroutes: [{{ to: {}{fallback}{more} }}]\n",
        ups.join(", "),
        names[0]
    )
}

/// The program in front of `a`, with `b` behind it.
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
