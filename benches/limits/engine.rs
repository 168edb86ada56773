//! A discrete-event simulation: calls come, a limiter lets them go or wait, answers stream.
//!
//! Time is virtual and a run depends on nothing but its seed. An answer begins 0.6 s after its call
//! went and brings 60 tokens a second, 16 at a time. The limiter is told what a proxy would tell it,
//! and no more: the call as it came, tokens as they pass, how it ended.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::seen::Seen;
use crate::workload::{Call, Nanos, SECOND};

pub const FIRST_TOKEN: Nanos = SECOND * 6 / 10;
/// Tokens a second of one answer.
pub const SPEED: u64 = 60;
const CHUNK: u64 = 16;

/// What becomes of a call that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// At once; its answer may have so many tokens.
    Go(u64),
    Wait,
    Deny,
}

/// What becomes of one that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Go(usize, u64),
    Expired(usize),
}

/// How an answer ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub produced: u64,
    /// The client left before the end; the backend reports no usage.
    pub left: bool,
}

/// What is under test: one limit, or one shared resource with its queue.
pub trait Limiter {
    fn arrive(&mut self, call: &Call, now: Nanos) -> Decision;
    /// So many more tokens of its answer have passed.
    fn tick(&mut self, call: &Call, tokens: u64, now: Nanos);
    fn finish(&mut self, call: &Call, end: End, now: Nanos);
    /// Who of the waiting goes now, or has waited too long.
    fn poll(&mut self, now: Nanos, changes: &mut Vec<Change>);
    /// When to poll again if nothing else happens.
    fn wake_at(&self, now: Nanos) -> Option<Nanos>;
    /// After the last call: what is held that should not be, in its own words.
    fn residue(&mut self, _now: Nanos) -> Option<String> {
        None
    }
}

/// What follows a call: the next turn of its session.
pub type Follow<'f> = &'f dyn Fn(&Call, Nanos) -> Option<Call>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Tokens(usize),
    Wake,
}

struct Engine<'e> {
    limiter: &'e mut dyn Limiter,
    seen: &'e mut Seen,
    follow: Follow<'e>,
    calls: Vec<Call>,
    produced: Vec<u64>,
    /// By time, and by the order in which they were planned.
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    planned: u64,
    wake: Option<Nanos>,
    changes: Vec<Change>,
}

/// Runs until nothing is left to happen, or until `end`; gives the time of the last event.
pub fn run(
    limiter: &mut dyn Limiter,
    mut calls: Vec<Call>,
    follow: Follow<'_>,
    end: Option<Nanos>,
    seen: &mut Seen,
) -> Nanos {
    calls.sort_by_key(|call| call.at);
    let mut engine = Engine {
        limiter,
        seen,
        follow,
        calls: Vec::with_capacity(calls.len()),
        produced: Vec::with_capacity(calls.len()),
        events: BinaryHeap::new(),
        planned: 0,
        wake: None,
        changes: Vec::new(),
    };
    for call in calls {
        engine.add(call);
    }
    let mut last = 0;
    while let Some(Reverse((now, _, event))) = engine.events.pop() {
        if end.is_some_and(|end| now > end) {
            break;
        }
        engine.happen(event, now);
        last = now;
    }
    last
}

impl Engine<'_> {
    fn plan(&mut self, at: Nanos, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn add(&mut self, call: Call) {
        let id = self.calls.len();
        self.calls.push(Call { id, ..call });
        self.produced.push(0);
        self.plan(call.at, Event::Arrive(id));
    }

    fn happen(&mut self, event: Event, now: Nanos) {
        match event {
            Event::Arrive(id) => self.arrive(id, now),
            Event::Tokens(id) => {
                if !self.tokens(id, now) {
                    return;
                }
            }
            Event::Wake => self.wake = None,
        }
        let mut changes = std::mem::take(&mut self.changes);
        self.limiter.poll(now, &mut changes);
        for change in changes.drain(..) {
            match change {
                Change::Go(id, bound) => self.start(id, bound, now),
                Change::Expired(id) => self.seen.refused(&self.calls[id]),
            }
        }
        self.changes = changes;
        let wake = self.limiter.wake_at(now).map(|at| at.max(now + 1));
        if let Some(at) = wake.filter(|at| self.wake.is_none_or(|planned| *at < planned)) {
            self.wake = Some(at);
            self.plan(at, Event::Wake);
        }
    }

    fn arrive(&mut self, id: usize, now: Nanos) {
        let call = self.calls[id];
        self.seen.arrived(&call);
        match self.limiter.arrive(&call, now) {
            Decision::Go(bound) => self.start(id, bound, now),
            Decision::Wait => {}
            Decision::Deny => self.seen.refused(&call),
        }
    }

    fn start(&mut self, id: usize, bound: u64, now: Nanos) {
        let call = &mut self.calls[id];
        call.output = call.output.min(bound).max(1);
        self.seen.went(call, now);
        self.plan(now + FIRST_TOKEN, Event::Tokens(id));
    }

    /// Whether that was the end of the answer.
    fn tokens(&mut self, id: usize, now: Nanos) -> bool {
        let call = self.calls[id];
        let produced = &mut self.produced[id];
        let all = call.leaves.map_or(call.output, |leaves| leaves.min(call.output));
        let chunk = CHUNK.min(all - *produced);
        *produced += chunk;
        let done = *produced == all;
        let end = End { produced: all, left: call.leaves.is_some() };
        self.seen.passed(&call, chunk, now);
        self.limiter.tick(&call, chunk, now);
        if !done {
            self.plan(now + CHUNK * SECOND / SPEED, Event::Tokens(id));
            return false;
        }
        self.limiter.finish(&call, end, now);
        self.seen.done();
        if let Some(next) = (self.follow)(&call, now) {
            self.add(next);
        }
        true
    }
}
