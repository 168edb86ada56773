//! The fair queue: whose waiting call goes next.
//!
//! Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): each
//! agent has a counter of the service it got, divided by its weight, and the lowest goes first. What
//! a call will produce is predicted when it starts and set right when it ends. An agent that comes
//! back is lifted to the lowest of those that wait: idling saves nothing up. Calls of one agent and
//! class go in order of arrival. Classes are strict, but for one turn in twenty for each lower one.
//!
//! A line (one agent's calls of one class) that a limit of its own holds up is parked: it costs no
//! further look and holds up nobody. Lines that the same shared limit holds up stand behind one
//! [`Gate`]; only the first of them is looked at, so a look costs by gates and not by agents.
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use slab::Slab;

use super::prehashed::Prehashed;
use crate::identity::Class;

/// Of one line's waiting calls, how many are looked at: the first may be held up by a limit that the
/// next is not under.
const LOOKS: usize = 16;
/// What a token of output counts, where one of input counts 1.
const OUTPUT_WEIGHT: u64 = 4;
/// Counters are in thousandths.
const FINE: u64 = 1000;
/// Tokens of one call that count; more is nonsense, and would push its agent out for ever.
const MOST_TOKENS: u64 = 1 << 32;
/// An agent that neither waits nor runs is forgotten after this, in nanoseconds.
const FORGET: u64 = 60 * 1_000_000_000;
/// Whoever waits is looked at again at least this often.
pub const LOOK_AGAIN: u64 = 1_000_000_000;

/// A waiting call, as its owner names it.
pub type CallId = usize;
pub type FlowId = usize;

/// What a call is worth at least, in tokens: one that has none takes its turns all the same.
const LEAST: u64 = 100;

/// The service a call is worth, in virtual tokens.
pub fn service(input: u64, output: u64) -> u64 {
    (input.min(MOST_TOKENS) + output.min(MOST_TOKENS) * OUTPUT_WEIGHT).max(LEAST) * FINE
}

/// What holds up several agents at once: a full bucket, or the pace of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    Bucket(usize),
    Pace(u64, u64),
}

/// What a look at a waiting call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Go,
    /// A limit that only its own agent fills; when it may have refilled.
    HeldByOwn(u64),
    /// Something that others use as well. Whoever stands behind the same is held up too.
    HeldByShared(Gate),
    /// It will not go in its time, and leaves the line.
    Hopeless,
}

/// Calls of one agent and class.
#[derive(Debug, Default)]
struct Line {
    calls: VecDeque<CallId>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Nobody waits in it.
    #[default]
    Out,
    /// May go, or stands behind a gate.
    Ready(Option<Gate>),
    /// Not looked at before that.
    Parked(u64),
}

/// Calls of one agent.
#[derive(Debug, Default)]
struct Flow {
    agent: u64,
    counter: u64,
    /// Of it, what running calls are expected to get, and have not been billed for.
    expected: u64,
    running: u32,
    lines: [Line; CLASSES],
    /// It waits or runs.
    active: bool,
    used: u64,
}

impl Flow {
    /// What it has been served for certain.
    fn served(&self) -> u64 {
        self.counter.saturating_sub(self.expected)
    }
}

const CLASSES: usize = Class::ALL.len();

/// Lines by counter.
type Lines = BTreeSet<(u64, FlowId)>;

#[derive(Debug, Default)]
pub struct FairQueue {
    flows: Slab<Flow>,
    by_agent: Prehashed<u64, FlowId>,
    /// Lines of a class by what they stand behind; no set is empty.
    ready: [BTreeMap<Option<Gate>, Lines>; CLASSES],
    parked: BTreeSet<(u64, FlowId, usize)>,
    /// The counter of whoever was served last.
    served: u64,
    waiting: [usize; CLASSES],
    active: u32,
    turns: u32,
}

impl FairQueue {
    /// The flow of an agent.
    pub fn flow(&mut self, agent: u64, now: u64) -> FlowId {
        if let Some(flow) = self.by_agent.get(&agent) {
            self.flows[*flow].used = now;
            return *flow;
        }
        let flow = self.flows.insert(Flow { agent, used: now, ..Flow::default() });
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
        self.flows[flow].lines.iter().map(|line| line.calls.len()).sum()
    }

    /// Agents that wait or run.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// A call joins its agent's line.
    pub fn push(&mut self, flow: FlowId, class: Class, call: CallId) {
        self.lift(flow);
        let class = class as usize;
        let calls = &mut self.flows[flow].lines[class].calls;
        calls.push_back(call);
        let is_seen = calls.len() <= LOOKS;
        self.waiting[class] += 1;
        // it may not be under the limit that the others wait for
        if is_seen {
            self.put(flow, class, Place::Ready(None));
        }
    }

    /// An agent that becomes active starts where the others are, by what they were really served: a
    /// prediction may turn out far too high, and the newcomer would stay behind for it. It goes before
    /// those it is level with.
    fn lift(&mut self, flow: FlowId) {
        if self.flows[flow].active {
            return;
        }
        self.active += 1;
        let lines = self.ready.iter().flat_map(BTreeMap::values);
        let first = lines.filter_map(|lines| lines.first());
        let lowest = first.map(|(_, flow)| self.flows[*flow].served()).min();
        let floor = lowest.unwrap_or(self.served).saturating_sub(1);
        let of = &mut self.flows[flow];
        of.active = true;
        of.counter = of.counter.max(floor);
    }

    /// A call leaves the line without having gone. `false`: it was not there.
    pub fn remove(&mut self, flow: FlowId, class: Class, call: CallId) -> bool {
        let class = class as usize;
        let calls = &self.flows[flow].lines[class].calls;
        let Some(at) = calls.iter().position(|waiting| *waiting == call) else { return false };
        self.take_out(flow, class, at);
        self.rest(flow);
        true
    }

    fn take_out(&mut self, flow: FlowId, class: usize, at: usize) {
        let calls = &mut self.flows[flow].lines[class].calls;
        calls.remove(at);
        let is_empty = calls.is_empty();
        self.waiting[class] -= 1;
        if is_empty {
            self.put(flow, class, Place::Out);
        } else if at < LOOKS {
            // what stood behind it may go
            self.put(flow, class, Place::Ready(None));
        }
    }

    /// An agent that neither waits nor runs is active no more.
    fn rest(&mut self, flow: FlowId) {
        let of = &mut self.flows[flow];
        let waits = of.lines.iter().any(|line| !line.calls.is_empty());
        if of.active && of.running == 0 && !waits {
            of.active = false;
            self.active -= 1;
        }
    }

    /// How many calls of its agent and class stand before it.
    pub fn position(&self, flow: FlowId, class: Class, call: CallId) -> Option<usize> {
        let calls = &self.flows[flow].lines[class as usize].calls;
        calls.iter().position(|waiting| *waiting == call)
    }

    /// A call goes: its agent is charged.
    pub fn start(&mut self, flow: FlowId, service: u64, weight: u32) {
        self.lift(flow);
        self.served = self.flows[flow].served();
        let charge = service / u64::from(weight.max(1));
        let of = &mut self.flows[flow];
        of.running += 1;
        of.expected = of.expected.saturating_add(charge);
        self.charge(flow, |counter| counter.saturating_add(charge));
    }

    /// It is over. `predicted` and `actual` are the services charged and gotten, by the same weight.
    pub fn end(&mut self, flow: FlowId, predicted: u64, actual: u64, weight: u32, now: u64) {
        let weight = u64::from(weight.max(1));
        self.charge(flow, |counter| {
            counter.saturating_add(actual / weight).saturating_sub(predicted / weight)
        });
        let of = &mut self.flows[flow];
        of.expected = of.expected.saturating_sub(predicted / weight);
        of.running = of.running.saturating_sub(1);
        of.used = now;
        self.rest(flow);
    }

    fn charge(&mut self, flow: FlowId, change: impl FnOnce(u64) -> u64) {
        let places = self.flows[flow].lines.each_ref().map(|line| line.place);
        for class in 0..CLASSES {
            self.put(flow, class, Place::Out);
        }
        let of = &mut self.flows[flow];
        of.counter = change(of.counter);
        for (class, place) in places.into_iter().enumerate() {
            self.put(flow, class, place);
        }
    }

    /// Moves a line to another place.
    fn put(&mut self, flow: FlowId, class: usize, to: Place) {
        let of = &mut self.flows[flow];
        let at = (of.counter, flow);
        match std::mem::replace(&mut of.lines[class].place, to) {
            Place::Out => {}
            Place::Ready(gate) => {
                if let Some(lines) = self.ready[class].get_mut(&gate) {
                    lines.remove(&at);
                    if lines.is_empty() {
                        self.ready[class].remove(&gate);
                    }
                }
            }
            Place::Parked(until) => {
                self.parked.remove(&(until, flow, class));
            }
        }
        match to {
            Place::Out => {}
            Place::Ready(gate) => {
                self.ready[class].entry(gate).or_default().insert(at);
            }
            Place::Parked(until) => {
                self.parked.insert((until, flow, class));
            }
        }
    }

    /// What held up an agent's calls alone may do so no more. `gates`: those that stand behind one are
    /// looked at as well.
    pub fn unpark(&mut self, agent: u64, gates: bool) {
        let Some(flow) = self.by_agent.get(&agent).copied() else { return };
        for class in 0..CLASSES {
            match self.flows[flow].lines[class].place {
                Place::Parked(_) => self.put(flow, class, Place::Ready(None)),
                Place::Ready(Some(_)) if gates => self.put(flow, class, Place::Ready(None)),
                _ => {}
            }
        }
    }

    /// Whatever was found before, all are looked at again.
    pub fn unpark_all(&mut self) {
        let flows: Vec<FlowId> = self.flows.iter().map(|(flow, _)| flow).collect();
        for flow in flows {
            for class in 0..CLASSES {
                if self.flows[flow].lines[class].place != Place::Out {
                    self.put(flow, class, Place::Ready(None));
                }
            }
        }
    }

    /// Those whose time has come are looked at again.
    pub fn advance(&mut self, now: u64) {
        while let Some((until, flow, class)) = self.parked.first().copied()
            && until <= now
        {
            self.put(flow, class, Place::Ready(None));
        }
    }

    /// When somebody parked is to be looked at again.
    pub fn wake_at(&self) -> Option<u64> {
        self.parked.first().map(|(until, ..)| *until)
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

#[cfg(test)]
mod tests;
