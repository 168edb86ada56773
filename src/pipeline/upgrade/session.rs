//! What a session is seen to use, from the messages that go by, and the reasons to end it.
//!
//! Each response's usage is charged to the limits when the backend reports it, so a session goes past
//! a hard limit by one response at most. A model that the caller's key does not allow is refused when
//! a message asks for it: its last bytes never reach the backend. The first token's time is that of the
//! first response.
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use crate::identity::Identity;
use crate::pipeline::admit::{Came, Lease};
use crate::pipeline::record::{Record, Watch};
use crate::pipeline::refusal::Refusal;
use crate::telemetry::metrics::Outcome;
use crate::wire::{
    Frame, SessionEvent, Usage, is_session_content, long_session_event, session_event,
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

    fn forbidden() -> Self {
        Self::new(Refusal::not_allowed("model"), POLICY, GOING_AWAY)
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
    who: Rc<Identity>,
    metered: bool,
    usage: Option<Usage>,
    /// Messages of the backend that carried content.
    content: u64,
    /// Since when the first response is awaited.
    asked: Option<Instant>,
}

impl Meter {
    pub fn new(record: Record, lease: Lease, who: Rc<Identity>, metered: bool) -> Self {
        Self {
            record: Some(record),
            lease: Some(lease),
            who,
            metered,
            usage: None,
            content: 0,
            asked: None,
        }
    }

    /// A message of the client's.
    pub fn client_says(&mut self, frame: Frame<'_>) -> Option<Cut> {
        let (event, whole) = match frame {
            Frame::Text(text) => (session_event(text), true),
            Frame::Long { head, tail } => (long_session_event(head, tail), false),
            _ => return None,
        };
        let Some(SessionEvent::Asked(model)) = event else { return None };
        self.asked.get_or_insert_with(Instant::now);
        let allows = |model| self.who.grant.as_ref().is_none_or(|grant| grant.allows_model(model));
        // of a long message the model may be in the part that was not kept
        let allowed = match &model {
            Some(model) => allows(Some(model)),
            None => whole || allows(None),
        };
        self.names_model(model);
        (!allowed).then(Cut::forbidden)
    }

    /// A message of the backend's.
    pub fn backend_says(&mut self, frame: Frame<'_>) -> Option<Cut> {
        let (head, event) = match frame {
            Frame::Text(text) => (text, session_event(text)),
            Frame::Long { head, tail } => (head, long_session_event(head, tail)),
            _ => return None,
        };
        match event {
            Some(SessionEvent::Done(Some(usage)) | SessionEvent::Used(usage)) => {
                return self.used(&usage);
            }
            Some(SessionEvent::Begun) => _ = self.asked.get_or_insert_with(Instant::now),
            Some(SessionEvent::Model(model)) => self.names_model(Some(model)),
            None if is_session_content(head) => self.said(),
            _ => {}
        }
        None
    }

    fn names_model(&mut self, model: Option<Cow<'_, str>>) {
        if let (Some(record), Some(model)) = (&mut self.record, model) {
            record.names_model(&model);
        }
    }

    fn said(&mut self) {
        self.content += 1;
        if self.content == 1
            && let (Some(record), Some(asked)) = (&mut self.record, self.asked)
        {
            record.first_token_after(asked.elapsed());
        }
    }

    fn used(&mut self, usage: &Usage) -> Option<Cut> {
        let sum = self.usage.get_or_insert_default();
        for (sum, more) in [
            (&mut sum.input, usage.input),
            (&mut sum.output, usage.output),
            (&mut sum.cached_input, usage.cached_input),
            (&mut sum.cache_write, usage.cache_write),
            (&mut sum.reasoning, usage.reasoning),
        ] {
            *sum = sum.saturating_add(more);
        }
        let goes_on = self.lease.as_mut().is_none_or(|lease| lease.used(sum));
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
        let usage = self.metered.then(|| self.usage.unwrap_or_default());
        let settled = lease.settle(&Came { usage, ..Came::default() });
        if let Some(record) = &mut self.record {
            record.session(self.usage, self.content);
            record.billed(settled.as_ref());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle();
    }
}
