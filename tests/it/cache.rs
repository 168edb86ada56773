//! Answers that are given again, and calls that share one, from outside: the program in a process of
//! its own, and behind it a backend that sends recorded answers piece by piece and counts who asks.
mod accounting;
mod control;
mod errors;
mod keeping;
mod limits;
mod long;
mod parting;
mod pressure;
mod reload;
mod replaying;
mod sceptic;
mod sharing;
mod walls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tidegate::simulate::{Options, start};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::app::{AGENT_KEY, App};
use crate::support::client::{Answer, Client, End};
use crate::support::origin::{Conn, Origin};
use crate::support::until;

const CHAT: &str = "/v1/chat/completions";

/// One way to ask, in one dialect.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    plain: &'static str,
    pub stream: &'static str,
    /// The body, with `QUESTION` and `STREAM` in it.
    body: &'static str,
    lines: &'static str,
}

pub const OPENAI_CHAT: Face = Face {
    plain: CHAT,
    stream: CHAT,
    body: r#"{"model":"m","stream":STREAM,"messages":[{"role":"user","content":"QUESTION"}]}"#,
    lines: "",
};
const OPENAI_COMPLETIONS: Face = Face {
    plain: "/v1/completions",
    stream: "/v1/completions",
    body: r#"{"model":"m","stream":STREAM,"prompt":"QUESTION"}"#,
    lines: "",
};
pub const OPENAI_RESPONSES: Face = Face {
    plain: "/v1/responses",
    stream: "/v1/responses",
    body: r#"{"model":"m","stream":STREAM,"input":"QUESTION"}"#,
    lines: "",
};
pub const ANTHROPIC: Face = Face {
    plain: "/v1/messages",
    stream: "/v1/messages",
    body: r#"{"model":"m","max_tokens":400,"stream":STREAM,"messages":[{"role":"user","content":"QUESTION"}]}"#,
    lines: "anthropic-version: 2023-06-01\r\n",
};
const GEMINI: Face = Face {
    plain: "/v1beta/models/m:generateContent",
    stream: "/v1beta/models/m:streamGenerateContent?alt=sse",
    body: r#"{"contents":[{"role":"user","parts":[{"text":"QUESTION"}]}]}"#,
    lines: "",
};
pub const OLLAMA: Face = Face {
    plain: "/api/chat",
    stream: "/api/chat",
    body: r#"{"model":"m","stream":STREAM,"messages":[{"role":"user","content":"QUESTION"}]}"#,
    lines: "",
};

pub const FACES: [Face; 6] =
    [OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC, GEMINI, OLLAMA];

impl Face {
    pub fn target(&self, stream: bool) -> &'static str {
        if stream { self.stream } else { self.plain }
    }

    pub fn json(&self, question: &str, stream: bool) -> String {
        let stream = if stream { "true" } else { "false" };
        self.body.replace("QUESTION", question).replace("STREAM", stream)
    }

    /// The call of the test's own agent.
    pub fn call(&self, question: &str, stream: bool) -> Vec<u8> {
        self.call_with(question, stream, "")
    }

    pub fn call_with(&self, question: &str, stream: bool, lines: &str) -> Vec<u8> {
        let lines = format!("{}{lines}", self.lines);
        by(AGENT_KEY, self.target(stream), &lines, &self.json(question, stream))
    }
}

/// A POST with this credential.
pub fn by(credential: &str, target: &str, lines: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {target} HTTP/1.1\r\nhost: sidecar.test\r\nauthorization: Bearer {credential}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An answer as a backend sends it.
#[derive(Debug, Clone)]
pub struct Script {
    pub status: &'static str,
    /// Lines of its head, each with its end.
    lines: String,
    pub pieces: Vec<Vec<u8>>,
    /// Framed in chunks; else by its length.
    chunked: bool,
    /// How the connection ends behind the pieces.
    pub end: Ends,
}

/// How an answer of a backend ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    ByItsFraming,
    /// The same, once one more than the pieces may be sent.
    Late,
    /// The connection is reset instead.
    Reset,
}

impl Script {
    pub fn json(status: &'static str, body: &str) -> Self {
        let lines = "content-type: application/json\r\n".to_owned();
        let pieces = vec![body.as_bytes().to_vec()];
        Self { status, lines, pieces, chunked: false, end: Ends::ByItsFraming }
    }

    pub fn events(pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let lines = "content-type: text/event-stream\r\n".to_owned();
        let pieces = pieces.into_iter().map(Into::into).collect();
        Self { status: "200 OK", lines, pieces, chunked: true, end: Ends::ByItsFraming }
    }

    pub fn body(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// As a simulated vendor answers such a call.
    pub async fn recorded(face: &Face, stream: bool, how: &str) -> Self {
        let simulator =
            start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap();
        let mut client = Client::connect(simulator.addr).await;
        let how = format!("x-simulate: {how}\r\n");
        client.send(&face.call_with("what?", stream, &how)).await;
        let head = client.head().await.unwrap();
        let kind = head.get("content-type").unwrap();
        let lines = format!("content-type: {kind}\r\nx-request-id: req_of_upstream\r\n");
        let (chunked, mut pieces) = (head.is_chunked(), Vec::new());
        if chunked {
            while let Ok(chunk) = client.chunk().await
                && !chunk.is_empty()
            {
                pieces.push(chunk);
            }
        } else {
            pieces.push(client.rest(head, false).await.body);
        }
        Self { status: "200 OK", lines, pieces, chunked, end: Ends::ByItsFraming }
    }
}

/// A backend that answers every call with one script, a piece at a time.
pub struct Backend {
    pub origin: Origin,
    /// How many pieces may be sent; the head waits for the first.
    leave: watch::Sender<usize>,
    /// Callers that went away before the end.
    gone: Arc<AtomicUsize>,
    /// Bytes of answers that were sent.
    sent: Arc<AtomicUsize>,
    pub script: Arc<Script>,
}

impl Backend {
    /// With a pause between two pieces.
    pub async fn start(script: Script, gap: Duration) -> Self {
        Self::held(script, gap, usize::MAX).await
    }

    /// Sends no more than so many pieces until [`Backend::release`].
    pub async fn held(script: Script, gap: Duration, pieces: usize) -> Self {
        let script = Arc::new(script);
        let (leave, held) = watch::channel(pieces);
        let (gone, sent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (answer, left, told) = (Arc::clone(&script), Arc::clone(&gone), Arc::clone(&sent));
        let origin = Origin::start(move |mut conn| {
            let (answer, left, told) = (Arc::clone(&answer), Arc::clone(&left), Arc::clone(&told));
            let mut held = held.clone();
            async move {
                while conn.request().await.is_some() {
                    let mut on = On { conn: &mut conn, held: &mut held, told: &told, gap };
                    if !on.answer(&answer).await {
                        left.fetch_add(1, Relaxed);
                        return;
                    }
                    if answer.end == Ends::Reset {
                        return conn.reset();
                    }
                }
            }
        })
        .await;
        Self { origin, leave, gone, sent, script }
    }

    /// Lets it send so many pieces in all.
    pub fn release(&self, pieces: usize) {
        self.leave.send_replace(pieces);
    }

    pub fn gone(&self) -> usize {
        self.gone.load(Relaxed)
    }

    fn sent(&self) -> usize {
        self.sent.load(Relaxed)
    }

    /// Calls that have come.
    pub fn calls(&self) -> usize {
        self.origin.requests()
    }

    /// The program in front of it, with one policy that caches.
    fn behind(&self, cache: &str) -> App {
        self.behind_with("", cache)
    }

    /// The sidecar holds the key for it, and the callers' own credentials end there.
    fn behind_a_key(&self, cache: &str) -> App {
        self.behind_with("key: '${CANARY}',", cache)
    }

    fn behind_with(&self, more: &str, cache: &str) -> App {
        let policies = format!("  - {{ name: once, cache: {cache} }}\n");
        App::start(&policy(&self.origin.url(), more, &policies))
    }
}

/// One answer on its way.
struct On<'c> {
    conn: &'c mut Conn,
    held: &'c mut watch::Receiver<usize>,
    told: &'c AtomicUsize,
    gap: Duration,
}

impl On<'_> {
    /// Whether the caller stayed to its end.
    async fn answer(&mut self, script: &Script) -> bool {
        if !self.leave_for(0).await {
            return false;
        }
        let Script { status, lines, pieces, chunked, end } = script;
        let framing = if *chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            let more = usize::from(*end == Ends::Reset);
            format!("content-length: {}", script.body().len() + more)
        };
        let head = format!("HTTP/1.1 {status}\r\n{lines}{framing}\r\n\r\n");
        self.conn.send(head.as_bytes()).await;
        for (at, piece) in pieces.iter().enumerate() {
            if !self.leave_for(at).await || !self.pause().await {
                return false;
            }
            if *chunked {
                self.conn.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
            }
            // by small parts: how much was sent is how much was taken
            for part in piece.chunks(16 << 10) {
                self.conn.send(part).await;
                self.told.fetch_add(part.len(), Relaxed);
            }
            if *chunked {
                self.conn.send(b"\r\n").await;
            }
        }
        if *end == Ends::Late && !self.leave_for(pieces.len()).await {
            return false;
        }
        if *chunked && *end != Ends::Reset {
            self.conn.send(b"0\r\n\r\n").await;
        }
        true
    }

    /// Waits until the piece of that number may go. `false`: the caller has gone.
    async fn leave_for(&mut self, at: usize) -> bool {
        let mut byte = [0; 1];
        tokio::select! {
            left = self.held.wait_for(|held| *held > at) => left.is_ok(),
            _ = self.conn.io.read(&mut byte) => false,
        }
    }

    async fn pause(&mut self) -> bool {
        if self.gap.is_zero() {
            return true;
        }
        let mut byte = [0; 1];
        timeout(self.gap, self.conn.io.read(&mut byte)).await.is_err()
    }
}

/// A policy file with one upstream, `up`, for every path, and these policies. A token costs a
/// thousandth of a dollar, in and out. `more` are settings of the upstream, each with a comma.
pub fn policy(url: &str, more: &str, policies: &str) -> String {
    format!(
        "prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         upstreams: {{ up: {{ pacing: off, {more} url: '{url}' }} }}\n\
         routes: [{{ to: up }}]\npolicies:\n{policies}"
    )
}

async fn ask(app: &App, call: &[u8]) -> Answer {
    crate::support::client::ask(app.addr, call).await
}

/// A connection whose call has been sent and is not yet answered.
async fn sent(to: SocketAddr, call: &[u8]) -> Client {
    let mut client = Client::connect(to).await;
    client.send(call).await;
    client
}

/// Makes the same call so many times at once; answers are in no order.
async fn at_once(to: SocketAddr, call: &[u8], count: usize) -> Vec<Answer> {
    let mut all = JoinSet::new();
    for _ in 0..count {
        let call = call.to_vec();
        all.spawn(async move { sent(to, &call).await.answer().await });
    }
    all.join_all().await
}

/// Waits until so many calls are in the program.
async fn until_inside(app: &App, calls: usize) {
    let inside = async || app.count("tidegate_requests_in_flight", &[]) == calls;
    until(&format!("{calls} calls are inside"), inside).await;
}

/// Waits until nobody calls, and sees that nothing is held.
pub async fn quiet(app: &App) {
    let none = async || {
        let up = app.upstream();
        app.count("tidegate_requests_in_flight", &[]) == 0
            && up["in_flight"] == 0
            && up["waiting"] == 0
            && app.count("tidegate_memory_held_bytes", &[]) == 0
            && app.state()["calls"].as_array().map(Vec::len) == Some(0)
    };
    until("no call is left", none).await;
    for limit in app.state()["limits"].as_array().unwrap() {
        assert_eq!(limit["held"], 0, "{limit}");
        assert!(limit["measure"] != "concurrency" || limit["used"] == 0, "{limit}");
    }
}

fn status(answer: &Answer) -> &str {
    answer.head.get("cache-status").unwrap_or("")
}

fn is_hit(answer: &Answer) -> bool {
    status(answer).starts_with("tidegate; hit")
}

#[track_caller]
pub fn whole(answer: &Answer, body: &[u8]) {
    assert_eq!((answer.status, answer.end), (200, End::Whole), "{}", answer.head.text);
    assert!(
        answer.body == body,
        "{} bytes instead of {}: {}",
        answer.body.len(),
        body.len(),
        String::from_utf8_lossy(&answer.body[..answer.body.len().min(2000)])
    );
}
