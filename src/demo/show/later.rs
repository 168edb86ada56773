//! The acts about answers that outlive a connection: a call that is a task, answered at once and
//! followed where it was left, and a plain stream that is read on after its connection was lost.
use std::io;

use http::{HeaderName, header};
use serde_json::{Value, json};

use super::super::client::{Answer, Client};
use super::super::records::Record;
use super::super::table::millis;
use super::Show;
use crate::pipeline::resume;

const CHAT: &str = "/v1/chat/completions";
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Tokens of each answer.
const ANSWER: usize = 24;
/// So many are read before the connection is dropped.
const READ: usize = 9;

/// An answer that nobody was connected to all the time.
pub struct Later {
    pub label: &'static str,
    /// The calls that read it.
    pub ids: Vec<String>,
    /// The task that made it, and the call that made the task.
    pub task: Option<(String, Record)>,
}

impl Show<'_> {
    /// Answered with an id at once, made in the background, followed in two pieces.
    pub(super) async fn task(&mut self) -> io::Result<()> {
        let body = chat("Write the report on the flood, please.");
        self.title("A call that is answered later", CHAT, &body)?;
        self.note("Prefer: respond-async. The answer is an id, once the task is on the disk:")?;
        let simulate = self.paced(&format!("tokens={ANSWER}; seed=6"), 40);
        let mut agent = Client::new(self.to).saying(PREFER, "respond-async");
        let answer = agent.ask(CHAT, Some(&body), &simulate).await?;
        let (first, status) = (answer.id.clone(), answer.status);
        let place = answer.header(&header::LOCATION).to_owned();
        answer.body().await?;
        let record = self.records.of(&first).await?;
        let after = self.screen.dim(format_args!("after {}", millis(record.duration_ms)));
        self.screen.line(format_args!("     {}  {place}  {after}", status.as_u16()))?;
        self.note("Its events are followed; the connection is lost (┊), and a new one reads on:")?;
        let mut ids = Vec::new();
        let mut agent = Client::new(self.to);
        let mut answer = agent.ask(&format!("{place}/events"), None, "").await?;
        ids.push(answer.id.clone());
        let had = self.flow(&mut answer, READ).await?;
        drop(agent);
        let mut agent = Client::new(self.to);
        let path = format!("{place}/events?starting_after={had}");
        let mut answer = agent.ask(&path, None, "").await?;
        ids.push(answer.id.clone());
        self.flow(&mut answer, usize::MAX).await?;
        self.screen.end_flow()?;
        let task = place.rsplit('/').next().unwrap_or_default().to_owned();
        let label = "a task, read in two parts";
        self.later.push(Later { label, ids, task: Some((task, record)) });
        self.rest().await
    }

    /// Read on after its connection was lost, while the backend goes on.
    pub(super) async fn lost(&mut self) -> io::Result<()> {
        let body = chat("And what was that about the gate?");
        self.title("A stream that loses its connection", CHAT, &body)?;
        self.note("x-tidegate-resume: 30s. The backend is not asked again:")?;
        let simulate = self.paced(&format!("tokens={ANSWER}; seed=8"), 40);
        let mut agent = Client::new(self.to).saying(resume::RESUME, "30s");
        let mut answer = agent.ask(CHAT, Some(&body), &simulate).await?;
        let mut ids = vec![answer.id.clone()];
        let place = answer.header(&resume::URL).to_owned();
        let had = self.flow(&mut answer, READ).await?;
        drop(agent);
        let mut agent = Client::new(self.to);
        let path = format!("{place}?starting_after={had}");
        let mut answer = agent.ask(&path, None, "").await?;
        ids.push(answer.id.clone());
        self.flow(&mut answer, usize::MAX).await?;
        self.screen.end_flow()?;
        let label = "a stream, in two parts";
        self.later.push(Later { label, ids, task: None });
        self.rest().await
    }

    /// Shows an answer up to so many texts of it. How many of its events that were.
    async fn flow(&mut self, answer: &mut Answer<'_>, most: usize) -> io::Result<usize> {
        let (mut events, mut texts) = (0, 0);
        while let Some(came) = answer.events().await? {
            for text in came {
                events += 1;
                let Some(text) = text else { continue };
                self.screen.flow(&text)?;
                texts += 1;
                if texts == most {
                    self.screen.flow(" ┊")?;
                    return Ok(events);
                }
            }
        }
        Ok(events)
    }
}

fn chat(question: &str) -> Value {
    json!({"model": "gpt-4o-mini", "stream": true,
        "messages": [{"role": "user", "content": question}],
        "stream_options": {"include_usage": true}})
}
