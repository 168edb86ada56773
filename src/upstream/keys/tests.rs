#![allow(clippy::unwrap_used)]
use super::*;

fn keys(count: u64) -> Vec<Key> {
    let turn = Arc::<AtomicUsize>::default();
    let key = |id| Key {
        name: http::header::AUTHORIZATION,
        value: HeaderValue::from_static("Bearer sk-secret"),
        id,
        state: Arc::default(),
        turn: Arc::clone(&turn),
    };
    (1..=count).map(key).collect()
}

fn shares(keys: &[Key], now: Instant) -> Vec<usize> {
    let mut got = vec![0; keys.len()];
    (0..60).for_each(|_| got[pick(keys, &[], now).unwrap().id as usize - 1] += 1);
    got
}

#[test]
fn calls_spread_evenly_over_the_keys_that_are_usable() {
    let (keys, now) = (keys(3), Instant::now());
    assert_eq!(shares(&keys, now), [20, 20, 20]);
    keys[1].set_aside(Duration::from_mins(5), now);
    assert_eq!(shares(&keys, now), [30, 0, 30]);
    assert_eq!(shares(&keys, now + Duration::from_mins(6)), [20, 20, 20], "it comes back");
}

#[test]
fn the_last_key_is_never_set_aside() {
    let (keys, now) = (keys(2), Instant::now());
    keys[0].set_aside(Duration::from_secs(20), now);
    keys[1].set_aside(Duration::from_mins(5), now);
    assert_eq!(shares(&keys, now), [60, 0], "the one that is back first");
    assert_eq!(pick(&keys, &[1], now).unwrap().id, 2, "a tried one is not tried again");
}

#[test]
fn none_is_left_only_when_all_were_tried() {
    let (keys, now) = (keys(2), Instant::now());
    assert!(pick(&keys, &[1, 2], now).is_none());
    assert!(pick(&keys[..1], &[1], now).is_none());
    assert!(pick(&[], &[], now).is_none());
    keys[0].set_aside(Duration::from_mins(5), now);
    assert_eq!(pick(&keys[..1], &[], now).unwrap().id, 1, "one alone is always used");
}

#[test]
fn a_longer_pause_stays() {
    let (keys, now) = (keys(2), Instant::now());
    keys[0].set_aside(Aside::Spent.pause(), now);
    keys[0].set_aside(Aside::Limited(Duration::from_secs(1)).pause(), now);
    assert!(!keys[0].is_usable(now + Duration::from_mins(9)));
    assert!(keys[0].is_usable(now + Duration::from_secs(601)));
}
