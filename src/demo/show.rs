//! The acts of the show, in order. Each is a call or more through the sidecar; what it came to is
//! looked up in the sidecar's records at the end.
mod again;
mod later;
mod limits;

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use self::later::Later;
use super::Stage;
use super::client::{Client, text};
use super::records::{Record, Records};
use super::screen::Screen;
use super::table;
use crate::store;

/// Calls at once in the act before the limits, two for each dialect.
const BURST: usize = 8;

struct Show<'s> {
    screen: &'s mut Screen,
    records: &'s mut Records,
    client: Client,
    to: SocketAddr,
    acts: usize,
    /// The calls made, under one label each.
    made: Vec<(&'static str, Vec<String>)>,
    /// The records of agents under limits.
    kept: Vec<(String, Vec<Record>)>,
    /// The calls that ask what was asked before, in the same way.
    again: Vec<(&'static str, Vec<String>)>,
    later: Vec<Later>,
}

/// Plays all acts, shows the tables, and unless `once` serves for ever.
pub async fn play(stage: &mut Stage, screen: &mut Screen, once: bool) -> io::Result<()> {
    let to = stage.addr;
    open(stage, screen)?;
    screen.pause(600).await;
    let mut show = Show {
        screen,
        records: &mut stage.records,
        client: Client::new(to),
        to,
        acts: 0,
        made: Vec::new(),
        kept: Vec::new(),
        again: Vec::new(),
        later: Vec::new(),
    };
    show.streams().await?;
    show.embeddings().await?;
    show.stale().await?;
    show.overloaded().await?;
    show.burst().await?;
    show.flood().await?;
    show.budget().await?;
    show.again().await?;
    show.crowd().await?;
    show.batches().await?;
    show.other_words(stage.running.admin).await?;
    show.task().await?;
    show.lost().await?;
    let Show { made, kept, again, later, .. } = show;
    table::head(screen)?;
    for (label, ids) in &made {
        table::row(screen, label, &stage.records.of_all(ids).await?)?;
    }
    table::pools(screen, stage.running.admin).await?;
    table::limits_head(screen)?;
    for (label, records) in &kept {
        table::limits_row(screen, label, records)?;
    }
    table::again_head(screen)?;
    for (label, ids) in &again {
        table::again_row(screen, label, &stage.records.of_all(ids).await?)?;
    }
    table::later_head(screen)?;
    for Later { label, ids, task } in &later {
        let read = stage.records.of_all(ids).await?;
        let made = match task {
            Some((id, promised)) => Some((promised, stage.records.of_task(id).await?)),
            None => None,
        };
        let task = made.as_ref().map(|(promised, made)| (*promised, made));
        table::later_row(screen, label, &read, task)?;
    }
    if once {
        return Ok(());
    }
    close(stage, screen)?;
    loop {
        let record = stage.records.next().await?;
        table::row(screen, &table::label(&record), &[record])?;
    }
}

fn open(stage: &Stage, screen: &mut Screen) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    screen.line(format_args!("\n  {} {version}\n", screen.bold("tidegate")))?;
    let fact = |screen: &mut Screen, name: &str, text: String| {
        screen.line(format_args!("  {} {text}", screen.dim(format_args!("{name:<9}"))))
    };
    fact(screen, "agents", format!("connect to http://{}", stage.addr))?;
    if let Some(admin) = stage.running.admin {
        fact(screen, "admin", format!("http://{admin}"))?;
    }
    let backend = "simulated OpenAI, Anthropic, Gemini and Ollama in this process";
    fact(screen, "backend", backend.to_owned())?;
    fact(screen, "", "no key, no network, and answers of random words".to_owned())?;
    for taken in &stage.taken {
        let text = format!("{taken} is in use by another program; a free port is taken instead");
        fact(screen, "note", text)?;
    }
    screen.line("")
}

impl Show<'_> {
    async fn streams(&mut self) -> io::Result<()> {
        let question = "What does a tide gate do?";
        let messages = json!([{"role": "user", "content": question}]);
        let body = json!({
            "model": "gpt-4o-mini", "stream": true, "messages": messages,
            "stream_options": {"include_usage": true},
        });
        let label = "OpenAI chat stream";
        self.stream(label, "/v1/chat/completions", &body, "tokens=40; seed=4", 30).await?;
        let body = json!({
            "model": "claude-sonnet-4-5", "stream": true, "max_tokens": 1024, "messages": messages,
        });
        let label = "Anthropic message stream";
        self.stream(label, "/v1/messages", &body, "tokens=40; seed=9", 30).await?;
        let body = json!({"model": "llama3.2", "messages": messages});
        let label = "Ollama chat stream";
        self.stream(label, "/api/chat", &body, "tokens=24; seed=3", 30).await
    }

    /// One streamed answer, shown token by token.
    async fn stream(
        &mut self,
        label: &'static str,
        path: &str,
        body: &Value,
        simulate: &str,
        gap_ms: u64,
    ) -> io::Result<()> {
        self.title(label, path, body)?;
        let simulate = self.paced(simulate, gap_ms);
        let mut answer = self.client.ask(path, Some(body), &simulate).await?;
        while let Some(texts) = answer.texts().await? {
            for text in texts {
                self.screen.flow(&text)?;
            }
        }
        let id = answer.id;
        self.screen.end_flow()?;
        self.end(label, vec![id]).await
    }

    async fn embeddings(&mut self) -> io::Result<()> {
        let (label, path) = ("OpenAI embeddings", "/v1/embeddings");
        let body = json!({
            "model": "text-embedding-3-small", "dimensions": 256, "encoding_format": "float",
            "input": ["high water", "low water"],
        });
        self.title(label, path, &body)?;
        // the next act's call then finds this connection to the backend broken
        let simulate = self.paced("fault=stale=1", 0);
        let answer = self.client.ask(path, Some(&body), &simulate).await?;
        let id = answer.id.clone();
        let answer: Value = serde_json::from_str(&answer.body().await?)?;
        let vectors = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
        for (vector, input) in vectors.iter().zip(["high water", "low water"]) {
            let at = |at: usize| vector["embedding"][at].as_f64().unwrap_or_default();
            let size = vector["embedding"].as_array().map_or(0, Vec::len);
            let line = format_args!(
                "     {input:<10} → [{:+.4}, {:+.4}, {:+.4}, … {size} numbers]",
                at(0),
                at(1),
                at(2)
            );
            self.screen.line(line)?;
        }
        self.end(label, vec![id]).await
    }

    /// The connection that the calls before used is reset by the backend the moment it is used.
    async fn stale(&mut self) -> io::Result<()> {
        let (label, path) = ("OpenAI chat after a reset", "/v1/chat/completions");
        let body = json!({
            "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Still there?"}],
        });
        self.title(label, path, &body)?;
        let said = "The backend resets the connection it kept open. Nothing had come back on it,";
        self.note(said)?;
        self.note("so the sidecar asks once more on a fresh one. The agent sees:")?;
        let simulate = self.paced("tokens=10; seed=1", 0);
        let answer = self.client.ask(path, Some(&body), &simulate).await?;
        let (id, status) = (answer.id.clone(), answer.status.as_u16());
        let body = answer.body().await?;
        let text = text(body.as_bytes()).unwrap_or(body);
        self.screen.line(format_args!("     {status}  {text}"))?;
        self.end(label, vec![id]).await
    }

    async fn overloaded(&mut self) -> io::Result<()> {
        let (label, path) = ("Anthropic, overloaded", "/v1/messages");
        let body = json!({
            "model": "claude-sonnet-4-5", "max_tokens": 64,
            "messages": [{"role": "user", "content": "Now?"}],
        });
        self.title(label, path, &body)?;
        self.note("The backend's error passes through as it is, for the SDK's own retry:")?;
        let simulate = self.paced("fault=529", 0);
        let answer = self.client.ask(path, Some(&body), &simulate).await?;
        let (id, status) = (answer.id.clone(), answer.status.as_u16());
        let body = answer.body().await?;
        self.screen.flow(&format!("{status}  "))?;
        for part in body.split_inclusive(',') {
            self.screen.flow(part)?;
        }
        self.screen.end_flow()?;
        self.end(label, vec![id]).await
    }

    /// Several agents at once; what is shown is who got a token, in the order of arrival.
    async fn burst(&mut self) -> io::Result<()> {
        let label = "8 agents at once, medians";
        self.heading("8 agents at once")?;
        self.note(
            "Two for each dialect. Anthropic's, 2 and 6, first wait out the pause that its 529",
        )?;
        self.note("asked for. A digit is a token for that agent, as it arrived:")?;
        let (sender, mut arrived) = unbounded_channel();
        let mut agents = tokio::task::JoinSet::new();
        for agent in 0..BURST {
            let (path, body) = question(agent);
            let simulate = format!("tokens=20; seed={agent}");
            let simulate = self.paced(&simulate, 30 + 5 * agent as u64);
            let (to, sender) = (self.to, sender.clone());
            agents.spawn_local(async move {
                let mut client = Client::new(to);
                let mut answer = client.ask(path, Some(&body), &simulate).await?;
                while let Some(texts) = answer.texts().await? {
                    for _ in texts {
                        // nobody counts any more once the show has ended
                        let _ = sender.send(agent + 1);
                    }
                }
                io::Result::Ok((agent, answer.id))
            });
        }
        drop(sender);
        while let Some(agent) = arrived.recv().await {
            self.screen.flow(&agent.to_string())?;
        }
        self.screen.end_flow()?;
        let mut ids = Vec::new();
        while let Some(done) = agents.join_next().await {
            ids.push(done.map_err(io::Error::other)??);
        }
        ids.sort();
        self.end(label, ids.into_iter().map(|(_, id)| id).collect()).await
    }

    fn title(&mut self, label: &str, path: &str, body: &Value) -> io::Result<()> {
        self.heading(label)?;
        let model = body["model"].as_str().unwrap_or_default();
        self.note(&format!("POST {path}  {model}"))
    }

    fn heading(&mut self, label: &str) -> io::Result<()> {
        self.acts += 1;
        let (act, label) = (self.acts, self.screen.bold(label));
        self.screen.line(format_args!("  {act}  {label}"))
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        let text = self.screen.dim(text);
        self.screen.line(format_args!("     {text}"))
    }

    async fn end(&mut self, label: &'static str, ids: Vec<String>) -> io::Result<()> {
        self.made.push((label, ids));
        self.rest().await
    }

    /// Between two acts.
    async fn rest(&mut self) -> io::Result<()> {
        self.screen.line("")?;
        self.screen.pause(250).await;
        Ok(())
    }

    /// A backend takes time where somebody watches, and none elsewhere.
    fn paced(&self, simulate: &str, gap_ms: u64) -> String {
        if self.screen.paced() {
            format!("ttft=200ms; gap={gap_ms}ms; {simulate}")
        } else {
            simulate.to_owned()
        }
    }
}

/// What one of the agents asks.
fn question(agent: usize) -> (&'static str, Value) {
    let messages = json!([{"role": "user", "content": format!("I am agent {agent}.")}]);
    match agent % 4 {
        0 => (
            "/v1/chat/completions",
            json!({"model": "gpt-4o-mini", "stream": true, "messages": messages,
                "stream_options": {"include_usage": true}}),
        ),
        1 => (
            "/v1/messages",
            json!({"model": "claude-sonnet-4-5", "stream": true, "max_tokens": 1024,
                "messages": messages}),
        ),
        2 => (
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            json!({"contents": [{"role": "user", "parts": [{"text": "I am an agent."}]}]}),
        ),
        _ => ("/api/chat", json!({"model": "llama3.2", "messages": messages})),
    }
}

/// How to go on from here.
fn close(stage: &Stage, screen: &mut Screen) -> io::Result<()> {
    let at = stage.addr;
    let serving = screen.bold(format_args!("Serving on http://{at} until Ctrl-C."));
    screen.line(format_args!("\n  {serving} Point at it:\n"))?;
    let mut way = |name: &str, text: String| {
        let name = screen.dim(format_args!("{name:<14}"));
        screen.line(format_args!("  {name} {text}"))
    };
    way("OpenAI SDK", format!("export OPENAI_BASE_URL=http://{at}/v1 OPENAI_API_KEY=any"))?;
    way("Anthropic SDK", format!("export ANTHROPIC_BASE_URL=http://{at} ANTHROPIC_API_KEY=any"))?;
    way("Claude Code", format!("ANTHROPIC_BASE_URL=http://{at} ANTHROPIC_AUTH_TOKEN=any claude"))?;
    way("curl", format!("curl -N http://{at}/v1/chat/completions -d \\"))?;
    let body =
        r#"'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}'"#;
    way("", format!("  {body}"))?;
    if let Some(admin) = stage.running.admin {
        way("the live page", format!("http://{admin}/"))?;
        way("metrics", format!("http://{admin}/metrics"))?;
        way("state", format!("http://{admin}/state"))?;
        way("who calls", format!("{} agents --admin {admin}", program()))?;
        way("what is kept", format!("{} cache stats --admin {admin}", program()))?;
        // what they end and show asks for a proof, which a policy file would name
        let token = stage.state.path().join(store::TOKEN).display().to_string();
        way("tasks", format!("export TIDEGATE_ADMIN_TOKEN=$(cat {token})"))?;
        way("", format!("{} tasks list --admin {admin}", program()))?;
    }
    let pages = "for agents of your own: README.md, \"Limit it\" and \"Answer once\"";
    way("limits, caches", pages.to_owned())?;
    let note = screen.dim("Your calls appear here, as the sidecar records them:");
    screen.line(format_args!("\n  {note}"))
}

/// This program as it was called, for a line to be copied: it may not be in the `PATH`.
fn program() -> String {
    let called = std::env::args().next();
    called.filter(|name| !name.contains(char::is_whitespace)).unwrap_or("tidegate".to_owned())
}
