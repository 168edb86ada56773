//! The calls of the mix: what each kind sends, and what it may be answered.
use serde_json::json;

use crate::random::Random;

/// How one call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    Stream,
    /// Over HTTP/2, eight at once.
    Multiplexed,
    /// Read more slowly than it comes.
    Slow,
    Embeddings,
    /// A megabyte up.
    Upload,
    /// One of few questions.
    Cached,
    /// The question of the moment, which others ask too.
    Coalesced,
    /// The client goes inside its request, before the answer, inside the stream.
    LeaveUpload,
    LeaveWaiting,
    LeaveStream,
    /// A backend that does everything wrong, on a route of its own.
    Trouble,
    /// No request at all.
    Malformed,
}

/// Shares of the calls.
const SHARES: [(Kind, f64); 13] = [
    (Kind::Plain, 0.20),
    (Kind::Stream, 0.16),
    (Kind::Multiplexed, 0.04),
    (Kind::Slow, 0.03),
    (Kind::Embeddings, 0.08),
    (Kind::Upload, 0.04),
    (Kind::Cached, 0.12),
    (Kind::Coalesced, 0.08),
    (Kind::LeaveUpload, 0.04),
    (Kind::LeaveWaiting, 0.05),
    (Kind::LeaveStream, 0.07),
    (Kind::Trouble, 0.07),
    (Kind::Malformed, 0.02),
];

/// How a call ended, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// A whole answer.
    Answered(u16),
    /// We left, as we meant to.
    Left,
    /// The connection ended, or made no sense.
    Broken(String),
    /// A stream that lacks its end.
    Cut,
    /// No end within a minute.
    Late,
}

impl Kind {
    pub fn draw(random: &mut Random) -> Self {
        let mut at = random.uniform();
        for (kind, share) in SHARES {
            at -= share;
            if at < 0.0 {
                return kind;
            }
        }
        Self::Plain
    }

    /// Whether a call of this kind may end so.
    pub fn allows(self, ending: &Ending) -> bool {
        match (self, ending) {
            // the last arm: whoever waits to leave may find that the answer was quicker
            (Self::LeaveUpload | Self::LeaveWaiting | Self::LeaveStream, Ending::Left)
            | (Self::Trouble, Ending::Cut | Ending::Broken(_)) => true,
            (Self::LeaveUpload, _) => false,
            // its errors are passed on, or said in our words; a stream that broke stays broken
            (Self::Trouble, Ending::Answered(status)) => {
                matches!(status, 200 | 400 | 404 | 408 | 429 | 500 | 502 | 503 | 504 | 529)
            }
            (Self::Malformed, Ending::Answered(status)) => *status == 400,
            (_, Ending::Answered(status)) => *status == 200,
            _ => false,
        }
    }

    pub fn streams(self) -> bool {
        matches!(self, Self::Stream | Self::Slow | Self::LeaveStream)
    }

    /// The request in whole.
    pub fn request(self, random: &mut Random, moment: u64) -> Vec<u8> {
        let fresh = random.between(0.0, 1e15) as u64;
        let agent = random.between(0.0, 32.0) as u32;
        let post = |path: &str, body: &serde_json::Value, simulate: &str| {
            let body = body.to_string();
            format!(
                "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-soak\r\n\
                 x-agent-id: agent-{agent}\r\ncontent-type: application/json\r\n\
                 x-simulate: {simulate}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let chat = |seed: u64, text: &str| {
            json!({"model": "sim-1", "seed": seed, "stream": self.streams(),
                   "messages": [{"role": "user", "content": text}]})
        };
        let path = "/v1/chat/completions";
        match self {
            Self::Plain | Self::Multiplexed => post(path, &chat(fresh, "a question"), "ttft=5ms"),
            Self::Stream => post(path, &chat(fresh, "a question"), "ttft=10ms; gap=5ms; tokens=40"),
            Self::Slow => post(path, &chat(fresh, "a long one"), "tokens=400; token-bytes=512"),
            Self::Embeddings => {
                let text = |_| format!("text {}", random.between(0.0, 2000.0) as u32);
                let input: Vec<_> = (0..8).map(text).collect();
                post("/v1/embeddings", &json!({"model": "sim-embed", "input": input}), "ttft=2ms")
            }
            Self::Upload => post(path, &chat(fresh, &"words ".repeat(170_000)), "ttft=5ms"),
            Self::Cached => post(path, &chat(fresh % 50, "asked often"), "ttft=20ms"),
            Self::Coalesced => post(path, &chat(moment, "asked by all"), "ttft=60ms"),
            Self::LeaveUpload => post(path, &chat(fresh, &"words ".repeat(20_000)), "ttft=5ms"),
            Self::LeaveWaiting => post(path, &chat(fresh, "never mind"), "ttft=500ms"),
            Self::LeaveStream => post(path, &chat(fresh, "enough"), "gap=20ms; tokens=100"),
            Self::Trouble => {
                let which = random.between(0.0, FAULTS.len() as f64) as usize;
                let mut body = chat(fresh, "trouble");
                body["stream"] = json!(random.chance(0.5));
                post("/trouble/v1/chat/completions", &body, FAULTS[which.min(FAULTS.len() - 1)])
            }
            Self::Malformed => b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\
                content-length: 5\r\ncontent-length: 7\r\n\r\nhello"
                .to_vec(),
        }
    }
}

/// What the backend in trouble does.
const FAULTS: [&str; 14] = [
    "fault=none",
    "fault=400",
    "fault=404",
    "fault=429",
    "fault=500",
    "fault=529",
    "fault=error-200",
    "fault=reset",
    "fault=close",
    "fault=stall",
    "fault=garbage",
    "fault=reset-mid=4",
    "fault=stall-mid=4",
    "fault=error-event=4",
];
