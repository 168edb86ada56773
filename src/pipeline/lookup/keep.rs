//! Keeping an answer that has come, if it is worth it.
use std::sync::Arc;
use std::time::SystemTime;

use super::Lookup;
use crate::cache::{Entry, Recorded};
use crate::pipeline::worker::Worker;
use crate::wire::{self, Finish, Form, Kind, Usage};

/// An answer that has come, whole.
pub struct Answered {
    pub kind: Kind,
    pub form: Form,
    pub content_type: Option<Box<[u8]>>,
    pub recorded: Recorded,
    pub usage: Option<Usage>,
    /// A limit bounded its output, which the caller did not.
    pub clamped: bool,
}

impl Lookup {
    /// Whether an answer is not too long to be kept: for who comes back more may have been held. Of
    /// vectors each is an entry of its own.
    pub fn holds(&self, recorded: &Recorded) -> bool {
        self.vectors.is_some() || recorded.body.len() as u64 <= self.rule.max_entry
    }

    /// Keeps an answer that has come, if it is worth it.
    pub fn keep(self, worker: &Worker, answered: Answered) {
        if self.vectors.is_some() {
            return self.keep_vectors(worker, &answered);
        }
        let Answered { kind, form, content_type, recorded, usage, clamped } = answered;
        let Recorded { body, frames } = recorded;
        let Some(facts) = wire::facts(kind, form, &body) else { return };
        let filtered = matches!(facts.finish, Finish::Filtered);
        if facts.empty || filtered || (facts.calls_tools && !self.rule.tool_calls) {
            return;
        }
        // what ended by itself is what it would have been without the bound; but responses repeat it
        let ended = matches!(facts.finish, Finish::Stop | Finish::Tools);
        if clamped && (!ended || kind == Kind::Responses) {
            return;
        }
        let ttl = self.ttl();
        if ttl.is_zero() {
            return;
        }
        let rate = self.rate(worker);
        let entry = Entry {
            kind,
            form,
            stream: self.asked.stream,
            content_type,
            body,
            frames,
            stored: SystemTime::now(),
            ttl,
            usage,
            cost_nano: usage.map(|usage| rate.cost(&usage)),
            author: self.author,
        };
        let entry = Arc::new(entry);
        self.space.put(self.key, Arc::clone(&entry));
        if let Some(similar) = self.similar {
            similar.answered(worker, self.question, &entry, facts);
        }
    }
}
