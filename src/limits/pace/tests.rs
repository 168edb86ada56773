use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const MS: u64 = SECOND / 1000;

fn need(input: u64, output: u64) -> Need {
    Need { input_tokens: input, output_tokens: output }
}

fn pace() -> Pace {
    Pace::new(Mode::Auto, 7, 0)
}

fn tokens(limit: u64, remaining: u64, reset: Option<u64>) -> Quota {
    let reset = reset.map(Duration::from_secs);
    let tokens = Allowance { limit: Some(limit), remaining: Some(remaining), reset };
    Quota { tokens: Some(tokens), ..Quota::default() }
}

fn wait(seconds: u64) -> Quota {
    Quota { retry_after: Some(Duration::from_secs(seconds)), ..Quota::default() }
}

fn good(quota: &Quota) -> Heard<'_> {
    Heard { quota, limited: false, overloaded: false }
}

fn bad(quota: &Quota) -> Heard<'_> {
    Heard { quota, limited: true, overloaded: false }
}

/// A call that is sent, heard and over at once.
fn whole(pace: &mut Pace, need: Need, heard: &Heard<'_>, now: u64) {
    let mut sent = pace.sent(need, now);
    pace.heard(&mut sent, heard, now);
    pace.finished(sent, None, now);
}

/// A pace that knows of a limit of 60,000 tokens, of which so many remain.
fn told(remaining: u64) -> Pace {
    let mut pace = pace();
    whole(&mut pace, need(0, 0), &good(&tokens(60_000, remaining, None)), 0);
    pace
}

fn remaining(pace: &Pace, now: u64) -> u64 {
    pace.state(now).tokens.expect("told").remaining
}

fn refill(pace: &Pace) -> f64 {
    pace.state(0).tokens.expect("told").refill
}

#[test]
fn nothing_is_held_before_anything_is_known() {
    let mut pace = pace();
    for _ in 0..1000 {
        assert_eq!(pace.ready(need(1 << 20, 1 << 20), 0), Ok(()));
        let sent = pace.sent(need(1 << 20, 1 << 20), 0);
        drop(sent);
    }
}

#[test]
fn a_call_waits_until_the_window_has_room_for_it_and_a_margin() {
    let pace = told(1_000);
    assert_eq!(pace.ready(need(400, 400), 0), Ok(()));
    // 1,150 wanted, 1,000 there, 1,000 a second come back
    let at = pace.ready(need(500, 500), 0).unwrap_err();
    assert!((150 * MS..151 * MS).contains(&at), "{at}");
    assert_eq!(pace.ready(need(500, 500), at), Ok(()));
}

#[test]
fn every_window_must_have_room() {
    let full = Allowance { limit: Some(6_000), remaining: Some(6_000), reset: None };
    let short = Allowance { remaining: Some(0), ..full };
    let fields: [fn(&mut Quota) -> &mut Option<Allowance>; 4] = [
        |quota| &mut quota.requests,
        |quota| &mut quota.tokens,
        |quota| &mut quota.input_tokens,
        |quota| &mut quota.output_tokens,
    ];
    for field in fields {
        let all = Some(full);
        let mut quota = Quota {
            requests: all,
            tokens: all,
            input_tokens: all,
            output_tokens: all,
            ..Quota::default()
        };
        let mut pace = pace();
        whole(&mut pace, need(0, 0), &good(&quota), 0);
        assert_eq!(pace.ready(need(100, 100), 0), Ok(()));
        *field(&mut quota) = Some(short);
        whole(&mut pace, need(0, 0), &good(&quota), 0);
        assert!(pace.ready(need(100, 100), 0).is_err());
    }
}

#[test]
fn calls_on_their_way_are_debited() {
    let mut pace = told(10_000);
    let first = pace.sent(need(4_000, 0), 0);
    let second = pace.sent(need(4_000, 0), 0);
    assert_eq!(remaining(&pace, 0), 2_000);
    assert!(pace.ready(need(2_000, 0), 0).is_err());
    pace.finished(first, None, 0);
    pace.finished(second, None, 0);
    assert_eq!(remaining(&pace, 0), 2_000, "that they are over brings nothing back");
}

#[test]
fn an_answer_tells_of_the_time_when_its_call_was_let_in() {
    let mut pace = told(50_000);
    let mut first = pace.sent(need(10_000, 0), 0);
    let mut second = pace.sent(need(20_000, 0), 0);
    // the first left 40,000; the second was sent after it
    pace.heard(&mut first, &good(&tokens(60_000, 40_000, None)), 0);
    assert_eq!(remaining(&pace, 0), 20_000);
    pace.heard(&mut second, &good(&tokens(60_000, 20_000, None)), 0);
    assert_eq!(remaining(&pace, 0), 20_000);
}

#[test]
fn an_answer_out_of_order_does_not_raise_what_remains() {
    let mut pace = told(50_000);
    let mut first = pace.sent(need(10_000, 0), 0);
    let mut second = pace.sent(need(20_000, 0), 0);
    pace.heard(&mut second, &good(&tokens(60_000, 5_000, None)), 0);
    pace.heard(&mut first, &good(&tokens(60_000, 40_000, None)), 0);
    assert_eq!(remaining(&pace, 0), 5_000);
}

#[test]
fn what_was_used_beyond_the_need_is_debited() {
    let mut pace = told(10_000);
    let sent = pace.sent(need(1_000, 1_000), 0);
    pace.finished(sent, Some(need(1_000, 4_000)), 0);
    assert_eq!(remaining(&pace, 0), 5_000);
}

#[test]
fn the_refill_is_learned_where_others_draw_too() {
    // 1,000 a second come back, others take `theirs` of them, we spend 300
    for (theirs, learned) in [(0.0, 1_000.0), (600.0, 400.0), (1_300.0, 20.0)] {
        let mut pace = pace();
        let mut level: f64 = if theirs > 1_000.0 { 54_000.0 } else { 15_000.0 };
        for second in 0..60 {
            level = (level + 1_000.0 - theirs - 300.0).clamp(0.0, 60_000.0);
            let left = tokens(60_000, level as u64, None);
            whole(&mut pace, need(300, 0), &good(&left), second * SECOND);
        }
        let refill = refill(&pace);
        assert!((refill - learned).abs() < learned * 0.1, "{theirs}: {refill}");
    }
}

#[test]
fn a_refused_call_is_not_taken_for_refill() {
    let same = tokens(60_000, 10_000, None);
    let mut pace = told(10_000);
    for second in 1..20 {
        whole(&mut pace, need(5_000, 0), &bad(&same), second * SECOND);
    }
    assert!(refill(&pace) < 30.0, "{}", refill(&pace));
    // nor one whose refusal told nothing of the window
    whole(&mut pace, need(50_000, 0), &bad(&Quota::default()), 20 * SECOND);
    whole(&mut pace, need(0, 0), &good(&same), 21 * SECOND);
    assert!(refill(&pace) < 30.0, "{}", refill(&pace));
}

#[test]
fn a_slower_limit_tells_its_own_refill() {
    // a day's limit: 14,400 requests, one missing comes back in 6 s
    let mut pace = pace();
    whole(&mut pace, need(0, 0), &good(&tokens(14_400, 14_300, Some(600))), 0);
    let refill = refill(&pace);
    assert!((refill - 1.0 / 6.0).abs() < 0.001, "{refill}");
}

#[test]
fn a_window_is_full_when_its_reset_has_passed() {
    let mut pace = pace();
    whole(&mut pace, need(0, 0), &good(&tokens(60_000, 0, Some(20))), 0);
    assert!(remaining(&pace, 20 * SECOND - 1) < 60_000);
    assert_eq!(remaining(&pace, 20 * SECOND), 60_000);
    assert_eq!(pace.ready(need(60_000, 0), 0), Err(20 * SECOND));
}

#[test]
fn no_window_is_waited_for_longer_than_a_day() {
    const DAY: u64 = 86_400;
    let mut pace = pace();
    // a token a day, if it were so
    whole(&mut pace, need(0, 0), &good(&tokens(60_000, 59_999, Some(DAY))), 0);
    let sent = pace.sent(need(50_000, 0), 0);
    pace.finished(sent, Some(need(50_000, 0)), 0);
    assert_eq!(pace.ready(need(50_000, 0), 0), Err(DAY * SECOND));
    assert_eq!(pace.ready(need(50_000, 0), DAY * SECOND), Ok(()));
}

#[test]
fn a_reset_of_nothing_is_not_believed() {
    let mut pace = pace();
    whole(&mut pace, need(0, 0), &good(&tokens(60_000, 100, Some(0))), 0);
    assert_eq!(remaining(&pace, 0), 100);
}

#[test]
fn a_need_above_the_limit_goes_alone_through_a_full_window() {
    let mut pace = told(30_000);
    let huge = need(100_000, 0);
    let at = pace.ready(huge, 0).unwrap_err();
    assert!(at <= 31 * SECOND, "{at}");
    assert_eq!(pace.ready(huge, at), Ok(()));
    let mut other = pace.sent(need(0, 0), at);
    assert!(pace.ready(huge, at).is_err(), "another is on its way");
    pace.heard(&mut other, &good(&Quota::default()), at);
    assert_eq!(pace.ready(huge, at), Ok(()));
}

#[test]
fn what_no_answer_speaks_of_any_more_is_forgotten() {
    let mut pace = told(0);
    whole(&mut pace, need(0, 0), &good(&Quota::default()), STALE);
    assert!(pace.state(STALE).tokens.is_some());
    whole(&mut pace, need(0, 0), &good(&Quota::default()), STALE + 1);
    assert_eq!(pace.state(STALE).tokens, None);
}

#[test]
fn after_a_refusal_one_probe_goes_and_then_the_rest() {
    let mut pace = pace();
    whole(&mut pace, need(1, 1), &bad(&wait(10)), 0);
    assert_eq!(pace.state(0).paused_until, Some(10 * SECOND));
    assert_eq!(pace.ready(need(1, 1), 9 * SECOND), Err(10 * SECOND));
    assert_eq!(pace.ready(need(1, 1), 10 * SECOND), Ok(()));
    let mut probe = pace.sent(need(1, 1), 10 * SECOND);
    assert!(pace.state(10 * SECOND).probing);
    assert!(pace.ready(need(1, 1), 11 * SECOND).is_err());
    pace.heard(&mut probe, &good(&Quota::default()), 11 * SECOND);
    pace.finished(probe, None, 11 * SECOND);
    assert_eq!(pace.ready(need(1, 1), 11 * SECOND), Ok(()));
    assert!(!pace.state(11 * SECOND).probing);
}

#[test]
fn a_probe_that_is_lost_lets_another_try() {
    let mut pace = pace();
    whole(&mut pace, need(1, 1), &bad(&wait(1)), 0);
    let probe = pace.sent(need(1, 1), SECOND);
    pace.finished(probe, None, 2 * SECOND);
    assert_eq!(pace.ready(need(1, 1), 2 * SECOND), Ok(()));
    let _probe = pace.sent(need(1, 1), 2 * SECOND);
    assert!(pace.ready(need(1, 1), 2 * SECOND).is_err());
}

#[test]
fn a_probe_that_is_not_refused_for_long_has_got_through() {
    let mut pace = pace();
    let short = Quota { tokens: tokens(60_000, 0, None).tokens, ..wait(1) };
    whole(&mut pace, need(1, 1), &bad(&short), 0);
    let mut probe = pace.sent(need(1, 1), SECOND);
    assert_eq!(pace.ready(need(1, 1), 2 * SECOND), Err(6 * SECOND));
    assert_eq!(pace.ready(need(1, 1), 6 * SECOND), Ok(()));
    let _second = pace.sent(need(1, 1), 6 * SECOND);
    assert_eq!(pace.ready(need(1, 1), 6 * SECOND), Ok(()));
    pace.heard(&mut probe, &bad(&wait(1)), 7 * SECOND);
    assert_eq!(pace.ready(need(1, 1), 7 * SECOND), Err(8 * SECOND), "it was refused after all");
}

#[test]
fn refusals_of_one_burst_are_one_loss_of_trust_and_the_longest_pause() {
    let mut pace = pace();
    let mut burst: Vec<_> = (0..3).map(|_| pace.sent(need(1, 1), 0)).collect();
    for (sent, seconds) in burst.iter_mut().zip([2, 9, 4]) {
        pace.heard(sent, &bad(&wait(seconds)), 0);
    }
    assert_eq!(pace.state(0).paused_until, Some(9 * SECOND));
    assert_eq!(pace.state(0).throttled, 3);
    assert!((pace.state(0).trust - 0.85).abs() < 1e-9);
}

#[test]
fn trust_falls_to_its_floor_and_comes_back_by_the_second() {
    let mut pace = pace();
    for _ in 0..20 {
        whole(&mut pace, need(1, 1), &bad(&wait(0)), 0);
    }
    assert!((pace.state(0).trust - 0.3).abs() < 1e-9);
    whole(&mut pace, need(1, 1), &good(&Quota::default()), 2 * SECOND);
    assert!((pace.state(0).trust - 0.32).abs() < 1e-9);
    whole(&mut pace, need(1, 1), &good(&Quota::default()), 100 * SECOND);
    assert!((pace.state(0).trust - 0.37).abs() < 1e-9, "a silence proves little");
}

#[test]
fn a_refusal_without_retry_after_waits_for_the_exhausted_window() {
    let mut pace = pace();
    let reset = |seconds| Some(Duration::from_secs(seconds));
    let empty = Allowance { limit: Some(100), remaining: Some(0), reset: reset(12) };
    let full = Allowance { limit: Some(100), remaining: Some(90), reset: reset(40) };
    let quota = Quota { requests: Some(empty), tokens: Some(full), ..Quota::default() };
    whole(&mut pace, need(1, 1), &bad(&quota), 0);
    assert_eq!(pace.state(0).paused_until, Some(12 * SECOND));
}

#[test]
fn a_refusal_that_tells_nothing_backs_off_by_doubling() {
    let pauses = |seed| {
        let mut pace = Pace::new(Mode::Auto, seed, 0);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            whole(&mut pace, need(1, 1), &bad(&Quota::default()), now);
            let until = pace.state(now).paused_until.expect("paused");
            pauses.push(until - now);
            now = until;
        }
        pauses
    };
    for (power, pause) in pauses(1).into_iter().enumerate() {
        let middle = (SECOND << power.min(6)).min(60 * SECOND);
        assert!(pause >= middle / 4 * 3 && pause <= (middle / 4 * 5).min(60 * SECOND), "{pause}");
    }
    assert_eq!(pauses(1), pauses(1));
    assert_ne!(pauses(1), pauses(2));
}

#[test]
fn an_overload_pauses_without_learning() {
    let mut pace = pace();
    fn overloaded(quota: &Quota) -> Heard<'_> {
        Heard { quota, limited: false, overloaded: true }
    }
    whole(&mut pace, need(1, 1), &overloaded(&Quota::default()), 0);
    assert_eq!(pace.ready(need(1, 1), 0), Ok(()), "it did not say how long");
    whole(&mut pace, need(1, 1), &overloaded(&wait(3)), 0);
    let state = pace.state(0);
    assert_eq!(state.paused_until, Some(3 * SECOND));
    assert_eq!((state.throttled, state.width), (0, None));
    assert!((state.trust - 1.0).abs() < 1e-9);
}

#[test]
fn without_headers_a_width_is_born_at_the_first_refusal() {
    let mut pace = pace();
    let mut calls: Vec<_> = (0..20).map(|_| pace.sent(need(1, 1), 0)).collect();
    assert_eq!(pace.state(0).width, None);
    pace.heard(&mut calls[0], &bad(&wait(0)), 0);
    assert_eq!(pace.state(0).width, Some(14));
    pace.heard(&mut calls[1], &bad(&wait(0)), SECOND);
    assert_eq!(pace.state(SECOND).width, Some(14), "once in two seconds");
    pace.heard(&mut calls[2], &bad(&wait(0)), 2 * SECOND);
    assert_eq!(pace.state(2 * SECOND).width, Some(9));
    for call in calls.drain(11..) {
        pace.finished(call, None, 3 * SECOND);
    }
    pace.heard(&mut calls[3], &good(&Quota::default()), 3 * SECOND);
    let _probe = pace.sent(need(1, 1), 3 * SECOND);
    assert!(pace.ready(need(1, 1), 60 * SECOND).is_err(), "12 are in flight");
    for call in calls.drain(..4) {
        pace.finished(call, None, 60 * SECOND);
    }
    assert_eq!(pace.ready(need(1, 1), 60 * SECOND), Ok(()));
}

#[test]
fn a_width_grows_by_one_a_round_and_is_one_at_least() {
    let mut width = Width::default();
    width.refused(1, 0);
    assert_eq!(width.at(0), Some(1.0));
    for _ in 0..3 {
        width.passed(0);
    }
    // 1 + 1 + 1/2 + 1/2.5
    assert!((width.at(0).expect("born") - 2.9).abs() < 1e-9);
    width.refused(100, 3 * SECOND);
    assert!((width.at(3 * SECOND).expect("born") - 2.03).abs() < 1e-9);
}

#[test]
fn a_width_fades_when_nothing_is_refused() {
    let mut width = Width::default();
    width.refused(10, 0);
    assert_eq!(width.at(120 * SECOND), Some(7.0));
    assert_eq!(width.at(180 * SECOND), Some(28.0));
    assert_eq!(width.at(900 * SECOND), None);
    width.passed(900 * SECOND);
    assert_eq!(width.at(900 * SECOND), None, "it is not born again by a success");
}

#[test]
fn a_refusal_that_the_headers_explain_makes_no_width() {
    let mut pace = told(30_000);
    let mut calls: Vec<_> = (0..10).map(|_| pace.sent(need(1, 1), 0)).collect();
    let short = Quota { tokens: tokens(60_000, 0, None).tokens, ..wait(1) };
    pace.heard(&mut calls[0], &bad(&short), 0);
    assert_eq!(pace.state(0).width, None);
    let plenty = Quota { tokens: tokens(60_000, 50_000, None).tokens, ..wait(1) };
    pace.heard(&mut calls[1], &bad(&plenty), 0);
    assert_eq!(pace.state(0).width, Some(7));
}

/// A backend of our own with so many places; the rest wait there for their first token, and 20 ms a
/// call for the prompt. Offered load: 40 in flight. What it finished in 300 s, and the mean time to
/// the first token in milliseconds in the last 100 s.
fn serve(mode: Mode, places: usize) -> (u64, u64) {
    let mut pace = Pace::new(mode, 1, 0);
    let mut waiting: VecDeque<(Sent, u64)> = VecDeque::new();
    let mut busy: Vec<(Sent, u64)> = Vec::new();
    let (mut done, mut sum, mut count) = (0, 0, 0);
    for step in 0..15_000 {
        let now = step * 20 * MS;
        let (over, still) = busy.into_iter().partition(|(_, end)| *end <= now);
        busy = still;
        for (sent, _) in Vec::from_iter::<Vec<(Sent, u64)>>(over) {
            pace.finished(sent, None, now);
            done += 1;
        }
        // a quiet minute, then more than it can take
        let offered = if step < 3_000 { places / 2 } else { 40 };
        while busy.len() + waiting.len() < offered && pace.ready(need(500, 100), now).is_ok() {
            waiting.push_back((pace.sent(need(500, 100), now), now));
        }
        if busy.len() < places
            && let Some((mut sent, at)) = waiting.pop_front()
        {
            let after = now - at + 100 * MS;
            pace.heard(&mut sent, &good(&Quota::default()), now);
            pace.first_token(&mut sent, Duration::from_nanos(after), 500, now);
            if step > 10_000 {
                sum += after / MS;
                count += 1;
            }
            // 1 to 2 s of answer, in a fixed pattern
            busy.push((sent, now + SECOND + step * 7919 % 1000 * MS));
        }
    }
    (done, sum / count)
}

#[test]
fn a_latency_limit_keeps_the_queue_short_and_the_backend_busy() {
    let (free, slow) = serve(Mode::Auto, 16);
    let (paced, quick) = serve(Mode::Latency, 16);
    assert!(paced * 100 >= free * 98, "{paced} of {free} calls");
    assert!(quick * 3 <= slow * 2, "{quick} ms, {slow} ms without");
}

#[test]
fn a_latency_limit_is_not_born_without_a_queue() {
    let (free, _) = serve(Mode::Auto, 60);
    assert_eq!(serve(Mode::Latency, 60).0, free);
}

#[test]
fn a_few_may_always_wait_for_their_first_token() {
    let mut gradient = Gradient::new(0);
    for second in 0..1_000 {
        let after = Duration::from_millis(if second < 20 { 100 } else { 60_000 });
        for _ in 0..8 {
            gradient.sample(after, 100, 2, second * SECOND);
        }
    }
    let now = 1_000 * SECOND;
    assert!(gradient.limit(now).expect("born") >= 4.0);
    assert!(gradient.allows(1_000, 3, now));
    assert!(!gradient.allows(1_000, 4, now));
    assert!(gradient.allows(1_000, 4, now + 120 * SECOND), "nothing was heard for long");
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Send(Need),
    Hear(usize, Quota, u8),
    First(usize, u64, u64),
    Finish(usize, Option<Need>),
}

/// Sensible numbers and nonsense.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..10u64, 0..200_000u64, any::<u64>(), Just(u64::MAX)]
}

fn a_need() -> impl Strategy<Value = Need> {
    (number(), number()).prop_map(|(input, output)| need(input, output))
}

fn time() -> impl Strategy<Value = Option<Duration>> {
    let short = (0..100_000u64).prop_map(Duration::from_millis);
    proptest::option::of(prop_oneof![
        4 => short,
        1 => number().prop_map(Duration::from_secs),
        1 => Just(Duration::MAX),
    ])
}

fn allowance() -> impl Strategy<Value = Option<Allowance>> {
    let some = (proptest::option::of(number()), proptest::option::of(number()), time());
    let some = some.prop_map(|(limit, remaining, reset)| Allowance { limit, remaining, reset });
    proptest::option::of(some)
}

fn a_quota() -> impl Strategy<Value = Quota> {
    let parts = (allowance(), allowance(), allowance(), allowance(), time());
    parts.prop_map(|(requests, tokens, input_tokens, output_tokens, retry_after)| Quota {
        requests,
        tokens,
        input_tokens,
        output_tokens,
        retry_after,
        should_retry: None,
    })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..20_000u64).prop_map(|ms| Step::Wait(ms * MS)),
        4 => a_need().prop_map(Step::Send),
        3 => (any::<usize>(), a_quota(), 0..5u8).prop_map(|(at, quota, how)| Step::Hear(at, quota, how)),
        1 => (any::<usize>(), number(), number()).prop_map(|(at, ms, n)| Step::First(at, ms, n)),
        2 => (any::<usize>(), proptest::option::of(a_need())).prop_map(|(at, used)| Step::Finish(at, used)),
    ]
}

/// Runs the steps; calls go only when they may, and after a pause one alone.
fn play(pace: &mut Pace, steps: Vec<Step>, mut now: u64) -> (Vec<Sent>, u64) {
    let mut calls: Vec<Sent> = Vec::new();
    let mut paused = false;
    let mut probe: Option<(u64, u64)> = None;
    for step in steps {
        match step {
            Step::Wait(time) => now += time,
            Step::Send(need) => {
                if pace.ready(need, now).is_err() {
                    continue;
                }
                if let Some((_, at)) = probe {
                    assert!(now >= at + 5 * SECOND, "a second probe");
                    (paused, probe) = (false, None);
                }
                let sent = pace.sent(need, now);
                if paused {
                    probe = Some((sent.order, now));
                }
                calls.push(sent);
            }
            Step::Hear(at, quota, how) if !calls.is_empty() => {
                let at = at % calls.len();
                let heard = Heard { quota: &quota, limited: how == 0, overloaded: how == 1 };
                pace.heard(&mut calls[at], &heard, now);
                let tried = probe.is_some_and(|(order, _)| order == calls[at].order);
                if how == 0 || how == 1 && quota.retry_after.is_some() {
                    (paused, probe) = (true, None);
                } else if tried {
                    (paused, probe) = (how == 1, None);
                }
            }
            Step::First(at, ms, prompt) if !calls.is_empty() => {
                let at = at % calls.len();
                pace.first_token(&mut calls[at], Duration::from_millis(ms), prompt, now);
            }
            Step::Finish(at, used) if !calls.is_empty() => {
                let call = calls.swap_remove(at % calls.len());
                if !call.heard && probe.is_some_and(|(order, _)| order == call.order) {
                    probe = None;
                }
                pace.finished(call, used, now);
            }
            _ => {}
        }
        assert_eq!(pace.state(now).in_flight as usize, calls.len());
    }
    (calls, now)
}

proptest! {
    #[test]
    fn whatever_is_said_calls_go_on(
        steps in proptest::collection::vec(a_step(), 0..120),
        latency in any::<bool>(),
        start in prop_oneof![Just(0), Just(1 << 50)],
        last in a_need(),
    ) {
        let mode = if latency { Mode::Latency } else { Mode::Auto };
        let mut pace = Pace::new(mode, 3, start);
        let (calls, mut now) = play(&mut pace, steps, start);
        let begun = now;
        for call in calls {
            pace.finished(call, None, now);
        }
        prop_assert_eq!(pace.state(now).in_flight, 0);
        prop_assert_eq!((pace.silent, pace.unheard), (0, 0));
        let mut asked = 0;
        while let Err(at) = pace.ready(last, now) {
            prop_assert!(at > now, "a time that has passed");
            now = at;
            asked += 1;
            prop_assert!(asked <= 10, "asked in vain {} times", asked);
        }
        // a day is the longest that is believed, for the pause and for each window
        prop_assert!(now - begun <= 4 * 86_400 * SECOND, "{} s", (now - begun) / SECOND);
    }
}
