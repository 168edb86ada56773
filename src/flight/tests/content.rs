//! Deadlines of a stream's content, and heartbeats.
use super::*;

fn tick(raw: u32) -> Tick {
    Tick::from_raw(raw)
}

fn due(ticket: &Ticket) -> Option<Due> {
    ticket.poll_due(&mut Context::from_waker(Waker::noop()))
}

/// Sweeps every hundred milliseconds, from `from` to `until`; says when the call was ended, and why.
fn ended(flights: &Flights, ticket: &Ticket, from: u32, until: u32) -> Option<(u32, Expired)> {
    for now in (from..=until).step_by(100) {
        flights.sweep(tick(now));
        if let Some(why) = fate(ticket) {
            return Some((now, why));
        }
    }
    None
}

/// Whether it ended for that reason, after `bound` and at most two ticks.
fn on_time(ended: Option<(u32, Expired)>, since: u32, bound: u32, why: Expired) {
    let (at, found) = ended.expect("it is ended");
    assert_eq!(found, why);
    assert!(at - since > bound && at - since <= bound + 200, "after {} of {bound} ms", at - since);
}

/// A stream that was asked for at zero and has begun at once.
fn stream(limits: Limits) -> (Rc<Flights>, Ticket) {
    let (flights, ticket) = begun(limits);
    ticket.set_wants_stream(true);
    ticket.enter(Stage::FirstByte, tick(0));
    ticket.set_streaming();
    ticket.enter(Stage::Answering, tick(0));
    ticket.await_content();
    (flights, ticket)
}

fn bounds() -> Limits {
    let content = Limits { first_content: ms(1000), between_tokens: ms(400), ..Limits::UNBOUNDED };
    Limits { idle: ms(700), idle_before_content: ms(700), ..content }
}

/// Keeps a stream alive with pings; says when it was ended for all that, and why.
fn pinged(flights: &Flights, ticket: &Ticket, from: u32, until: u32) -> Option<(u32, Expired)> {
    (from..until).step_by(100).find_map(|now| {
        let ended = ended(flights, ticket, now, now);
        ticket.moved(6, tick(now));
        ended
    })
}

#[test]
fn pings_are_life_and_no_content() {
    let (flights, ticket) = stream(bounds());
    on_time(pinged(&flights, &ticket, 0, 5000), 0, 1000, Expired::FirstContent);
    let (flights, ticket) = stream(bounds());
    ticket.content(tick(0));
    on_time(pinged(&flights, &ticket, 0, 5000), 0, 400, Expired::BetweenTokens);
    // without any byte it is the silence that counts
    let (flights, ticket) = stream(bounds());
    on_time(ended(&flights, &ticket, 0, 5000), 0, 700, Expired::Idle);
}

/// It thinks: what the policy does not forbid.
#[test]
fn before_content_silence_has_a_bound_of_its_own() {
    let patient = Limits { idle_before_content: NEVER, ..bounds() };
    let (flights, ticket) = stream(patient);
    on_time(ended(&flights, &ticket, 0, 5000), 0, 1000, Expired::FirstContent);
    // once there was some, silence counts
    let (flights, ticket) = stream(Limits { between_tokens: NEVER, ..patient });
    assert_eq!(ended(&flights, &ticket, 0, 900), None);
    ticket.moved(1, tick(900));
    ticket.content(tick(900));
    on_time(ended(&flights, &ticket, 1000, 5000), 900, 700, Expired::Idle);
    // an answer without content that could be seen is under it from its head on
    let (flights, ticket) = begun(patient);
    ticket.enter(Stage::Answering, tick(0));
    on_time(ended(&flights, &ticket, 0, 5000), 0, 700, Expired::Idle);
}

#[test]
fn the_body_of_a_plain_answer_begins_with_any_byte() {
    let patient = Limits { idle_before_content: NEVER, ..bounds() };
    let plain = || {
        let (flights, ticket) = begun(patient);
        ticket.enter(Stage::FirstByte, tick(0));
        assert_eq!(ended(&flights, &ticket, 0, 500), None);
        ticket.enter(Stage::Answering, tick(500));
        ticket.await_body();
        (flights, ticket)
    };
    let (flights, ticket) = plain();
    on_time(ended(&flights, &ticket, 500, 5000), 0, 1000, Expired::FirstContent);
    ticket.moved(1, tick(5000));
    assert_eq!(fate(&ticket), None, "nobody had looked");
    let (flights, ticket) = plain();
    ticket.moved(0, tick(600));
    assert_eq!(ended(&flights, &ticket, 600, 900), None);
    ticket.moved(1, tick(900));
    on_time(ended(&flights, &ticket, 1000, 5000), 900, 700, Expired::Idle);
    // a bound that was written holds before it as well
    let (flights, ticket) = begun(bounds());
    ticket.enter(Stage::FirstByte, tick(0));
    ticket.enter(Stage::Answering, tick(0));
    ticket.await_body();
    on_time(ended(&flights, &ticket, 0, 5000), 0, 700, Expired::Idle);
}

#[test]
fn a_stream_that_goes_on_saying_something_is_never_cut() {
    let (flights, ticket) = stream(bounds());
    assert_eq!(pinged(&flights, &ticket, 0, 600), None);
    for now in (600..21_000).step_by(300) {
        assert_eq!(ended(&flights, &ticket, now, now + 200), None);
        ticket.moved(1, tick(now + 200));
        ticket.content(tick(now + 200));
    }
    on_time(pinged(&flights, &ticket, 21_000, 30_000), 20_900, 400, Expired::BetweenTokens);
}

#[test]
fn first_content_is_waited_for_since_the_requests_last_byte() {
    let (flights, ticket) = begun(bounds());
    ticket.set_wants_stream(true);
    for now in (0..=3000).step_by(100) {
        assert_eq!(ended(&flights, &ticket, now, now), None, "an upload at {now}");
        ticket.enter(Stage::FirstByte, tick(now));
    }
    // the head comes, and changes nothing
    assert_eq!(ended(&flights, &ticket, 3100, 3500), None);
    ticket.enter(Stage::Answering, tick(3500));
    ticket.await_content();
    on_time(pinged(&flights, &ticket, 3600, 9000), 3000, 1000, Expired::FirstContent);
}

#[test]
fn a_head_that_does_not_come_is_no_content_either_where_a_stream_was_asked_for() {
    for (wants, first_byte, why) in [
        (true, ms(2000), Expired::FirstContent),
        (true, ms(400), Expired::FirstByte),
        (false, ms(2000), Expired::FirstByte),
    ] {
        let (flights, ticket) = begun(Limits { first_byte, ..bounds() });
        ticket.set_wants_stream(wants);
        ticket.enter(Stage::FirstByte, tick(0));
        let bound = if why == Expired::FirstContent { ms(1000) } else { first_byte };
        on_time(ended(&flights, &ticket, 0, 9000), 0, bound.as_millis() as u32, why);
    }
}

#[test]
fn where_no_content_can_be_seen_bytes_alone_count() {
    let (flights, ticket) = begun(bounds());
    ticket.set_wants_stream(true);
    ticket.enter(Stage::FirstByte, tick(0));
    ticket.enter(Stage::Answering, tick(0));
    assert_eq!(pinged(&flights, &ticket, 0, 9000), None);
    // and behind the terminal event
    let (flights, ticket) = stream(bounds());
    ticket.content(tick(0));
    ticket.over();
    assert_eq!(pinged(&flights, &ticket, 0, 9000), None);
    on_time(ended(&flights, &ticket, 9000, 19_000), 8900, 700, Expired::Idle);
}

/// A tool that the backend runs itself is at work: that is no content, but no stall.
#[test]
fn steps_buy_time_and_are_no_content() {
    let (flights, ticket) = stream(bounds());
    assert_eq!(pinged(&flights, &ticket, 0, 800), None);
    ticket.stepped(tick(700));
    on_time(pinged(&flights, &ticket, 800, 9000), 700, 1000, Expired::FirstContent);

    let (flights, ticket) = stream(bounds());
    ticket.content(tick(0));
    assert_eq!(pinged(&flights, &ticket, 0, 300), None);
    ticket.stepped(tick(200));
    on_time(pinged(&flights, &ticket, 300, 9000), 200, 400, Expired::BetweenTokens);
}

/// The client had stood still: what lies there when it reads on takes the charge back.
#[test]
fn content_takes_the_charge_of_a_stall_back_and_a_ping_does_not() {
    let (flights, ticket) = stream(Limits { idle: NEVER, ..bounds() });
    ticket.content(tick(0));
    on_time(ended(&flights, &ticket, 0, 5000), 0, 400, Expired::BetweenTokens);
    ticket.moved(6, tick(5000));
    assert_eq!(fate(&ticket), Some(Expired::BetweenTokens));
    ticket.content(tick(5000));
    assert_eq!(fate(&ticket), None);
    on_time(ended(&flights, &ticket, 5100, 9000), 5000, 400, Expired::BetweenTokens);
    ticket.over();
    assert_eq!(fate(&ticket), None);
    // whoever knows that it stood still says so
    let (flights, ticket) = stream(bounds());
    ticket.content(tick(0));
    assert!(ended(&flights, &ticket, 0, 600).is_some());
    ticket.resumed(tick(600));
    assert_eq!(fate(&ticket), None);
    on_time(ended(&flights, &ticket, 700, 9000), 600, 400, Expired::BetweenTokens);
}

#[test]
fn another_attempt_begins_anew_but_for_the_whole() {
    for (limits, why) in [
        (Limits { first_byte: ms(300), ..bounds() }, Expired::FirstByte),
        (bounds(), Expired::FirstContent),
    ] {
        let (flights, ticket) = begun(limits);
        ticket.set_wants_stream(true);
        ticket.enter(Stage::FirstByte, tick(0));
        assert_eq!(ended(&flights, &ticket, 0, 2000).expect("it ends").1, why);
        ticket.enter(Stage::Connecting, tick(2000));
        assert_eq!(ended(&flights, &ticket, 2000, 9000), None);
        ticket.enter(Stage::FirstByte, tick(9000));
        assert_eq!(ended(&flights, &ticket, 9000, 19_000).expect("it ends").1, why);
    }
    let (flights, ticket) = begun(Limits { total: ms(500), ..Limits::UNBOUNDED });
    assert!(ended(&flights, &ticket, 0, 1000).is_some());
    ticket.enter(Stage::FirstByte, tick(1000));
    assert_eq!(fate(&ticket), Some(Expired::Total));
}

#[test]
fn a_heartbeat_is_due_once_in_each_silence_of_ours() {
    let (flights, ticket) = stream(Limits { heartbeat: Some(ms(500)), ..Limits::UNBOUNDED });
    let beats = |from: u32, until: u32| {
        let mut at = Vec::new();
        for now in (from..until).step_by(100) {
            flights.sweep(tick(now));
            // bytes of the backend are not what the client hears
            ticket.moved(1, tick(now));
            at.extend((due(&ticket) == Some(Due::Heartbeat)).then_some(now));
        }
        at
    };
    assert!(beats(0, 3000).is_empty(), "nobody has asked for them");
    ticket.begin_beats(tick(3000));
    assert_eq!(beats(3000, 5000), [3600, 4200, 4800]);
    ticket.spoke(tick(5000));
    assert!(beats(5000, 5500).is_empty());
    assert_eq!(beats(5500, 6000), [5600]);
    // one that nobody has taken is not due a second time, and not any more once something is said
    flights.sweep(tick(7000));
    flights.sweep(tick(9000));
    assert_eq!((due(&ticket), due(&ticket)), (Some(Due::Heartbeat), None));
    flights.sweep(tick(10_000));
    ticket.spoke(tick(10_000));
    assert_eq!(due(&ticket), None);
    // a step that tells the client nothing is not stopped by one
    flights.sweep(tick(11_000));
    assert_eq!(fate(&ticket), None);
    flights.sweep(tick(12_000));
    ticket.over();
    assert_eq!(due(&ticket), None);
    assert!(beats(12_000, 20_000).is_empty(), "the stream is over");
}

#[test]
fn a_heartbeat_wakes_the_task_that_waits() {
    paused(async {
        let (flights, ticket) = stream(Limits { heartbeat: Some(ms(500)), ..Limits::UNBOUNDED });
        ticket.begin_beats(tick(0));
        let ticket = Rc::new(ticket);
        let waiting = Rc::clone(&ticket);
        let task = tokio::task::spawn_local(std::future::poll_fn(move |cx| {
            waiting.poll_due(cx).map_or(Poll::Pending, Poll::Ready)
        }));
        tokio::task::yield_now().await;
        flights.sweep(tick(100));
        flights.sweep(tick(900));
        assert_eq!(task.await.unwrap(), Due::Heartbeat);
    });
}

#[test]
fn bounds_are_rounded_up_to_ticks() {
    for (time, want) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_micros(1001), 2),
        (ms(250), 250),
        (Duration::from_hours(24 * 49), 4_233_600_000),
        (Duration::from_hours(24 * 50), u32::MAX),
        (Duration::MAX, u32::MAX),
    ] {
        assert_eq!(limits::millis(time), want, "{time:?}");
    }
}

/// There is one for every open stream.
#[test]
fn a_call_in_flight_stays_small() {
    assert!(size_of::<Flight>() <= 256, "{} bytes", size_of::<Flight>());
}
