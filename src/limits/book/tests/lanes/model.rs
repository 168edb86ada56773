//! Lanes against a model that knows all calls in plain lists: who may go, goes; who may not, does not;
//! and nobody is passed over for ever.
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Ask { who: usize, way: Way, bytes: u64 },
    End { nth: usize, tokens: u64 },
    Leave { nth: usize },
    Lanes([Ruled; 3]),
    Upstream(usize, Option<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let way = (0..3_usize, prop::option::weighted(0.7, 0..3_usize));
    let tokens = || prop_oneof![Just(0), 1..200_u64, 1..200_000_u64];
    let slots = || prop::option::weighted(0.7, 0..4_usize);
    let ruled = prop_oneof![
        1 => Just(Ruled::Gone),
        1 => Just(Ruled::Unbounded),
        3 => (0..4_usize).prop_map(Ruled::Places),
    ];
    prop_oneof![
        8 => (0..3_usize, way, tokens()).prop_map(|(who, way, bytes)| Step::Ask { who, way, bytes }),
        6 => (any::<usize>(), tokens()).prop_map(|(nth, tokens)| Step::End { nth, tokens }),
        1 => any::<usize>().prop_map(|nth| Step::Leave { nth }),
        1 => prop::array::uniform3(ruled).prop_map(Step::Lanes),
        1 => (0..3_usize, slots()).prop_map(|(upstream, slots)| Step::Upstream(upstream, slots)),
    ]
}

/// What the policy says of a lane.
#[derive(Debug, Clone, Copy)]
enum Ruled {
    Gone,
    Unbounded,
    Places(usize),
}

impl Ruled {
    fn slots(self) -> Option<usize> {
        match self {
            Self::Places(slots) => Some(slots),
            Self::Gone | Self::Unbounded => None,
        }
    }
}

/// A waiting call, and how often another was let in at its upstream while it could have gone.
struct Stands {
    call: CallId,
    way: Way,
    passed: usize,
}

/// A yard, and all that is known of it in plain lists.
struct Model {
    yard: Yard,
    upstreams: [Option<usize>; 3],
    lanes: [Ruled; 3],
    waiting: Vec<Stands>,
    running: Vec<(Way, Box<Grant>)>,
}

/// Turns that a lane's foremost call may be passed over: by each of three others nine times.
const PATIENCE: usize = 3 * 9;

impl Model {
    fn new() -> Self {
        let slots = [Some(1), Some(3), None];
        let yard = Yard::new(&[], &slots, &[Some(1), Some(2), None]);
        let lanes = [Ruled::Places(1), Ruled::Places(2), Ruled::Unbounded];
        Self { yard, upstreams: slots, lanes, waiting: Vec::new(), running: Vec::new() }
    }

    /// Places that a call on this way would need, and that are taken: the upstream's, and the lane's.
    fn is_open(&self, (upstream, lane): Way) -> bool {
        let at = |of: usize| self.running.iter().filter(|(way, _)| way.0 == of).count();
        let by = |of: usize| self.running.iter().filter(|(way, _)| way.1 == Some(of)).count();
        let lane_has = lane.and_then(|of| Some((of, self.lanes[of].slots()?)));
        self.upstreams[upstream].is_none_or(|slots| at(upstream) < slots)
            && lane_has.is_none_or(|(of, slots)| by(of) < slots)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask { who, way, bytes } => {
                match self.yard.ask(["a", "b", "c"][who], way, bytes) {
                    Decision::Go(grant) => {
                        assert!(self.is_open(way), "it has no place: {way:?}");
                        self.running.push((way, grant));
                    }
                    Decision::Wait { call, .. } => {
                        assert!(!self.is_open(way), "it waits, and there is a place: {way:?}");
                        self.waiting.push(Stands { call, way, passed: 0 });
                    }
                    Decision::No(denial) => panic!("{denial:?}"),
                }
            }
            Step::End { nth, tokens } => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                let (_, grant) = self.running.swap_remove(at);
                self.yard.end(grant, tokens);
            }
            Step::Leave { nth } => {
                let Some(at) = nth.checked_rem(self.waiting.len()) else { return };
                self.yard.book.leave(self.waiting.remove(at).call, at_zero());
            }
            Step::Lanes(lanes) => {
                self.lanes = lanes;
                let is_there = |nth: &usize| !matches!(lanes[*nth], Ruled::Gone);
                let rules = (0..3).filter(is_there);
                let rules = rules.map(|nth| rule(nth, lanes[nth].slots(), 2_000));
                self.yard.apply(&[], rules.collect());
            }
            Step::Upstream(nth, slots) => {
                self.upstreams[nth] = slots;
                let name = UPSTREAMS[nth].into();
                self.yard.book.pool(PoolRule { name, slots, pacing: None, wait: WAIT });
                self.yard.book.advance(at_zero());
            }
        }
        self.take_turns();
    }

    /// Those whose turn has come run; each had its places, and now nobody stands who could go.
    fn take_turns(&mut self) {
        let mut went = Vec::new();
        for nth in (0..self.waiting.len()).rev() {
            if let Some(grant) = self.yard.turn(self.waiting[nth].call) {
                let way = self.waiting.remove(nth).way;
                assert!(self.is_open(way), "it was let in without a place: {way:?}");
                self.running.push((way, grant));
                went.push(way);
            }
        }
        let standing: Vec<Way> = self.waiting.iter().map(|one| one.way).collect();
        for way in &standing {
            assert!(!self.is_open(*way), "there is a place, and it stands: {way:?}");
        }
        // counts of the book
        let by = |of: usize| self.running.iter().filter(|(way, _)| way.1 == Some(of)).count();
        let at = |of: usize| self.running.iter().filter(|(way, _)| way.0 == of).count();
        let (pools, lanes) = self.yard.running();
        assert_eq!((pools, lanes), ((0..3).map(at).collect(), (0..3).map(by).collect()));
        assert_eq!(self.yard.book.waiting(), self.waiting.len());
        self.see_patience(&went);
    }

    /// Nobody's first in line is passed over for ever by those who need the same upstream, where its
    /// own lane is not what is full.
    fn see_patience(&mut self, went: &[Way]) {
        let mut seen = Vec::new();
        for nth in 0..self.waiting.len() {
            let way = self.waiting[nth].way;
            if seen.contains(&way) {
                continue;
            }
            seen.push(way);
            let others = went.iter().filter(|one| one.0 == way.0 && one.1 != way.1).count();
            let lane_is_full = way.1.is_some_and(|lane| {
                let by = self.running.iter().filter(|(one, _)| one.1 == Some(lane)).count();
                self.lanes[lane].slots().is_some_and(|slots| by >= slots)
            });
            let own = went.contains(&way);
            let one = &mut self.waiting[nth];
            one.passed = if own { 0 } else { one.passed + if lane_is_full { 0 } else { others } };
            assert!(one.passed <= PATIENCE, "passed over {} times: {way:?}", one.passed);
        }
    }
}

fn at_zero() -> Moment {
    at(0.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_place_is_given_to_who_may_have_it_and_to_nobody_else(
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        // with places for all, all go
        model.step(&Step::Lanes([Ruled::Places(2), Ruled::Unbounded, Ruled::Gone]));
        (0..3).for_each(|nth| model.step(&Step::Upstream(nth, Some(1))));
        while !model.running.is_empty() {
            model.step(&Step::End { nth: 0, tokens: 3 });
        }
        prop_assert!(model.waiting.is_empty());
        let lanes = model.yard.book.lanes();
        prop_assert!(lanes.iter().all(|lane| lane.running == 0 && lane.waiting == [0; 3]));
    }
}
