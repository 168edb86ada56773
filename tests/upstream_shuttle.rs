//! One probe at a time and no call counted wrongly, in whatever order threads come to a backend's
//! health.
//!
//! Shuttle runs the threads one at a time and chooses at every lock and counter who goes on. Run it by
//! `cargo test --features shuttle --test upstream_shuttle`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use shuttle::thread;
use tidegate::config::{self, Breaker, Host, Origin};
use tidegate::telemetry::metrics::Metrics;
use tidegate::upstream::visit::{Closed, Spread, Visit};
use tidegate::upstream::{Registry, Upstream};

const SCHEDULES: usize = 1_000;
const OPEN: Duration = Duration::from_secs(15);

fn upstream(addresses: u16) -> Arc<Upstream> {
    let host = || Host::Name("127.0.0.1".into());
    let origin = |port| Origin { tls: false, host: host(), port, path: "".into() };
    let config = config::Upstream {
        urls: (1..=addresses).map(origin).collect(),
        breaker: Some(Breaker { failures: 2, open: OPEN, longest: OPEN, ..Breaker::default() }),
        ..config::Upstream::new("up")
    };
    let metrics = Metrics::new();
    Arc::new(Upstream::prepare(&config, &Registry::default(), 0, &metrics, &|_| None).unwrap())
}

fn choose(upstream: &Upstream, now: Instant) -> Result<Visit, Closed> {
    upstream.choose(Spread::default(), &[], now)
}

fn busy(upstream: &Upstream) -> usize {
    upstream.roster.seen(Instant::now()).map(|seen| seen.busy).sum()
}

/// Runs `work` on so many threads at once, until all have ended.
fn together<T: Send + Sync + 'static>(
    threads: usize,
    of: &Arc<T>,
    work: impl Fn(usize, &T) + Send + Sync + Copy + 'static,
) {
    let run = |me| {
        let of = Arc::clone(of);
        thread::spawn(move || work(me, &of))
    };
    let running: Vec<_> = (0..threads).map(run).collect();
    running.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_breaker_lets_one_probe_pass_and_gives_it_back() {
    let check = || {
        let upstream = upstream(1);
        let start = Instant::now();
        (0..2).for_each(|_| choose(&upstream, start).unwrap().failed(start));
        let later = start + OPEN;
        let world = Arc::new((Arc::clone(&upstream), AtomicUsize::new(0)));
        together(4, &world, move |me, (upstream, probes)| {
            let Ok(mut visit) = choose(upstream, later) else { return };
            if visit.is_probe() {
                assert_eq!(probes.fetch_add(1, SeqCst), 0, "two probes at once");
                thread::yield_now();
                probes.fetch_sub(1, SeqCst);
            }
            match me {
                0 => visit.failed(later),
                1 => visit.began(later),
                _ => drop(visit),
            }
        });
        assert_eq!(busy(&upstream), 0);
        // whatever has happened, nobody waits for a probe that is not on its way
        assert!(choose(&upstream, later + OPEN).is_ok());
    };
    shuttle::check_random(check, SCHEDULES);
}

#[test]
fn an_address_that_is_out_is_probed_by_one_and_the_others_go_elsewhere() {
    let check = || {
        let upstream = upstream(2);
        let start = Instant::now();
        let (mut held, mut failed) = (Vec::new(), 0);
        while failed < 2 {
            let visit = choose(&upstream, start).unwrap();
            if visit.at == 0 {
                failed += 1;
                visit.failed(start);
            } else {
                held.push(visit);
            }
        }
        drop(held);
        let later = start + OPEN;
        let world = Arc::new((Arc::clone(&upstream), AtomicUsize::new(0)));
        together(3, &world, move |me, (upstream, probes)| {
            for _ in 0..2 {
                let visit = choose(upstream, later).unwrap();
                if visit.at == 0 {
                    assert!(visit.is_probe());
                    assert_eq!(probes.fetch_add(1, SeqCst), 0, "two probes at once");
                    thread::yield_now();
                    probes.fetch_sub(1, SeqCst);
                    if me == 0 {
                        visit.failed(later);
                    }
                }
            }
        });
        assert_eq!(busy(&upstream), 0);
        assert!(choose(&upstream, later + OPEN).unwrap().is_probe());
    };
    shuttle::check_random(check, SCHEDULES);
}

#[test]
fn failures_of_all_threads_count() {
    let check = || {
        let upstream = upstream(1);
        let start = Instant::now();
        together(3, &upstream, move |_, upstream| {
            if let Ok(visit) = choose(upstream, start) {
                visit.failed(start);
            }
        });
        assert!(!upstream.is_open_for(start), "two of them open it");
        assert_eq!(busy(&upstream), 0);
    };
    shuttle::check_random(check, SCHEDULES);
}

#[test]
fn threads_together_retry_no_more_than_the_budget_allows() {
    let check = || {
        let upstream = upstream(1);
        let now = Instant::now();
        // all of the reserve but one
        (0..99).for_each(|_| assert!(upstream.spend_retry(now)));
        let world = Arc::new((Arc::clone(&upstream), AtomicUsize::new(0)));
        together(3, &world, move |_, (upstream, taken)| {
            if upstream.spend_retry(now) {
                taken.fetch_add(1, SeqCst);
            }
        });
        assert!(world.1.load(SeqCst) <= 1, "one was left");
        // five calls at 20 % earn one more
        together(5, &upstream, move |_, upstream| upstream.earn_retry(now));
        assert_eq!(upstream.retries_left(now), 2 - world.1.load(SeqCst) as u64);
    };
    shuttle::check_random(check, SCHEDULES);
}
