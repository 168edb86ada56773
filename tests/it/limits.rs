//! Limits from outside: the program in a process of its own, the simulator or a scripted origin
//! behind it, and what agents, logs, metrics and the state see of its policies.
mod budget;
mod clamp;
mod counting;
mod fairness;
mod hopeless;
mod leaving;
mod matching;
mod reload;
mod settling;
mod telling;
mod usage;
mod waiting;

use std::net::SocketAddr;

use serde_json::Value;
use tidegate::simulate::{Options, Simulator, start};
use tokio::task::JoinSet;

use crate::support::app::App;
use crate::support::client::{Answer, Client, request};
use crate::support::until;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/m:generateContent";
const GEMINI: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";
const OLLAMA: &str = "/api/chat";

/// What every face of the simulator understands.
const PLAIN: &str = r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"hi there"}],"contents":[{"parts":[{"text":"hi there"}]}],"input":"hi there"}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi there"}],"contents":[{"parts":[{"text":"hi there"}]}],"input":"hi there"}"#;

/// A thousandth of a dollar a token, in and out: sums can be done in the head.
const PRICES: &str = "prices: { m: { input: 1000, output: 1000 } }\n";

fn simulator() -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap()
}

/// A policy file with one upstream, `up`, for every path, and these policies. `more` are its
/// settings, each followed by a comma. A 429 from it slows nobody down.
fn policy(url: &str, more: &str, policies: &str) -> String {
    format!(
        "{PRICES}upstreams: {{ up: {{ pacing: off, {more} url: '{url}' }} }}\n\
         routes: [{{ to: up }}]\n{}{policies}",
        if policies.is_empty() { "" } else { "policies:\n" }
    )
}

/// The program in front of a simulator, under policies.
fn limited(more: &str, policies: &str) -> (App, Simulator) {
    let simulator = simulator();
    let app = App::start(&policy(&format!("http://{}", simulator.addr), more, policies));
    (app, simulator)
}

/// A call of an agent, answered as the script says.
fn by(agent: &str, target: &str, script: &str, body: &str) -> Vec<u8> {
    let script =
        if script.is_empty() { String::new() } else { format!("x-simulate: {script}\r\n") };
    let lines = format!("content-type: application/json\r\nx-agent-id: {agent}\r\n{script}");
    request("POST", target, &lines, body)
}

/// Makes all calls at once, each on a connection of its own; the answers are in no order.
async fn at_once(to: SocketAddr, calls: impl IntoIterator<Item = Vec<u8>>) -> Vec<Answer> {
    let mut all = JoinSet::new();
    for call in calls {
        all.spawn(async move {
            let mut client = Client::connect(to).await;
            client.send(&call).await;
            client.answer().await
        });
    }
    all.join_all().await
}

/// The statuses, sorted.
fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut all: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    all.sort_unstable();
    all
}

/// A connection whose call has been sent and is not yet answered.
async fn sent(to: SocketAddr, call: &[u8]) -> Client {
    let mut client = Client::connect(to).await;
    client.send(call).await;
    client
}

/// How many calls wait, by the state.
fn depth(app: &App) -> u64 {
    app.queues("depth")
}

/// How many calls run, by the state.
fn running(app: &App) -> u64 {
    app.queues("running")
}

async fn until_waiting(app: &App, calls: u64) {
    until(&format!("{calls} calls wait"), async || depth(app) == calls).await;
}

async fn until_running(app: &App, calls: u64) {
    until(&format!("{calls} calls run"), async || running(app) == calls).await;
}

/// A bucket, by its policy, its measure and whose it is. Null if there is none.
fn bucket(app: &App, policy: &str, measure: &str, scope: &str) -> Value {
    let state = app.state();
    let all = state["limits"].as_array().unwrap();
    let is = |limit: &&Value| {
        limit["policy"] == policy && limit["measure"] == measure && limit["scope"] == scope
    };
    all.iter().find(is).cloned().unwrap_or(Value::Null)
}

/// What is used of a bucket.
fn used(app: &App, policy: &str, measure: &str, scope: &str) -> i64 {
    let bucket = bucket(app, policy, measure, scope);
    bucket["used"].as_i64().unwrap_or_else(|| panic!("no {policy}/{measure} of {scope:?}"))
}

/// Waits until nobody calls and nobody waits, and sees that nothing is held.
async fn quiet(app: &App) {
    app.quiet().await;
}

/// What an error of ours says: its message, and the dialect's word for it.
fn error(target: &str, answer: &Answer) -> (String, String) {
    let body = answer.json();
    let error = &body["error"];
    let (message, word) = match target {
        MESSAGES => (&error["message"], &error["type"]),
        GENERATE | GEMINI => (&error["message"], &error["status"]),
        OLLAMA => (error, &Value::Null),
        _ => (&error["message"], &error["code"]),
    };
    (message.as_str().unwrap().to_owned(), word.as_str().unwrap_or_default().to_owned())
}

/// A header as a number.
fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.head.get(name).unwrap_or_else(|| panic!("no {name}: {}", answer.head.text));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

/// What `Server-Timing` says of a step, in milliseconds.
fn timing(answer: &Answer, step: &str) -> f64 {
    let all = answer.head.all("server-timing").join(", ");
    let found = all.split(", ").find_map(|entry| entry.strip_prefix(&format!("{step};dur=")));
    found.unwrap_or_else(|| panic!("no {step} in {all:?}")).parse().unwrap()
}
