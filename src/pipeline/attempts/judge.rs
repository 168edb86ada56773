//! What an answer says of the backend, before any of it is the client's.
use std::time::{Instant, SystemTime};

use super::{Failed, Kept, Run, Why};
use crate::flight::Expired;
use crate::pipeline::hold::{self, Held, Patience};
use crate::pipeline::record::Watch;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::reply::Sent;
use crate::upstream::PoolKey;
use crate::upstream::answer::Went;
use crate::wire::{self, Form, Meter, Verdict};

impl<W: Watch> Run<'_, '_, W> {
    /// Whether its head is all that must be known of an answer. Most are: only the others are worth
    /// the moves of a call that waits. `since`: when it was sent.
    pub(super) fn passes(&self, sent: &mut Sent, since: Instant) -> bool {
        let status = sent.answer.status;
        if status.is_client_error() || status.is_server_error() {
            // a key that is refused is of interest to the next call as well
            let keys = self.to.aim.upstream().keys.len();
            if self.may_go_on() || self.slow.is_some() || self.is_racing() || keys > 1 {
                return false;
            }
            let verdict = wire::verdict(self.call.kind.dialect(), status.as_u16(), b"");
            sent.answer.body.told(went(verdict));
            return true;
        }
        let form = sent.form;
        if matches!(form, Form::Sse | Form::NdJson) {
            return !self.holds() && !self.is_racing();
        }
        let small = || status.is_success() && hold::is_small(&sent.answer.headers);
        if form == Form::Json && (self.slow.is_some() || self.may_go_on()) && small() {
            return false;
        }
        let arrived = sent.answer.arrived;
        self.begins(sent, form, since, arrived);
        true
    }

    /// What [`Self::passes`] leaves open.
    pub(super) async fn judge(
        &mut self,
        mut sent: Sent,
        address: PoolKey,
        since: Instant,
    ) -> Result<Sent, Box<Failed>> {
        let status = sent.answer.status;
        if status.is_client_error() || status.is_server_error() {
            return self.judge_error(sent, address).await;
        }
        let form = sent.form;
        if matches!(form, Form::Sse | Form::NdJson) {
            return self.hold(sent, form, address, since).await;
        }
        sent = self.judge_small(sent, address).await?;
        self.begins(&mut sent, form, since, Instant::now());
        Ok(sent)
    }

    /// An answer that is no stream goes on, from `now` on.
    fn begins(&self, sent: &mut Sent, form: Form, since: Instant, now: Instant) {
        sent.answer.body.began(now);
        self.heard(since);
        if form == Form::Json {
            self.going.flight.await_body();
        }
    }

    /// Whether a stream's head is kept back for what may be tried instead.
    fn holds(&self) -> bool {
        let instead = self.slow.is_some() || self.may_go_on();
        !self.to.aim.upstream().config.retry.hold.is_zero() && instead
    }

    fn is_racing(&self) -> bool {
        self.beside.as_ref().is_some_and(|side| side.racing.get())
    }

    async fn judge_error(&mut self, mut sent: Sent, address: PoolKey) -> Result<Sent, Box<Failed>> {
        let answer = &mut sent.answer;
        let body = hold::short_body(self.going.flight, &mut answer.body).await;
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                answer.body.told(Went::Badly);
                let refusal = Refusal::broken_answer(error);
                return Err(Failed::refused(Why::Broken, refusal, Some(address)));
            }
        };
        let verdict = wire::verdict(self.call.kind.dialect(), answer.status.as_u16(), &body);
        answer.body.told(went(verdict));
        if self.is_theirs(verdict) {
            return self.said_no(sent, address);
        }
        let quota = wire::quota(&answer.headers, SystemTime::now);
        let mut failed = self.held_back(Why::Said(verdict), sent, address);
        (failed.hint, failed.wanted) = (quota.retry_after, quota.should_retry != Some(false));
        Err(failed)
    }

    /// A plain answer with a good status that may be an error all the same, as some compatible servers
    /// and gateways have it. It is one if it begins so.
    async fn judge_small(&mut self, mut sent: Sent, address: PoolKey) -> Result<Sent, Box<Failed>> {
        let answer = &mut sent.answer;
        let body = match hold::short_body(self.going.flight, &mut answer.body).await {
            Ok(body) => body,
            Err(error) => {
                answer.body.told(Went::Badly);
                let refusal = Refusal::broken_answer(error);
                return Err(Failed::refused(Why::Broken, refusal, Some(address)));
            }
        };
        if !wire::opens_with_error(&body) {
            return Ok(sent);
        }
        let verdict = wire::verdict(self.call.kind.dialect(), answer.status.as_u16(), &body);
        answer.body.told(went(verdict));
        if self.is_theirs(verdict) {
            return self.said_no(sent, address);
        }
        Err(self.held_back(Why::InStream(verdict), sent, address))
    }

    async fn hold(
        &mut self,
        mut sent: Sent,
        form: Form,
        address: PoolKey,
        since: Instant,
    ) -> Result<Sent, Box<Failed>> {
        let (meter, holds) = (Meter::new(self.call.kind, form), self.holds());
        let body = &mut sent.answer.body;
        let (flight, clock) = (self.going.flight, &self.going.worker.clock);
        let retry = &self.to.aim.upstream().config.retry;
        let (until, slow) = match retry.slow {
            _ if !holds => (Instant::now(), false),
            Some(slow) => (since + slow, true),
            None => (Instant::now() + retry.hold, false),
        };
        let racing = self.beside.as_deref().map(|side| &*side.racing);
        let patience = Patience { until: until.into(), slow, racing };
        let held = hold::until_content(flight, clock, body, meter, &patience).await;
        if let Some(went) = held_went(&held) {
            body.told(went);
        }
        match held {
            Held::Goes => Ok(sent),
            Held::Failed(verdict) if self.is_theirs(verdict) => self.said_no(sent, address),
            Held::Failed(verdict) => Err(self.held_back(Why::InStream(verdict), sent, address)),
            Held::Slow => Err(self.held_back(Why::Slow, sent, address)),
            Held::Broken(error) => {
                let refusal = Refusal::broken_answer(error);
                Err(Failed::refused(Why::Broken, refusal, Some(address)))
            }
            Held::Expired(expired) => {
                let over = matches!(expired, Expired::Total | Expired::Cancelled);
                let why = if over { Why::Final } else { Why::TimedOut };
                Err(Failed::refused(why, Refusal::expired(expired), Some(address)))
            }
        }
    }

    /// An answer that is no stream has begun, so long after it was sent. Of streams the lease hears.
    fn heard(&self, since: Instant) {
        let upstream = self.to.aim.upstream();
        if upstream.config.hedge.is_some() {
            let model = self.call.model().unwrap_or("");
            upstream.shared.late.heard(model, false, since.elapsed());
        }
    }

    /// It would be no better anywhere else. A credential of the caller's own is its own affair.
    fn is_theirs(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Fine | Verdict::TheirFault => true,
            Verdict::KeyRefused | Verdict::Denied => !self.to.aim.upstream().holds_key(),
            _ => false,
        }
    }

    /// Nobody would say anything else; but what runs already is no error.
    fn said_no(&self, sent: Sent, address: PoolKey) -> Result<Sent, Box<Failed>> {
        match &self.slow {
            Some(_) => Err(self.held_back(Why::Final, sent, address)),
            None => Ok(sent),
        }
    }

    fn held_back(&self, why: Why, sent: Sent, address: PoolKey) -> Box<Failed> {
        let kept = Some(Box::new(Kept { sent, aim: self.to.aim.clone() }));
        let address = Some(address);
        Box::new(Failed { why, kept, refusal: None, hint: None, wanted: true, address })
    }
}

/// What a verdict says of the backend's health.
fn went(verdict: Verdict) -> Went {
    match verdict {
        Verdict::Fine | Verdict::TheirFault => Went::Well,
        Verdict::Overloaded | Verdict::Failed => Went::Badly,
        Verdict::Limited | Verdict::KeyRefused | Verdict::KeySpent | Verdict::Denied => {
            Went::Unjudged
        }
    }
}

/// The same of a stream that was held.
fn held_went(held: &Held) -> Option<Went> {
    match held {
        // its end will say
        Held::Goes => None,
        Held::Failed(verdict) => Some(went(*verdict)),
        Held::Expired(Expired::Total | Expired::Cancelled) => Some(Went::Unjudged),
        Held::Broken(_) | Held::Expired(_) | Held::Slow => Some(Went::Badly),
    }
}
