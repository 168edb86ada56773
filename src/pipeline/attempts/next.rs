//! Where a call goes next, if anywhere.
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};

use super::{Failed, Run, Upload, Why};
use crate::config::{Balance, Exhausted, Retry};
use crate::flight::Stage;
use crate::identity::Identity;
use crate::pipeline::call::{Call, Sending};
use crate::pipeline::dispatch::{Going, key_of};
use crate::pipeline::record::Watch;
use crate::pipeline::refusal::Refusal;
use crate::route::Aim;
use crate::upstream::keys::{self, Aside};
use crate::upstream::visit::{Closed, Spread};
use crate::wire::{self, Repeat, Verdict};

/// Whether another attempt can be paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pays {
    Yes,
    /// There is nothing to be paid.
    Free,
    /// It has had all its attempts.
    Tried,
    /// The upstream's calls have had theirs.
    Starved,
}

impl<W: Watch> Run<'_, '_, W> {
    pub(super) fn spread(&mut self) -> Spread {
        if self.to.aim.upstream().addresses.len() == 1 {
            return Spread::default();
        }
        let balance = self.to.aim.upstream().config.balance;
        *self.tried.spread.get_or_insert_with(|| spread(balance, self.call, self.going.who))
    }

    pub(super) fn closed(closed: Closed) -> Box<Failed> {
        let left = match closed {
            Closed::Breaker(left) => left,
            Closed::Tried => Duration::from_secs(1),
        };
        Failed::refused(Why::Closed, Refusal::unavailable(left), None)
    }

    /// Makes the call ready for another attempt. `false`: there is to be none.
    pub(super) async fn go_on(&mut self, failed: &Failed) -> bool {
        let (now, key) = (Instant::now(), self.lease.key);
        self.set_key_aside(failed, now);
        if !self.may_repeat(failed.why) {
            if !self.repeats(failed.why, true) {
                return false;
            }
            self.tried.bound = true;
        }
        let pays = self.pays(failed.why, now);
        let paid = pays == Pays::Yes;
        match pays {
            Pays::Starved => return self.is_starved(),
            Pays::Yes | Pays::Free if self.elsewhere(failed, now) => return true,
            Pays::Yes | Pays::Free if self.slow.is_none() && self.may_repeat_in_place(failed) => {
                return self.in_place(failed, key, paid).await;
            }
            Pays::Yes | Pays::Free | Pays::Tried => {}
        }
        // what is slow is better than nothing
        self.slow.is_none() && self.exhausted(failed, paid, now).await
    }

    /// Takes another attempt from what the policy allows.
    fn pays(&mut self, why: Why, now: Instant) -> Pays {
        if matches!(why, Why::Closed | Why::Unbegun) {
            return Pays::Free;
        }
        let upstream = self.to.aim.upstream();
        if self.tried.begun >= upstream.config.retry.attempts {
            return Pays::Tried;
        }
        match about_key(why) {
            Some(_) => Pays::Free,
            None if self.spend(now) => Pays::Yes,
            None => Pays::Starved,
        }
    }

    /// Takes a retry from the upstream's budget. Under pressure there are none.
    pub(super) fn spend(&self, now: Instant) -> bool {
        self.going.worker.may_repeat() && self.to.aim.upstream().spend_retry(now)
    }

    pub(super) fn is_starved(&mut self) -> bool {
        self.tried.starved = true;
        false
    }

    /// The lease of a call that is dispatched once more is where the first time has ended.
    pub(super) fn regain_leave(&mut self) -> Result<(), Refusal> {
        if self.lease.is_for(self.to.aim.upstream()) {
            return Ok(());
        }
        let aim = self.to.aim.clone();
        let (Going { snapshot, who, .. }, now) = (self.going, Instant::now());
        let key = keys::pick(&aim.upstream().keys, &[], now);
        let refused = self.lease.move_to(snapshot, who, &aim, self.call, key, false).err();
        self.tried.targets |= bit(aim.at);
        match refused {
            None => self.settle_at(aim),
            Some(_) if self.next_target(false, now) => {}
            Some(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Another key or address of the same upstream, or another target.
    fn elsewhere(&mut self, failed: &Failed, now: Instant) -> bool {
        let (given_up, key) = (is_given_up(failed.why), self.lease.key);
        let upstream = self.to.aim.upstream();
        if about_key(failed.why).is_some() && upstream.holds_key() {
            if self.next_key(now) {
                return true;
            }
        } else if let Some(address) = failed.address {
            self.tried.addresses.push(address);
            let others = self.tried.addresses.len() < upstream.addresses.len();
            if others && self.come_back(key, given_up) {
                return true;
            }
        }
        self.leave(failed);
        self.next_target(given_up, now)
    }

    /// Whether the same place may be asked again: by the policy, and by its backend.
    fn may_repeat_in_place(&self, failed: &Failed) -> bool {
        let retry = &self.to.aim.upstream().config.retry;
        let helps = match failed.why {
            Why::Closed | Why::Slow | Why::Final => false,
            why => about_key(why).is_none_or(|verdict| verdict == Verdict::Limited),
        };
        let wanted = failed.wanted && failed.hint.unwrap_or_default() <= retry.longest;
        // what no backend had counts here: nothing else would end it
        let begun = self.tried.begun + u32::from(failed.why == Why::Unbegun);
        retry.in_place && helps && wanted && begun < retry.attempts
    }

    /// `key`: the one it came with. `paid`: out of the budget.
    async fn in_place(&mut self, failed: &Failed, key: Option<u64>, paid: bool) -> bool {
        let (now, retry) = (Instant::now(), &self.to.aim.upstream().config.retry);
        let pause = match failed.hint {
            Some(hint) => hint + jittered(retry.backoff) / 2,
            None => backoff(retry, self.tried.attempts),
        };
        // what was free so far is not, where the same is tried again
        if !paid && !self.to.aim.upstream().spend_retry(now) {
            return self.is_starved();
        }
        self.tried.begun += u32::from(failed.why == Why::Unbegun);
        self.tried.addresses.clear();
        self.pause(pause).await && self.come_back(key, is_given_up(failed.why))
    }

    /// Leave for where it is, if it has been lost in asking for others or the attempt is to be paid
    /// for.
    fn come_back(&mut self, key: Option<u64>, given_up: bool) -> bool {
        let aim = self.to.aim.clone();
        if self.lease.is_for(aim.upstream()) && !given_up {
            return true;
        }
        let mut keys = aim.upstream().keys.iter();
        let key = keys.find(|of| Some(of.id) == key);
        self.body = None;
        self.move_to(&aim, key, given_up)
    }

    /// Whether the endpoint allows that the call is sent again, wherever.
    pub(super) fn may_repeat(&self, why: Why) -> bool {
        self.repeats(why, false)
    }

    /// `here`: see [`repeat`].
    fn repeats(&self, why: Why, here: bool) -> bool {
        if matches!(self.upload, Upload::Begun) {
            return false;
        }
        let headers = self.caller.as_deref().unwrap_or(&self.head.headers);
        let repeat = || repeat(&self.head.method, headers, self.call, here);
        let on_timeout = self.to.aim.upstream().config.retry.on_timeout;
        match why {
            Why::Final => false,
            // an overloaded one says itself that it has not begun
            Why::Closed | Why::Unbegun | Why::Said(Verdict::Overloaded) => true,
            Why::Said(_) if about_key(why).is_some() => true,
            Why::Said(_) | Why::InStream(_) | Why::Broken | Why::Slow => {
                repeat() != Repeat::WhenUnbegun
            }
            Why::TimedOut => match repeat() {
                Repeat::Freely => true,
                Repeat::WhenFailed => on_timeout,
                Repeat::WhenUnbegun => false,
            },
        }
    }

    pub(super) fn set_key_aside(&mut self, failed: &Failed, now: Instant) {
        let Some(verdict) = about_key(failed.why) else { return };
        let Some(key) = key_of(self.to.aim.upstream(), self.lease) else { return };
        self.tried.keys.push(key.id);
        let why = match verdict {
            Verdict::KeyRefused => Aside::Refused,
            Verdict::KeySpent => Aside::Spent,
            // it is as good as ever for other calls
            Verdict::Denied => return,
            _ => Aside::limited(failed.hint),
        };
        self.to.aim.upstream().set_aside(key.id, why, now);
    }

    /// Another key of the same upstream.
    fn next_key(&mut self, now: Instant) -> bool {
        if self.tried.bound {
            return false;
        }
        let aim = self.to.aim.clone();
        let key = keys::pick(&aim.upstream().keys, &self.tried.keys, now);
        // one that is set aside is no better
        let Some(key) = key.filter(|key| key.is_usable(now)) else { return false };
        if !self.move_to(&aim, Some(key), false) {
            return false;
        }
        self.tried.addresses.clear();
        self.body = None;
        true
    }

    /// The next target of the route that takes calls, and has a place for this one.
    pub(super) fn next_target(&mut self, given_up: bool, now: Instant) -> bool {
        if self.tried.bound {
            return false;
        }
        let route = Arc::clone(&self.to.aim.route);
        for at in 0..route.targets.len() {
            let untried = bit(at) & !self.tried.targets != 0;
            if !untried {
                continue;
            }
            if !route.targets[at].upstream.is_open_for(now) {
                self.tried.passed = true;
                continue;
            }
            self.tried.targets |= bit(at);
            let mut aim = self.to.aim.clone();
            aim.at = at;
            let key = keys::pick(&aim.upstream().keys, &[], now);
            if self.move_to(&aim, key, given_up) {
                self.settle_at(aim);
                return true;
            }
            self.tried.passed = true;
        }
        false
    }

    /// The call goes to this target from now on.
    pub(super) fn settle_at(&mut self, aim: Aim) {
        self.watch.moved(&aim);
        self.to.aim = aim;
        self.tried.addresses.clear();
        self.tried.keys.clear();
        (self.tried.spread, self.body) = (None, None);
        let upstream = self.to.aim.upstream();
        let timeouts = crate::pipeline::limits(self.going.snapshot, &upstream.config.timeouts);
        self.going.flight.set_limits(timeouts);
        let name = Arc::clone(&upstream.config.name);
        self.going.flight.describe(|about| about.upstream = Some(name));
    }

    /// Waits. `false`: the whole time of the call is up.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        let Going { worker, flight, .. } = self.going;
        // the last attempt's deadline is none of the pause
        flight.enter(Stage::Connecting, worker.clock.now());
        flight.guard(pin!(tokio::time::sleep(wait))).await.is_ok()
    }

    /// Whether another attempt is possible at all, whatever the answer says.
    pub(super) fn may_go_on(&self) -> bool {
        let attempts = self.to.aim.upstream().config.retry.attempts;
        let allowed = self.tried.begun < attempts && (self.has_others() || self.stays());
        matches!(self.upload, Upload::No) && (allowed || self.waits())
    }

    /// Whether it may come to the same place again.
    pub(super) fn stays(&self) -> bool {
        self.to.aim.upstream().config.retry.in_place || self.waits()
    }

    fn waits(&self) -> bool {
        match self.to.aim.route.on_exhausted {
            Exhausted::Refuse => false,
            Exhausted::Downgrade(_) => !self.tried.downgraded,
            Exhausted::Queue => true,
        }
    }

    /// Whether there is a key, an address or a target that it has not had.
    pub(super) fn has_others(&self) -> bool {
        let (route, upstream) = (&self.to.aim.route, self.to.aim.upstream());
        let tried = self.tried.targets | bit(self.to.aim.at);
        upstream.keys.len() > self.tried.keys.len() + 1
            || upstream.addresses.len() > self.tried.addresses.len() + 1
            || (0..route.targets.len()).any(|at| bit(at) & !tried != 0)
    }
}

/// What the endpoint allows, for a call with these headers of its caller's. `here`: to the same
/// upstream under the same credential, where an `Idempotency-Key` is known.
pub(super) fn repeat(method: &Method, headers: &HeaderMap, call: &Call, here: bool) -> Repeat {
    let Sending::Whole(body) = &call.body else { return Repeat::WhenUnbegun };
    let view = wire::view(call.kind, body).ok();
    let keyed = here && headers.contains_key("idempotency-key");
    wire::repeat(method, call.kind, view.as_ref(), keyed)
}

pub(super) fn bit(at: usize) -> u64 {
    1_u64.checked_shl(at as u32).unwrap_or(0)
}

/// What an answer says that is about the key that was sent rather than about the backend.
pub(super) fn about_key(why: Why) -> Option<Verdict> {
    let (Why::Said(verdict) | Why::InStream(verdict)) = why else { return None };
    match verdict {
        Verdict::Limited | Verdict::KeyRefused | Verdict::KeySpent | Verdict::Denied => {
            Some(verdict)
        }
        _ => None,
    }
}

/// Its backend may be at work on it still.
pub(super) fn is_given_up(why: Why) -> bool {
    matches!(why, Why::Slow | Why::TimedOut)
}

/// Twice as long after each attempt.
fn backoff(retry: &Retry, attempts: u32) -> Duration {
    let doubled = retry.backoff.saturating_mul(1 << attempts.clamp(1, 16).saturating_sub(1));
    jittered(doubled.min(retry.longest))
}

/// Between half and all of it, so that those who failed together do not come back together.
pub(super) fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + (dice() % 1000) as f64 / 2000.0)
}

/// A random number, good enough to spread calls with.
pub fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// By what a call is spread over addresses, where that is asked for. Fixed keys: every sidecar spreads
/// alike.
pub(super) fn spread(balance: Balance, call: &Call, who: &Identity) -> Spread {
    match balance {
        Balance::LeastBusy | Balance::RoundRobin => Spread::default(),
        Balance::Session => Spread::by_session(who),
        Balance::Prefix => {
            let view = call.whole().and_then(|body| wire::view(call.kind, body).ok());
            let prefix = view.and_then(|view| wire::prefix(call.kind, &view));
            Spread { prefix, session: None }
        }
    }
}
