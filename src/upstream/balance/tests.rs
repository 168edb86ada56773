#![allow(clippy::unwrap_used)]
use super::*;

/// Numbers that look random, and are the same in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

fn identity(at: usize) -> u64 {
    mix(at as u64 + 77)
}

#[test]
fn two_of_equal_load_get_an_equal_share() {
    let mut draws = Draws(1);
    let mut got = [0_u32; 5];
    for _ in 0..50_000 {
        got[least_busy(&(0..5), |_| 1.0, draws.next()).unwrap()] += 1;
    }
    assert!(got.iter().all(|got| got.abs_diff(10_000) < 400), "{got:?}");
}

#[test]
fn the_better_of_the_two_is_taken() {
    let mut draws = Draws(2);
    let mut got = [0_u32; 3];
    for _ in 0..9_000 {
        got[least_busy(&(0..3), |at| at as f64, draws.next()).unwrap()] += 1;
    }
    assert_eq!(got[2], 0, "the worst is better than nobody");
    assert!(got[0].abs_diff(6_000) < 300, "{got:?}");
}

#[test]
fn one_alone_and_none_need_no_chance() {
    assert_eq!(least_busy(&[4].into_iter(), |_| f64::MAX, 0), Some(4));
    assert_eq!(least_busy(&(0..0), |_| 0.0, 9), None);
    assert_eq!(round_robin(&(0..0), 9), None);
    assert_eq!(rendezvous(&(0..0), identity, |_| 0, 9), None);
}

#[test]
fn round_robin_is_even_to_the_call() {
    let mut got = [0; 3];
    (0..300).for_each(|turn| got[round_robin(&(0..3), turn).unwrap()] += 1);
    assert_eq!(got, [100; 3]);
}

#[test]
fn keys_spread_evenly_over_addresses() {
    let mut got = [0_u32; 5];
    for key in 0..50_000 {
        got[rendezvous(&(0..5), identity, |_| 0, mix(key)).unwrap()] += 1;
    }
    assert!(got.iter().all(|got| got.abs_diff(10_000) < 400), "{got:?}");
    let small = (0..1000).filter(|key| rendezvous(&(0..5), identity, |_| 0, *key) == Some(0));
    assert!((140..=260).contains(&small.count()), "keys that are nearly alike spread as well");
}

#[test]
fn an_address_that_leaves_moves_its_own_calls_alone() {
    let without = |gone: usize| (0..5).filter(move |at| *at != gone);
    for key in 0..10_000 {
        let before = rendezvous(&(0..5), identity, |_| 0, key).unwrap();
        let after = rendezvous(&without(3), identity, |_| 0, key).unwrap();
        assert!(before == 3 || before == after, "{key} moved from {before} to {after}");
    }
}

#[test]
fn one_hot_key_does_not_bury_its_address() {
    let mut busy = [0_usize; 4];
    for _ in 0..400 {
        let at = rendezvous(&(0..4), identity, |at| busy[at], 12_345).unwrap();
        busy[at] += 1;
    }
    assert!(busy.iter().all(|busy| *busy <= 127), "at most 1.25 of the mean, and two: {busy:?}");
    let home = rendezvous(&(0..4), identity, |_| 0, 12_345).unwrap();
    assert_eq!(busy.iter().max(), Some(&busy[home]), "its own address has the most");
    let few = rendezvous(&(0..4), identity, |at| usize::from(at == home), 12_345);
    assert_eq!(few, Some(home), "one call in flight is not too many");
}

#[test]
fn a_peak_shows_at_once_and_fades() {
    let (latency, start) = (Latency::default(), Instant::now());
    assert_eq!(latency.seconds(start), None);
    let at = |second| start + Duration::from_secs(second);
    latency.observe(Duration::from_millis(100), start);
    latency.observe(Duration::from_secs(2), at(1));
    assert!((latency.seconds(at(1)).unwrap() - 2.0).abs() < 1e-9);
    let faded = latency.seconds(at(11)).unwrap();
    assert!((faded - 2.0 / std::f64::consts::E).abs() < 1e-6, "{faded}");
    for second in 2..60 {
        latency.observe(Duration::from_millis(100), at(second));
    }
    let settled = latency.seconds(at(60)).unwrap();
    assert!((0.08..0.12).contains(&settled), "{settled}");
}

#[test]
fn failing_fast_is_not_being_fast() {
    let (latency, start) = (Latency::default(), Instant::now());
    latency.observe(Duration::from_millis(500), start);
    latency.failed(Duration::from_millis(1), start);
    assert!(latency.seconds(start).unwrap() > 0.9);
    (0..100).for_each(|_| latency.failed(Duration::ZERO, start));
    assert!(latency.seconds(start).unwrap() <= 60.0, "and it stays bounded");
}

/// Calls come at `rate` a second for ten minutes, and each takes what its address takes.
fn simulate(rate: u64, seconds: [f64; 2]) -> [u64; 2] {
    let start = Instant::now();
    let latency = [Latency::default(), Latency::default()];
    let mut draws = Draws(3);
    let (mut running, mut got) = (Vec::<(Instant, usize)>::new(), [0; 2]);
    for call in 0..600 * rate {
        let now = start + Duration::from_secs_f64(call as f64 / rate as f64);
        running.retain(|(ends, at)| {
            let runs = *ends > now;
            if !runs {
                latency[*at].observe(Duration::from_secs_f64(seconds[*at]), *ends);
            }
            runs
        });
        let busy = |at| running.iter().filter(|(_, of)| *of == at).count();
        let load = |at: usize| (busy(at) + 1) as f64 * latency[at].seconds(now).unwrap_or(0.001);
        let at = least_busy(&(0..2), load, draws.next()).unwrap();
        got[at] += 1;
        running.push((now + Duration::from_secs_f64(seconds[at]), at));
    }
    got
}

#[test]
fn a_tenfold_slower_address_gets_less_than_a_fifth() {
    for rate in [1, 5, 50] {
        let [quick, slow] = simulate(rate, [0.1, 1.0]);
        assert!(slow * 5 < quick + slow, "{rate} a second: {quick} and {slow}");
        assert!(slow > 0, "it is not forgotten");
    }
    let [one, other] = simulate(20, [0.3, 0.3]);
    assert!((one * 10).abs_diff(other * 10) < (one + other), "equals share: {one} and {other}");
}
