//! How long an upstream call goes on that nobody reads.
//!
//! Behind the terminal event clients leave, before the end of the framing has come: it is waited for
//! a moment. A stream that can be taken up again is waited for longer, as long as all of it is kept;
//! at a drain it is let go at once, and until then it holds the end of the process back.
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::sleep;

use crate::drain::{Drain, Stage};
use crate::pipeline::shared::Lead;

/// How long the end of an answer is waited for behind its terminal event, when nobody reads any more.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Linger {
    /// The terminal event has come.
    said: bool,
    /// Of a stream that can be taken up again.
    grace: Option<Duration>,
    /// Nobody reads.
    until: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Linger {
    /// It can be taken up again.
    pub fn grant(&mut self, grace: Duration, lead: &Lead) {
        self.grace = Some(grace);
        lead.ending(true);
    }

    /// It cannot any more.
    pub fn revoke(&mut self, lead: &Lead) {
        (self.grace, self.until) = (None, None);
        lead.ending(self.said);
    }

    /// The terminal event has come.
    pub fn said(&mut self, lead: &Lead) {
        (self.said, self.until) = (true, None);
        lead.ending(true);
    }

    /// Ready when nobody reads any more, and nobody is waited for either.
    pub fn poll_deserted(&mut self, lead: &Lead, drain: &Drain, cx: &mut Context<'_>) -> Poll<()> {
        if lead.poll_deserted(cx).is_pending() {
            if self.grace.is_some() {
                // who leaves next is waited for anew
                self.until = None;
            }
            return Poll::Pending;
        }
        let grace = self.grace.filter(|_| lead.is_whole());
        let until = match (self.said, grace) {
            (true, _) => self.until.get_or_insert_with(|| Box::pin(sleep(LINGER))),
            (false, Some(grace)) => {
                self.until.get_or_insert_with(|| Box::pin(patience(grace, drain.clone())))
            }
            (false, None) => return Poll::Ready(()),
        };
        ready!(until.as_mut().poll(cx));
        self.until = None;
        lead.ending(false);
        let deserted = lead.poll_deserted(cx);
        if deserted.is_pending() {
            // somebody came at the last moment
            self.said = false;
            lead.ending(self.grace.is_some());
        }
        deserted
    }
}

async fn patience(grace: Duration, drain: Drain) {
    let _hold = drain.hold();
    tokio::select! {
        () = sleep(grace) => {}
        () = drain.reached(Stage::Draining) => {}
    }
}
