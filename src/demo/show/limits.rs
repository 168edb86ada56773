//! The acts about limits: a fair queue before a backend that is too small, and a budget that ends.
//! Who waited how long, and what it cost, is said by the sidecar's records.
use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::client::Client;
use super::super::policy::{BUDGET, PLACES, SMALL, SPENDER};
use super::super::table::dollars;
use super::Show;

const CHAT: &str = "/v1/chat/completions";
const MODEL: &str = "gpt-4o-mini";
/// Calls at once of the agent that floods.
const FLOOD: usize = 16;
/// Calls of the agent beside it.
const HELP: usize = 2;
/// Tokens of each of their answers.
const ANSWER: u64 = 12;
/// What the spender asks for in each call, in tokens: the third such call is more than it can pay.
const WANTED: u64 = 330;
/// It is refused long before; if it were not, the show would still end.
const MOST: usize = 12;

impl Show<'_> {
    /// Two agents share a backend, and one of them floods it.
    pub(super) async fn flood(&mut self) -> io::Result<()> {
        self.heading("Two agents, one small backend")?;
        self.note(&format!("POST {SMALL}{CHAT}  {MODEL}, max_tokens {ANSWER}"))?;
        self.note(&format!(
            "It takes {PLACES} calls at once. flood sends {FLOOD}, then helper sends {HELP}. The agent that"
        ))?;
        self.note("was served least goes first: helper does not wait for the rest of the flood.")?;
        self.note("Each answer as it came, f or H:")?;
        // also where nobody watches: if places are not taken for a while, there is no queue
        let wait = if self.screen.paced() { 200 } else { 40 };
        let simulate = format!("ttft={wait}ms; gap=0; tokens={ANSWER}");
        let (mut flood, mut help) = (Vec::new(), Vec::new());
        let mut calls = JoinSet::new();
        for _ in 0..FLOOD {
            calls.spawn_local(call(self.to, "flood", simulate.clone()));
        }
        while let Some(done) = calls.join_next().await {
            let (agent, id) = done.map_err(io::Error::other)??;
            if flood.is_empty() {
                for _ in 0..HELP {
                    calls.spawn_local(call(self.to, "helper", simulate.clone()));
                }
            }
            let (ids, mark) = if agent == "flood" { (&mut flood, " f") } else { (&mut help, " H") };
            ids.push(id);
            self.screen.flow(mark)?;
        }
        self.screen.end_flow()?;
        self.limited(format!("flood, {FLOOD} calls at once"), &flood).await?;
        self.limited("helper, beside the flood".to_owned(), &help).await?;
        self.rest().await
    }

    /// An agent calls until its money is spent.
    pub(super) async fn budget(&mut self) -> io::Result<()> {
        let body = json!({
            "model": "gpt-4o", "max_tokens": WANTED,
            "messages": [{"role": "user", "content": "Tell me of the tide."}],
        });
        self.title("An agent with a budget", CHAT, &body)?;
        self.note(BUDGET)?;
        let simulate = self.paced("tokens=400", 0);
        let mut client = Client::new(self.to).called(SPENDER);
        let mut records = Vec::new();
        for _ in 0..MOST {
            let answer = client.ask(CHAT, Some(&body), &simulate).await?;
            let (id, served) = (answer.id.clone(), answer.status.is_success());
            let said = answer.body().await?;
            let record = self.records.of(&id).await?;
            let line = if served {
                let tokens = record.output_tokens.unwrap_or_default();
                let clamped = record
                    .clamped
                    .map(|most| format!("  max_tokens lowered to {most}: what the rest can pay"));
                format!(
                    "{tokens} tokens  {}{}",
                    dollars(record.spend_nano),
                    self.screen.dim(clamped.unwrap_or_default())
                )
            } else {
                message(&said)
            };
            self.screen.line(format_args!("     {}  {line}", record.status))?;
            records.push(record);
            if !served {
                break;
            }
        }
        self.kept.push(("spender, until refused".to_owned(), records));
        self.rest().await
    }

    /// What became of calls under limits, for the table.
    async fn limited(&mut self, label: String, ids: &[String]) -> io::Result<()> {
        let records = self.records.of_all(ids).await?;
        self.kept.push((label, records));
        Ok(())
    }
}

/// One call to the small backend. Who made it, and under which id it is recorded.
async fn call(
    to: SocketAddr,
    agent: &'static str,
    simulate: String,
) -> io::Result<(&'static str, String)> {
    let body = json!({
        // bounded, so that even of the first calls no more is expected than they use
        "model": MODEL, "max_tokens": ANSWER,
        "messages": [{"role": "user", "content": format!("I am {agent}.")}],
    });
    let mut client = Client::new(to).called(agent);
    let path = format!("{SMALL}{CHAT}");
    let answer = client.ask(&path, Some(&body), &simulate).await?;
    let id = answer.id.clone();
    answer.body().await?;
    Ok((agent, id))
}

/// What the agent reads in an error of OpenAI's form.
fn message(body: &str) -> String {
    let error: Value = serde_json::from_str(body).unwrap_or_default();
    error["error"]["message"].as_str().unwrap_or(body).to_owned()
}
