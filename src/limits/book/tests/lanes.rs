//! Lanes: what one route does keeps no other from its places and its turns.
mod model;

use super::*;

const WAIT: Duration = Duration::from_secs(10);

/// Upstreams and lanes, and calls between them.
struct Yard {
    book: Book,
    upstreams: Vec<PoolId>,
    lanes: Vec<LaneId>,
}

/// Where a call goes: which upstream, and by which lane.
type Way = (usize, Option<usize>);

const UPSTREAMS: [&str; 3] = ["x", "y", "z"];
const LANES: [&str; 3] = ["chat", "tools", "search"];

fn rule(nth: usize, slots: Option<usize>, depth: usize) -> LaneRule {
    LaneRule { name: LANES[nth].into(), slots, depth, wait: WAIT }
}

impl Yard {
    /// Places of each upstream, and of each lane; a lane is there if it is named, bound or not.
    fn new(policies: &[Policy], upstreams: &[Option<usize>], lanes: &[Option<usize>]) -> Self {
        let mut book = Book::new();
        let pools = UPSTREAMS.iter().zip(upstreams).map(|(name, slots)| PoolRule {
            name: (*name).into(),
            slots: *slots,
            pacing: None,
            wait: WAIT,
        });
        let upstreams = pools.map(|rule| book.pool(rule)).collect();
        let lanes_of = LANES.map(|name| book.lane_of(&name.into()));
        let mut yard = Self { book, upstreams, lanes: lanes_of.to_vec() };
        let rules = lanes.iter().enumerate().map(|(nth, slots)| rule(nth, *slots, 2_000));
        yard.apply(policies, rules.collect());
        yard
    }

    fn apply(&mut self, policies: &[Policy], lanes: Vec<LaneRule>) {
        let rules = Rules::prepare(policies, &Metrics::new());
        self.book.apply(Arc::new(rules), [], lanes, at(0.0));
    }

    fn ask(&mut self, who: &str, way: Way, bytes: u64) -> Decision {
        let who = agent(who);
        let (pool, lane) = (self.upstreams[way.0], way.1.map(|lane| self.lanes[lane]));
        let subject = Subject { who: &who, model: "m", route: "r", upstream: UPSTREAMS[way.0] };
        let ask = Ask {
            prompt_bytes: bytes,
            max_tokens: Some(1),
            counted: bytes > 0,
            generates: bytes > 0,
            ..super::moved::ask(subject, pool, lane)
        };
        self.book.ask(&ask, at(0.0))
    }

    fn go(&mut self, who: &str, way: Way) -> Box<Grant> {
        match self.ask(who, way, 40) {
            Decision::Go(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, who: &str, way: Way) -> CallId {
        match self.ask(who, way, 40) {
            Decision::Wait { call, .. } => call,
            other => panic!("{other:?}"),
        }
    }

    fn turn(&mut self, call: CallId) -> Option<Box<Grant>> {
        self.book.poll(call, Waker::noop()).map(Result::unwrap)
    }

    fn end(&mut self, grant: Box<Grant>, tokens: u64) {
        self.book.settle(grant, &answered(tokens, 0), at(0.0));
    }

    /// Whose turn came of these.
    fn first_of(&mut self, calls: &mut Vec<CallId>) -> Option<Box<Grant>> {
        let found = (0..calls.len()).find(|nth| {
            let waiting = &self.book.waits[calls[*nth]];
            waiting.turn.is_some()
        })?;
        let call = calls.remove(found);
        self.turn(call)
    }

    fn running(&self) -> (Vec<usize>, Vec<usize>) {
        let pools = self.book.pools.iter().map(|pool| pool.running).collect();
        (pools, self.book.lanes.iter().map(|lane| lane.running).collect())
    }
}

#[test]
fn a_flood_fills_its_own_lane_alone() {
    let mut yard = Yard::new(&[], &[Some(20)], &[]);
    yard.apply(&[], vec![rule(0, Some(2), 10), rule(1, Some(2), 10)]);
    let running: Vec<_> = (0..2).map(|_| yard.go("a", (0, Some(0)))).collect();
    let waiting: Vec<_> = (0..10).map(|_| yard.wait("a", (0, Some(0)))).collect();
    for who in ["a", "b"] {
        let Decision::No(denial) = yard.ask(who, (0, Some(0)), 40) else { panic!("room for it") };
        assert_eq!((denial.why, denial.lane.as_deref()), (Why::QueueFull, Some("chat")));
        assert!(denial.limit.is_none());
    }
    // the same agent, the same upstream
    let others = [yard.go("a", (0, Some(1))), yard.go("a", (0, None))];
    assert_eq!(yard.running(), (vec![4], vec![2, 1, 0]));
    let lines = yard.book.lanes();
    let of = |nth: usize| (&*lines[nth].route, lines[nth].slots, lines[nth].running);
    assert_eq!((of(0), of(1), lines.len()), (("chat", Some(2), 2), ("tools", Some(2), 1), 2));
    assert_eq!((lines[0].waiting, lines[0].depth), ([0, 10, 0], 10));
    assert_eq!(yard.book.queues(at(0.0))[0].waiting, [0, 10, 0]);
    for call in waiting {
        yard.book.leave(call, at(0.0));
    }
    for grant in running.into_iter().chain(others) {
        yard.end(grant, 1);
    }
    assert_eq!((yard.book.waiting(), yard.running()), (0, (vec![0], vec![0; 3])));
}

#[test]
fn who_waits_for_its_lane_holds_nothing_of_what_lies_behind() {
    let requests = limit(Measure::Requests, 60, 60, Mode::Soft);
    let policies = [Policy { per: Per::All, ..policy(vec![requests]) }];
    let mut yard = Yard::new(&policies, &[Some(3)], &[Some(1)]);
    let first = yard.go("a", (0, Some(0)));
    let second = yard.wait("a", (0, Some(0)));
    assert_eq!((yard.running().0, yard.book.limits(at(0.0))[0].used), (vec![1], 1_000));
    yard.end(first, 1);
    let second = yard.turn(second).unwrap();
    assert_eq!((yard.running().0, yard.book.limits(at(0.0))[0].used), (vec![1], 2_000));
    yard.end(second, 1);
}

/// A thousand wait in one lane, one in another or before the upstream itself: that one goes next.
#[test]
fn a_flood_keeps_nobody_of_another_lane_waiting() {
    for (flood, lone) in [(Some(0), Some(1)), (Some(0), None), (None, Some(0))] {
        for bytes in [0, 40, 400_000] {
            let mut yard = Yard::new(&[], &[Some(2)], &[None, None]);
            let mut running = vec![yard.go("a", (0, flood)), yard.go("a", (0, flood))];
            let mut many: Vec<_> = (0..1_000).map(|_| yard.wait("a", (0, flood))).collect();
            for _ in 0..100 {
                let done = running.remove(0);
                yard.end(done, bytes / 4);
                running.push(yard.first_of(&mut many).unwrap());
            }
            let Decision::Wait { call, .. } = yard.ask("b", (0, lone), bytes) else { panic!() };
            yard.end(running.remove(0), bytes / 4);
            assert!(yard.turn(call).is_some(), "{flood:?} {lone:?} {bytes}");
        }
    }
}

#[test]
fn lanes_take_turns_by_what_they_were_served() {
    // tokens of a call of either; how many of forty turns the second has
    for (tokens, want) in
        [([100, 100], 20..=20), ([0, 0], 20..=20), ([500, 2_000], 13..=14), ([0, 100_000], 4..=6)]
    {
        let mut yard = Yard::new(&[], &[Some(1)], &[None, None]);
        let mut running = yard.go("z", (0, None));
        let mut waiting =
            [0, 1].map(|lane| (0..50).map(|_| yard.wait("a", (0, Some(lane)))).collect::<Vec<_>>());
        let (mut had, mut of) = ([0; 2], 0);
        for _ in 0..40 {
            yard.end(running, tokens[of]);
            let next = yard.first_of(&mut waiting[0]).map(|grant| (0, grant));
            let next = next.or_else(|| Some((1, yard.first_of(&mut waiting[1])?)));
            (of, running) = next.unwrap();
            had[of] += 1;
        }
        assert!(want.contains(&had[1]), "{tokens:?}: {had:?}");
    }
}

#[test]
fn who_could_not_use_its_turns_has_saved_none_up() {
    let mut yard = Yard::new(&[], &[Some(2)], &[Some(1), None]);
    let held = yard.go("a", (0, Some(0)));
    let mut running = yard.go("b", (0, Some(1)));
    let mut held_up: Vec<_> = (0..100).map(|_| yard.wait("a", (0, Some(0)))).collect();
    let mut others: Vec<_> = (0..200).map(|_| yard.wait("b", (0, Some(1)))).collect();
    for _ in 0..100 {
        yard.end(running, 5_000);
        running = yard.first_of(&mut others).unwrap();
    }
    assert!(yard.first_of(&mut held_up).is_none());
    // the lane is widened: both go on side by side
    yard.apply(&[], vec![rule(0, None, 1_000), rule(1, None, 1_000)]);
    let (mut running, mut had) = (vec![held, running], [0; 2]);
    for _ in 0..10 {
        let done = running.remove(0);
        yard.end(done, 100);
        let (of, next) = match yard.first_of(&mut held_up) {
            Some(grant) => (0, grant),
            None => (1, yard.first_of(&mut others).unwrap()),
        };
        had[of] += 1;
        running.push(next);
    }
    assert!((4..=6).contains(&had[1]), "{had:?}");
}

#[test]
fn in_a_lane_agents_take_turns_and_uncounted_calls_do_too() {
    let mut yard = Yard::new(&[], &[Some(5)], &[Some(1)]);
    let Decision::Go(mut running) = yard.ask("busy", (0, Some(0)), 0) else { panic!() };
    let mut wait = |who: &str| match yard.ask(who, (0, Some(0)), 0) {
        Decision::Wait { call, .. } => call,
        other => panic!("{other:?}"),
    };
    let mut busy: Vec<_> = (0..50).map(|_| wait("busy")).collect();
    let mut patient: Vec<_> = (0..10).map(|_| wait("patient")).collect();
    let mut had = 0;
    for _ in 0..20 {
        yard.end(running, 0);
        let of = yard.first_of(&mut patient);
        had += usize::from(of.is_some());
        running = of.or_else(|| yard.first_of(&mut busy)).unwrap();
    }
    assert_eq!(had, 10);
}

#[test]
fn an_upstream_that_is_full_holds_up_no_other_of_its_lane() {
    let mut yard = Yard::new(&[], &[Some(1), Some(5)], &[Some(3)]);
    let hangs = yard.go("a", (0, Some(0)));
    let waiting: Vec<_> = (0..100).map(|_| yard.wait("a", (0, Some(0)))).collect();
    let second = yard.go("a", (1, Some(0)));
    let third = yard.go("a", (1, Some(0)));
    let full = yard.wait("a", (1, Some(0)));
    yard.end(second, 1);
    let fourth = yard.turn(full).unwrap();
    assert!(waiting.iter().all(|call| yard.turn(*call).is_none()));
    yard.end(hangs, 1);
    assert!(yard.turn(waiting[0]).is_some());
    yard.end(third, 1);
    yard.end(fourth, 1);
}

#[test]
fn a_lane_serves_its_upstreams_in_turn() {
    let mut yard = Yard::new(&[], &[None, None], &[Some(1)]);
    let mut running = yard.go("a", (0, Some(0)));
    let mut waiting = [0, 1]
        .map(|upstream| (0..20).map(|_| yard.wait("a", (upstream, Some(0)))).collect::<Vec<_>>());
    let mut order = Vec::new();
    for _ in 0..10 {
        yard.end(running, 1);
        let next = yard.first_of(&mut waiting[0]).map(|grant| (0, grant));
        let (of, grant) = next.or_else(|| Some((1, yard.first_of(&mut waiting[1])?))).unwrap();
        running = grant;
        order.push(of);
    }
    assert_eq!(order, [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]);
}

/// One upstream of a lane is closed by a limit: its calls do not keep those to the other from places
/// that somebody else takes meanwhile.
#[test]
fn who_cannot_go_is_given_way_to_in_vain_and_harms_nobody() {
    let none = Limit { window: Window::Now, ..limit(Measure::Concurrency, 1, 1, Mode::Soft) };
    let closed = Policy {
        matches: Matcher { upstream: Some("y".into()), ..Matcher::default() },
        queue: Some(Queue { wait: WAIT, depth: 100 }),
        per: Per::All,
        ..policy(vec![none])
    };
    let mut yard = Yard::new(&[closed], &[Some(1), Some(5)], &[Some(2)]);
    let _hangs = yard.go("h", (1, None));
    let held: Vec<_> = (0..5).map(|_| yard.wait("a", (1, Some(0)))).collect();
    let mut running = yard.go("b", (0, None));
    let mut own: Vec<_> = (0..20).map(|_| yard.wait("b", (0, None))).collect();
    let mut lane: Vec<_> = (0..20).map(|_| yard.wait("a", (0, Some(0)))).collect();
    let mut had = 0;
    for _ in 0..20 {
        yard.end(running, 1);
        let of = yard.first_of(&mut lane);
        had += usize::from(of.is_some());
        running = of.or_else(|| yard.first_of(&mut own)).unwrap();
    }
    assert_eq!(had, 10);
    assert!(held.iter().all(|call| yard.turn(*call).is_none()));
}

/// A lane is not a way past a limit that somebody waits for.
#[test]
fn a_large_call_is_not_overtaken_by_small_ones_of_another_lane() {
    let tokens = limit(Measure::InputTokens, 600, 60, Mode::Soft);
    let tokens = Limit { burst: Some(100_000), ..tokens };
    let queue = Some(Queue { wait: Duration::from_mins(1), depth: 100 });
    let policies = [Policy { per: Per::All, queue, ..policy(vec![tokens]) }];
    for lane in [None, Some(1)] {
        let mut yard = Yard::new(&policies, &[None], &[Some(5), None]);
        for (who, bytes) in [("a", 196), ("b", 4)] {
            let Decision::Go(one) = yard.ask(who, (0, lane), bytes) else { panic!("no room") };
            yard.end(one, bytes / 4);
        }
        let Decision::Wait { call, .. } = yard.ask("a", (0, lane), 400) else { panic!("room") };
        // a few, whose lane has had less until then
        let went = |yard: &mut Yard| matches!(yard.ask("b", (0, Some(0)), 4), Decision::Go(_));
        let small = (0..20).take_while(|_| went(&mut yard)).count();
        assert!(small <= 3, "{small}");
        let small = yard.wait("c", (0, Some(0)));
        yard.book.advance(at(1.0));
        assert!(yard.turn(small).is_none());
        yard.book.advance(at(12.0));
        assert!(yard.turn(call).is_some());
    }
}

#[test]
fn a_reload_narrows_widens_and_closes_a_lane() {
    let mut yard = Yard::new(&[], &[Some(4)], &[Some(3)]);
    let way = (0, Some(0));
    let mut running: Vec<_> = (0..3).map(|_| yard.go("a", way)).collect();
    let waiting: Vec<_> = (0..6).map(|_| yard.wait("a", way)).collect();
    yard.apply(&[], vec![rule(0, Some(1), 100)]);
    // what runs goes on, and nobody comes in before there is a place again
    assert_eq!(yard.running().1[0], 3);
    for left in [2, 1] {
        yard.end(running.pop().unwrap(), 1);
        assert_eq!((yard.running().1[0], yard.book.waiting()), (left, 6));
    }
    yard.end(running.pop().unwrap(), 1);
    running.push(yard.turn(waiting[0]).unwrap());
    yard.apply(&[], vec![rule(0, Some(2), 100)]);
    running.push(yard.turn(waiting[1]).unwrap());
    assert!(yard.turn(waiting[2]).is_none());
    // gone: the upstream is all that bounds them, in the order they came
    yard.apply(&[], vec![]);
    running.push(yard.turn(waiting[2]).unwrap());
    running.push(yard.turn(waiting[3]).unwrap());
    assert_eq!((yard.running(), yard.book.lanes().len()), ((vec![4], vec![4, 0, 0]), 1));
    yard.end(running.pop().unwrap(), 1);
    assert!(yard.turn(waiting[5]).is_none());
    running.push(yard.turn(waiting[4]).unwrap());
    yard.book.leave(waiting[5], at(0.0));
    for grant in running {
        yard.end(grant, 1);
    }
    assert_eq!((yard.running(), yard.book.lanes().len()), ((vec![0], vec![0; 3]), 0));
}

#[test]
fn a_turn_that_came_has_no_position() {
    let mut yard = Yard::new(&[], &[Some(1), Some(1)], &[Some(1)]);
    let running = yard.go("a", (1, Some(0)));
    let calls = [(); 2].map(|()| yard.wait("b", (1, Some(0))));
    assert_eq!(calls.map(|call| yard.book.position(call)), [Some(0), Some(1)]);
    yard.end(running, 1);
    assert_eq!(calls.map(|call| yard.book.position(call)), [None, Some(0)]);
    assert!(yard.book.waits_for(calls[0], at(0.0)).is_some());
    for call in calls {
        yard.book.leave(call, at(0.0));
    }
    assert_eq!(yard.running(), (vec![0; 2], vec![0; 3]));
}
