//! A call moves to another upstream: what it has paid, it has paid.
use super::*;

/// A plain call.
pub fn ask(subject: Subject<'_>, pool: PoolId, lane: Option<LaneId>) -> Ask<'_> {
    Ask {
        subject,
        pool,
        lane,
        kind: 0,
        reasoning: false,
        counted: true,
        generates: true,
        prompt_bytes: 40,
        max_tokens: Some(10),
        least: 0,
        answers: 1,
        rate: None,
        credential: 0,
        patience: None,
        here: false,
        paid: false,
        conversation: None,
    }
}

/// Two upstreams, the second of which has one place, and a route that leads to both by a lane.
struct Road {
    book: Book,
    pools: [PoolId; 2],
    lane: LaneId,
}

const NOW: bool = true;
const PATIENT: bool = false;

impl Road {
    fn new(policies: &[Policy]) -> Self {
        let mut book = Book::new();
        let wait = Duration::from_secs(10);
        let pool =
            |(name, slots): (&str, _)| PoolRule { name: name.into(), slots, pacing: None, wait };
        let pools = [("one", None), ("two", Some(1))].map(pool).map(|rule| book.pool(rule));
        let rule = LaneRule { name: "r".into(), slots: Some(3), depth: 10, wait };
        let lane = book.lane_of(&rule.name);
        let rules = Rules::prepare(policies, &Metrics::new());
        book.apply(Arc::new(rules), [], [rule], at(0.0));
        Self { book, pools, lane }
    }

    fn with<T>(
        &mut self,
        who: &str,
        upstream: usize,
        at_once: bool,
        work: impl FnOnce(&mut Book, &Ask<'_>) -> T,
    ) -> T {
        let who = agent(who);
        let name = ["one", "two"][upstream];
        let subject = Subject { who: &who, model: "m", route: "r", upstream: name };
        let patience = at_once.then_some(Duration::ZERO);
        let ask = Ask { patience, ..ask(subject, self.pools[upstream], Some(self.lane)) };
        work(&mut self.book, &ask)
    }

    fn ask(&mut self, who: &str, upstream: usize) -> Decision {
        self.with(who, upstream, PATIENT, |book, ask| book.ask(ask, at(0.0)))
    }

    fn go(&mut self, who: &str, upstream: usize) -> Box<Grant> {
        match self.ask(who, upstream) {
            Decision::Go(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    /// The call of agent `a` moves.
    fn exchange(&mut self, grant: Box<Grant>, fate: Fate, to: usize, at_once: bool) -> Decision {
        let end = End { fate, ..End::unsent() };
        self.with("a", to, at_once, |book, ask| book.exchange(grant, &end, ask, at(0.0)).1)
    }

    fn moved(&mut self, grant: Box<Grant>, fate: Fate, to: usize) -> Box<Grant> {
        match self.exchange(grant, fate, to, NOW) {
            Decision::Go(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    /// Requests that the first limit has counted.
    fn requests(&mut self) -> i64 {
        self.book.limits(at(0.0))[0].used / 1000
    }

    fn is_at_rest(&mut self) {
        assert_eq!((self.book.waiting(), self.book.lanes()[0].running), (0, 0));
        for queue in self.book.queues(at(0.0)) {
            assert_eq!((queue.running, queue.agents), (0, 0));
        }
        for line in self.book.limits(at(0.0)) {
            assert_eq!(line.held, 0);
        }
        assert!(self.book.table.entries.iter().all(|(_, entry)| entry.users == 0));
        assert!(self.book.agents(at(0.0)).iter().all(|one| (one.running, one.waiting) == (0, 0)));
    }
}

/// Of requests, for everybody together, with a queue.
fn requests(amount: i64) -> Policy {
    let one = Limit { burst: Some(amount * 1000), ..limit(Measure::Requests, 1, 3600, Mode::Soft) };
    let queue = Some(Queue { wait: Duration::from_hours(2), depth: 8 });
    Policy { per: Per::All, queue, ..policy(vec![one]) }
}

#[test]
fn a_full_limit_lets_who_has_paid_move_and_nobody_take_its_place() {
    for fate in [Fate::Unsent, Fate::Failed, Fate::Rejected] {
        let mut road = Road::new(&[requests(1)]);
        let first = road.go("a", 0);
        let Decision::Wait { call, .. } = road.ask("b", 0) else { panic!("room for two") };
        let second = road.moved(first, fate, 1);
        assert_eq!(road.requests(), 1, "{fate:?}");
        assert!(road.book.poll(call, Waker::noop()).is_none());
        assert_eq!(
            road.book.queues(at(0.0)).iter().map(|one| one.running).collect::<Vec<_>>(),
            [0, 1]
        );
        road.book.settle(second, &answered(1, 1), at(0.0));
        assert_eq!(road.requests(), 1, "{fate:?}");
        road.book.leave(call, at(0.0));
        road.is_at_rest();
    }
}

/// The same of calls at once, with somebody before the upstream that it moves to.
#[test]
fn what_it_gives_back_is_its_own_first() {
    let one = Limit { window: Window::Now, ..limit(Measure::Concurrency, 1, 1, Mode::Soft) };
    let queue = Some(Queue { wait: Duration::from_secs(10), depth: 8 });
    let mut road = Road::new(&[Policy { per: Per::All, queue, ..policy(vec![one]) }]);
    let first = road.go("a", 0);
    let Decision::Wait { call, .. } = road.ask("b", 1) else { panic!("room for two") };
    let second = road.moved(first, Fate::Unsent, 1);
    assert!(road.book.poll(call, Waker::noop()).is_none());
    road.book.settle(second, &answered(1, 1), at(0.0));
    let other = road.book.poll(call, Waker::noop()).unwrap().unwrap();
    road.book.settle(other, &answered(1, 1), at(0.0));
    road.is_at_rest();
}

#[test]
fn a_call_counts_once_however_often_it_moves() {
    use Fate::{Answered, Failed, Rejected, Unsent};
    // how each attempt ended, and what the limit has counted in the end
    for (fates, want) in [
        ([Unsent, Unsent, Unsent], 0),
        ([Unsent, Failed, Unsent], 1),
        ([Failed, Unsent, Unsent], 1),
        ([Rejected, Failed, Answered], 1),
        ([Unsent, Unsent, Answered], 1),
    ] {
        let mut road = Road::new(&[requests(5)]);
        let mut grant = road.go("a", 0);
        for (to, fate) in [(1, fates[0]), (0, fates[1])] {
            grant = road.moved(grant, fate, to);
            assert_eq!(road.requests(), 1, "{fates:?}");
        }
        road.book.settle(grant, &End { fate: fates[2], ..End::unsent() }, at(0.0));
        assert_eq!(road.requests(), want, "{fates:?}");
        road.is_at_rest();
    }
}

#[test]
fn without_patience_it_is_refused_at_once_and_leaves_nothing_behind() {
    for (fate, want) in [(Fate::Unsent, 1), (Fate::Failed, 2)] {
        let mut road = Road::new(&[requests(5)]);
        let first = road.go("a", 0);
        let full = road.go("b", 1);
        let Decision::No(denial) = road.exchange(first, fate, 1, NOW) else { panic!("no place") };
        assert_eq!((denial.why, denial.limit.is_some(), denial.lane), (Why::Full, false, None));
        // the other's, and its own where it was sent
        assert_eq!((road.requests(), road.book.waiting()), (want, 0));
        road.book.settle(full, &answered(1, 1), at(0.0));
        road.is_at_rest();
    }
}

#[test]
fn who_moves_and_waits_keeps_what_it_paid_until_it_leaves() {
    for (fate, want) in [(Fate::Unsent, 1), (Fate::Failed, 2)] {
        for goes in [true, false] {
            let mut road = Road::new(&[requests(2)]);
            let first = road.go("a", 0);
            let full = road.go("b", 1);
            let Decision::Wait { call: other, .. } = road.ask("c", 0) else { panic!("room") };
            let Decision::Wait { call, .. } = road.exchange(first, fate, 1, PATIENT) else {
                panic!("no place")
            };
            assert_eq!(road.requests(), 2);
            assert!(road.book.poll(other, Waker::noop()).is_none());
            if goes {
                road.book.settle(full, &answered(1, 1), at(0.0));
                let grant = road.book.poll(call, Waker::noop()).unwrap().unwrap();
                assert_eq!(road.requests(), 2);
                road.book.settle(grant, &End::unsent(), at(0.0));
            } else {
                road.book.leave(call, at(0.0));
                road.book.settle(full, &answered(1, 1), at(0.0));
            }
            // what was given back goes to who waits for it
            let went = road.book.poll(other, Waker::noop()).map(Result::unwrap);
            assert_eq!(went.is_some(), want == 1, "{fate:?} {goes}");
            match went {
                Some(grant) => drop(road.book.settle(grant, &End::unsent(), at(0.0))),
                None => road.book.leave(other, at(0.0)),
            }
            assert_eq!(road.requests(), want, "{fate:?} {goes}");
            road.is_at_rest();
        }
    }
}

#[test]
fn a_limit_that_one_attempt_alone_is_under_counts_that_attempt() {
    let of = |upstream: &str| Policy {
        matches: Matcher { upstream: Some(upstream.into()), ..Matcher::default() },
        ..requests(5)
    };
    let mut road = Road::new(&[of("one"), of("two")]);
    let used = |road: &mut Road| {
        road.book.limits(at(0.0)).iter().map(|line| line.used / 1000).collect::<Vec<_>>()
    };
    let grant = road.go("a", 0);
    let grant = road.moved(grant, Fate::Failed, 1);
    assert_eq!(used(&mut road), [1, 1]);
    let grant = road.moved(grant, Fate::Unsent, 0);
    assert_eq!(used(&mut road), [2, 0]);
    road.book.settle(grant, &answered(1, 1), at(0.0));
    assert_eq!(used(&mut road), [2, 0]);
    road.is_at_rest();
}

#[test]
fn tokens_count_for_each_attempt() {
    let tokens = limit(Measure::Tokens, 10_000, 3600, Mode::Soft);
    let mut road = Road::new(&[policy(vec![tokens])]);
    let first = road.go("a", 0);
    let second = road.moved(first, Fate::Failed, 1);
    road.book.settle(second, &answered(10, 5), at(0.0));
    // the backend that failed has read the prompt
    assert_eq!(road.book.limits(at(0.0))[0].used, 25_000);
    road.is_at_rest();
}

/// The guard against loops sees a call once, and slows it down once.
#[test]
fn a_flagged_call_moves_without_being_judged_again() {
    let runaway = Runaway { repeats: 2, factor: 10.0, action: RunawayAction::Slow };
    let mut road = Road::new(&[Policy { runaway: Some(runaway), ..Policy::default() }]);
    let say = |turn| Some(Conversation { id: 1, tool: Some(ToolCall { hash: 7, turn }) });
    let talk = |road: &mut Road, turn| {
        road.with("a", 0, PATIENT, |book, ask| {
            book.ask(&Ask { conversation: say(turn), ..*ask }, at(0.0))
        })
    };
    let Decision::Go(first) = talk(&mut road, 3) else { panic!() };
    road.book.settle(first, &answered(1, 1), at(0.0));
    let Decision::Wait { call, .. } = talk(&mut road, 5) else { panic!("it is not slowed") };
    road.book.advance(at(2.0));
    let grant = road.book.poll(call, Waker::noop()).unwrap().unwrap();
    assert!(grant.runaway.is_some_and(|flag| flag.fresh));
    let end = End::unsent();
    let moved = road.with("a", 1, NOW, |book, ask| {
        let ask = Ask { conversation: say(5), ..*ask };
        book.exchange(grant, &end, &ask, at(2.0)).1
    });
    let Decision::Go(grant) = moved else { panic!("{moved:?}") };
    assert!(grant.runaway.is_some_and(|flag| !flag.fresh));
    road.book.settle(grant, &answered(1, 1), at(2.0));
    road.is_at_rest();
}
