//! Who calls, as the program tells it: keys, certificates, peers and the words of clients.
//!
//! The program in a process of its own, before an origin that remembers what reached it. What was
//! told of a caller is read from the access log, as an operator would.
mod bounds;
mod certificates;
mod keys;
mod rights;
mod said;
mod watching;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::life::tidegate;
use crate::support::app::App;
use crate::support::client::{Answer, ask};
use crate::support::origin::{Origin, whole};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/m:generateContent";
const OLLAMA: &str = "/api/chat";
const BODY: &str = r#"{"model":"m","max_tokens":4,"messages":[{"role":"user","content":"hi"}]}"#;
/// What the agent's own credential for the backend looks like here.
const FOREIGN: &str = "sk-provider-0a1b2c3d4e5f60718293";

/// An origin that answers everything.
async fn origin() -> Origin {
    let answer = r#"{"usage":{"prompt_tokens":5,"completion_tokens":3}}"#;
    Origin::saying(whole("200 OK", "content-type: application/json\r\n", answer)).await
}

/// Every path to `up` under `/a`, and all others under `/`; `more` is the rest of the policy.
fn policy(origin: &Origin, more: &str) -> String {
    let url = origin.url();
    format!(
        "upstreams: {{ up: '{url}' }}\n\
         routes: [{{ path: /a, to: up }}, {{ to: up, name: root }}]\n{more}"
    )
}

/// A key, and the line that the policy file has of it.
pub fn new_key(args: &[&str]) -> (String, String) {
    let made = tidegate()
        .args(["keys", "new"])
        .args(args)
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.success(), "{said}");
    let key = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    let line = said.lines().find_map(|line| line.trim_start().strip_prefix("- ")).unwrap();
    (key, line.to_owned())
}

/// A policy for the command line: it finds the store of `state`, and `app` if that is given.
fn policy_for_keys(at: &Path, state: &Path, app: Option<&App>) -> String {
    let admin = app.map_or_else(|| "'off'".to_owned(), |app| format!("'{}'", app.admin));
    let file = at.join("keys.yaml");
    std::fs::write(&file, format!("admin: {admin}\nstate: '{}'\n", state.display())).unwrap();
    file.display().to_string()
}

/// A POST with these header lines and no credential but theirs.
fn call(target: &str, lines: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {target} HTTP/1.1\r\nhost: sidecar.test\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn chat(to: SocketAddr, lines: &str) -> Answer {
    ask(to, &call(CHAT, lines, BODY)).await
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

/// A field of an access line; empty where it is not said.
fn at<'l>(line: &'l Value, field: &str) -> &'l str {
    line[field].as_str().unwrap_or_default()
}
