//! What a session has used that no report has told of: the responses that were asked for, or begun,
//! and have not come to their end.
//!
//! Who leaves before a response is done would have it for nothing, were reports all that is charged.
//! So what has come of it is counted, and where nothing has, what may have been made in that time. Its
//! prompt is guessed by what the client has said since the last report, and is no smaller than the
//! last one: a conversation grows.
use std::time::Instant;

use crate::pipeline::admit::Lease;
use crate::wire::Usage;

#[derive(Default)]
pub struct Unpaid {
    /// Responses that were asked for; those of them that the server has begun, or began by itself.
    asked: u32,
    begun: u32,
    since: Option<Instant>,
    /// Tokens that have come, about.
    content: u64,
    /// What the client has said since the last report.
    prompt_bytes: u64,
    /// Of the last prompt.
    input: u64,
}

impl Unpaid {
    pub fn said(&mut self, bytes: u64) {
        self.prompt_bytes = self.prompt_bytes.saturating_add(bytes);
    }

    pub fn asked(&mut self, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// The server has begun one, perhaps unasked.
    pub fn begun(&mut self, now: Instant) {
        self.asked = self.asked.saturating_sub(1);
        self.begun = self.begun.saturating_add(1);
        self.since.get_or_insert(now);
    }

    pub fn came(&mut self, tokens: u64) {
        self.content = self.content.saturating_add(tokens);
    }

    /// The server has refused something. What it has begun is none of that.
    pub fn refused(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        self.settle(0);
    }

    /// One has ended, and this is what it used.
    pub fn told(&mut self, usage: &Usage) {
        (self.input, self.prompt_bytes) = (usage.input, 0);
        self.ended(usage.output);
    }

    /// One has failed, for nothing.
    pub fn failed(&mut self) {
        self.ended(self.content);
    }

    /// One has ended, and nobody says what it used: so much, likely.
    pub fn untold(&mut self, lease: &Lease) -> Usage {
        let usage = self.guess(lease);
        self.told(&usage);
        usage
    }

    /// Whether some response is still to end.
    pub fn runs(&self) -> bool {
        self.asked + self.begun > 0
    }

    /// What the responses that have not ended have likely used until now.
    pub fn guess(&self, lease: &Lease) -> Usage {
        let Some(since) = self.since else { return Usage::default() };
        let likely = lease.guess(self.prompt_bytes, since.elapsed());
        let output = if self.content > 0 { self.content } else { likely.output };
        Usage { input: likely.input.max(self.input), output, ..Usage::default() }
    }

    fn ended(&mut self, output: u64) {
        if self.begun > 0 {
            self.begun -= 1;
        } else {
            self.asked = self.asked.saturating_sub(1);
        }
        self.settle(output);
    }

    fn settle(&mut self, output: u64) {
        if self.runs() {
            self.content = self.content.saturating_sub(output);
        } else {
            (self.since, self.content) = (None, 0);
        }
    }
}
