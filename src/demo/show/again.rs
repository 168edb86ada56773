//! The acts about what was asked before: the same question again, twenty at once, embeddings of
//! which half are known, and the question in other words. One agent has a `cache` in its policy.
//! What came of each call is said by the answer's `Cache-Status`, and by the sidecar's records.
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::super::client::{Client, text};
use super::super::policy::{ASKER, CACHE};
use super::super::screen::Screen;
use super::Show;

/// What a cache on the way made of the call (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const CHAT: &str = "/v1/chat/completions";
const MODEL: &str = "gpt-4o";
/// Tokens of each answer.
const ANSWER: u64 = 12;

const QUESTION: &str = "How do I reset my password?";
const POLITE: &str = "how do I reset my password, please";
const OTHER_WORDS: &str = "hi, how can I reset my password please";
/// Near in its words, and asks something else.
const OTHER: &str = "How do I reset my password without my phone?";

/// Streams at once.
const CROWD: usize = 20;
const CROWD_LABEL: &str = "20 identical streams";

const EMBEDDINGS: &str = "/v1/embeddings";
const EMBEDDER: &str = "text-embedding-3-large";
const KNOWN: [&str; 2] = [
    "The gate falls shut when the tide comes in, and keeps the salt water out of the fields.",
    "At low water the river pushes it open again, and the ditches run dry into the sea.",
];
const NEW: [&str; 2] = [
    "A gate that rusts in its hinges is worse than none, for everybody relies on it.",
    "Spring tides stand highest two days after the moon is new or full; neap tides are low.",
];

impl Show<'_> {
    /// As a stream, once more, and as one JSON answer.
    pub(super) async fn again(&mut self) -> io::Result<()> {
        self.title("The same question again", CHAT, &chat(QUESTION, true))?;
        self.note(CACHE)?;
        let mut client = Client::new(self.to).called(ASKER);
        self.ask(&mut client, "a question", QUESTION, true).await?;
        self.ask(&mut client, "the same again", QUESTION, true).await?;
        self.note("The same for a client that wants no stream, from the recorded one:")?;
        self.ask(&mut client, "the same, not streamed", QUESTION, false).await?;
        self.rest().await
    }

    /// The same question by many, while nobody knows the answer yet.
    pub(super) async fn crowd(&mut self) -> io::Result<()> {
        let body = chat("What does a tide gate do?", true);
        self.title(&format!("{CROWD_LABEL} at once"), CHAT, &body)?;
        self.note(
            "The first to come asks the backend; the others join its stream, from the first",
        )?;
        self.note("byte on. A letter is a token for that stream, as it arrived:")?;
        // also where nobody watches: all are to come before the answer is there
        let simulate = format!("ttft=200ms; gap=10ms; tokens={ANSWER}");
        let (sender, mut arrived) = unbounded_channel();
        let mut streams = JoinSet::new();
        for letter in ('a'..).take(CROWD) {
            let (body, simulate) = (body.clone(), simulate.clone());
            streams.spawn_local(stream(self.to, body, simulate, letter, sender.clone()));
        }
        drop(sender);
        while let Some(letter) = arrived.recv().await {
            self.screen.flow(letter.encode_utf8(&mut [0; 4]))?;
        }
        self.screen.end_flow()?;
        let (mut ids, mut said) = (Vec::new(), BTreeSet::new());
        while let Some(done) = streams.join_next().await {
            let (id, text) = done.map_err(io::Error::other)??;
            ids.push(id);
            said.insert(text);
        }
        let (streams, texts) = (ids.len(), said.len());
        self.screen.line(format_args!("     {streams} streams, {texts} answer between them"))?;
        self.again.push((CROWD_LABEL, ids));
        self.rest().await
    }

    /// A batch, and one that holds all of it and as much again.
    pub(super) async fn batches(&mut self) -> io::Result<()> {
        let [one, two] = KNOWN;
        let [three, four] = NEW;
        let mut client = Client::new(self.to).called(ASKER);
        self.title("Embeddings, half of them known", EMBEDDINGS, &json!({ "model": EMBEDDER }))?;
        self.note(
            "Of the second batch the backend is asked for what is new; it is one answer still:",
        )?;
        let batches: [(_, &[&str]); 2] =
            [("2 embeddings", &[one, two]), ("4 embeddings, 2 known", &[three, two, four, one])];
        for (label, input) in batches {
            let body = json!({ "model": EMBEDDER, "dimensions": 256, "input": input });
            let answer = client.ask(EMBEDDINGS, Some(&body), "ttft=0").await?;
            let (id, told) = (answer.id.clone(), status(self.screen, answer.header(&CACHE_STATUS)));
            let answer: Value = serde_json::from_str(&answer.body().await?)?;
            let vectors = answer["data"].as_array().map_or(0, Vec::len);
            self.again.push((label, vec![id]));
            let inputs = input.len();
            self.screen.line(format_args!("     {inputs} inputs → {vectors} vectors  {told}"))?;
        }
        self.rest().await
    }

    /// More politely, in other words, and in like words that ask something else.
    pub(super) async fn other_words(&mut self, admin: Option<SocketAddr>) -> io::Result<()> {
        self.title("The same in other words", CHAT, &chat(QUESTION, true))?;
        self.note("Compared in this process. What is near and yet asks something else goes on:")?;
        learnt(admin).await?;
        let mut client = Client::new(self.to).called(ASKER);
        self.ask(&mut client, "the same, more politely", POLITE, true).await?;
        self.ask(&mut client, "the same in other words", OTHER_WORDS, true).await?;
        self.ask(&mut client, "another in like words", OTHER, true).await?;
        self.rest().await
    }

    /// A question, what the caller is told of the cache, and the answer as it comes.
    async fn ask(
        &mut self,
        client: &mut Client,
        label: &'static str,
        question: &str,
        streamed: bool,
    ) -> io::Result<()> {
        let simulate = self.paced(&format!("tokens={ANSWER}"), 10);
        let body = chat(question, streamed);
        let mut answer = client.ask(CHAT, Some(&body), &simulate).await?;
        let id = answer.id.clone();
        let told = status(self.screen, answer.header(&CACHE_STATUS));
        self.screen.line(format_args!("     {question}  {told}"))?;
        if streamed {
            while let Some(texts) = answer.texts().await? {
                for text in texts {
                    self.screen.flow(&text)?;
                }
            }
        } else {
            let body = answer.body().await?;
            let text = text(body.as_bytes()).unwrap_or(body);
            for word in text.split(' ') {
                self.screen.flow(&format!(" {word}"))?;
            }
        }
        self.again.push((label, vec![id]));
        self.screen.end_flow()
    }
}

fn chat(question: &str, streamed: bool) -> Value {
    let messages = json!([{"role": "user", "content": question}]);
    if !streamed {
        return json!({"model": MODEL, "messages": messages});
    }
    json!({"model": MODEL, "stream": true, "messages": messages,
        "stream_options": {"include_usage": true}})
}

/// As the caller reads it, without the name of the entry.
fn status(screen: &Screen, told: &str) -> String {
    let told = told.split("; key=").next().unwrap_or_default();
    screen.dim(format_args!("cache-status: {told}"))
}

/// One of many. Under which id it is recorded, and what it said.
async fn stream(
    to: SocketAddr,
    body: Value,
    simulate: String,
    letter: char,
    arrived: UnboundedSender<char>,
) -> io::Result<(String, String)> {
    let mut client = Client::new(to).called(ASKER);
    let mut answer = client.ask(CHAT, Some(&body), &simulate).await?;
    let mut said = String::new();
    while let Some(texts) = answer.texts().await? {
        for text in texts {
            said.push_str(&text);
            // nobody counts any more once the show has ended
            let _ = arrived.send(letter);
        }
    }
    Ok((answer.id, said))
}

/// Until the index holds a question: it is put in beside the answer, not before it ends.
async fn learnt(admin: Option<SocketAddr>) -> io::Result<()> {
    let Some(admin) = admin else { return Ok(()) };
    let mut client = Client::new(admin);
    for _ in 0..200 {
        let state = client.ask("/state", None, "").await?.body().await?;
        let state: Value = serde_json::from_str(&state)?;
        let questions = state["cache"]["policies"][0]["alike"]["questions"].as_u64();
        if questions.is_some_and(|questions| questions > 1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
