//! What the workers know of each other: how many connections each has, whether it turns, and what
//! it holds most of while memory is short.
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Mailbox;
use super::descriptors::Descriptors;

/// A worker whose last sign of life is older stands still.
const ALIVE: Duration = Duration::from_secs(10);

/// All workers.
pub struct Crew {
    pub members: Vec<Member>,
    pub begun: Instant,
    pub descriptors: Descriptors,
    /// When it was said last that no more are accepted; milliseconds since the crew began.
    said_full: AtomicU64,
}

/// How often it is said that connections wait.
const SAY: Duration = Duration::from_secs(30);

pub struct Member {
    pub connections: AtomicUsize,
    /// Milliseconds since the crew began.
    pub last_beat: AtomicU64,
    /// What the call holds that holds most, while the budget of memory is overrun; in bytes.
    pub largest: AtomicU64,
    pub mailbox: Mutex<Option<Mailbox>>,
}

impl Crew {
    pub fn new(workers: usize, descriptors: Descriptors) -> Self {
        let member = |_| Member {
            connections: AtomicUsize::new(0),
            last_beat: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            mailbox: Mutex::new(None),
        };
        let members = (0..workers.max(1)).map(member).collect();
        Self { members, begun: Instant::now(), descriptors, said_full: AtomicU64::new(0) }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn connections(&self) -> usize {
        self.members.iter().map(|member| member.connections.load(Relaxed)).sum()
    }

    /// Whether every worker's loop has turned of late.
    pub fn alive(&self) -> bool {
        let now = self.begun.elapsed();
        self.members.iter().all(|member| {
            let beat = Duration::from_millis(member.last_beat.load(Relaxed));
            now.saturating_sub(beat) < ALIVE
        })
    }

    pub fn mailboxes(&self) -> Vec<Mailbox> {
        self.members.iter().filter_map(|member| member.mailbox.lock().clone()).collect()
    }

    /// Whether no more connections are to be accepted for now.
    pub fn is_full(&self, max_connections: usize) -> bool {
        let most = max_connections.min(self.descriptors.connections);
        let full = self.connections() >= most;
        if full {
            self.say_full(most);
        }
        full
    }

    fn say_full(&self, most: usize) {
        // never zero: that is "not yet"
        let now = (self.begun.elapsed().as_millis() as u64).max(1);
        let last = self.said_full.load(Relaxed);
        let due = last == 0 || now.saturating_sub(last) > SAY.as_millis() as u64;
        if due && self.said_full.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            tracing::warn!(most, "connections wait: as many are open as may be");
        }
    }

    /// Whether the call that holds most of all is one of `me`'s.
    pub fn holds_most(&self, me: usize) -> bool {
        let largest = |at: usize| self.members[at].largest.load(Relaxed);
        let most = (0..self.members.len()).rev().max_by_key(|at| largest(*at));
        most == Some(me) && largest(me) > 0
    }

    /// Who should take the next connection: `me`, unless somebody has fewer.
    pub fn least_loaded(&self, me: usize) -> usize {
        let load = |at: usize| self.members[at].connections.load(Relaxed);
        let least = (0..self.members.len()).min_by_key(|at| load(*at)).unwrap_or(me);
        if load(least) < load(me) { least } else { me }
    }
}
