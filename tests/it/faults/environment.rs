//! What the machine and its operators do: signals, reloads, disks, logs, clocks, certificates, and too
//! little of everything. Cases 86 to 105; 102 is among the clients that lag, and 97 and 104 have a
//! part that stands beside what it is about.
mod ending;
mod outside;
mod reloading;
mod scarce;
mod writing;

use std::sync::Arc;

use tokio::sync::watch;

use super::{CHAT, COUNTED, PLAIN, SAID, STREAM, after, answering, ask, limited, many, policy};
use crate::support::app::App;
use crate::support::client::{Answer, Client, post};
use crate::support::origin::{self, Origin, chunk};

const DONE: &str = "data: [DONE]\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n";

/// A backend whose streams say a word, and end when they are let.
struct Gate {
    origin: Origin,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    async fn new() -> Self {
        let open = Arc::new(watch::channel(false).0);
        let gate = Arc::clone(&open);
        let origin = Origin::start(move |mut conn| {
            let mut gate = gate.subscribe();
            async move {
                while conn.request().await.is_some() {
                    conn.send(&[origin::STREAM, &chunk(TOKEN)].concat()).await;
                    let opened = tokio::select! {
                        opened = gate.wait_for(|open| *open) => opened.is_ok(),
                        _ = conn.some() => false,
                    };
                    if !opened {
                        return;
                    }
                    conn.send(&[&*chunk(TOKEN), &chunk(DONE), b"0\r\n\r\n"].concat()).await;
                }
            }
        })
        .await;
        Self { origin, open }
    }

    fn open(&self) {
        self.open.send_replace(true);
    }

    /// A client of a stream whose first word has come.
    async fn begin(&self, app: &App, call: &[u8]) -> Client {
        let mut client = Client::connect(app.addr).await;
        client.send(call).await;
        let head = client.head().await.expect("an answer");
        assert_eq!(head.status, 200, "{}", head.text);
        assert_eq!(client.chunk().await.expect("a word"), TOKEN.as_bytes());
        client
    }
}

/// Reads a stream to its end. `None`: it was cut.
async fn rest(client: &mut Client) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match client.chunk().await {
            Ok(chunk) if chunk.is_empty() => return Some(all),
            Ok(chunk) => all.extend(chunk),
            Err(_) => return None,
        }
    }
}

fn plain() -> Vec<u8> {
    post(CHAT, "", PLAIN)
}

async fn served(app: &App) -> Answer {
    let got = ask(app, &plain()).await;
    assert_eq!((got.status, got.text()), (200, SAID));
    got
}
