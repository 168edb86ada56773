//! How long agents work: a run is a session from its first call to its last.
//!
//! A session says no goodbye, so a run is over when nobody has called for ten minutes; then its time
//! counts, without the ten minutes. Only calls that name a session come here. Bounded: of the runs
//! that go on, those that were quiet for longest give way; agents beyond the first hundred share a
//! histogram, `other`.
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use super::histogram::{self, Histogram};
use super::tally::{OTHER, is_label};
use super::{Finished, MAX_DETAILED, MAX_NAME_BYTES, Outcome};
use crate::identity::Rung;

/// Of silence; then a run is over.
pub(super) const IDLE: Duration = Duration::from_mins(10);
/// Runs that go on, in each of the parts.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// Each with a lock of its own, so that sessions seldom wait for each other.
const PARTS: usize = 16;

#[derive(Debug)]
pub(super) struct Runs {
    hasher: RandomState,
    parts: [Mutex<LruCache<u64, Run>>; PARTS],
    ended: Mutex<BTreeMap<Whose, Histogram>>,
}

/// Agent and team.
pub(super) type Whose = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Run {
    agent: Box<str>,
    team: Box<str>,
    /// Somebody was answered, or proved who they are: the name may become a label.
    real: bool,
    from: Instant,
    to: Instant,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::new(LruCache::new(MOST))),
            ended: Mutex::default(),
        }
    }
}

impl Runs {
    /// A call has ended at `now`.
    pub(super) fn add(&self, call: &Finished<'_>, now: Instant) {
        let who = &call.who;
        if who.session.is_empty() || who.agent.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one((who.team, who.agent, who.session));
        let begun = now.checked_sub(call.duration).unwrap_or(now);
        let answered = call.status < 400 && call.outcome == Outcome::Complete;
        let real = answered || who.rung.is_some_and(Rung::authorizes);
        let mut part = self.parts[hash as usize % PARTS].lock();
        let before = match part.get_mut(&hash) {
            Some(run) if now.saturating_duration_since(run.to) < IDLE => {
                run.real |= real;
                run.from = run.from.min(begun);
                run.to = now;
                return;
            }
            _ => {
                let (agent, team) = (who.agent.into(), who.team.into());
                part.push(hash, Run { agent, team, real, from: begun, to: now })
            }
        };
        drop(part);
        if let Some((_, run)) = before {
            self.end(&run);
        }
    }

    /// Ends what has been quiet for long. How many runs go on, and how long those took that are over.
    pub(super) fn read(&self, now: Instant) -> (u64, Vec<(Whose, Histogram)>) {
        let mut on = 0;
        for part in &self.parts {
            loop {
                let mut part = part.lock();
                let is_over = |run: &Run| now.saturating_duration_since(run.to) >= IDLE;
                if !part.peek_lru().is_some_and(|(_, run)| is_over(run)) {
                    on += part.len() as u64;
                    break;
                }
                let over = part.pop_lru();
                drop(part);
                if let Some((_, run)) = over {
                    self.end(&run);
                }
            }
        }
        let ended = self.ended.lock();
        (on, ended.iter().map(|(whose, times)| (whose.clone(), times.clone())).collect())
    }

    fn end(&self, run: &Run) {
        let fits = |name: &str| name.len() <= MAX_NAME_BYTES && is_label(name);
        let is_named = run.real && fits(&run.agent) && (run.team.is_empty() || fits(&run.team));
        let mut ended = self.ended.lock();
        let mut whose: Whose = (run.agent.as_ref().into(), run.team.as_ref().into());
        if !is_named || ended.len() >= MAX_DETAILED && !ended.contains_key(&whose) {
            whose = (OTHER.into(), OTHER.into());
        }
        let times = ended.entry(whose).or_insert_with(|| Histogram::new(&histogram::RUN));
        times.observe_time(run.to.saturating_duration_since(run.from));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Held, Kept, Who};
    use super::*;

    fn call<'a>(agent: &'a str, session: &'a str, duration: Duration) -> Finished<'a> {
        Finished {
            status: 200,
            outcome: Outcome::Complete,
            model: "m",
            operation: "chat",
            inference: true,
            duration,
            first_byte: None,
            first_token: None,
            overhead: Duration::ZERO,
            queued: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
            usage: None,
            stream: false,
            content_events: 0,
            error: None,
            who: Who { agent, session, ..Who::default() },
            held: Held::default(),
            kept: Kept::default(),
            seen: None,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn sums(runs: &Runs, now: Instant) -> (u64, Vec<(String, u64, f64)>) {
        let (on, ended) = runs.read(now);
        let row = |((agent, _), times): &(Whose, Histogram)| {
            (agent.to_string(), times.count(), times.sum())
        };
        (on, ended.iter().map(row).collect())
    }

    #[test]
    fn a_run_is_from_the_begin_of_its_first_call_to_the_end_of_its_last() {
        let (runs, start) = (Runs::default(), Instant::now() + 100 * SECOND);
        runs.add(&call("a", "s", 2 * SECOND), start + 2 * SECOND);
        runs.add(&call("a", "s", SECOND), start + 30 * SECOND);
        assert_eq!(sums(&runs, start + 31 * SECOND), (1, vec![]), "it goes on");
        let over = start + 30 * SECOND + IDLE;
        assert_eq!(sums(&runs, over), (0, vec![("a".to_owned(), 1, 30.0)]));
    }

    #[test]
    fn a_session_that_comes_back_later_is_another_run() {
        let (runs, start) = (Runs::default(), Instant::now() + 100 * SECOND);
        runs.add(&call("a", "s", SECOND), start);
        runs.add(&call("a", "s", SECOND), start + IDLE);
        assert_eq!(sums(&runs, start + IDLE), (1, vec![("a".to_owned(), 1, 1.0)]));
    }

    #[test]
    fn sessions_of_two_agents_are_two_runs_and_none_is_none() {
        let (runs, now) = (Runs::default(), Instant::now() + 100 * SECOND);
        for (agent, session) in [("a", "s"), ("b", "s"), ("b", ""), ("", "s")] {
            runs.add(&call(agent, session, SECOND), now);
        }
        assert_eq!(sums(&runs, now).0, 2);
    }

    #[test]
    fn agents_without_end_and_names_that_are_no_labels_share_one_row() {
        let (runs, now) = (Runs::default(), Instant::now() + 100 * SECOND);
        for n in 0..MAX_DETAILED + 20 {
            runs.add(&call(&format!("agent-{n:03}"), "s", SECOND), now);
        }
        runs.add(&call("a\nb", "s", SECOND), now);
        let (on, rows) = sums(&runs, now + IDLE);
        // which of them come first is by chance
        assert!(on == 0 && rows.len() <= MAX_DETAILED + 1, "{on} {}", rows.len());
        assert!(rows.iter().any(|(agent, ..)| agent == OTHER));
        assert!(rows.iter().all(|(agent, ..)| !agent.contains('\n')));
        let counted: u64 = rows.iter().map(|(_, count, _)| count).sum();
        assert_eq!(counted, MAX_DETAILED as u64 + 21, "and none is lost");
    }

    #[test]
    fn names_that_nothing_answered_to_take_no_label() {
        let (runs, now) = (Runs::default(), Instant::now() + 100 * SECOND);
        for n in 0..MAX_DETAILED + 20 {
            let agent = format!("invented-{n:03}");
            let refused = Finished { status: 404, ..call(&agent, "s", SECOND) };
            runs.add(&Finished { outcome: Outcome::Refused, ..refused }, now);
        }
        assert_eq!(
            sums(&runs, now + IDLE).1,
            [(OTHER.to_owned(), MAX_DETAILED as u64 + 20, 120.0)]
        );
        runs.add(&call("real", "s", SECOND), now + IDLE);
        let (_, rows) = sums(&runs, now + IDLE + IDLE);
        assert!(rows.contains(&("real".to_owned(), 1, 1.0)), "{rows:?}");
    }

    #[test]
    fn sessions_without_end_hold_no_more_than_a_bounded_number() {
        let (runs, now) = (Runs::default(), Instant::now() + 100 * SECOND);
        let most = (PARTS * MOST.get()) as u64;
        for n in 0..most + 1000 {
            runs.add(&call("a", &n.to_string(), SECOND), now);
        }
        let (on, rows) = sums(&runs, now);
        assert!(on <= most, "{on}");
        assert_eq!(on + rows[0].1, most + 1000, "and none is lost");
    }
}
