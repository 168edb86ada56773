//! How fast a backend lets us go, learned from what it says.
//!
//! One [`Pace`] stands for one credential and model of one backend. It asks for no more than the
//! backend has left: by its headers, which `window` mirrors; by its refusals alone where it sends
//! none (`width`); for a backend of our own also by its time to the first token (`gradient`). A
//! refusal stops everything for a while (`pause`). It holds no queue and no clock: who waits asks
//! again when told, or as soon as a call was heard or is over.
//!
//! Every call that is [`sent`](Pace::sent) is [`finished`](Pace::finished) once; its [`Sent`] is
//! what tells an answer to an older call from one to a younger, so answers may come in any order.
mod gradient;
mod pause;
#[cfg(test)]
mod tests;
mod width;
mod window;

use std::time::Duration;

use self::gradient::Gradient;
use self::pause::Pause;
use self::width::Width;
use self::window::{Answered, Asked, Told, Window};
use crate::wire::{Allowance, Quota};

const SECOND: u64 = 1_000_000_000;
/// A window that answers no longer speak of is forgotten.
const STALE: u64 = 300 * SECOND;
/// Ask again after so long if no call ends before.
const RECHECK: u64 = SECOND;
/// Counts above this are nonsense.
const MOST: u64 = 1 << 40;

/// Trust in the learned refill: what a refusal leaves of it, the least, and what a second gives
/// back.
const DISTRUST: f64 = 0.85;
const LEAST_TRUST: f64 = 0.3;
const TRUST_BACK: f64 = 0.01;
/// A silence gives back no more than so many seconds.
const LONGEST_BACK: f64 = 5.0;

/// What a call will use up, as the backend counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    pub input_tokens: u64,
    /// Asked for, or expected.
    pub output_tokens: u64,
}

/// How a call is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By the backend's headers; by its 429s where it sends none.
    Auto,
    /// The same, and by its time to the first token: for backends of our own.
    Latency,
}

/// What the head of an answer told.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'h> {
    pub quota: &'h Quota,
    /// 429 or its like: the backend wants less.
    pub limited: bool,
    /// 503, 529: it is overloaded.
    pub overloaded: bool,
}

/// One credential and model of one backend. Times are nanoseconds of a clock that never goes back.
#[derive(Debug)]
pub struct Pace {
    windows: [Option<Window>; WINDOWS],
    pause: Pause,
    width: Width,
    gradient: Option<Gradient>,
    /// How much of a learned refill is counted on.
    trust: f64,
    trusted_at: u64,
    /// The next call's number.
    next: u64,
    /// All tokens ever debited.
    debited: Need,
    in_flight: u32,
    /// Of these, without a first token yet, and without a head yet.
    silent: u32,
    unheard: u32,
    throttled: u64,
}

/// A call on its way. Hand it back to [`Pace::finished`].
#[derive(Debug)]
#[must_use = "a call that is not finished stays in flight for ever"]
pub struct Sent {
    need: Need,
    order: u64,
    at: u64,
    /// All that was debited up to and with this call.
    debited: Need,
    heard: bool,
    speaks: bool,
}

/// What is known of a backend, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub requests: Option<WindowState>,
    pub tokens: Option<WindowState>,
    pub input_tokens: Option<WindowState>,
    pub output_tokens: Option<WindowState>,
    /// Nothing goes until then.
    pub paused_until: Option<u64>,
    /// One call is trying whether the pause was long enough.
    pub probing: bool,
    /// How much of the learned refill is counted on, 0.3 to 1.
    pub trust: f64,
    pub in_flight: u32,
    /// Calls at once at most, by refusals; by latency.
    pub width: Option<u32>,
    pub latency_limit: Option<u32>,
    /// Answers that wanted less, ever.
    pub throttled: u64,
}

/// One of the backend's limits, as it is believed to stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowState {
    pub limit: u64,
    pub remaining: u64,
    /// Learned, a second.
    pub refill: f64,
}

const WINDOWS: usize = 4;

impl Need {
    /// By window: requests, tokens, input tokens, output tokens.
    fn costs(self, calls: u64) -> [u64; WINDOWS] {
        [
            calls,
            self.input_tokens.saturating_add(self.output_tokens),
            self.input_tokens,
            self.output_tokens,
        ]
    }

    fn sane(self) -> Self {
        Self {
            input_tokens: self.input_tokens.min(MOST),
            output_tokens: self.output_tokens.min(MOST),
        }
    }

    fn add(&mut self, more: Self) {
        self.input_tokens = self.input_tokens.saturating_add(more.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(more.output_tokens);
    }

    fn beyond(self, expected: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_sub(expected.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(expected.output_tokens),
        }
    }
}

fn allowances(quota: &Quota) -> [Option<Allowance>; WINDOWS] {
    [quota.requests, quota.tokens, quota.input_tokens, quota.output_tokens]
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

impl Pace {
    /// The seed spreads the pauses of several of us.
    pub fn new(mode: Mode, seed: u64, now: u64) -> Self {
        Self {
            windows: [None, None, None, None],
            pause: Pause::new(seed),
            width: Width::default(),
            gradient: (mode == Mode::Latency).then(|| Gradient::new(now)),
            trust: 1.0,
            trusted_at: now,
            next: 0,
            debited: Need::default(),
            in_flight: 0,
            silent: 0,
            unheard: 0,
            throttled: 0,
        }
    }

    /// Whether a call may go now; else when to ask again, or as soon as a call is heard or over.
    pub fn ready(&self, need: Need, now: u64) -> Result<(), u64> {
        self.pause.over(now)?;
        let wide = self.width.at(now).is_none_or(|width| f64::from(self.in_flight) + 1.0 <= width);
        let served = self
            .gradient
            .as_ref()
            .is_none_or(|gradient| gradient.allows(self.in_flight, self.silent, now));
        if !(wide && served) {
            return Err(now.saturating_add(RECHECK));
        }
        let costs = need.sane().costs(1);
        let short = self.windows.iter().zip(costs).filter_map(|(window, cost)| {
            let window = window.as_ref().filter(|_| cost > 0)?;
            window.fits(self.asked(cost, now)).err()
        });
        short.max().map_or(Ok(()), Err)
    }

    /// A call goes, whether it was ready or not.
    pub fn sent(&mut self, need: Need, now: u64) -> Sent {
        let need = need.sane();
        let order = self.next;
        self.next += 1;
        self.debited.add(need);
        self.in_flight += 1;
        self.silent += 1;
        self.unheard += 1;
        self.pause.sent(order, now);
        self.debit(need, 1, now);
        Sent { need, order, at: now, debited: self.debited, heard: false, speaks: false }
    }

    /// The head of its answer has come.
    pub fn heard(&mut self, sent: &mut Sent, heard: &Heard<'_>, now: u64) {
        if !sent.heard {
            sent.heard = true;
            self.unheard = self.unheard.saturating_sub(1);
        }
        let told = self.observe(sent, heard, now);
        let retry_after = heard.quota.retry_after.map(nanos);
        if heard.limited {
            self.limited(sent, retry_after, told, now);
        } else if heard.overloaded {
            if let Some(length) = retry_after {
                self.pause.refused(sent.order, self.next, Some(length), now);
            } else {
                // it did not get through, so another must try; how often is the breaker's matter
                self.pause.lost(sent.order, now);
            }
        } else {
            self.pause.passed(sent.order);
            self.width.passed(now);
            self.trust_again(now);
        }
    }

    /// Its first token has come, after so long; the prompt had so many tokens.
    pub fn first_token(&mut self, sent: &mut Sent, after: Duration, input_tokens: u64, now: u64) {
        self.speaks(sent);
        if let Some(gradient) = &mut self.gradient {
            gradient.sample(after, input_tokens, self.in_flight, now);
        }
    }

    /// It is over, however it ended; with what it used, if that is known.
    pub fn finished(&mut self, mut sent: Sent, used: Option<Need>, now: u64) {
        self.speaks(&mut sent);
        self.in_flight = self.in_flight.saturating_sub(1);
        if !sent.heard {
            self.unheard = self.unheard.saturating_sub(1);
            self.pause.lost(sent.order, now);
        }
        // more than expected is debited; less comes back when the backend says so, as not all do
        if let Some(used) = used {
            let more = used.sane().beyond(sent.need);
            self.debited.add(more);
            self.debit(more, 0, now);
        }
    }

    /// For people and metrics.
    pub fn state(&self, now: u64) -> State {
        let state = |window: &Option<Window>| {
            window.as_ref().map(|window| WindowState {
                limit: window.limit(),
                remaining: window.level(self.trust, now).max(0.0) as u64,
                refill: window.refill(),
            })
        };
        let [requests, tokens, input_tokens, output_tokens] = &self.windows;
        let limit = self.gradient.as_ref().and_then(|gradient| gradient.limit(now));
        State {
            requests: state(requests),
            tokens: state(tokens),
            input_tokens: state(input_tokens),
            output_tokens: state(output_tokens),
            paused_until: self.pause.until(now),
            probing: self.pause.probing(),
            trust: self.trust,
            in_flight: self.in_flight,
            width: self.width.at(now).map(|width| width as u32),
            latency_limit: limit.map(|limit| limit as u32),
            throttled: self.throttled,
        }
    }

    fn asked(&self, cost: u64, now: u64) -> Asked {
        Asked { cost, idle: self.unheard == 0, trust: self.trust, now }
    }

    fn debit(&mut self, need: Need, calls: u64, now: u64) {
        for (window, cost) in self.windows.iter_mut().zip(need.costs(calls)) {
            if let Some(window) = window
                && cost > 0
            {
                window.debit(cost, self.trust, now);
            }
        }
    }

    fn speaks(&mut self, sent: &mut Sent) {
        if !sent.speaks {
            sent.speaks = true;
            self.silent = self.silent.saturating_sub(1);
        }
    }

    /// Takes over what the headers tell; whether they told anything.
    fn observe(&mut self, sent: &Sent, heard: &Heard<'_>, now: u64) -> bool {
        let costs = sent.need.costs(1);
        let then = sent.debited.costs(sent.order + 1);
        let by_now = self.debited.costs(self.next);
        let mut any = false;
        for (which, allowance) in allowances(heard.quota).into_iter().enumerate() {
            let slot = &mut self.windows[which];
            let told = allowance.and_then(|allowance| {
                let Allowance { limit, remaining, reset } = allowance;
                remaining.map(|remaining| Told { limit, remaining, reset })
            });
            let Some(told) = told else {
                slot.take_if(|window| now.saturating_sub(window.told_at()) > STALE);
                continue;
            };
            any = true;
            let call = Answered {
                order: sent.order,
                sent_at: sent.at,
                cost: costs[which],
                debited_then: then[which],
                debited_now: by_now[which],
                refused: heard.limited || heard.overloaded,
            };
            if slot.is_none() {
                *slot = Window::new(told, now);
            }
            if let Some(window) = slot {
                window.hear(told, &call, self.trust, now);
            }
        }
        any
    }

    fn limited(&mut self, sent: &Sent, retry_after: Option<u64>, told: bool, now: u64) {
        self.throttled += 1;
        if !told {
            self.windows.iter_mut().flatten().for_each(Window::unlearn_last);
        }
        let costs = sent.need.costs(1);
        let mut short = false;
        let mut reset = None;
        for (window, cost) in self.windows.iter().zip(costs) {
            let Some(window) = window else { continue };
            if window.is_short(self.asked(cost, now)) {
                short = true;
                reset = reset.max(Some(window.until_full(now)));
            }
        }
        // a refusal that no window explains has a cause that no header tells
        if !short {
            self.width.refused(self.in_flight, now);
        }
        let wait = retry_after.or(reset);
        if self.pause.refused(sent.order, self.next, wait, now) {
            self.trust = (self.trust * DISTRUST).max(LEAST_TRUST);
            self.trusted_at = now;
        }
    }

    fn trust_again(&mut self, now: u64) {
        let since = seconds(now.saturating_sub(self.trusted_at)).min(LONGEST_BACK);
        self.trust = (self.trust + TRUST_BACK * since).min(1.0);
        self.trusted_at = now;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
