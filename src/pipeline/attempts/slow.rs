//! A stream that is late with its content is kept while the call tries elsewhere, and is the answer
//! if that comes to nothing.
//!
//! Both run, so each has leave of its own: the place and the charge of the stream stay until another
//! has won, and where there is no second place it is waited for. Only the first such stream is kept:
//! it is the furthest. With it in hand nothing is waited for that may get well. When it goes on it is
//! under its own deadlines, which begin anew, for nobody has heard it meanwhile.
use std::sync::Arc;

use super::next::is_given_up;
use super::{Failed, Kept, Run, Why};
use crate::flight::Stage;
use crate::pipeline::admit::Lease;
use crate::pipeline::dispatch::Going;
use crate::pipeline::record::Watch;
use crate::pipeline::reply::Sent;
use crate::route::Aim;
use crate::upstream::keys::Key;

/// A slow stream.
pub(super) struct Slow {
    kept: Box<Kept>,
    /// Its leave, once another attempt has its own.
    lease: Option<Lease>,
}

impl<W: Watch> Run<'_, '_, W> {
    /// Keeps what an attempt has brought that is no answer yet. `kept`: the last answer that is none.
    pub(super) fn keep(&mut self, failed: &mut Failed, kept: &mut Option<Box<Kept>>) {
        let got = failed.kept.take();
        if failed.why != Why::Slow {
            *kept = got.or(kept.take());
        } else if self.slow.is_none() {
            self.slow = got.map(|kept| Box::new(Slow { kept, lease: None }));
        }
    }

    /// Another has answered.
    pub(super) fn give_up_slow(&mut self) {
        if let Some(lease) = self.slow.take().and_then(|slow| slow.lease) {
            let sunk = lease.in_vain(true);
            self.lease.bears(sunk);
        }
    }

    /// Nobody waits for the call any more: what the slow one has cost is its as well.
    pub(super) fn abandon_slow(&mut self) {
        if let Some(mut lease) = self.slow.take().and_then(|slow| slow.lease) {
            let sunk = lease.sink();
            self.lease.bears(sunk);
        }
    }

    /// The slow stream is the answer, unless the call was cut for what it holds. `failed`: the last attempt.
    pub(super) fn take_slow(&mut self, failed: &Failed) -> Option<Sent> {
        let Slow { kept, lease } = *self.slow.take()?;
        let Going { worker, flight, .. } = self.going;
        if flight.was_ended() {
            return None;
        }
        if let Some(lease) = lease {
            let other = std::mem::replace(self.lease, lease);
            let sunk = other.in_vain(is_given_up(failed.why));
            self.lease.bears(sunk);
        }
        let Kept { sent, aim } = *kept;
        self.return_to(&aim);
        flight.streams_again(worker.clock.now());
        self.watch.answered(&sent.answer);
        Some(sent)
    }

    /// The answer of an earlier attempt is passed on.
    pub(super) fn return_to(&mut self, aim: &Aim) {
        let Going { worker, snapshot, flight, .. } = self.going;
        let upstream = &aim.upstream().config;
        flight.set_limits(crate::pipeline::limits(snapshot, &upstream.timeouts));
        flight.enter(Stage::Answering, worker.clock.now());
        flight.describe(|about| about.upstream = Some(Arc::clone(&upstream.name)));
        self.watch.moved(aim);
    }

    /// Asks for leave elsewhere: instead of what the call has, or beside it.
    pub(super) fn move_to(&mut self, aim: &Aim, key: Option<&Key>, given_up: bool) -> bool {
        let Going { worker, snapshot, who, .. } = self.going;
        let call = &*self.call;
        let ask = |lease: &mut Lease| lease.move_to(snapshot, who, aim, call, key, given_up);
        let Some(slow) = self.slow.as_mut().filter(|slow| slow.lease.is_none()) else {
            return ask(self.lease).is_ok();
        };
        let mut other = self.lease.another(worker, who);
        let moved = ask(&mut other).is_ok();
        if moved {
            slow.lease = Some(std::mem::replace(self.lease, other));
        }
        moved
    }
}
