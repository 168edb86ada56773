//! Where a call goes next, if anywhere.
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failed, Run, Why};
use crate::config::Exhausted;
use crate::flight::Stage;
use crate::identity::Identity;
use crate::pipeline::call::{Call, Sending};
use crate::pipeline::dispatch::Going;
use crate::pipeline::record::Watch;
use crate::pipeline::stub::{self, Repeat, Verdict};
use crate::upstream::keys;
use crate::upstream::visit::Spread;
use crate::wire;

/// How long a key is set aside that the backend refuses, that is spent, or that is at its limit
/// where the backend does not say for how long.
const REFUSED: Duration = Duration::from_mins(5);
const SPENT: Duration = Duration::from_mins(10);
const LIMITED: Duration = Duration::from_secs(1);
/// What a call waits where it may wait for a target, and nobody says how long.
const PAUSE: Duration = Duration::from_millis(250);

impl<W: Watch> Run<'_, '_, W> {
    /// Makes the call ready for another attempt. `false`: there is to be none.
    pub(super) async fn go_on(&mut self, failed: &Failed) -> bool {
        if !matches!(self.call.body, Sending::Whole(_)) || !self.may_repeat(failed.why) {
            return false;
        }
        let now = Instant::now();
        let upstream = Arc::clone(self.to.aim.upstream());
        let free = matches!(failed.why, Why::Closed | Why::Unbegun) || about_key(failed.why);
        let retry = &upstream.config.retry;
        let may = || self.going.worker.may_repeat() && upstream.spend_retry(now);
        if !free && (self.tried.attempts >= retry.attempts || !may()) {
            return false;
        }
        if about_key(failed.why) && upstream.holds_key() {
            self.set_key_aside(failed, now);
            if self.next_key(now) {
                return true;
            }
        } else if let Some(address) = failed.address {
            self.tried.addresses.push(address);
            if self.tried.addresses.len() < upstream.addresses.len() {
                return true;
            }
        }
        if self.next_target(now) {
            return true;
        }
        if retry.in_place && !free && failed.hint.unwrap_or_default() <= retry.longest {
            self.pause(failed.hint, retry.backoff, retry.longest).await;
            self.tried.addresses.clear();
            return true;
        }
        self.exhausted(failed, now).await
    }

    /// Whether the endpoint allows that the call is sent again.
    fn may_repeat(&self, why: Why) -> bool {
        let repeat = || {
            let Sending::Whole(body) = &self.call.body else { return Repeat::WhenUnbegun };
            let view = wire::view(self.call.kind, body).ok();
            let keyed = self.head.headers.contains_key("idempotency-key");
            stub::repeat(&self.head.method, self.call.kind, view.as_ref(), keyed)
        };
        let on_timeout = self.to.aim.upstream().config.retry.on_timeout;
        match why {
            Why::Final => false,
            Why::Closed | Why::Unbegun => true,
            // it says itself that it has not begun
            Why::Said(Verdict::Overloaded) => true,
            why if about_key(why) && !matches!(why, Why::InStream(_)) => true,
            Why::Said(_) | Why::InStream(_) | Why::Broken => repeat() != Repeat::WhenUnbegun,
            Why::TimedOut => match repeat() {
                Repeat::Freely => true,
                Repeat::WhenFailed => on_timeout,
                Repeat::WhenUnbegun => false,
            },
        }
    }

    fn set_key_aside(&mut self, failed: &Failed, now: Instant) {
        let upstream = self.to.aim.upstream();
        let Some(key) = crate::pipeline::dispatch::key_of(upstream, self.lease) else { return };
        self.tried.keys.push(key.id);
        let (Why::Said(verdict) | Why::InStream(verdict)) = failed.why else { return };
        key.set_aside(
            match verdict {
                Verdict::KeyRefused => REFUSED,
                Verdict::KeySpent => SPENT,
                _ => failed.hint.unwrap_or(LIMITED),
            },
            now,
        );
    }

    /// Another key of the same upstream.
    fn next_key(&mut self, now: Instant) -> bool {
        let Going { snapshot, who, .. } = self.going;
        let aim = self.to.aim.clone();
        let Some(key) = keys::pick(&aim.upstream().keys, &self.tried.keys, now) else {
            return false;
        };
        if self.lease.move_to(snapshot, who, &aim, &self.call, Some(key)).is_err() {
            return false;
        }
        self.tried.addresses.clear();
        self.body = None;
        self.dress();
        true
    }

    /// The next target of the route that takes calls, and has a place for this one.
    fn next_target(&mut self, now: Instant) -> bool {
        let Going { snapshot, who, .. } = self.going;
        self.tried.targets |= bit(self.to.aim.at);
        let route = Arc::clone(&self.to.aim.route);
        for at in 0..route.targets.len() {
            if self.tried.targets & bit(at) != 0 || !route.targets[at].upstream.is_open_for(now) {
                continue;
            }
            self.tried.targets |= bit(at);
            let mut aim = self.to.aim.clone();
            aim.at = at;
            let key = keys::pick(&aim.upstream().keys, &[], now);
            if self.lease.move_to(snapshot, who, &aim, &self.call, key).is_ok() {
                self.settle_at(aim);
                return true;
            }
        }
        false
    }

    /// The call goes to this target from now on.
    fn settle_at(&mut self, aim: crate::route::Aim) {
        self.watch.moved(&aim);
        self.to.aim = aim;
        self.tried.addresses.clear();
        self.tried.keys.clear();
        self.body = None;
        if let Some(caller) = &self.caller {
            self.head.headers.clone_from(caller);
        }
        let upstream = self.to.aim.upstream();
        let timeouts = crate::pipeline::limits(self.going.snapshot, &upstream.config.timeouts);
        self.going.flight.set_limits(timeouts);
        let name = Arc::clone(&upstream.config.name);
        self.going.flight.describe(|about| about.upstream = Some(name));
        self.dress();
    }

    /// Nobody can take it now.
    async fn exhausted(&mut self, failed: &Failed, now: Instant) -> bool {
        let route = Arc::clone(&self.to.aim.route);
        match &route.on_exhausted {
            Exhausted::Refuse => false,
            Exhausted::Downgrade(_) if self.tried.downgraded => false,
            Exhausted::Downgrade(model) => {
                self.tried.downgraded = true;
                self.begin_again(Some(Arc::clone(model)), now)
            }
            Exhausted::Queue => {
                let since = *self.tried.waiting.get_or_insert(now);
                let longest = self.to.aim.upstream().config.timeouts.queue;
                let Some(left) = longest.checked_sub(since.elapsed()) else { return false };
                let pause = failed.hint.unwrap_or(PAUSE).max(PAUSE).min(left);
                // no place is held while nothing can be done with it
                self.lease.step_aside();
                self.pause(Some(pause), pause, pause).await;
                // what was set aside may be well again
                while !self.begin_again(None, Instant::now()) {
                    if since.elapsed() >= longest {
                        return false;
                    }
                    self.pause(Some(PAUSE), PAUSE, PAUSE).await;
                }
                true
            }
        }
    }

    fn begin_again(&mut self, instead: Option<Arc<str>>, now: Instant) -> bool {
        self.tried.targets = 0;
        self.tried.attempts = self.tried.attempts.min(1);
        if instead.is_some() {
            self.to.aim.instead = instead;
        }
        // the one it is at is no better or worse than the others now
        let at = self.to.aim.at;
        let found = self.next_target(now);
        if found {
            return true;
        }
        self.tried.targets = !bit(at);
        let mut aim = self.to.aim.clone();
        aim.at = at;
        let Going { snapshot, who, .. } = self.going;
        let key = keys::pick(&aim.upstream().keys, &[], now);
        let open = aim.upstream().is_open_for(now);
        if !open || self.lease.move_to(snapshot, who, &aim, &self.call, key).is_err() {
            return false;
        }
        self.settle_at(aim);
        true
    }

    /// Waits, with jitter, as long as the backend asks for or the policy says.
    async fn pause(&self, hint: Option<Duration>, backoff: Duration, longest: Duration) {
        let doubled =
            backoff.saturating_mul(1 << self.tried.attempts.clamp(1, 16).saturating_sub(1));
        let least = hint.unwrap_or_default();
        let jitter = doubled.min(longest).mul_f64(0.5 + (dice() % 1000) as f64 / 2000.0);
        let wait = if hint.is_some() { least } else { jitter };
        let Going { flight, worker, .. } = self.going;
        // the last attempt's deadline is none of the pause
        flight.enter(Stage::Connecting, worker.clock.now());
        // the call's own ends it; the next attempt says so
        let _ = flight.guard(tokio::time::sleep(wait)).await;
    }

    pub(super) fn waits_or_downgrades(&self) -> bool {
        self.to.aim.route.on_exhausted != Exhausted::Refuse
    }
}

fn bit(at: usize) -> u64 {
    1_u64.checked_shl(at as u32).unwrap_or(0)
}

/// About the key that was sent rather than about the backend.
fn about_key(why: Why) -> bool {
    let about =
        |verdict| matches!(verdict, Verdict::Limited | Verdict::KeyRefused | Verdict::KeySpent);
    matches!(why, Why::Said(verdict) | Why::InStream(verdict) if about(verdict))
}

/// A random number, good enough to spread calls with.
pub fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// By what a call is spread over addresses. Fixed keys: every sidecar spreads alike.
pub(super) fn spread(call: &Call, who: &Identity) -> Spread {
    let session = who.session.as_deref().unwrap_or(&who.agent);
    let mut hash = std::hash::DefaultHasher::new();
    session.hash(&mut hash);
    let view = call.whole().and_then(|body| wire::view(call.kind, body).ok());
    let prefix = view.and_then(|view| stub::prefix(call.kind, &view));
    Spread { prefix, session: Some(hash.finish()) }
}
