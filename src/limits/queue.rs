//! The fair queue: whose waiting call goes next.
//!
//! Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): each
//! agent has a counter of the service it got, divided by its weight, and the lowest goes first. What
//! a call will produce is predicted when it starts and set right when it ends. An agent that comes
//! back is lifted to the lowest of those that wait: idling saves nothing up. Calls of one agent go in
//! order of arrival. Classes are strict, but for one turn in [`TURNS`] that goes to the last one.
//!
//! An agent whose calls are held up by a limit of its own is parked: it keeps its place, costs no
//! further look, and holds up nobody.
use std::collections::{BTreeSet, VecDeque};

use slab::Slab;

use super::prehashed::Prehashed;
use crate::identity::Class;

/// One grant in so many goes to the last class that waits: no class starves.
const TURNS: u32 = 20;
/// Of one agent's waiting calls, how many are looked at: the first may be held up by a limit that
/// the next is not under.
const LOOKS: usize = 4;
/// What a token of output counts, where one of input counts 1.
const OUTPUT_WEIGHT: u64 = 4;
/// Counters are in thousandths.
const FINE: u64 = 1000;
/// An agent that neither waits nor runs is forgotten after this, in nanoseconds.
const FORGET: u64 = 60 * 1_000_000_000;
/// A parked agent is looked at again at least this often.
const LOOK_AGAIN: u64 = 1_000_000_000;

/// A waiting call, as its owner names it.
pub type CallId = usize;
pub type FlowId = usize;

/// The service a call is worth, in virtual tokens.
pub fn service(input: u64, output: u64) -> u64 {
    input.saturating_add(output.saturating_mul(OUTPUT_WEIGHT)).saturating_mul(FINE)
}

/// What a look at a waiting call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Go,
    /// A limit that only its own agent fills; when it may have refilled.
    HeldByOwn(u64),
    /// Something that others use as well.
    HeldByShared,
}

/// Calls of one agent.
#[derive(Debug)]
struct Flow {
    agent: u64,
    weight: u32,
    counter: u64,
    running: u32,
    lines: [VecDeque<CallId>; 3],
    parked: Option<u64>,
    /// It waits or runs.
    active: bool,
    used: u64,
}

impl Flow {
    fn waits(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }
}

#[derive(Debug, Default)]
pub struct FairQueue {
    flows: Slab<Flow>,
    by_agent: Prehashed<u64, FlowId>,
    /// Agents with waiting calls of a class, by counter; the parked ones are not there.
    ready: [BTreeSet<(u64, FlowId)>; 3],
    parked: BTreeSet<(u64, FlowId)>,
    /// The counter of whoever was served last.
    served: u64,
    waiting: [usize; 3],
    active: u32,
    turns: u32,
}

impl FairQueue {
    /// The flow of an agent.
    pub fn flow(&mut self, agent: u64, weight: u32, now: u64) -> FlowId {
        if let Some(flow) = self.by_agent.get(&agent) {
            let of = &mut self.flows[*flow];
            (of.weight, of.used) = (weight.max(1), now);
            return *flow;
        }
        let flow = self.flows.insert(Flow {
            agent,
            weight: weight.max(1),
            counter: 0,
            running: 0,
            lines: Default::default(),
            parked: None,
            active: false,
            used: now,
        });
        self.by_agent.insert(agent, flow);
        flow
    }

    pub fn waiting(&self) -> usize {
        self.waiting.iter().sum()
    }

    pub fn waiting_of(&self, class: Class) -> usize {
        self.waiting[class as usize]
    }

    /// Calls of one agent that wait.
    pub fn waiting_in(&self, flow: FlowId) -> usize {
        self.flows[flow].lines.iter().map(VecDeque::len).sum()
    }

    /// Agents that wait or run.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// A call joins its agent's line.
    pub fn push(&mut self, flow: FlowId, class: Class, call: CallId) {
        self.lift(flow);
        let of = &mut self.flows[flow];
        of.lines[class as usize].push_back(call);
        self.waiting[class as usize] += 1;
        // it may not be under the limit that the others wait for
        self.unpark(flow);
    }

    /// An agent that becomes active starts where the others are.
    fn lift(&mut self, flow: FlowId) {
        if self.flows[flow].active {
            return;
        }
        self.active += 1;
        let lowest = self.ready.iter().filter_map(|ready| ready.first()).map(|(at, _)| *at).min();
        let floor = lowest.unwrap_or(self.served);
        let of = &mut self.flows[flow];
        of.active = true;
        of.counter = of.counter.max(floor);
    }

    /// A call leaves the line without having gone. `false`: it was not there.
    pub fn remove(&mut self, flow: FlowId, class: Class, call: CallId) -> bool {
        let line = &mut self.flows[flow].lines[class as usize];
        let Some(at) = line.iter().position(|waiting| *waiting == call) else { return false };
        line.remove(at);
        self.left(flow, class);
        self.rest(flow);
        true
    }

    /// An agent that neither waits nor runs is active no more.
    fn rest(&mut self, flow: FlowId) {
        let of = &mut self.flows[flow];
        if of.active && of.running == 0 && !of.waits() {
            of.active = false;
            self.active -= 1;
        }
    }

    fn left(&mut self, flow: FlowId, class: Class) {
        self.waiting[class as usize] -= 1;
        let of = &self.flows[flow];
        if of.lines[class as usize].is_empty() {
            self.ready[class as usize].remove(&(of.counter, flow));
        }
        if let Some(until) = of.parked.filter(|_| !of.waits()) {
            self.parked.remove(&(until, flow));
            self.flows[flow].parked = None;
        }
    }

    /// How many calls of its agent and class stand before it.
    pub fn position(&self, flow: FlowId, class: Class, call: CallId) -> Option<usize> {
        self.flows[flow].lines[class as usize].iter().position(|waiting| *waiting == call)
    }

    /// A call goes: its agent is charged.
    pub fn start(&mut self, flow: FlowId, service: u64) {
        self.lift(flow);
        self.served = self.flows[flow].counter;
        self.flows[flow].running += 1;
        self.charge(flow, |counter, weight| counter.saturating_add(service / weight));
    }

    /// It is over. `predicted` and `actual` are the services charged and gotten.
    pub fn end(&mut self, flow: FlowId, predicted: u64, actual: u64, now: u64) {
        self.charge(flow, |counter, weight| {
            (counter + actual / weight).saturating_sub(predicted / weight)
        });
        let of = &mut self.flows[flow];
        of.running = of.running.saturating_sub(1);
        of.used = now;
        self.rest(flow);
        self.unpark(flow);
    }

    fn charge(&mut self, flow: FlowId, change: impl FnOnce(u64, u64) -> u64) {
        let of = &mut self.flows[flow];
        let before = of.counter;
        of.counter = change(before, u64::from(of.weight));
        for (class, line) in of.lines.iter().enumerate() {
            if !line.is_empty() && self.ready[class].remove(&(before, flow)) {
                self.ready[class].insert((of.counter, flow));
            }
        }
    }

    /// Makes an agent's calls be looked at again.
    fn unpark(&mut self, flow: FlowId) {
        let of = &mut self.flows[flow];
        if let Some(until) = of.parked.take() {
            self.parked.remove(&(until, flow));
        }
        for (class, line) in of.lines.iter().enumerate() {
            if !line.is_empty() {
                self.ready[class].insert((of.counter, flow));
            }
        }
    }

    fn park(&mut self, flow: FlowId, until: u64) {
        let of = &mut self.flows[flow];
        for (class, ready) in self.ready.iter_mut().enumerate() {
            if !of.lines[class].is_empty() {
                ready.remove(&(of.counter, flow));
            }
        }
        of.parked = Some(until);
        self.parked.insert((until, flow));
    }

    /// Those whose time has come are looked at again.
    pub fn advance(&mut self, now: u64) {
        while let Some((until, flow)) = self.parked.first().copied()
            && until <= now
        {
            self.unpark(flow);
        }
    }

    /// When somebody parked is to be looked at again.
    pub fn wake_at(&self) -> Option<u64> {
        self.parked.first().map(|(until, _)| *until)
    }

    /// Takes the next call out of its line: the first, by class and counter, that `look` lets go.
    /// Agents with `share` calls running are passed over.
    pub fn take(
        &mut self,
        now: u64,
        share: Option<u32>,
        mut look: impl FnMut(CallId) -> Look,
    ) -> Option<(FlowId, CallId)> {
        let mut parking = Vec::new();
        let mut found = None;
        let order = self.order();
        'search: for class in order {
            for (_, flow) in &self.ready[class] {
                let of = &self.flows[*flow];
                if share.is_some_and(|share| of.running >= share) {
                    continue;
                }
                let mut until = Some(u64::MAX);
                for call in of.lines[class].iter().take(LOOKS) {
                    match look(*call) {
                        Look::Go => {
                            found = Some((*flow, class, *call));
                            break 'search;
                        }
                        Look::HeldByOwn(at) => until = until.map(|until| until.min(at)),
                        Look::HeldByShared => until = None,
                    }
                }
                let one_class = of.lines.iter().filter(|line| !line.is_empty()).count() == 1;
                if let Some(until) = until.filter(|_| one_class) {
                    parking.push((*flow, until.min(now + LOOK_AGAIN).max(now + 1)));
                }
            }
        }
        for (flow, until) in parking {
            self.park(flow, until);
        }
        let (flow, class, call) = found?;
        self.flows[flow].lines[class].retain(|waiting| *waiting != call);
        self.left(flow, CLASSES[class]);
        self.turns = self.turns.wrapping_add(1);
        Some((flow, call))
    }

    /// Classes in the order of this turn.
    fn order(&self) -> [usize; 3] {
        if self.turns % TURNS == TURNS - 1 { [2, 1, 0] } else { [0, 1, 2] }
    }

    /// Forgets agents that have long been gone.
    pub fn sweep(&mut self, now: u64) {
        let by_agent = &mut self.by_agent;
        self.flows.retain(|_, flow| {
            let stays = flow.active || now.saturating_sub(flow.used) < FORGET;
            if !stays {
                by_agent.remove(&flow.agent);
            }
            stays
        });
    }
}

const CLASSES: [Class; 3] = Class::ALL;

#[cfg(test)]
mod tests;
