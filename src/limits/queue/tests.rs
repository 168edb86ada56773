//! The queue against its definition, and against a model that does everything the slow way.
use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Every agent always has calls waiting. Gives who was served, in order.
fn backlog(agents: &[(u64, u32, Class, u64)], turns: usize) -> Vec<u64> {
    let mut queue = FairQueue::default();
    let mut call = 0;
    let mut whose = HashMap::new();
    let mut join = |queue: &mut FairQueue, nth: usize| {
        let (agent, _, class, _) = agents[nth];
        let flow = queue.flow(agent, 0);
        queue.push(flow, class, call);
        whose.insert(call, nth);
        call += 1;
        whose.clone()
    };
    let mut known = HashMap::new();
    for nth in 0..agents.len() {
        join(&mut queue, nth);
        known = join(&mut queue, nth);
    }
    let mut served = Vec::new();
    for _ in 0..turns {
        let (flow, call) = queue.take(0, None, |_| Look::Go).unwrap();
        let nth = known[&call];
        let (agent, weight, _, service) = agents[nth];
        served.push(agent);
        queue.start(flow, service, weight);
        known = join(&mut queue, nth);
        queue.end(flow, service, service, weight, 0);
    }
    served
}

fn share_of(agent: u64, served: &[u64]) -> usize {
    served.iter().filter(|one| **one == agent).count()
}

#[test]
fn weights_are_honoured_within_a_few_calls() {
    let usual = (1, 1, Class::Default, service(1000, 100));
    for (weight, want) in [(1, 15), (2, 20), (5, 25)] {
        let served = backlog(&[usual, (2, weight, Class::Default, usual.3)], 30);
        let got = share_of(2, &served);
        assert!(got.abs_diff(want) <= 1, "weight {weight}: {got} of 30");
    }
}

#[test]
fn who_asks_for_more_goes_less_often() {
    let small = service(100, 100);
    let served = backlog(&[(1, 1, Class::Default, small), (2, 1, Class::Default, 9 * small)], 100);
    assert!(share_of(2, &served).abs_diff(10) <= 1, "{served:?}");
}

#[test]
fn classes_are_strict_and_none_starves() {
    let of = |agent, class| (agent, 1, class, service(10, 10));
    let all = [
        of(1, Class::Interactive),
        of(2, Class::Default),
        of(3, Class::Batch),
        of(4, Class::Batch),
    ];
    let served = backlog(&all, 400);
    for window in served.windows(40) {
        assert_eq!(share_of(1, window), 36);
        assert_eq!(share_of(2, window), 2);
        assert_eq!(share_of(3, window) + share_of(4, window), 2);
    }
    assert_eq!(share_of(3, &served), share_of(4, &served));
}

#[test]
fn a_newcomer_starts_level_and_idling_saves_nothing_up() {
    let mut queue = FairQueue::default();
    let old = queue.flow(1, 0);
    for call in 0..100 {
        queue.push(old, Class::Default, call);
    }
    for _ in 0..50 {
        let (flow, _) = queue.take(0, None, |_| Look::Go).unwrap();
        queue.start(flow, service(1000, 0), 1);
        queue.end(flow, service(1000, 0), service(1000, 0), 1, 0);
    }
    let new = queue.flow(2, 0);
    (200..220).for_each(|call| queue.push(new, Class::Default, call));
    // level, but for the tie
    assert_eq!(queue.flows[new].counter + 1, queue.flows[old].counter);
    let mut ahead = 0;
    for _ in 0..20 {
        let (flow, _) = queue.take(0, None, |_| Look::Go).unwrap();
        ahead += u32::from(flow == new);
        queue.start(flow, service(1000, 0), 1);
    }
    assert_eq!(ahead, 10);
}

#[test]
fn an_agent_at_its_share_gives_way_but_leaves_no_place_empty() {
    let mut queue = FairQueue::default();
    let (hog, light) = (queue.flow(1, 0), queue.flow(2, 0));
    (0..9).for_each(|call| queue.push(hog, Class::Interactive, call));
    let next = |queue: &mut FairQueue| {
        let (flow, call) = queue.take(0, Some(2), |_| Look::Go).unwrap();
        queue.start(flow, service(1, 0), 1);
        call
    };
    assert_eq!([next(&mut queue), next(&mut queue), next(&mut queue)], [0, 1, 2]);
    queue.push(light, Class::Batch, 20);
    assert_eq!([next(&mut queue), next(&mut queue)], [20, 3]);
}

#[test]
fn a_call_of_absurd_size_does_not_shut_its_agent_out() {
    let mut queue = FairQueue::default();
    let flow = queue.flow(1, 0);
    for _ in 0..100 {
        queue.start(flow, service(u64::MAX, u64::MAX), 1);
        queue.end(flow, 0, service(u64::MAX, u64::MAX), 1, 0);
    }
    assert!(queue.flows[flow].counter < u64::MAX / 100);
    queue.start(flow, u64::MAX, 1);
    queue.end(flow, u64::MAX, u64::MAX, 0, 0);
}

#[test]
fn ten_thousand_agents_behind_one_limit_cost_one_look() {
    let mut queue = FairQueue::default();
    for agent in 0..10_000_usize {
        let flow = queue.flow(agent as u64, 0);
        queue.push(flow, Class::Default, agent);
    }
    let looks = std::cell::Cell::new(0);
    let full = |_| {
        looks.set(looks.get() + 1);
        Look::HeldByShared(Gate::Bucket(7))
    };
    assert_eq!(queue.take(0, None, full), None);
    assert_eq!(looks.replace(0), 10_000);
    for _ in 0..100 {
        assert_eq!(queue.take(0, None, full), None);
    }
    assert_eq!(looks.replace(0), 100);
    // a newcomer is looked at, and then stands behind it like all others
    let flow = queue.flow(99_999, 0);
    queue.push(flow, Class::Default, 99_999);
    for _ in 0..10 {
        assert_eq!(queue.take(0, None, full), None);
    }
    assert_eq!(looks.replace(0), 11);
    // and with room all go, in order
    for agent in 0..10_000 {
        assert_eq!(queue.take(0, None, |_| Look::Go).map(|(_, call)| call), Some(agent));
    }
}

#[test]
fn parked_agents_cost_no_look_and_come_back_in_time() {
    let mut queue = FairQueue::default();
    for agent in 0..1000 {
        let flow = queue.flow(agent as u64, 0);
        queue.push(flow, Class::Default, agent);
    }
    let due = |call: usize| (call as u64 + 1) * SECOND / 2000;
    assert_eq!(queue.take(0, None, |call| Look::HeldByOwn(due(call))), None);
    assert_eq!(queue.take(0, None, |_| panic!()), None);
    for call in 0..1000 {
        assert_eq!(queue.wake_at(), Some(due(call)));
        queue.advance(due(call));
        let found = queue.take(due(call), None, |_| Look::Go);
        assert_eq!(found.map(|(_, call)| call), Some(call));
    }
    // whoever is told nothing is looked at again all the same
    let flow = queue.flow(1, SECOND);
    queue.push(flow, Class::Default, 1);
    assert_eq!(queue.take(SECOND, None, |_| Look::HeldByOwn(u64::MAX)), None);
    assert_eq!(queue.wake_at(), Some(2 * SECOND));
    queue.unpark(1, false);
    assert!(queue.take(SECOND, None, |_| Look::Go).is_some());
}

/// What is done to a queue.
#[derive(Debug, Clone)]
enum Step {
    Push {
        agent: u64,
        class: usize,
        gate: Option<usize>,
    },
    Remove {
        nth: usize,
    },
    Take {
        share: Option<u32>,
    },
    End {
        nth: usize,
        actual: u64,
    },
    /// A shared limit is full, or no more.
    Turn {
        gate: usize,
    },
    /// A limit of an agent's own is full, for so many milliseconds at least.
    Block {
        agent: u64,
        for_ms: u64,
    },
    Free {
        agent: u64,
    },
    Pass {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u64, 0..3_usize, prop::option::of(0..3_usize))
            .prop_map(|(agent, class, gate)| Step::Push { agent, class, gate }),
        1 => any::<usize>().prop_map(|nth| Step::Remove { nth }),
        4 => prop::option::weighted(0.3, 1..3_u32).prop_map(|share| Step::Take { share }),
        2 => (any::<usize>(), 0..5_000_u64).prop_map(|(nth, actual)| Step::End { nth, actual }),
        1 => (0..3_usize).prop_map(|gate| Step::Turn { gate }),
        1 => (0..6_u64, 0..3_000_u64).prop_map(|(agent, for_ms)| Step::Block { agent, for_ms }),
        1 => (0..6_u64).prop_map(|agent| Step::Free { agent }),
        1 => (0..1_500_u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

struct Waiting {
    call: CallId,
    agent: u64,
    class: usize,
    gate: Option<usize>,
}

/// A queue, and all that is known of it in plain lists.
#[derive(Default)]
struct Model {
    queue: FairQueue,
    waiting: Vec<Waiting>,
    running: Vec<(u64, FlowId, u64)>,
    full: HashSet<usize>,
    blocked: HashMap<u64, u64>,
    now: u64,
    calls: usize,
}

const MILLI: u64 = 1_000_000;

impl Model {
    fn look(&self, call: CallId) -> Look {
        let one = self.waiting.iter().find(|one| one.call == call).unwrap();
        match (self.blocked.get(&one.agent), one.gate) {
            (Some(until), _) if *until > self.now => Look::HeldByOwn(*until),
            (_, Some(gate)) if self.full.contains(&gate) => Look::HeldByShared(Gate::Bucket(gate)),
            _ => Look::Go,
        }
    }

    /// The first that may go, by class, counter and arrival.
    fn expected(&self, share: Option<u32>) -> Option<CallId> {
        for class in self.queue.order() {
            let may = |one: &&Waiting| one.class == class && self.look(one.call) == Look::Go;
            let runs = |agent| self.running.iter().filter(|(one, ..)| *one == agent).count();
            let under = |one: &&Waiting| share.is_none_or(|share| runs(one.agent) < share as usize);
            let key = |one: &&Waiting| {
                let flow = self.queue.by_agent[&one.agent];
                (self.queue.flows[flow].counter, flow, one.call)
            };
            let mut seen = HashMap::<u64, usize>::new();
            let near = self.waiting.iter().filter(|one| {
                let before = seen.entry(one.agent).or_default();
                *before += usize::from(one.class == class);
                *before <= LOOKS
            });
            let near: Vec<_> = near.collect();
            if let Some(one) =
                near.iter().copied().filter(|one| may(one) && under(one)).min_by_key(key)
            {
                return Some(one.call);
            }
        }
        None
    }

    fn take(&mut self, share: Option<u32>) {
        let want = self.expected(share).or_else(|| self.expected(None));
        let mut queue = std::mem::take(&mut self.queue);
        queue.advance(self.now);
        let got = queue.take(self.now, share, |call| self.look(call));
        self.queue = queue;
        assert_eq!(got.map(|(_, call)| call), want);
        if let Some((flow, call)) = got {
            let at = self.waiting.iter().position(|one| one.call == call).unwrap();
            let one = self.waiting.remove(at);
            self.queue.start(flow, service(1000, 0), 1 + one.agent as u32 % 2);
            self.running.push((one.agent, flow, service(1000, 0)));
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push { agent, class, gate } => {
                let flow = self.queue.flow(agent, self.now);
                self.queue.push(flow, Class::ALL[class], self.calls);
                self.waiting.push(Waiting { call: self.calls, agent, class, gate });
                self.calls += 1;
            }
            Step::Remove { nth } => {
                let Some(at) = nth.checked_rem(self.waiting.len()) else { return };
                let one = self.waiting.remove(at);
                let flow = self.queue.by_agent[&one.agent];
                let class = Class::ALL[one.class];
                let same = |other: &&Waiting| (other.agent, other.class) == (one.agent, one.class);
                let before = self.waiting[..at].iter().filter(same).count();
                assert_eq!(self.queue.position(flow, class, one.call), Some(before));
                assert!(self.queue.remove(flow, class, one.call));
                assert!(!self.queue.remove(flow, class, one.call));
            }
            Step::Take { share } => self.take(share),
            Step::End { nth, actual } => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                let (agent, flow, predicted) = self.running.remove(at);
                self.queue.end(flow, predicted, actual, 1 + agent as u32 % 2, self.now);
                self.queue.unpark(agent, agent % 2 == 0);
            }
            Step::Turn { gate } => {
                if !self.full.remove(&gate) {
                    self.full.insert(gate);
                }
            }
            Step::Block { agent, for_ms } => {
                // known only to who looks again: it is not for less long than it was
                let until = self.blocked.entry(agent).or_default();
                *until = (*until).max(self.now + for_ms * MILLI);
            }
            Step::Free { agent } => {
                self.blocked.remove(&agent);
                self.queue.unpark(agent, agent % 2 == 0);
            }
            Step::Pass { ms } => self.now += ms * MILLI,
        }
    }

    fn check(&self) {
        assert_eq!(self.queue.waiting(), self.waiting.len());
        let here = self.waiting.iter().map(|one| one.agent);
        let here: HashSet<_> = here.chain(self.running.iter().map(|(agent, ..)| *agent)).collect();
        assert_eq!(self.queue.active() as usize, here.len());
        let ready: usize =
            self.queue.ready.iter().flat_map(BTreeMap::values).map(BTreeSet::len).sum();
        let lines: HashSet<_> = self.waiting.iter().map(|one| (one.agent, one.class)).collect();
        assert_eq!(ready + self.queue.parked.len(), lines.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_does_what_the_slow_way_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::default();
        for step in &steps {
            model.step(step);
            model.check();
        }
        // nobody is forgotten: with nothing in the way all go
        model.full.clear();
        model.now += 10 * SECOND;
        model.blocked.clear();
        while !model.waiting.is_empty() {
            let before = model.waiting.len();
            model.take(Some(1));
            prop_assert_eq!(model.waiting.len(), before - 1);
            model.check();
        }
        while !model.running.is_empty() {
            model.step(&Step::End { nth: 0, actual: 7 });
        }
        model.check();
        prop_assert_eq!(model.queue.active(), 0);
        model.queue.sweep(model.now + FORGET);
        let queue = &model.queue;
        prop_assert!(queue.flows.is_empty() && queue.by_agent.is_empty());
        prop_assert!(queue.ready.iter().all(BTreeMap::is_empty) && queue.parked.is_empty());
    }

    #[test]
    fn backlogged_agents_are_within_two_calls_of_each_other(
        services in prop::collection::vec(1..1_000_000_u64, 2..6),
    ) {
        // the bound of the paper: no two differ by more than twice the largest call
        let agents: Vec<_> = services.iter().zip(1..).map(|(one, agent)| (agent, 1, Class::Default, *one)).collect();
        let served = backlog(&agents, 200);
        let got = |agent: &(u64, u32, Class, u64)| share_of(agent.0, &served) as u64 * agent.3;
        let (least, most) = (agents.iter().map(got).min().unwrap(), agents.iter().map(got).max().unwrap());
        prop_assert!(most - least <= 2 * services.iter().max().unwrap());
    }
}

#[test]
fn a_call_that_leaves_lets_those_behind_it_be_seen() {
    let mut queue = FairQueue::default();
    let (first, second) = (queue.flow(1, 0), queue.flow(2, 0));
    let look = |call| match call {
        99 => Look::Go,
        _ => Look::HeldByShared(Gate::Bucket(7)),
    };
    queue.push(first, Class::Default, 0);
    (1..=LOOKS).for_each(|call| queue.push(second, Class::Default, call));
    queue.push(second, Class::Default, 99);
    assert_eq!(queue.take(0, None, look), None);
    assert!(queue.remove(second, Class::Default, LOOKS));
    assert_eq!(queue.take(0, None, look), Some((second, 99)));
}

/// What running calls are expected to get may come out far smaller: it keeps no newcomer behind.
#[test]
fn a_newcomer_does_not_stay_behind_for_a_prediction() {
    let mut queue = FairQueue::default();
    let flood = queue.flow(1, 0);
    (0..40).for_each(|call| queue.push(flood, Class::Default, call));
    let (guess, real) = (service(10, 4096), service(10, 12));
    for _ in 0..8 {
        let (flow, _) = queue.take(0, None, |_| Look::Go).unwrap();
        queue.start(flow, guess, 1);
    }
    let new = queue.flow(2, 0);
    (100..104).for_each(|call| queue.push(new, Class::Default, call));
    let mut first = Vec::new();
    for _ in 0..8 {
        queue.end(flood, guess, real, 1, 0);
        let (flow, _) = queue.take(0, None, |_| Look::Go).unwrap();
        queue.start(flow, guess, 1);
        first.push(flow);
    }
    assert_eq!(first[..4], [new; 4], "{first:?}");
}
