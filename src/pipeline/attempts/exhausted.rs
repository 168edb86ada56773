//! What becomes of a call that no target can take: it is refused, asked for in another model, or waits
//! for a target that may get well. Waiting makes no refused key known and no failing backend well, so
//! such targets are not asked again; what is sent again comes out of the retry budget.
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::next::{bit, jittered};
use super::{Failed, Run, Why};
use crate::config::Exhausted;
use crate::pipeline::record::Watch;
use crate::wire::Verdict;

/// What a call waits where it may wait for a target, and nobody says how long.
const PAUSE: Duration = Duration::from_millis(250);

impl<W: Watch> Run<'_, '_, W> {
    /// The target has been tried in vain.
    pub(super) fn leave(&mut self, failed: &Failed) {
        self.tried.targets |= bit(self.to.aim.at);
        if !may_heal(failed) {
            self.tried.lost |= bit(self.to.aim.at);
        }
    }

    /// Nobody can take it now. `paid`: another attempt, out of the budget.
    pub(super) async fn exhausted(&mut self, failed: &Failed, paid: bool, now: Instant) -> bool {
        let route = Arc::clone(&self.to.aim.route);
        match &route.on_exhausted {
            Exhausted::Refuse => false,
            _ if self.tried.bound => false,
            Exhausted::Downgrade(_) if self.tried.downgraded => false,
            Exhausted::Downgrade(model) => {
                self.tried.downgraded = true;
                self.to.aim.instead = Some(Arc::clone(model));
                self.tried.lost = 0;
                self.begin_again(now)
            }
            Exhausted::Queue => self.wait(failed, paid, now).await,
        }
    }

    /// Until a target takes calls again, and has a place. Only those that may get well by that.
    async fn wait(&mut self, failed: &Failed, paid: bool, now: Instant) -> bool {
        self.leave(failed);
        let mut targets = 0..self.to.aim.route.targets.len();
        let others = self.tried.passed && targets.any(|at| bit(at) & !self.tried.lost != 0);
        if !may_heal(failed) && !others {
            return false;
        }
        // what was never sent is not sent again
        if !paid && self.tried.attempts > 0 && !self.spend(now) {
            return self.is_starved();
        }
        let since = *self.tried.waiting.get_or_insert(now);
        let longest = self.to.aim.upstream().config.timeouts.queue;
        // no place is held while nothing can be done with it
        self.lease.step_aside(false);
        let mut least = failed.hint.unwrap_or_default().max(PAUSE);
        loop {
            let left = longest.saturating_sub(since.elapsed());
            if left.is_zero() || !self.pause((least + jittered(PAUSE)).min(left)).await {
                return false;
            }
            if self.begin_again(Instant::now()) {
                return true;
            }
            least = PAUSE;
        }
    }

    /// As if it had not been sent yet.
    fn begin_again(&mut self, now: Instant) -> bool {
        (self.tried.targets, self.tried.begun) = (self.tried.lost, 0);
        self.next_target(false, now)
    }
}

/// Whether it may be another matter in a while.
fn may_heal(failed: &Failed) -> bool {
    let heals = match failed.why {
        Why::Closed | Why::Unbegun => true,
        Why::Said(verdict) | Why::InStream(verdict) => {
            matches!(verdict, Verdict::Overloaded | Verdict::Limited)
        }
        Why::Broken | Why::TimedOut | Why::Slow | Why::Final => false,
    };
    heals && failed.wanted
}
