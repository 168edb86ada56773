//! More than there is memory, descriptors or time for: some are refused, at once and in words that
//! SDKs understand, and everything else goes on.
mod admin;
mod descriptors;
mod memory;
mod slow;

use crate::support::app::App;
use crate::support::client::{Client, post};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const MIB: usize = 1 << 20;

/// So much memory, and bodies as large as it.
fn memory(mib: usize) -> String {
    format!("memory: {mib}MiB, max_body: {mib}MiB")
}

/// A policy with one upstream for every path.
fn policy(server: &str, url: &str, more: &str) -> String {
    format!(
        "server: {{ {server} }}\nupstreams: {{ up: {{ {more} url: '{url}' }} }}\nroutes: [{{ to: up }}]\n"
    )
}

/// A call's head, and a body of so many bytes.
fn large(target: &str, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let rest = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"user":""#;
    let padding = "x".repeat(bytes - rest.len() - 2);
    let whole = post(target, "", &format!("{rest}{padding}\"}}"));
    let (head, body) = whole.split_at(whole.len() - bytes);
    (head.to_vec(), body.to_vec())
}

/// A call that announces so many bytes, and has sent none of them yet; and these.
async fn announced(app: &App, bytes: usize) -> (Client, Vec<u8>) {
    let (head, body) = large(CHAT, bytes);
    let mut client = Client::connect(app.addr).await;
    client.send(&head).await;
    (client, body)
}

fn held(app: &App) -> usize {
    app.count("tidegate_memory_held_bytes", &[])
}
