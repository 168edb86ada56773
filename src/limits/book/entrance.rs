//! The entrances of an upstream: its own queue, and one of each lane that leads there.
//!
//! They take turns by virtual time (Demers, Keshav, Shenker, "Analysis and Simulation of a Fair
//! Queueing Algorithm", SIGCOMM 1989): each has a counter of what it has been served, and the lowest
//! goes first. A place counts when it is taken and tokens when they are known, so that no prediction
//! keeps a lane out. What one is ahead of another is bounded, and who cannot use a turn saves none
//! up: a lane that floods is never more than a few calls before one that does not. Inside, the queue
//! is fair to agents, and classes are strict; between entrances they are not.
use std::time::Duration;

use super::super::queue::{CallId, FairQueue, FlowId, service};
use super::lane::LaneId;
use super::plan::Plan;
use super::pool::PoolId;
use super::{Book, LONGEST_QUEUE};
use crate::identity::Class;

/// Index of an entrance; it stays for as long as the process lives.
pub type EntranceId = usize;

/// What taking a place counts, as tokens of input; calls that use no tokens take places too.
const PLACE: u64 = 1000;
/// How many places one may be ahead of another.
const LEAD: u64 = 8;

pub(super) struct Entrance {
    pub pool: PoolId,
    pub lane: Option<LaneId>,
    pub queue: FairQueue,
    /// What it has been served, in virtual tokens.
    served: u64,
    /// When it had its last turn, counted in turns of the book.
    turned: u64,
    /// The last round in which nobody here could go.
    pub passed: u64,
}

impl Entrance {
    pub fn new(pool: PoolId, lane: Option<LaneId>) -> Self {
        Self { pool, lane, queue: FairQueue::default(), served: 0, turned: 0, passed: 0 }
    }

    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Whose counter and last turn are lower is next.
    pub fn rank(&self) -> (u64, u64) {
        (self.served, self.turned)
    }

    /// A call of it takes a place.
    pub fn enter(&mut self, turn: u64) {
        self.served = self.served.saturating_add(service(PLACE, 0));
        self.turned = turn;
    }

    /// The call has used so much.
    pub fn leave(&mut self, service: u64) {
        self.served = self.served.saturating_add(service);
    }

    /// It is neither behind `from` nor far ahead of it.
    fn level(&mut self, from: u64) {
        let most = from.saturating_add(service(LEAD * PLACE, 0));
        self.served = self.served.clamp(from, most);
    }
}

impl Book {
    /// Most calls at once of one agent: half as much again as an equal share of the places.
    pub(super) fn share(&self, at: EntranceId) -> Option<u32> {
        let entrance = &self.entrances[at];
        let lane = entrance.lane.and_then(|lane| self.lanes[lane].rule.slots);
        let slots = self.pools[entrance.pool].rule.slots.into_iter().chain(lane).min()?;
        let active = u64::from(entrance.queue.active()).max(1);
        let slots = u64::try_from(slots).ok()?;
        u32::try_from((3 * slots).div_ceil(2 * active).max(1)).ok()
    }

    /// Nobody waits before the upstream whom such a call would overtake: whoever is held up by a lane
    /// of its own is let alone.
    pub(super) fn is_next(&self, plan: &Plan) -> bool {
        self.pools[plan.pool].entrances.iter().all(|at| {
            let other = &self.entrances[*at];
            let elsewhere = *at != plan.entrance;
            other.waiting() == 0 || (elsewhere && !self.lane_has_slot(other.lane))
        })
    }

    /// As many calls wait as may, in the lane or before the upstream itself.
    pub(super) fn is_full_of_waiting(&self, at: EntranceId) -> bool {
        let entrance = &self.entrances[at];
        match entrance.lane.map(|lane| &self.lanes[lane]) {
            Some(lane) => self.waiting_at(&lane.entrances) >= lane.rule.depth,
            None => entrance.waiting() >= LONGEST_QUEUE,
        }
    }

    /// How long a call waits for a place where no policy says.
    pub(super) fn usual_wait(&self, at: EntranceId) -> Duration {
        let entrance = &self.entrances[at];
        let lane = entrance.lane.map(|lane| self.lanes[lane].rule.wait);
        lane.unwrap_or_else(|| self.pools[entrance.pool].rule.wait)
    }

    /// Calls that wait at these entrances.
    pub(super) fn waiting_at(&self, entrances: &[EntranceId]) -> usize {
        entrances.iter().map(|at| self.entrances[*at].waiting()).sum()
    }

    /// A call joins the queue.
    pub(super) fn push(&mut self, at: EntranceId, flow: FlowId, class: Class, call: CallId) {
        let entrance = &mut self.entrances[at];
        if entrance.waiting() == 0 {
            entrance.level(self.pools[entrance.pool].served);
        }
        entrance.queue.push(flow, class, call);
    }

    /// The entrance of a pool whose turn it is, of those where somebody waits and nobody has been
    /// found unable to go in this round.
    pub(super) fn whose_turn(&self, pool: PoolId, round: u64) -> Option<EntranceId> {
        let may = |at: &EntranceId| {
            let entrance = &self.entrances[*at];
            let waits = entrance.waiting() > 0 && entrance.passed != round;
            waits && self.lane_has_slot(entrance.lane)
        };
        let all = self.pools[pool].entrances.iter().copied();
        all.filter(may).min_by_key(|at| self.entrances[*at].rank())
    }

    /// A place of the lane may be needed elsewhere, by who has been without a turn for longer.
    pub(super) fn gives_way(&self, at: EntranceId) -> bool {
        let entrance = &self.entrances[at];
        let Some(lane) = entrance.lane.map(|lane| &self.lanes[lane]) else { return false };
        let is_before = |at: &EntranceId| {
            let other = &self.entrances[*at];
            other.turned < entrance.turned
                && other.waiting() > 0
                && self.pools[other.pool].has_slot()
        };
        lane.rule.slots.is_some() && lane.entrances.iter().any(is_before)
    }

    /// A waiting call of this entrance has been let go: the others of the upstream stay near it.
    pub(super) fn had_turn(&mut self, at: EntranceId) {
        let Entrance { pool, served, .. } = self.entrances[at];
        let pool = &mut self.pools[pool];
        pool.served = pool.served.max(served);
        for other in &pool.entrances {
            if *other != at && self.entrances[*other].waiting() > 0 {
                self.entrances[*other].level(served);
            }
        }
    }
}
