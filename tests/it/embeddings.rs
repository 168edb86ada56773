//! Embeddings input by input, from outside: what the backend is asked for, what the client gets, and
//! who shares it.
mod forms;
mod wrong;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::client::{Answer, ask, request};
use crate::support::origin::{Origin, Request, whole};

const EMBEDDINGS: &str = "/v1/embeddings";
const CACHED: &str = "  - { name: keep, cache: { ttl: 1h } }\n";

/// Where the inputs stand, in one API or another.
const INPUTS: [&str; 4] = ["input", "requests", "content", "prompt"];

/// What the next answers are, in place of the right ones.
type Moods = Arc<Mutex<Vec<Mood>>>;

enum Mood {
    Right,
    /// These bytes, as they are.
    Says(Vec<u8>),
    /// These, and then the connection ends.
    Cuts(&'static [u8]),
    /// The right answer, edited.
    Edits(fn(&mut Value)),
}

/// A backend whose vectors follow from the request alone, behind the program.
struct Served {
    app: App,
    backend: Origin,
    moods: Moods,
}

async fn served(policies: &str) -> Served {
    let (backend, moods) = backend().await;
    let app = in_front_of(&backend, "", policies);
    Served { app, backend, moods }
}

fn in_front_of(backend: &Origin, more: &str, policies: &str) -> App {
    let url = backend.url();
    App::start(&format!(
        "{more}prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         upstreams: {{ up: {{ pacing: off, url: '{url}' }} }}\n\
         routes: [{{ to: up }}]\npolicies:\n{policies}"
    ))
}

async fn backend() -> (Origin, Moods) {
    let moods = Moods::default();
    let known = Arc::clone(&moods);
    let backend = Origin::start(move |mut conn| {
        let moods = Arc::clone(&known);
        async move {
            while let Some(request) = conn.request().await {
                let mood = moods.lock().pop().unwrap_or(Mood::Right);
                let mut right = embed(&request.target, &request.body);
                let bytes = match mood {
                    Mood::Says(bytes) => bytes,
                    Mood::Cuts(bytes) => return conn.send(bytes).await,
                    Mood::Right => ok(&right),
                    Mood::Edits(edit) => {
                        edit(&mut right);
                        ok(&right)
                    }
                };
                conn.send(&bytes).await;
            }
        }
    })
    .await;
    (backend, moods)
}

fn ok(answer: &Value) -> Vec<u8> {
    whole("200 OK", "content-type: application/json\r\n", &answer.to_string())
}

/// What the backend says.
fn embed(target: &str, body: &[u8]) -> Value {
    let body: HashMap<String, Box<RawValue>> = serde_json::from_slice(body).unwrap();
    let text = |name: &str| body.get(name).map_or("", |raw| raw.get()).trim_matches('"').to_owned();
    let inputs: Vec<Box<RawValue>> = {
        let of =
            ["input", "requests", "content", "prompt"].into_iter().find_map(|name| body.get(name));
        let raw = of.unwrap();
        match serde_json::from_str(raw.get()).unwrap() {
            Value::Array(values) if !values[0].is_number() => {
                serde_json::from_str(raw.get()).unwrap()
            }
            _ => vec![raw.clone()],
        }
    };
    let ground = ["model", "dimensions", "encoding_format", "taskType"].map(text);
    let vectors: Vec<Value> = inputs.iter().map(|input| vector(&ground, input.get())).collect();
    let tokens: usize = inputs.iter().map(|input| tokens(input.get())).sum();
    let values = || vectors.iter().map(|vector| json!({"values": vector}));
    if target.ends_with(":embedContent") {
        return json!({"embedding": values().next()});
    }
    if target.ends_with(":batchEmbedContents") {
        return json!({"embeddings": values().collect::<Vec<_>>()});
    }
    if target.ends_with("/api/embeddings") {
        return json!({"embedding": vectors[0]});
    }
    if target.ends_with("/api/embed") {
        return json!({"model": text("model"), "embeddings": vectors, "prompt_eval_count": tokens});
    }
    let item =
        |(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector});
    let data: Vec<_> = vectors.iter().enumerate().map(item).collect();
    json!({"object": "list", "data": data, "model": text("model"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

fn vector(ground: &[String; 4], input: &str) -> Value {
    let input: Value = serde_json::from_str(input).unwrap();
    let bytes: Vec<u8> = format!("{ground:?}{input}").into_bytes();
    let sum = |salt: u32| {
        bytes.iter().fold(salt, |sum, &byte| sum.wrapping_mul(16_777_619) ^ u32::from(byte))
    };
    if ground[2] == "base64" {
        return format!("{:08x}", sum(7)).into();
    }
    let size = ground[1].parse().unwrap_or(3);
    (0..size).map(|salt| json!(f64::from(sum(salt) % 10_000) / 10_000.0)).collect()
}

/// One a byte: so shares by bytes are what the backend counts.
fn tokens(input: &str) -> usize {
    let input: Value = serde_json::from_str(input).unwrap();
    input.to_string().len() + 1
}

impl Served {
    async fn ask(&self, body: &str) -> Answer {
        self.ask_at(EMBEDDINGS, "", body).await
    }

    async fn ask_at(&self, target: &str, lines: &str, body: &str) -> Answer {
        let lines = format!("content-type: application/json\r\n{lines}");
        ask(self.app.addr, &request("POST", target, &lines, body)).await
    }

    /// What the backend was asked since the last time.
    fn asked(&self) -> Vec<Value> {
        let body = |request: &Request| serde_json::from_slice(&request.body).unwrap();
        self.backend.take().iter().map(body).collect()
    }

    /// The same, the inputs alone.
    fn inputs(&self) -> Vec<Value> {
        self.asked().into_iter().map(|mut body| body["input"].take()).collect()
    }

    /// Asks, and sees that the answer is that to the whole request, though only `sent` is sent.
    async fn gets(&self, body: &str, sent: &[Value]) -> Answer {
        self.gets_at(EMBEDDINGS, body, sent).await
    }

    async fn gets_at(&self, target: &str, body: &str, sent: &[Value]) -> Answer {
        let answer = self.ask_at(target, "", body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(answer.json(), embed(target, body.as_bytes()), "{body}");
        let inputs = |mut body: Value| {
            let all = body.as_object_mut().unwrap();
            let name = INPUTS.into_iter().find(|name| all.contains_key(*name)).unwrap();
            all[name].take()
        };
        let got: Vec<_> = self.asked().into_iter().map(inputs).collect();
        assert_eq!(got, sent, "{body}");
        answer
    }

    /// The next answers, the first one first.
    fn moods(&self, moods: impl IntoIterator<Item = Mood>) {
        let mut moods: Vec<_> = moods.into_iter().collect();
        moods.reverse();
        *self.moods.lock() = moods;
    }
}

fn list(inputs: &str) -> String {
    format!(r#"{{"model":"m","input":{inputs}}}"#)
}
