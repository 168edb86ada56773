//! The guard against runaway agents: one that goes round in circles, and one that burns far more than
//! it used to.
//!
//! *Circles.* Of each conversation the last three tool calls are kept, as hashes. A call that equals
//! the one 1, 2 or 3 before it goes on with a cycle of so many calls (A-A, A-B-A-B, A-B-C-A-B-C), any
//! other breaks it; whole rounds are counted. A request that comes again, at the same turn, counts
//! nothing; a turn without a tool call starts anew.
//!
//! *Burn.* Of each session's money (tokens, where not all of it has a price) one sum fades within a
//! minute and one within an hour of activity. The first is the burn of now; their difference is the
//! history, in which now has no part. Idle time is no history: who comes back has not sped up.
//!
//! Pure; time is an argument. Memory is bounded (`super::recent`): whoever called longest ago goes.
//! Not seen: conversations whose beginning the client drops, and those that the backend keeps.
use std::time::Duration;

use super::recent::Recent;
use crate::config::{Runaway, RunawayAction};
use crate::wire::{Conversation, ToolCall};

/// Most conversations and sessions that are kept.
const MOST_TALKS: usize = 16_384;
const MOST_BURNS: usize = 8_192;
/// The longest cycle.
const LONGEST: usize = 3;
/// After so long without a call, in nanoseconds, nobody is stopped any more.
const QUIET: u64 = 10 * 60 * 1_000_000_000;
/// What a call of a flagged session waits; each waits twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The two memories of burn, in seconds.
const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
/// Less is no history, in calls and in seconds of activity.
const LEAST_CALLS: u32 = 20;
const LEAST_TIME: f64 = 600.0;
/// One long prompt is no runaway: so many calls must have made the burn of now, as they fade.
const CALLS_NOW: f64 = 4.0;
/// What is flagged for its burn stays so until it is below this part of the factor.
const COOLED: f64 = 0.5;

/// Whose call it is: hashes.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub agent: u64,
    /// Of one agent; its own name where it tells none.
    pub session: u64,
}

/// Why a call is flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    Loop,
    Burn,
}

impl Pattern {
    /// As the log calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Burn => "burn",
        }
    }
}

/// The mark on a call whose session runs away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    pub action: RunawayAction,
    pub pattern: Pattern,
    /// It was not flagged before, or for a gentler action.
    pub fresh: bool,
    /// How long the call has to wait; zero unless it is to be slowed.
    pub wait: Duration,
}

impl Flag {
    /// Of a call that has been told of it, and has waited for it.
    #[must_use]
    pub fn known(self) -> Self {
        Self { fresh: false, wait: Duration::ZERO, ..self }
    }
}

/// One call as the guard sees it, to be judged by each policy that matches.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    caller: Caller,
    talk: Option<u64>,
    grown: bool,
    /// Times that the cycle was gone round.
    rounds: u32,
    /// The burn of now, in times of the history; 0 where there is none.
    burn: f64,
    burning: Option<RunawayAction>,
    quiet: bool,
    looping: Option<RunawayAction>,
    hot: Option<RunawayAction>,
}

#[derive(Debug)]
pub struct Guard {
    talks: Recent<(u64, u64), Talk>,
    burns: Recent<u64, Burn>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { talks: Recent::new(MOST_TALKS), burns: Recent::new(MOST_BURNS) }
    }
}

/// What is known of one conversation.
#[derive(Debug, Default)]
struct Talk {
    agent: u64,
    /// The latest first.
    last: [u64; LONGEST],
    /// How many calls in a row were equal to the one 1, 2 and 3 before them.
    equal: [u32; LONGEST],
    turn: u64,
    at: u64,
    mark: Mark,
}

/// What is known of the burn of a session.
#[derive(Debug, Clone, Copy, Default)]
struct Burn {
    agent: u64,
    tokens: Faded,
    /// In billionths of a dollar; a speed, and no account.
    spend: Faded,
    /// Seconds of activity.
    time: Faded,
    calls: Faded,
    /// Those that ever were.
    all_calls: u32,
    active: f64,
    unpriced: bool,
    /// When a call of it ended last.
    settled: u64,
    /// When it asked last.
    asked: u64,
    mark: Mark,
}

/// A sum that fades fast, and one that fades slowly.
#[derive(Debug, Clone, Copy, Default)]
struct Faded {
    now: f64,
    long: f64,
}

/// What is being done about it.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    action: Option<RunawayAction>,
    /// Calls that were slowed.
    slowed: u32,
}

impl Guard {
    /// A call asks to go.
    pub fn see(&mut self, caller: Caller, talk: Option<Conversation>, now: u64) -> Seen {
        let (mut grown, mut rounds) = (false, 0);
        if let Some(Conversation { id, tool }) = talk {
            let talk = self.talks.touch((caller.session, id));
            talk.agent = caller.agent;
            grown = talk.take(tool, now);
            rounds = talk.rounds();
        }
        let burn = self.burns.get_mut(&caller.session).map(|burn| {
            burn.asked = now;
            *burn
        });
        let settled = burn.map_or(0, |burn| burn.settled);
        Seen {
            caller,
            talk: talk.map(|talk| talk.id),
            grown,
            rounds,
            burn: burn.map_or(0.0, |burn| burn.ratio(now)),
            burning: burn.and_then(|burn| burn.mark.action),
            quiet: now.saturating_sub(settled) >= QUIET,
            looping: None,
            hot: None,
        }
    }

    /// All policies have judged: what is to be done about it.
    pub fn decide(&mut self, seen: &Seen) -> Option<Flag> {
        let Seen { caller, looping, hot, .. } = *seen;
        let mut flag = None;
        if let Some(talk) = seen.talk.and_then(|id| self.talks.get_mut(&(caller.session, id))) {
            flag = talk.mark.set(looping, Pattern::Loop, seen.grown);
        }
        if let Some(burn) = self.burns.get_mut(&caller.session) {
            let other = burn.mark.set(hot, Pattern::Burn, true);
            flag = stricter(flag, other);
        }
        flag
    }

    /// A call has ended, and has used so much. `spend` is in billionths of a dollar; `None`: nobody
    /// knows its price.
    pub fn settled(&mut self, caller: Caller, tokens: u64, spend: Option<i64>, now: u64) {
        let burn = self.burns.touch(caller.session);
        burn.agent = caller.agent;
        burn.add(tokens as f64, spend.map(|spend| spend as f64), now);
    }

    /// The agents that are flagged now; one may come more than once.
    pub fn flagged(&self, now: u64) -> impl Iterator<Item = u64> {
        let is =
            move |mark: &Mark, at: u64| mark.action.is_some() && now.saturating_sub(at) < QUIET;
        let talks = self.talks.iter().map(|(_, talk)| talk);
        let talks = talks.filter(move |talk| is(&talk.mark, talk.at)).map(|talk| talk.agent);
        let burns = self.burns.iter().map(|(_, burn)| burn);
        talks.chain(burns.filter(move |burn| is(&burn.mark, burn.asked)).map(|burn| burn.agent))
    }
}

impl Seen {
    /// By one policy; the strictest action of all stands.
    pub fn judge(&mut self, rule: &Runaway) {
        let action = Some(rule.action);
        if self.rounds >= rule.repeats {
            self.looping = self.looping.max(action);
        }
        let part = if self.burning.is_some() { COOLED } else { 1.0 };
        // what is stopped cools at once, and must not go on just for that
        let stopped = self.burning == Some(RunawayAction::Stop) && !self.quiet;
        if self.burn > rule.factor * part || (stopped && rule.action == RunawayAction::Stop) {
            self.hot = self.hot.max(action);
        }
    }
}

impl Talk {
    /// A request with this tool call at its end. `true`: the conversation has gone on.
    fn take(&mut self, tool: Option<ToolCall>, now: u64) -> bool {
        let quiet = now.saturating_sub(self.at) >= QUIET;
        self.at = now;
        let Some(ToolCall { hash, turn }) = tool else {
            self.restart(None);
            return true;
        };
        // shorter than it was: compacted, or another one that begins the same
        if quiet || turn < self.turn {
            self.restart(Some(ToolCall { hash, turn }));
            return true;
        }
        if turn == self.turn {
            return false;
        }
        self.turn = turn;
        for (equal, last) in self.equal.iter_mut().zip(self.last) {
            *equal = if last == hash { equal.saturating_add(1) } else { 0 };
        }
        self.last = [hash, self.last[0], self.last[1]];
        true
    }

    fn restart(&mut self, from: Option<ToolCall>) {
        self.equal = [0; LONGEST];
        self.last = [from.map_or(0, |call| call.hash), 0, 0];
        self.turn = from.map_or(0, |call| call.turn);
    }

    /// How often the cycle was gone round that it is in.
    fn rounds(&self) -> u32 {
        let cycles = self.equal.iter().zip(1..);
        cycles.map(|(equal, calls)| equal / calls + u32::from(*equal > 0)).max().unwrap_or(0)
    }
}

impl Burn {
    fn add(&mut self, tokens: f64, spend: Option<f64>, now: u64) {
        let passed = self.fade(now);
        if self.all_calls > 0 {
            self.time.add(passed);
            self.active += passed;
        }
        self.all_calls = self.all_calls.saturating_add(1);
        self.tokens.add(tokens);
        self.spend.add(spend.unwrap_or(0.0));
        self.calls.add(1.0);
        self.unpriced |= spend.is_none();
        self.asked = self.asked.max(now);
    }

    /// Until now. Returns the seconds of activity since then: a minute at most.
    fn fade(&mut self, now: u64) -> f64 {
        let passed = Duration::from_nanos(now.saturating_sub(self.settled)).as_secs_f64();
        let active = passed.min(MINUTE);
        let (fast, slow) = ((-passed / MINUTE).exp(), (-active / HOUR).exp());
        for sum in [&mut self.tokens, &mut self.spend, &mut self.time, &mut self.calls] {
            sum.now *= fast;
            sum.long *= slow;
        }
        self.settled = self.settled.max(now);
        active
    }

    /// The burn of now, in times of the history.
    fn ratio(mut self, now: u64) -> f64 {
        if self.all_calls < LEAST_CALLS || self.active < LEAST_TIME {
            return 0.0;
        }
        self.fade(now);
        // a model of one's own may cost nothing
        let priced = !self.unpriced && self.spend.history() > 0.0;
        let of = if priced { self.spend } else { self.tokens };
        let history = of.history() / self.time.history();
        let ratio = of.now / MINUTE / history;
        if self.calls.now >= CALLS_NOW && ratio.is_finite() { ratio } else { 0.0 }
    }
}

impl Faded {
    fn add(&mut self, amount: f64) {
        self.now += amount;
        self.long += amount;
    }

    fn history(self) -> f64 {
        self.long - self.now
    }
}

impl Mark {
    /// `grown`: it is a further call, and waits longer than the one before.
    fn set(
        &mut self,
        action: Option<RunawayAction>,
        pattern: Pattern,
        grown: bool,
    ) -> Option<Flag> {
        let fresh = action > self.action;
        self.action = action;
        if action != Some(RunawayAction::Slow) {
            self.slowed = 0;
        }
        let action = action?;
        let mut wait = Duration::ZERO;
        if action == RunawayAction::Slow {
            if grown || self.slowed == 0 {
                self.slowed = self.slowed.saturating_add(1);
            }
            let doubled = FIRST_WAIT.saturating_mul(1 << (self.slowed - 1).min(5));
            wait = doubled.min(LONGEST_WAIT);
        }
        Some(Flag { action, pattern, fresh, wait })
    }
}

/// Of two flags of one call.
fn stricter(one: Option<Flag>, other: Option<Flag>) -> Option<Flag> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let mut flag = if other.action > one.action { other } else { one };
    flag.fresh |= other.fresh || one.fresh;
    flag.wait = one.wait.max(other.wait);
    Some(flag)
}

#[cfg(test)]
mod tests;
