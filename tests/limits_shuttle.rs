//! No lost wake-up at the limiter's door, in whatever order threads come to it.
//!
//! Shuttle runs the threads one at a time and chooses at every lock who goes on; a call that waits and
//! is never woken leaves no thread that could, which is a deadlock, and fails. Run it by
//! `cargo test --features shuttle --test limits_shuttle`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use shuttle::sync::mpsc;
use shuttle::thread::{self, Thread};
use tidegate::config::{Calendar, Limit, Measure, Mode, Per, Policy, Queue, Window};
use tidegate::identity::{Class, Identity, Rung};
use tidegate::limits::Limits;
use tidegate::limits::book::{Ask, Book, Decision, End, Fate, Grant, LaneRule, PoolRule, Unsaved};
use tidegate::limits::rules::{Rules, Subject};
use tidegate::telemetry::metrics::Metrics;

const SCHEDULES: usize = 1_000;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn limits(slots: Option<usize>, limit: Option<Limit>) -> Arc<Limits> {
    let limits = Limits::new();
    let queue = Some(Queue { wait: Duration::from_hours(1), depth: 100 });
    let one = |limit| Policy { limits: vec![limit], per: Per::All, queue, ..Policy::default() };
    let policies: Vec<_> = limit.into_iter().map(one).collect();
    let rules = Rules::prepare(&policies, &Metrics::new());
    let pool = PoolRule { name: "up".into(), slots, pacing: None, wait: Duration::from_hours(1) };
    let lane = LaneRule { name: "lane".into(), slots: Some(1), depth: 100, wait: pool.wait };
    limits.with(|book, now| book.apply(Arc::new(rules), [pool], [lane], now));
    limits
}

/// The ask of a plain call: to an upstream, by its own queue or the lane's.
fn plain<'a>(book: &mut Book, who: &'a Identity, upstream: &'static str, in_lane: bool) -> Ask<'a> {
    Ask {
        subject: Subject { who, model: "m", route: "r", upstream },
        pool: book.pool_of(&upstream.into()),
        lane: in_lane.then(|| book.lane_of(&"lane".into())),
        kind: 0,
        reasoning: false,
        counted: true,
        generates: true,
        prompt_bytes: 40,
        max_tokens: Some(100),
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

fn agent(name: &str) -> Identity {
    Identity {
        agent: name.into(),
        rung: Rung::Key,
        parent: None,
        session: None,
        team: None,
        team_proven: false,
        class: Class::Default,
        credential: None,
        grant: None,
        unlisted: None,
    }
}

fn ask(limits: &Limits, who: &Identity) -> Decision {
    limits.with(|book, now| {
        let ask = plain(book, who, "up", false);
        book.ask(&ask, now)
    })
}

/// As a call's task does: asks, and sleeps until it is woken. It does not look again by itself.
fn admitted(limits: &Limits, who: &Identity) -> Box<Grant> {
    let decision = ask(limits, who);
    turn(limits, decision)
}

fn turn(limits: &Limits, decision: Decision) -> Box<Grant> {
    match decision {
        Decision::Go(grant) => grant,
        Decision::No(denial) => panic!("{denial:?}"),
        Decision::Wait { call, .. } => {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            loop {
                if let Some(turn) = limits.with(|book, _| book.poll(call, &waker)) {
                    return turn.unwrap();
                }
                thread::park();
            }
        }
    }
}

fn end(limits: &Limits, grant: Box<Grant>) {
    limits.with(|book, now| book.settle(grant, &End::unsent(), now));
}

/// Nothing is held when all are gone.
fn is_empty(limits: &Limits) {
    limits.with(|book, now| {
        assert_eq!(book.waiting(), 0);
        assert!(book.queues(now).iter().all(|queue| queue.running == 0));
        assert!(book.lanes().iter().all(|lane| lane.running == 0));
        assert!(book.limits(now).iter().all(|line| line.held == 0));
    });
}

fn crowd(limits: &Arc<Limits>, agents: &[&'static str]) {
    let call = |name: &'static str| {
        let limits = Arc::clone(limits);
        thread::spawn(move || {
            let grant = admitted(&limits, &agent(name));
            thread::yield_now();
            end(&limits, grant);
        })
    };
    let threads: Vec<_> = agents.iter().map(|name| call(name)).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    is_empty(limits);
}

#[test]
fn who_waits_for_a_place_is_woken() {
    let one = || crowd(&limits(Some(1), None), &["a", "b", "a", "c"]);
    shuttle::check_random(one, SCHEDULES);
    shuttle::check_pct(one, SCHEDULES, 3);
}

#[test]
fn who_waits_for_a_limit_is_woken() {
    let limit = Limit {
        measure: Measure::Concurrency,
        amount: 1,
        window: Window::Now,
        burst: None,
        mode: Mode::Soft,
    };
    for agents in [["a", "a", "a"], ["a", "b", "c"]] {
        let limit = limit.clone();
        let one = move || crowd(&limits(None, Some(limit.clone())), &agents);
        shuttle::check_random(one.clone(), SCHEDULES);
        shuttle::check_pct(one, SCHEDULES, 3);
    }
}

#[test]
fn a_turn_that_is_not_taken_goes_to_the_next() {
    let one = || {
        let limits = limits(Some(1), None);
        let first = admitted(&limits, &agent("a"));
        let Decision::Wait { call, .. } = ask(&limits, &agent("b")) else { panic!() };
        let of = Arc::clone(&limits);
        let leaver = thread::spawn(move || of.with(|book, now| book.leave(call, now)));
        let of = Arc::clone(&limits);
        let next = thread::spawn(move || {
            let grant = admitted(&of, &agent("c"));
            end(&of, grant);
        });
        end(&limits, first);
        leaver.join().unwrap();
        next.join().unwrap();
        is_empty(&limits);
    };
    shuttle::check_random(one, SCHEDULES);
    shuttle::check_pct(one, SCHEDULES, 3);
}

/// Calls of a lane with one place, to two upstreams with one and many, beside calls without a lane:
/// each comes to its end, also where it moves from one upstream to the other on the way, or leaves.
#[test]
fn who_waits_in_a_lane_is_woken() {
    let one = || {
        let limits = limits(Some(1), None);
        let call = |who: &'static str, upstream, in_lane, moves: Option<&'static str>| {
            let limits = Arc::clone(&limits);
            thread::spawn(move || {
                let who = agent(who);
                let decision = limits.with(|book, now| {
                    let ask = plain(book, &who, upstream, in_lane);
                    book.ask(&ask, now)
                });
                let mut grant = turn(&limits, decision);
                thread::yield_now();
                if let Some(to) = moves {
                    let failed = End { fate: Fate::Failed, ..End::unsent() };
                    let decision = limits.with(|book, now| {
                        let ask = plain(book, &who, to, in_lane);
                        book.exchange(grant, &failed, &ask, now).1
                    });
                    grant = turn(&limits, decision);
                }
                end(&limits, grant);
            })
        };
        let threads = [
            call("a", "up", true, None),
            call("b", "up", false, None),
            call("a", "other", true, Some("up")),
            call("b", "up", true, Some("other")),
        ];
        let leaver = agent("c");
        match limits.with(|book, now| {
            let ask = plain(book, &leaver, "up", true);
            book.ask(&ask, now)
        }) {
            Decision::Go(grant) => end(&limits, grant),
            Decision::Wait { call, .. } => {
                thread::yield_now();
                limits.with(|book, now| book.leave(call, now));
            }
            Decision::No(denial) => panic!("{denial:?}"),
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_empty(&limits);
    };
    shuttle::check_random(one, SCHEDULES);
    shuttle::check_pct(one, SCHEDULES, 3);
}

#[test]
fn who_waits_for_the_disk_is_woken() {
    let limit = Limit {
        measure: Measure::Tokens,
        amount: 1_000_000_000,
        window: Window::Calendar(Calendar::Month),
        burst: None,
        mode: Mode::Hard,
    };
    let one = move || {
        let limits = limits(None, Some(limit.clone()));
        limits.with(|book, _| book.restore([]));
        let (to, from) = mpsc::channel::<Vec<Unsaved>>();
        // senders may not be shared, and nobody else holds this lock for long
        let to = shuttle::sync::Mutex::new(to);
        limits.keep_with(Box::new(move |unsaved| {
            let _ = to.lock().unwrap().send(unsaved);
        }));
        // a writer takes what there is, as long as somebody may write
        let of = Arc::downgrade(&limits);
        let writer = thread::spawn(move || {
            while let Ok(unsaved) = from.recv() {
                let Some(limits) = of.upgrade() else { return };
                limits.saved(&unsaved);
            }
        });
        crowd(&limits, &["a", "b", "a"]);
        drop(limits);
        writer.join().unwrap();
    };
    shuttle::check_random(one.clone(), SCHEDULES);
    shuttle::check_pct(one, SCHEDULES, 3);
}
