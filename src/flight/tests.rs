mod content;

use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::task::LocalSet;

use super::*;
use crate::clock::Clock;
use crate::request_id::RequestIds;

const NEVER: Duration = Duration::MAX;

fn limits(bound: Duration) -> Limits {
    let stages = Limits { reading: bound, queued: bound, ..Limits::UNBOUNDED };
    Limits { first_byte: bound, idle: bound, ..stages }
}

fn about() -> About {
    About::new(RequestIds::new().next(), "", Instant::now())
}

/// A call in a list of its own, begun on a clock that stands at zero.
fn begun(limits: Limits) -> (Rc<Flights>, Ticket) {
    let flights = Rc::new(Flights::default());
    let ticket = flights.begin(&Clock::new(), limits, about());
    (flights, ticket)
}

fn fate(ticket: &Ticket) -> Option<Expired> {
    ticket.poll_expired(&mut Context::from_waker(Waker::noop()))
}

fn ms(raw: u32) -> Duration {
    Duration::from_millis(u64::from(raw))
}

#[test]
fn each_stage_has_its_own_bound() {
    let odd = |bound: Duration, set: fn(&mut Limits, Duration)| {
        let mut all = limits(NEVER);
        set(&mut all, bound);
        all
    };
    let one = ms(1000);
    for (stage, limits, want) in [
        (Stage::Reading, odd(one, |l, b| l.reading = b), Some(Expired::Reading)),
        (Stage::Queued, odd(one, |l, b| l.queued = b), Some(Expired::Queued)),
        (Stage::Connecting, limits(one), None),
        (Stage::FirstByte, odd(one, |l, b| l.first_byte = b), Some(Expired::FirstByte)),
        (Stage::Answering, odd(one, |l, b| l.idle = b), Some(Expired::Idle)),
        (Stage::Reading, odd(one, |l, b| l.idle = b), None),
        (Stage::Answering, odd(one, |l, b| l.first_byte = b), None),
        (Stage::Connecting, odd(one, |l, b| l.total = b), Some(Expired::Total)),
        (Stage::Answering, odd(one, |l, b| l.total = b), Some(Expired::Total)),
    ] {
        let (flights, ticket) = begun(limits);
        ticket.enter(stage, Tick::default());
        for now in (0..=1000).step_by(100) {
            flights.sweep(Tick::from_raw(now));
            assert_eq!(fate(&ticket), None, "{stage:?} at {now}");
        }
        flights.sweep(Tick::from_raw(1200));
        assert_eq!(fate(&ticket), want, "{stage:?}");
    }
}

#[test]
fn a_stream_that_sends_is_cut_by_silence_alone() {
    let (flights, ticket) = begun(Limits { total: ms(1000), ..limits(ms(500)) });
    ticket.set_streaming();
    ticket.enter(Stage::Answering, Tick::default());
    let mut now = 0;
    while now < 20_000 {
        now += 100;
        flights.sweep(Tick::from_raw(now));
        ticket.moved(10, Tick::from_raw(now));
        assert_eq!(fate(&ticket), None);
    }
    for late in [100, 200, 300, 400, 500] {
        flights.sweep(Tick::from_raw(now + late));
        assert_eq!(fate(&ticket), None);
    }
    flights.sweep(Tick::from_raw(now + 700));
    assert_eq!(fate(&ticket), Some(Expired::Idle));
    assert_eq!(flights.list()[0].bytes, 2000);
}

/// A client that stood still for long makes the sweep speak of silence; the next byte takes it back.
#[test]
fn a_byte_takes_the_charge_of_silence_back() {
    let (flights, ticket) = begun(limits(ms(500)));
    ticket.enter(Stage::Answering, Tick::default());
    flights.sweep(Tick::from_raw(100));
    flights.sweep(Tick::from_raw(5000));
    assert_eq!(fate(&ticket), Some(Expired::Idle));
    ticket.moved(1, Tick::from_raw(5000));
    assert_eq!(fate(&ticket), None);
    flights.sweep(Tick::from_raw(5100));
    assert_eq!(fate(&ticket), None);

    let (flights, ticket) = begun(Limits { total: ms(500), ..limits(NEVER) });
    ticket.enter(Stage::Answering, Tick::default());
    flights.sweep(Tick::from_raw(100));
    flights.sweep(Tick::from_raw(5000));
    ticket.moved(1, Tick::from_raw(5000));
    assert_eq!(fate(&ticket), Some(Expired::Total), "a byte buys no time");
}

proptest! {
    /// Sweeps come when they can. What moves between two of them stores the tick of the earlier one;
    /// still no call is ended before its bound. A sweep ends what was silent for longer than that
    /// since the sweep that first saw it.
    #[test]
    fn never_early_however_late_the_sweeps(
        gaps in vec(prop_oneof![4 => Just(100_u32), 1 => 1..3000_u32], 1..30),
        moves in vec((0..30_usize, 0..1000_u32), 0..20),
        bound in 1..2000_u32,
        stage in prop_oneof![Just(Stage::FirstByte), Just(Stage::Answering)],
    ) {
        let (flights, ticket) = begun(limits(ms(bound)));
        ticket.enter(stage, Tick::default());
        let (mut now, mut moved, mut seen) = (0_u32, 0_u32, None);
        for (at, gap) in gaps.iter().enumerate() {
            // real moves within this gap; the clock still shows its beginning
            for (_, when) in moves.iter().filter(|(when, _)| *when == at) {
                moved = moved.max(now + when * gap / 1000);
                ticket.enter(stage, Tick::from_raw(now));
                seen = None;
            }
            now += gap;
            flights.sweep(Tick::from_raw(now));
            let seen = *seen.get_or_insert(now);
            let ended = fate(&ticket).is_some();
            prop_assert!(!ended || now - moved > bound, "after {} of {bound} ms", now - moved);
            prop_assert_eq!(ended, now - seen > bound, "seen at {}, now {}", seen, now);
            if ended {
                return Ok(());
            }
        }
    }

    #[test]
    fn two_ticks_late_at_most(moved in 0..100_u32, bound in 1..2000_u32) {
        let (flights, ticket) = begun(limits(ms(bound)));
        flights.sweep(Tick::from_raw(0));
        ticket.enter(Stage::FirstByte, Tick::from_raw(0));
        let mut now = 0;
        while fate(&ticket).is_none() {
            now += 100;
            flights.sweep(Tick::from_raw(now));
        }
        prop_assert!(now - moved > bound && now - moved <= bound + 200, "{now} {moved} {bound}");
    }
}

#[test]
fn the_clock_may_wrap_under_a_call() {
    let flights = Rc::new(Flights::default());
    let ticket = flights.begin(&Clock::new(), limits(ms(1000)), about());
    let start = u32::MAX - 500;
    flights.sweep(Tick::from_raw(start));
    ticket.enter(Stage::FirstByte, Tick::from_raw(start));
    for later in [100_u32, 600, 1000] {
        flights.sweep(Tick::from_raw(start.wrapping_add(later)));
        assert_eq!(fate(&ticket), None, "{later}");
    }
    flights.sweep(Tick::from_raw(start.wrapping_add(1300)));
    assert_eq!(fate(&ticket), Some(Expired::FirstByte));
}

/// Runs what the worker's sweep does, with a clock that the test moves.
async fn sweep_loop(flights: Rc<Flights>, now: Rc<Cell<u32>>, rounds: Rc<Cell<u32>>) {
    loop {
        rounds.set(rounds.get() + 1);
        flights.sweep(Tick::from_raw(now.get()));
        if flights.is_empty() {
            tokio::select! {
                () = flights.sleep() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => continue,
            }
        }
        tokio::time::sleep(TICK).await;
        now.set(now.get() + 100);
    }
}

fn paused<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, future)
}

#[test]
fn guard_ends_a_step_whose_time_is_up_and_only_that() {
    paused(async {
        let flights = Rc::new(Flights::default());
        let (now, rounds) = (Rc::new(Cell::new(0)), Rc::default());
        tokio::task::spawn_local(sweep_loop(Rc::clone(&flights), now, rounds));
        let ticket = flights.begin(&Clock::new(), limits(ms(1000)), about());

        let begun = tokio::time::Instant::now();
        assert_eq!(ticket.guard(pin!(async { 7 })).await, Ok(7));
        let quick = async {
            tokio::time::sleep(ms(900)).await;
            "done"
        };
        assert_eq!(ticket.guard(pin!(quick)).await, Ok("done"));
        assert_eq!(ticket.guard(std::future::pending::<()>()).await, Err(Expired::Reading));
        let took = begun.elapsed();
        assert!(took > ms(1000) && took <= ms(1200), "{took:?}");
        // what is ready is taken even after that; what waits is not waited for
        assert_eq!(ticket.guard(pin!(async { 8 })).await, Ok(8));
        assert_eq!(ticket.guard(std::future::pending::<()>()).await, Err(Expired::Reading));
    });
}

/// The waker follows the task that asked last.
#[test]
fn a_call_that_changes_its_task_is_woken_there() {
    paused(async {
        let flights = Rc::new(Flights::default());
        let ticket = Rc::new(flights.begin(&Clock::new(), limits(ms(1000)), about()));
        assert_eq!(fate(&ticket), None);
        let waiting = Rc::clone(&ticket);
        let task =
            tokio::task::spawn_local(
                async move { waiting.guard(std::future::pending::<()>()).await },
            );
        tokio::task::yield_now().await;
        flights.sweep(Tick::from_raw(100));
        flights.sweep(Tick::from_raw(9000));
        // nothing but the wake-up can bring this on: time stands, and no timer is set
        assert_eq!(task.await.unwrap(), Err(Expired::Reading));
    });
}

/// A call that begins while the sweep sleeps wakes it, and is not born old.
#[test]
fn the_first_call_wakes_the_sweep() {
    paused(async {
        let flights = Rc::new(Flights::default());
        let rounds = Rc::new(Cell::new(0));
        let now = Rc::new(Cell::new(0));
        tokio::task::spawn_local(sweep_loop(Rc::clone(&flights), now, Rc::clone(&rounds)));
        let clock = Clock::new();
        for pause in [0, 1, 50, 999, 1000, 1001, 1500, 2000] {
            tokio::time::sleep(ms(pause)).await;
            let before = rounds.get();
            let ticket = flights.begin(&clock, limits(NEVER), about());
            // three turns within three ticks, not within as many seconds
            tokio::time::sleep(ms(350)).await;
            assert!(rounds.get() >= before + 3, "after {pause} ms: it slept on");
            drop(ticket);
            tokio::time::sleep(ms(200)).await;
        }
        // and without calls it turns once a second
        let before = rounds.get();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(rounds.get() - before <= 12);
    });
}

#[test]
fn a_call_after_a_long_quiet_sees_the_time_of_day() {
    let flights = Rc::new(Flights::default());
    let clock = Clock::new();
    let mut sleeping = Box::pin(flights.sleep());
    assert!(sleeping.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let quiet = Instant::now();
    while quiet.elapsed() < ms(5) {
        std::hint::spin_loop();
    }
    assert_eq!(clock.now(), Tick::default());
    let ticket = flights.begin(&clock, limits(NEVER), about());
    assert!(clock.now().since(Tick::default()) >= ms(5), "the clock was not moved on");
    assert!(sleeping.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    drop(ticket);
    assert!(flights.is_empty());
}

#[test]
fn calls_leave_the_list_in_any_order() {
    let flights = Rc::new(Flights::default());
    let clock = Clock::new();
    let mut tickets: Vec<Ticket> =
        (0..10).map(|_| flights.begin(&clock, limits(NEVER), about())).collect();
    while !tickets.is_empty() {
        assert_eq!(flights.list().len(), tickets.len());
        drop(tickets.swap_remove(tickets.len() / 2));
    }
    assert!(flights.is_empty());
}

#[test]
fn the_call_that_holds_most_is_cut_and_each_only_once() {
    let (flights, clock) = (Rc::new(Flights::default()), Clock::new());
    let begin = || flights.begin(&clock, limits(NEVER), about());
    let (small, large, none, uploading) = (begin(), begin(), begin(), begin());
    small.holds_answer(100);
    large.holds_answer(300);
    uploading.holds_body(200);
    assert_eq!(flights.largest(), 300);
    assert_eq!((flights.cut_largest(), fate(&large)), (300, Some(Expired::Overrun)));
    assert!(large.was_cut());
    assert_eq!((flights.cut_largest(), fate(&uploading)), (200, Some(Expired::Overrun)));
    // its body has been sent: no use in cutting it
    let answered = begin();
    answered.holds_body(1000);
    answered.enter(Stage::Answering, clock.now());
    assert_eq!((flights.cut_largest(), fate(&small)), (100, Some(Expired::Overrun)));
    assert_eq!((flights.largest(), flights.cut_largest()), (0, 0));
    assert_eq!((fate(&none), fate(&answered)), (None, None));
}

#[test]
fn a_cut_is_forgiven_by_nothing() {
    let (flights, ticket) = begun(limits(NEVER));
    ticket.holds_answer(1);
    ticket.enter(Stage::Answering, Tick::default());
    flights.cut_largest();
    ticket.enter(Stage::FirstByte, Tick::default());
    ticket.resumed(Tick::default());
    ticket.over();
    assert_eq!(fate(&ticket), Some(Expired::Overrun));
}

#[test]
fn who_ended_a_call_is_not_outdone_by_another_request_of_it() {
    let (flights, ticket) = begun(limits(NEVER));
    let before = ticket.progress();
    let id = flights.list()[0].about.request_id.as_str().to_owned();
    assert!(flights.cancel(&id));
    ticket.show(before);
    ticket.streams_again(Tick::default());
    assert_eq!(fate(&ticket), Some(Expired::Cancelled));
}

#[test]
fn a_cut_reaches_who_waits_for_readers_whatever_deadline_has_passed() {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    let (flights, ticket) = begun(limits(ms(100)));
    ticket.holds_answer(1);
    ticket.enter(Stage::Answering, Tick::default());
    assert_eq!(ticket.poll_cut(cx), None);
    flights.sweep(Tick::from_raw(100));
    flights.sweep(Tick::from_raw(500));
    assert_eq!(fate(&ticket), Some(Expired::Idle));
    assert_eq!(ticket.poll_cut(cx), None, "that is no concern of its readers");
    let before = woken.0.load(Relaxed);
    flights.cut_largest();
    assert_eq!(woken.0.load(Relaxed), before + 1);
    assert_eq!(ticket.poll_cut(cx), Some(Expired::Overrun));
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn each_call_counts_for_as_long_as_it_lasts() {
    let pressure = Arc::new(crate::pressure::Pressure::default());
    let flights = Rc::new(Flights::new(Arc::clone(&pressure)));
    let begin = || flights.begin(&Clock::new(), limits(NEVER), about());
    let (one, two) = (begin(), begin());
    assert_eq!(pressure.used(), 2 * crate::pressure::CALL);
    drop(one);
    assert_eq!(pressure.used(), crate::pressure::CALL);
    drop(two);
    assert_eq!(pressure.used(), 0);
}

#[test]
fn what_is_kept_back_counts_from_the_next_sweep_on() {
    let pressure = Arc::new(crate::pressure::Pressure::default());
    let flights = Rc::new(Flights::new(Arc::clone(&pressure)));
    let clock = Clock::new();
    let begin = || flights.begin(&clock, limits(NEVER), about());
    let (one, two) = (begin(), begin());
    one.keeps(1000);
    two.keeps(500);
    flights.sweep(clock.now());
    assert_eq!(pressure.used(), 2 * crate::pressure::CALL + 1500);
    assert_eq!(flights.largest(), 1000);
    one.keeps(0);
    flights.sweep(clock.now());
    assert_eq!(pressure.used(), 2 * crate::pressure::CALL + 500);
    drop((one, two));
    flights.sweep(clock.now());
    assert_eq!(pressure.used(), 0);
}
