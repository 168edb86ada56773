//! Lanes: a route's own bulkhead, with places and queues of its own. However many calls of one route
//! wait or hang, those of the others find their places, and their turns, as before.
//!
//! A call of a route with a lane needs a place in the lane and one at the upstream, both at once or
//! none. It waits in the lane's queue before that upstream (`entrance.rs`): so a lane whose one
//! upstream is full still lets calls to its others go.
use std::sync::Arc;
use std::time::Duration;

use super::entrance::{Entrance, EntranceId};
use super::pool::PoolId;
use super::{Book, LONGEST_QUEUE};

/// Index of a lane; a route keeps its own for as long as the process lives.
pub type LaneId = usize;

/// What the policy says of a route's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRule {
    /// The route's.
    pub name: Arc<str>,
    /// Most calls at once. `None`: no bound of its own, but queues of its own.
    pub slots: Option<usize>,
    /// Most calls that wait in it, for all its upstreams together.
    pub depth: usize,
    /// How long a call waits for a place where no policy says.
    pub wait: Duration,
}

pub(super) struct Lane {
    pub rule: LaneRule,
    pub running: usize,
    /// The policy in force has it.
    pub in_force: bool,
    /// Where it leads.
    pub entrances: Vec<EntranceId>,
}

impl LaneRule {
    /// Of a route that has none: its queues stay for those who stand there, and bound nothing.
    fn unbounded(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), slots: None, depth: LONGEST_QUEUE, wait: Duration::ZERO }
    }
}

impl Lane {
    pub fn has_slot(&self) -> bool {
        self.rule.slots.is_none_or(|slots| self.running < slots)
    }
}

impl Book {
    /// The lane of a route, made without bounds where there is none.
    pub fn lane_of(&mut self, name: &Arc<str>) -> LaneId {
        let known = self.lanes.iter().position(|lane| lane.rule.name == *name);
        known.unwrap_or_else(|| {
            let rule = LaneRule::unbounded(name);
            self.lanes.push(Lane { rule, running: 0, in_force: false, entrances: Vec::new() });
            self.lanes.len() - 1
        })
    }

    /// All lanes that there are from now on. What runs in a lane goes on running, also above a bound
    /// that has been lowered; who waits in one that is gone keeps the turn.
    pub(super) fn lanes_are(&mut self, rules: impl IntoIterator<Item = LaneRule>) {
        for lane in &mut self.lanes {
            lane.rule = LaneRule { wait: lane.rule.wait, ..LaneRule::unbounded(&lane.rule.name) };
            lane.in_force = false;
        }
        for rule in rules {
            let at = self.lane_of(&rule.name);
            let lane = &mut self.lanes[at];
            (lane.rule, lane.in_force) = (rule, true);
        }
    }

    /// Whether a call has a place as far as its lane is concerned.
    pub(super) fn lane_has_slot(&self, lane: Option<LaneId>) -> bool {
        lane.is_none_or(|lane| self.lanes[lane].has_slot())
    }

    /// Where the calls of a lane, or of none, enter an upstream.
    pub(super) fn entrance_to(&mut self, pool: PoolId, lane: Option<LaneId>) -> EntranceId {
        let known = &self.pools[pool].entrances;
        let found = known.iter().copied().find(|at| self.entrances[*at].lane == lane);
        found.unwrap_or_else(|| {
            let at = self.entrances.len();
            self.entrances.push(Entrance::new(pool, lane));
            self.pools[pool].entrances.push(at);
            if let Some(lane) = lane {
                self.lanes[lane].entrances.push(at);
            }
            at
        })
    }
}
