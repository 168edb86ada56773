//! The addresses of an upstream, as the choice between them sees them.
//!
//! An address that is out gets no calls while another is left. When its time is over, one call is
//! sent to it, and everybody else waits for how that goes. When the last one goes out, the upstream's
//! own breaker opens as well: a backend is in trouble when all of it is. Should all be out all the same
//! (by active checks, or for a probe), all are candidates: the last one is never taken away.
//!
//! Where there is one address alone, there is nothing to choose, and the upstream's breaker counts.
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::{Change, Pass, Status, Why};
use super::standing::Standing;
use super::visit::{Closed, Spread, Visit};
use super::{PoolKey, Shared, balance};
use crate::config::{self, Balance, HealthCheck};
use crate::sync::Ordering::Relaxed;

/// Of one snapshot; what it points to outlives that.
pub struct Roster {
    name: Arc<str>,
    pub(super) rule: Option<config::Breaker>,
    balance: Balance,
    /// Without active checks, what they once said is of no meaning.
    checked: bool,
    pub(super) shared: Arc<Shared>,
    pub(super) members: Box<[Arc<Standing>]>,
}

/// How an address stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'r> {
    pub address: &'r str,
    pub state: &'static str,
    /// How long it stays out, where that is known.
    pub left: Option<Duration>,
    pub busy: usize,
    /// Until its answers begin, of late.
    pub latency: Option<Duration>,
}

impl Roster {
    pub(super) fn new(
        config: &config::Upstream,
        shared: &Arc<Shared>,
        members: impl Iterator<Item = Arc<Standing>>,
    ) -> Self {
        Self {
            name: Arc::clone(&config.name),
            rule: config.breaker,
            balance: config.balance,
            checked: config.health.is_some(),
            shared: Arc::clone(shared),
            members: members.collect(),
        }
    }

    pub(super) fn choose(
        self: &Arc<Self>,
        by: Spread,
        tried: &[PoolKey],
        now: Instant,
    ) -> Result<Visit, Closed> {
        let untried = |at: &usize| !tried.contains(&self.members[*at].key);
        if !(0..self.members.len()).any(|at| untried(&at)) {
            return Err(Closed::Tried);
        }
        let over = match &self.rule {
            Some(rule) => self.shared.breaker.ask(rule, now).map_err(Closed::Breaker)?,
            None => Pass::default(),
        };
        if over.probe {
            self.show_breaker(Status::HalfOpen);
        }
        let (at, own) = self.pick(by, untried, now);
        self.members[at].busy.fetch_add(1, Relaxed);
        Ok(Visit::new(Arc::clone(self), at, over, own, now))
    }

    /// That one and no other: what is asked for is known there alone.
    pub(super) fn visit(self: &Arc<Self>, at: usize, now: Instant) -> Result<Visit, Closed> {
        let Some(standing) = self.members.get(at) else { return Err(Closed::Tried) };
        let (mut over, mut own) = (Pass::default(), Pass::default());
        if let Some(rule) = &self.rule {
            over = self.shared.breaker.ask(rule, now).map_err(Closed::Breaker)?;
            if self.members.len() > 1 {
                own = standing.breaker.ask(rule, now).map_err(|left| {
                    self.shared.breaker.neutral(over);
                    Closed::Breaker(left)
                })?;
            }
        }
        standing.busy.fetch_add(1, Relaxed);
        Ok(Visit::new(Arc::clone(self), at, over, own, now))
    }

    pub(super) fn is_open_for(&self, now: Instant) -> bool {
        let open = |rule| self.shared.breaker.look(rule, now).is_ok();
        !self.members.is_empty() && self.rule.as_ref().is_none_or(open)
    }

    fn pick(
        &self,
        by: Spread,
        untried: impl Fn(&usize) -> bool + Copy,
        now: Instant,
    ) -> (usize, Pass) {
        if self.members.len() == 1 {
            return (0, Pass::default());
        }
        if let Some(due) = self.due(untried, now) {
            return due;
        }
        let all = 0..self.members.len();
        let standing = all.clone().filter(|at| self.stands(*at));
        let well = all.clone().filter(|at| self.is_well(*at));
        let at = self
            .balanced(by, &standing.clone().filter(untried), now)
            .or_else(|| self.balanced(by, &standing, now))
            // all are out
            .or_else(|| self.balanced(by, &well.filter(untried), now))
            .or_else(|| self.balanced(by, &all.filter(untried), now))
            .unwrap_or(0);
        (at, self.members[at].breaker.pass())
    }

    /// One whose time is over, and whom nobody else probes.
    fn due(&self, untried: impl Fn(&usize) -> bool, now: Instant) -> Option<(usize, Pass)> {
        let rule = self.rule.as_ref()?;
        let out = |at: &usize| !self.members[*at].breaker.is_closed() && self.is_well(*at);
        let mut out = (0..self.members.len()).filter(out).filter(untried);
        out.find_map(|at| self.members[at].breaker.ask(rule, now).ok().map(|pass| (at, pass)))
    }

    fn balanced(
        &self,
        by: Spread,
        candidates: &(impl Iterator<Item = usize> + Clone),
        now: Instant,
    ) -> Option<usize> {
        let key = match self.balance {
            Balance::RoundRobin => {
                let turn = self.shared.turn.fetch_add(1, Relaxed);
                return balance::round_robin(candidates, turn);
            }
            Balance::LeastBusy => None,
            Balance::Prefix => by.prefix,
            Balance::Session => by.session,
        };
        let busy = |at: usize| self.members[at].busy.load(Relaxed);
        if let Some(key) = key {
            let identity = |at: usize| self.members[at].identity;
            return balance::rendezvous(candidates, identity, busy, key);
        }
        let load = |at: usize| (busy(at) + 1) as f64 * self.latency(at, now);
        balance::least_busy(candidates, load, balance::draw())
    }

    /// In seconds; of one that is not known yet, what the others take on average.
    fn latency(&self, at: usize, now: Instant) -> f64 {
        let known = |standing: &Arc<Standing>| standing.latency.seconds(now);
        let least = |seconds: f64| seconds.max(LEAST);
        known(&self.members[at]).map_or_else(
            || {
                let all = self.members.iter().filter_map(known);
                let (sum, count) = all.fold((0.0, 0), |(sum, n), one| (sum + one, n + 1));
                least(sum / f64::from(count.max(1)))
            },
            least,
        )
    }

    fn is_well(&self, at: usize) -> bool {
        !self.checked || self.members[at].is_well()
    }

    fn stands(&self, at: usize) -> bool {
        self.is_well(at) && (self.rule.is_none() || self.members[at].breaker.is_closed())
    }

    /// An answer has begun well.
    pub(super) fn began(&self, at: usize, over: &mut Pass, own: &mut Pass, now: Instant) {
        let Some(rule) = &self.rule else { return };
        if self.members.len() == 1 {
            self.said(self.shared.breaker.began(rule, over, now));
            return;
        }
        if over.probe {
            self.said(self.shared.breaker.began(rule, over, now));
        }
        if self.members[at].breaker.began(rule, own, now) == Some(Change::Closed) {
            self.back(at);
        }
    }

    pub(super) fn failed(&self, at: usize, over: Pass, own: Pass, now: Instant) {
        let Some(rule) = &self.rule else { return };
        let draw = balance::draw();
        if self.members.len() == 1 {
            self.said(self.shared.breaker.failed(rule, over, now, draw));
            return;
        }
        if over.probe {
            self.said(self.shared.breaker.failed(rule, over, now, draw));
        }
        let change = self.members[at].breaker.failed(rule, own, now, draw);
        let Some(Change::Opened { why, pause }) = change else { return };
        self.out(at, why, Some(pause));
        let left = |at| self.is_well(at) && self.members[at].breaker.look(rule, now).is_ok();
        if !(0..self.members.len()).any(left) {
            self.said(self.shared.breaker.trip(rule, Why::Last, now, draw));
        }
    }

    /// Nothing is known of how it went.
    pub(super) fn neutral(&self, at: usize, over: Pass, own: Pass) {
        self.shared.breaker.neutral(over);
        self.members[at].breaker.neutral(own);
    }

    /// An active check of an address has ended.
    pub(super) fn checked(&self, at: usize, well: bool, rule: &HealthCheck) {
        if !well {
            self.shared.gauges.check_failed.fetch_add(1, Relaxed);
        }
        if !self.members[at].checked(well, rule) {
            return;
        }
        if !well {
            self.out(at, Why::Check, None);
        } else if self.stands(at) {
            self.back(at);
        }
    }

    fn out(&self, at: usize, why: Why, pause: Option<Duration>) {
        let gauges = &self.shared.gauges;
        gauges.ejections.add([why.as_str()]);
        self.show_addresses();
        let (upstream, address) = (&*self.name, &*self.members[at].shown);
        let (why, pause_ms) = (why.as_str(), pause.map(|pause| pause.as_millis() as u64));
        tracing::warn!(upstream, address, why, pause_ms, "an address gets no calls for a while");
    }

    /// An address stands again, and so does the upstream.
    fn back(&self, at: usize) {
        self.said(self.shared.breaker.close());
        self.show_addresses();
        let (upstream, address) = (&*self.name, &*self.members[at].shown);
        tracing::info!(upstream, address, "an address gets calls again");
    }

    /// Tells of a change of the upstream's breaker.
    fn said(&self, change: Option<Change>) {
        let upstream = &*self.name;
        match change {
            None => {}
            Some(Change::Closed) => {
                self.show_breaker(Status::Closed);
                tracing::info!(upstream, "the breaker has closed");
            }
            Some(Change::Opened { why, pause }) => {
                self.shared.gauges.opened.add([why.as_str()]);
                self.show_breaker(Status::Open(pause));
                let (why, pause_ms) = (why.as_str(), pause.as_millis() as u64);
                tracing::warn!(upstream, why, pause_ms, "the breaker has opened");
            }
        }
    }

    /// Sets the gauges to what is so. Changes do it as well; this is for what time and reloads do.
    pub fn show(&self, now: Instant) {
        self.show_breaker(self.breaker(now));
        self.show_addresses();
    }

    fn show_breaker(&self, status: Status) {
        let level = match status {
            Status::Closed => 0,
            Status::HalfOpen => 1,
            Status::Open(_) => 2,
        };
        self.shared.gauges.breaker.store(level, Relaxed);
    }

    fn show_addresses(&self) {
        let several = self.members.len() > 1;
        let out = (0..self.members.len()).filter(|at| several && !self.stands(*at)).count();
        self.shared.gauges.ejected.store(i64::try_from(out).unwrap_or(i64::MAX), Relaxed);
    }

    /// The upstream's own.
    pub fn breaker(&self, now: Instant) -> Status {
        self.rule.map_or(Status::Closed, |_| self.shared.breaker.status(now))
    }

    /// The addresses in the policy's order.
    pub fn seen(&self, now: Instant) -> impl Iterator<Item = Seen<'_>> {
        self.members.iter().enumerate().map(move |(at, standing)| {
            let counts = self.rule.is_some() && self.members.len() > 1;
            let status = if counts { standing.breaker.status(now) } else { Status::Closed };
            let (state, left) = match status {
                _ if !self.is_well(at) => ("unwell", None),
                Status::Closed => ("well", None),
                Status::HalfOpen => ("probing", None),
                Status::Open(left) => ("ejected", Some(left)),
            };
            let latency = standing.latency.seconds(now);
            let latency = latency.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let busy = standing.busy.load(Relaxed);
            Seen { address: &standing.shown, state, left, busy, latency }
        })
    }
}

/// Below that, in seconds, latencies differ by chance, and calls in flight alone tell addresses apart.
const LEAST: f64 = 0.05;

#[cfg(test)]
mod tests;
