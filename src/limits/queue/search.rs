//! Whose turn it is: the search through the lines.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound::{Excluded, Unbounded};

use super::{CLASSES, CallId, FairQueue, FlowId, Gate, LOOK_AGAIN, LOOKS, Look, Place};

/// One grant in so many goes to the last class that waits, and one to the middle one: no class starves.
const TURNS: u32 = 20;

impl FairQueue {
    /// Takes the next call out of its line: the first, by class and counter, that `look` lets go.
    /// Those that it finds hopeless on the way are in no line any more.
    /// Agents with `share` calls running give way to the others, and go where no other can.
    pub fn take(
        &mut self,
        now: u64,
        share: Option<u32>,
        mut look: impl FnMut(CallId) -> Look,
    ) -> Option<(FlowId, CallId)> {
        let order = self.order();
        let mut gave_way = false;
        let mut found = None;
        for class in order {
            found = found.or_else(|| self.search(class, now, share, &mut gave_way, &mut look));
        }
        // a place that nobody else can use is better used than kept
        for class in order.into_iter().filter(|_| gave_way) {
            found = found.or_else(|| self.search(class, now, None, &mut false, &mut look));
        }
        let (flow, class, at) = found?;
        let call = self.flows[flow].lines[class].calls[at];
        self.take_out(flow, class, at);
        self.turns = self.turns.wrapping_add(1);
        Some((flow, call))
    }

    /// The first call of a class that may go: its line, and where it stands there.
    fn search(
        &mut self,
        class: usize,
        now: u64,
        share: Option<u32>,
        gave_way: &mut bool,
        look: &mut impl FnMut(CallId) -> Look,
    ) -> Option<(FlowId, usize, usize)> {
        let firsts = self.ready[class].iter();
        let firsts = firsts.filter_map(|(gate, lines)| Some((*lines.first()?, *gate)));
        let mut heads: BinaryHeap<_> = firsts.map(Reverse).collect();
        while let Some(Reverse((line, gate))) = heads.pop() {
            let flow = line.1;
            if share.is_some_and(|share| self.flows[flow].running >= share) {
                *gave_way = true;
            } else {
                match self.look_at(flow, class, now, look) {
                    Ok(at) => return Some((flow, class, at)),
                    Err(place) => {
                        if self.flows[flow].lines[class].place != place {
                            self.put(flow, class, place);
                        }
                        // and with the first all that stand behind it
                        if gate.is_some() && place == Place::Ready(gate) {
                            continue;
                        }
                    }
                }
            }
            let lines = self.ready[class].get(&gate);
            let next = lines.and_then(|lines| lines.range((Excluded(line), Unbounded)).next());
            heads.extend(next.map(|next| Reverse((*next, gate))));
        }
        None
    }

    /// The first call of a line that may go; else where the line is to stand.
    fn look_at(
        &mut self,
        flow: FlowId,
        class: usize,
        now: u64,
        look: &mut impl FnMut(CallId) -> Look,
    ) -> Result<usize, Place> {
        let mut own = None::<u64>;
        let mut gate = None::<Gate>;
        let mut several = false;
        let mut at = 0;
        while at < LOOKS
            && let Some(call) = self.flows[flow].lines[class].calls.get(at)
        {
            match look(*call) {
                Look::Go => return Ok(at),
                Look::HeldByOwn(until) => own = Some(own.map_or(until, |own| own.min(until))),
                Look::HeldByShared(found) => {
                    several |= gate.replace(found).is_some_and(|known| known != found);
                }
                Look::Hopeless => {
                    self.take_out(flow, class, at);
                    self.rest(flow);
                    // the next one stands there now
                    continue;
                }
            }
            at += 1;
        }
        if at == 0 {
            return Err(Place::Out);
        }
        Err(match (own, gate) {
            (Some(until), None) => Place::Parked(until.min(now + LOOK_AGAIN).max(now + 1)),
            (None, Some(_)) if !several => Place::Ready(gate),
            // held up by different things: no one place will do
            _ => Place::Ready(None),
        })
    }

    /// Classes in the order of this turn.
    pub(super) fn order(&self) -> [usize; CLASSES] {
        match self.turns % TURNS {
            turn if turn == TURNS - 1 => [2, 1, 0],
            turn if turn == TURNS / 2 - 1 => [1, 0, 2],
            _ => [0, 1, 2],
        }
    }
}
