//! Streams that are taken up again, from outside: the program in a process of its own, and behind it
//! a backend that sends recorded answers piece by piece and counts who asks.
mod bytes;
mod ends;
mod owners;
mod places;

use std::net::SocketAddr;

use crate::cache::{Backend, Face, policy};
use crate::support::app::App;
use crate::support::client::{Answer, Client, Head, ask, request};

/// A time that no test waits out.
const LONG: &str = "30s";
/// What counts all there is to count, and what no test reaches.
const COUNTED: &str = "  - { name: all, limits: { requests: 100k/day calendar, tokens: 900M/day \
                       calendar, concurrency: 5000 } }\n";

/// The program in front of a backend.
fn behind(backend: &Backend, workers: &str) -> App {
    App::with(&policy(&backend.origin.url(), "", COUNTED), &["--workers", workers])
}

/// A client in the middle of its stream.
struct Reading {
    client: Client,
    head: Head,
    /// What it has read so far.
    got: Vec<u8>,
}

impl Reading {
    /// Sends a call, and reads the head of its answer.
    async fn begin(to: SocketAddr, call: &[u8]) -> Self {
        let mut client = Client::connect(to).await;
        client.send(call).await;
        let head = client.head().await.expect("a head");
        assert_eq!(head.status, 200, "{}", head.text);
        Self { client, head, got: Vec::new() }
    }

    /// Where it can be taken up again.
    fn url(&self) -> String {
        let url = self.head.get("x-tidegate-resume-url").expect("it can be taken up again");
        let id = self.head.get("x-tidegate-stream").expect("it has a name");
        assert_eq!(url, format!("/-/streams/{id}"));
        url.to_owned()
    }

    /// Reads until it has so many bytes at least. `false`: there are no more.
    async fn to(&mut self, bytes: usize) -> bool {
        if !self.head.is_chunked() {
            // all of it was there when its head went
            let whole = self.client.rest(self.head.clone(), false).await;
            self.got.extend(whole.body);
            return self.got.len() >= bytes;
        }
        while self.got.len() < bytes {
            match self.client.chunk().await {
                Ok(chunk) if !chunk.is_empty() => self.got.extend(chunk),
                _ => return false,
            }
        }
        true
    }

    /// The connection is lost. Gives as much as it wants to have had.
    fn lose(mut self, bytes: usize) -> Vec<u8> {
        self.client.reset();
        self.got.truncate(bytes);
        self.got
    }
}

/// A call whose stream can be taken up again within that time.
fn resumable(face: &Face, grace: &str) -> Vec<u8> {
    face.call_with("and then?", true, &format!("x-tidegate-resume: {grace}\r\n"))
}

/// Asks one of our own paths.
async fn here(app: &App, method: &str, path: &str) -> Answer {
    ask(app.addr, &request(method, path, "", "")).await
}

/// The rest of a stream, to its end.
async fn rest(app: &App, url: &str, query: &str) -> Answer {
    here(app, "GET", &format!("{url}{query}")).await
}

/// Waits until the backend has heard that nobody wants its answers any more.
async fn let_go(backend: &Backend, calls: usize) {
    crate::support::until("the backend is let go", async || backend.gone() == calls).await;
}
