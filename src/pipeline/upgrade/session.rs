//! What a session is seen to use, from the messages that go by, and the reasons to end it.
//!
//! Each response's usage is charged to the limits when the backend reports it, so a session goes past
//! a hard limit by one response at most; what was not reported is guessed ([`Unpaid`]). What a message
//! of the client's may ask for is for the [`Terms`] to say: the last bytes of one that may not never
//! reach the backend. The first token's time is that of the first response.
use std::time::Instant;

use super::terms::Terms;
use super::unpaid::Unpaid;
use crate::pipeline::admit::{Came, Lease};
use crate::pipeline::record::{Record, Watch};
use crate::pipeline::refusal::Refusal;
use crate::telemetry::metrics::Outcome;
use crate::wire::{
    Frame, Listener, SessionEvent, Usage, long_session_event, session_content, session_event,
};

/// A reason to end a session, and the codes of the close frames (RFC 6455, section 7.4.1; 1014 is in
/// IANA's registry).
pub struct Cut {
    pub refusal: Refusal,
    pub client: u16,
    pub backend: u16,
    /// What was just read goes on.
    pub passes: bool,
    /// The client was there to be told.
    told: bool,
}

const GOING_AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
const BAD_GATEWAY: u16 = 1014;

impl Cut {
    fn new(refusal: Refusal, client: u16, backend: u16) -> Self {
        Self { refusal, client, backend, passes: false, told: true }
    }

    /// A bound of time, or the sidecar's end.
    pub fn going(refusal: Refusal) -> Self {
        Self::new(refusal, GOING_AWAY, GOING_AWAY)
    }

    /// The backend has gone without a word.
    pub fn broken() -> Self {
        Self::new(Refusal::session_broken(), BAD_GATEWAY, GOING_AWAY)
    }

    /// The client has.
    pub fn deserted() -> Self {
        let cut = Self::new(Refusal::session_deserted(), GOING_AWAY, GOING_AWAY);
        Self { told: false, ..cut }
    }

    pub fn malformed() -> Self {
        Self::new(Refusal::session_malformed(), PROTOCOL, PROTOCOL)
    }

    fn spent() -> Self {
        let cut = Self::new(Refusal::session_spent(), POLICY, GOING_AWAY);
        // it is paid for
        Self { passes: true, ..cut }
    }

    pub fn policy(refusal: Refusal) -> Self {
        Self::new(refusal, POLICY, GOING_AWAY)
    }

    pub fn forbidden() -> Self {
        Self::policy(Refusal::not_allowed("model"))
    }

    pub fn other_model() -> Self {
        Self::policy(Refusal::session_model())
    }

    pub fn unclear() -> Self {
        Self::policy(Refusal::session_unclear())
    }

    pub fn binary() -> Self {
        Self::new(Refusal::session_binary(), UNSUPPORTED, GOING_AWAY)
    }

    /// For the close frames.
    pub fn reason(&self) -> &str {
        self.refusal.message()
    }
}

/// The bill of a session.
pub struct Meter {
    record: Option<Record>,
    lease: Option<Lease>,
    /// `None`: its messages are not read.
    terms: Option<Terms>,
    listener: Listener,
    /// As the backend has reported it, and where it should have and did not.
    usage: Option<Usage>,
    guessed: Usage,
    unpaid: Unpaid,
    /// Messages of the backend that carried content.
    content: u64,
    /// Since when the first response is awaited.
    asked: Option<Instant>,
}

impl Meter {
    pub fn new(record: Record, lease: Lease, terms: Option<Terms>) -> Self {
        Self {
            record: Some(record),
            lease: Some(lease),
            terms,
            listener: Listener::default(),
            usage: None,
            guessed: Usage::default(),
            unpaid: Unpaid::default(),
            content: 0,
            asked: None,
        }
    }

    /// A message of the client's, or a part of one.
    pub fn client_says(&mut self, frame: Frame<'_>) -> Option<Cut> {
        let Frame::Part { text, last } = frame else {
            let binary = matches!(frame, Frame::Binary(_));
            return self.terms.as_ref().filter(|_| binary)?.binary();
        };
        self.listener.push(text);
        if !last {
            return None;
        }
        let said = self.listener.end();
        let fresh = self.usage.is_none() && !self.unpaid.runs();
        let cut = self.terms.as_mut()?.judge(&said, self.lease.as_mut(), fresh);
        let Ok(said) = said else { return cut };
        if let Some(model) = &said.model {
            self.names_model(model);
        }
        if cut.is_none() {
            self.unpaid.said(said.prompt_bytes);
            if said.asks {
                let now = Instant::now();
                self.asked.get_or_insert(now);
                self.unpaid.asked(now);
            }
        }
        cut
    }

    /// A message of the backend's.
    pub fn backend_says(&mut self, frame: Frame<'_>) -> Option<Cut> {
        let (head, length, event) = match frame {
            Frame::Text(text) => (text, text.len(), session_event(text)),
            Frame::Long { head, tail } => {
                (head, head.len() + tail.len(), long_session_event(head, tail))
            }
            _ => return None,
        };
        match event {
            Some(SessionEvent::Done(Some(usage))) => {
                self.unpaid.told(&usage);
                return self.used(&usage);
            }
            Some(SessionEvent::Used(usage)) => return self.used(&usage),
            Some(SessionEvent::Done(None)) => return self.ended_untold(),
            Some(SessionEvent::Failed) => self.unpaid.failed(),
            Some(SessionEvent::Refused) => self.unpaid.refused(),
            Some(SessionEvent::Begun) => {
                let now = Instant::now();
                self.asked.get_or_insert(now);
                self.unpaid.begun(now);
            }
            Some(SessionEvent::Model(model)) => {
                self.names_model(&model);
                return self.terms.as_mut()?.settle_on(&model, self.lease.as_mut());
            }
            None => {
                if let Some(tokens) = session_content(head, length as u64) {
                    self.came(tokens);
                }
            }
        }
        None
    }

    fn names_model(&mut self, model: &str) {
        if let Some(record) = &mut self.record {
            record.names_model(model);
        }
    }

    fn came(&mut self, tokens: u64) {
        self.unpaid.came(tokens);
        self.content += 1;
        if self.content == 1
            && let (Some(record), Some(asked)) = (&mut self.record, self.asked)
        {
            record.first_token_after(asked.elapsed());
        }
    }

    fn used(&mut self, usage: &Usage) -> Option<Cut> {
        add(self.usage.get_or_insert_default(), usage);
        self.charge()
    }

    /// A response has ended, and its usage is not known.
    fn ended_untold(&mut self) -> Option<Cut> {
        let guess = self.unpaid.untold(self.lease.as_ref()?);
        add(&mut self.guessed, &guess);
        self.charge()
    }

    fn charge(&mut self) -> Option<Cut> {
        let mut sum = self.usage.unwrap_or_default();
        add(&mut sum, &self.guessed);
        let goes_on = self.lease.as_mut().is_none_or(|lease| lease.used(&sum));
        (!goes_on).then(Cut::spent)
    }

    /// The session is over. `None`: both sides have ended it.
    pub fn finish(mut self, cut: Option<Cut>, received: u64, sent: u64) {
        self.settle();
        let Some(mut record) = self.record.take() else { return };
        record.passed(received as usize);
        record.sent_bytes(sent);
        match cut {
            Some(cut) if cut.told => record.fail(&cut.refusal),
            Some(cut) => record.close(cut.refusal.outcome()),
            None => record.close(Outcome::Complete),
        }
    }

    /// Charges what the session has used, once.
    fn settle(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let mut usage = self.usage.unwrap_or_default();
        let mut guessed = self.guessed;
        if self.unpaid.runs() {
            add(&mut guessed, &self.unpaid.guess(&lease));
        }
        let produced = usage.output.saturating_add(guessed.output);
        usage.input = usage.input.saturating_add(guessed.input);
        let usage = self.terms.is_some().then_some(usage);
        let settled = lease.settle(&Came { usage, produced, complete: false });
        if let Some(record) = &mut self.record {
            record.session(self.usage, self.content);
            record.billed(settled.as_ref());
        }
    }
}

fn add(sum: &mut Usage, more: &Usage) {
    for (sum, more) in [
        (&mut sum.input, more.input),
        (&mut sum.output, more.output),
        (&mut sum.cached_input, more.cached_input),
        (&mut sum.cache_write, more.cache_write),
        (&mut sum.reasoning, more.reasoning),
    ] {
        *sum = sum.saturating_add(more);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle();
    }
}
