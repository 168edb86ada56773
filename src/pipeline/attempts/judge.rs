//! What an answer says of the backend, before any of it is the client's.
use std::time::{Instant, SystemTime};

use super::{Failed, Run, Why, is_backends};
use crate::pipeline::dispatch::has_others;
use crate::pipeline::hold::{self, Held};
use crate::pipeline::record::Watch;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::reply::Sent;
use crate::pipeline::stub::{self, Verdict};
use crate::upstream::PoolKey;
use crate::upstream::answer::Went;
use crate::wire::{self, Form, Meter};

impl<W: Watch> Run<'_, '_, W> {
    pub(super) async fn judge(
        &mut self,
        mut sent: Sent,
        address: Option<PoolKey>,
    ) -> Result<Sent, Box<Failed>> {
        let status = sent.answer.status;
        if status.is_client_error() || status.is_server_error() {
            if self.may_go_on() {
                return Box::pin(self.judge_error(sent, address)).await;
            }
            sent.answer.body.told(if is_backends(status) { Went::Badly } else { Went::Unjudged });
            return Ok(sent);
        }
        let form = sent.form();
        let streams = matches!(form, Form::Sse | Form::NdJson);
        let hold = &self.to.aim.upstream().config.retry;
        let holds = streams && !hold.hold.is_zero() && has_others(&self.to.aim);
        if holds && self.may_go_on() {
            return Box::pin(self.hold(sent, form, address)).await;
        }
        if !streams {
            sent.answer.body.began(Instant::now());
        }
        Ok(sent)
    }

    async fn judge_error(
        &mut self,
        mut sent: Sent,
        address: Option<PoolKey>,
    ) -> Result<Sent, Box<Failed>> {
        let answer = &mut sent.answer;
        let body = hold::error_body(self.going.flight, &mut answer.body).await;
        let verdict = stub::verdict(self.call.kind.dialect(), answer.status.as_u16(), &body);
        answer.body.told(match verdict {
            Verdict::Fine | Verdict::TheirFault => Went::Well,
            Verdict::Overloaded | Verdict::Failed => Went::Badly,
            Verdict::Limited | Verdict::KeyRefused | Verdict::KeySpent => Went::Unjudged,
        });
        if matches!(verdict, Verdict::Fine | Verdict::TheirFault) {
            return Ok(sent);
        }
        let quota = wire::quota(&answer.headers, SystemTime::now());
        let (why, hint) = (Why::Said(verdict), quota.retry_after);
        Err(Box::new(Failed { why, kept: Some(sent), refusal: None, hint, address }))
    }

    async fn hold(
        &mut self,
        mut sent: Sent,
        form: Form,
        address: Option<PoolKey>,
    ) -> Result<Sent, Box<Failed>> {
        let meter = Meter::new(self.call.kind, form);
        let upstream = self.to.aim.upstream();
        let body = &mut sent.answer.body;
        let (flight, clock) = (self.going.flight, &self.going.worker.clock);
        let retry = &upstream.config.retry;
        let held = hold::until_content(flight, clock, body, meter, retry).await;
        if !matches!(held, Held::Goes) {
            body.told(if matches!(&held, Held::Failed(verdict) if !is_outage(*verdict)) {
                Went::Unjudged
            } else {
                Went::Badly
            });
        }
        match held {
            Held::Goes => Ok(sent),
            Held::Failed(Verdict::TheirFault | Verdict::Fine) => Ok(sent),
            Held::Failed(verdict) => {
                let why = Why::InStream(verdict);
                Err(Box::new(Failed { why, kept: Some(sent), refusal: None, hint: None, address }))
            }
            Held::Slow => {
                let why = Why::TimedOut;
                Err(Box::new(Failed { why, kept: Some(sent), refusal: None, hint: None, address }))
            }
            Held::Broken(error) => {
                Err(Failed::refused(Why::Broken, Refusal::broken_answer(error), address))
            }
            Held::Expired(expired) => {
                Err(Failed::refused(Why::TimedOut, Refusal::expired(expired), address))
            }
        }
    }
}

/// Whether such an error tells that the backend is not well.
fn is_outage(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Overloaded | Verdict::Failed)
}
