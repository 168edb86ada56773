#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::config::{Breaker, Host, Origin};
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Registry, Upstream};

struct World {
    registry: Registry,
    metrics: Metrics,
    config: config::Upstream,
    start: Instant,
}

fn checks() -> HealthCheck {
    HealthCheck {
        path: "/health".into(),
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        failures: 2,
        successes: 3,
    }
}

impl World {
    fn new(addresses: u16) -> Self {
        let origin = |port| Origin {
            tls: false,
            host: Host::Name("127.0.0.1".into()),
            port,
            path: "".into(),
        };
        let urls = (1..=addresses).map(origin).collect();
        let config = config::Upstream {
            urls,
            http2: config::Http2::Never,
            breaker: Some(Breaker::default()),
            ..config::Upstream::new("up")
        };
        let registry = Registry::default();
        Self { registry, metrics: Metrics::new(), config, start: Instant::now() }
    }

    fn upstream(&self) -> Upstream {
        Upstream::prepare(&self.config, &self.registry, 0, &self.metrics, &|_| None).unwrap()
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn scraped(&self, name: &str) -> Option<u64> {
        let mut text = String::new();
        self.metrics.encode(&mut text);
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

fn choose(upstream: &Upstream, now: Instant) -> Visit {
    upstream.choose(Spread::default(), &[], now).unwrap()
}

/// Visits that go to the address end badly, all others well.
fn calls(upstream: &Upstream, bad: &[usize], count: usize, now: Instant) -> Vec<usize> {
    let mut got = vec![0; upstream.addresses.len()];
    for _ in 0..count {
        let mut visit = choose(upstream, now);
        got[visit.at] += 1;
        if bad.contains(&visit.at) {
            visit.failed(now);
        } else {
            visit.began(now);
            visit.worked();
        }
    }
    got
}

fn states(upstream: &Upstream, now: Instant) -> Vec<&'static str> {
    upstream.roster.seen(now).map(|seen| seen.state).collect()
}

#[test]
fn one_address_alone_is_the_upstreams_breaker() {
    let world = World::new(1);
    let upstream = world.upstream();
    assert_eq!(calls(&upstream, &[0], 5, world.at(0)), [5]);
    let Err(Closed::Breaker(left)) = upstream.choose(Spread::default(), &[], world.at(1)) else {
        panic!("it is open")
    };
    assert!(left > Duration::from_secs(12) && left <= Duration::from_secs(14));
    assert!(!upstream.is_open_for(world.at(1)));
    assert_eq!(states(&upstream, world.at(1)), ["well"], "an address alone is never taken out");
    assert_eq!(world.scraped("tidegate_upstream_breaker_state"), Some(2));
    assert_eq!(world.scraped("tidegate_upstream_breaker_opened_total"), Some(1));
    assert!((0..3).all(|_| upstream.is_open_for(world.at(15))), "asking takes no probe");
    let mut probe = choose(&upstream, world.at(15));
    assert!(probe.is_probe());
    assert_eq!(world.scraped("tidegate_upstream_breaker_state"), Some(1));
    assert!(upstream.choose(Spread::default(), &[], world.at(15)).is_err());
    probe.began(world.at(16));
    assert_eq!(world.scraped("tidegate_upstream_breaker_state"), Some(0));
    calls(&upstream, &[], 3, world.at(16));
}

#[test]
fn a_visit_dropped_without_a_word_gives_the_probe_back() {
    let world = World::new(1);
    let upstream = world.upstream();
    calls(&upstream, &[0], 5, world.at(0));
    drop(choose(&upstream, world.at(15)));
    assert!(choose(&upstream, world.at(15)).is_probe());
    assert_eq!(upstream.roster.members[0].busy.load(Relaxed), 0);
}

#[test]
fn a_client_that_leaves_is_nobodys_failure() {
    let world = World::new(1);
    let upstream = world.upstream();
    for _ in 0..100 {
        let mut visit = choose(&upstream, world.at(0));
        visit.began(world.at(0));
        drop(choose(&upstream, world.at(0)));
    }
    assert!(upstream.is_open_for(world.at(0)));
}

#[test]
fn no_breaker_no_refusal() {
    let mut world = World::new(3);
    world.config.breaker = None;
    let upstream = world.upstream();
    let got = calls(&upstream, &[0, 1, 2], 300, world.at(0));
    assert_eq!(got.iter().sum::<usize>(), 300);
    assert_eq!(states(&upstream, world.at(0)), ["well"; 3]);
}

#[test]
fn a_failing_address_gets_five_calls_and_then_none() {
    let mut world = World::new(3);
    world.config.balance = Balance::RoundRobin;
    let upstream = world.upstream();
    let got = calls(&upstream, &[1], 300, world.at(0));
    assert_eq!(got[1], 5);
    assert!(got[0].abs_diff(got[2]) < 10, "the others share its calls: {got:?}");
    assert_eq!(states(&upstream, world.at(0)), ["well", "ejected", "well"]);
    assert_eq!(world.scraped("tidegate_upstream_ejected_addresses"), Some(1));
    assert_eq!(world.scraped("tidegate_upstream_ejections_total"), Some(1));
    assert_eq!(world.scraped("tidegate_upstream_breaker_state"), Some(0), "the rest is well");
    assert!(upstream.is_open_for(world.at(0)));
}

#[test]
fn an_address_that_fails_fast_does_not_draw_the_calls() {
    let world = World::new(3);
    let upstream = world.upstream();
    let got = calls(&upstream, &[2], 1000, world.at(0));
    assert!(got[2] <= 5, "{got:?}");
}

#[test]
fn an_ejected_address_is_probed_by_one_call_a_window() {
    let mut world = World::new(3);
    world.config.balance = Balance::RoundRobin;
    let upstream = world.upstream();
    calls(&upstream, &[1], 60, world.at(0));
    assert_eq!(calls(&upstream, &[1], 60, world.at(15))[1], 1, "the probe fails");
    assert_eq!(calls(&upstream, &[1], 60, world.at(25))[1], 0);
    let mut probe = choose(&upstream, world.at(45));
    assert_eq!((probe.at, probe.is_probe()), (1, true));
    assert_eq!(states(&upstream, world.at(45)), ["well", "probing", "well"]);
    assert_eq!(calls(&upstream, &[], 60, world.at(45))[1], 0, "they wait for how it goes");
    probe.began(world.at(46));
    assert_eq!(states(&upstream, world.at(46)), ["well"; 3]);
    assert_eq!(calls(&upstream, &[], 60, world.at(46)), [20; 3]);
    assert_eq!(world.scraped("tidegate_upstream_ejected_addresses"), Some(0));
}

#[test]
fn when_the_last_address_goes_out_the_upstream_does() {
    let world = World::new(3);
    let upstream = world.upstream();
    let mut failed = 0;
    while let Ok(visit) = upstream.choose(Spread::default(), &[], world.at(0)) {
        visit.failed(world.at(0));
        failed += 1;
    }
    assert_eq!(failed, 15);
    assert!(!upstream.is_open_for(world.at(1)));
    let mut probe = choose(&upstream, world.at(15));
    assert!(upstream.choose(Spread::default(), &[], world.at(15)).is_err(), "one for all");
    let back = probe.at;
    probe.began(world.at(15));
    drop(probe);
    let standing = states(&upstream, world.at(15)).iter().filter(|state| **state == "well").count();
    assert_eq!(standing, 1, "the others are probed one by one");
    let got = calls(&upstream, &[], 100, world.at(15));
    assert!(got.iter().all(|got| *got > 0), "{got:?}");
    assert_eq!(states(&upstream, world.at(15)), ["well"; 3], "after {back} all are back");
}

#[test]
fn while_an_address_may_be_probed_the_upstream_stays_open_to_calls() {
    let world = World::new(2);
    let upstream = world.upstream();
    calls(&upstream, &[0], 100, world.at(0));
    // its time is over when the other one fails
    let visits: Vec<_> = (0..20).map(|_| choose(&upstream, world.at(1))).collect();
    for visit in visits {
        visit.failed(world.at(20));
    }
    assert_eq!(states(&upstream, world.at(20))[1], "ejected");
    let probe = choose(&upstream, world.at(20));
    assert_eq!((probe.at, probe.is_probe()), (0, true));
    probe.failed(world.at(20));
    assert!(!upstream.is_open_for(world.at(21)), "that was the last hope");
}

#[test]
fn tried_addresses_come_last_and_all_tried_is_said() {
    let world = World::new(2);
    let upstream = world.upstream();
    let keys: Vec<_> = upstream.addresses.iter().map(|address| address.key).collect();
    for _ in 0..50 {
        let visit = upstream.choose(Spread::default(), &keys[..1], world.at(0)).unwrap();
        assert_eq!(visit.at, 1);
    }
    let all = upstream.choose(Spread::default(), &keys, world.at(0));
    assert_eq!(all.err(), Some(Closed::Tried));
    calls(&upstream, &[1], 100, world.at(0));
    let again = upstream.choose(Spread::default(), &keys[..1], world.at(1)).unwrap();
    assert_eq!(again.at, 0, "rather the tried one than one that is out");
}

#[test]
fn an_unwell_address_gets_no_calls_while_another_is_left() {
    let mut world = World::new(2);
    world.config.health = Some(checks());
    let upstream = world.upstream();
    let check = |at, well| upstream.roster.checked(at, well, &checks());
    check(0, false);
    assert!(calls(&upstream, &[], 100, world.at(0))[0] > 0, "once is not enough");
    check(0, true);
    check(0, false);
    assert_eq!(states(&upstream, world.at(0)), ["well"; 2], "they must be in a row");
    check(0, false);
    assert_eq!(states(&upstream, world.at(0)), ["unwell", "well"]);
    assert_eq!(calls(&upstream, &[], 100, world.at(0)), [0, 100]);
    (0..2).for_each(|_| check(1, false));
    let got = calls(&upstream, &[], 100, world.at(0));
    assert!(got.iter().all(|got| *got > 0), "with all unwell all are asked: {got:?}");
    (0..3).for_each(|_| check(0, true));
    assert_eq!(calls(&upstream, &[], 100, world.at(0)), [100, 0]);
    assert_eq!(world.scraped("tidegate_upstream_health_check_failures_total"), Some(5));
}

#[test]
fn without_active_checks_what_they_said_is_forgotten() {
    let mut world = World::new(2);
    world.config.health = Some(checks());
    let before = world.upstream();
    (0..2).for_each(|_| before.roster.checked(0, false, &checks()));
    world.config.health = None;
    let after = world.upstream();
    assert!(calls(&after, &[], 100, world.at(0))[0] > 0);
}

#[test]
fn health_outlives_a_reload_and_a_changed_rule_is_in_force() {
    let mut world = World::new(1);
    let before = world.upstream();
    calls(&before, &[0], 3, world.at(0));
    world.config.breaker = Some(Breaker { failures: 4, ..Breaker::default() });
    let after = world.upstream();
    calls(&after, &[0], 1, world.at(0));
    assert!(!after.is_open_for(world.at(0)), "three before and one after are four");
    assert!(!before.is_open_for(world.at(0)), "calls of the old policy see it too");
}

#[test]
fn calls_that_begin_alike_stay_together() {
    let mut world = World::new(4);
    world.config.balance = Balance::Prefix;
    let (one, another) = (world.upstream(), World { ..World::new(4) });
    let by = |prefix| Spread { prefix: Some(prefix), session: Some(7) };
    let home =
        |upstream: &Upstream, prefix| upstream.choose(by(prefix), &[], world.at(0)).unwrap().at;
    let homes: Vec<_> = (0..1000).map(|prefix| home(&one, prefix)).collect();
    let mut other = another;
    other.config.balance = Balance::Prefix;
    let other = other.upstream();
    let same = (0..1000).all(|prefix| home(&other, prefix) == homes[prefix as usize]);
    assert!(same, "in every process");
    for at in 0..4 {
        let share = homes.iter().filter(|home| **home == at).count();
        assert!((150..350).contains(&share), "{at}: {share}");
    }
    let nothing = calls(&one, &[], 400, world.at(0));
    assert!(nothing.iter().all(|got| *got > 0), "without a prefix the least busy: {nothing:?}");
}

#[test]
fn sessions_stay_together_whatever_they_ask() {
    let mut world = World::new(4);
    world.config.balance = Balance::Session;
    let upstream = world.upstream();
    let at = |prefix| {
        let by = Spread { prefix: Some(prefix), session: Some(42) };
        upstream.choose(by, &[], world.at(0)).unwrap().at
    };
    let first = at(0);
    assert!((1..100).all(|prefix| at(prefix) == first));
}

#[test]
fn nothing_of_an_address_but_its_place_is_shown() {
    let world = World::new(1);
    let upstream = world.upstream();
    let seen: Vec<_> = upstream.roster.seen(world.at(0)).map(|seen| seen.address).collect();
    assert_eq!(seen, ["127.0.0.1:1"]);
}
