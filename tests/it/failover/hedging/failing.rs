//! One of two requests fails, or both do, or nobody waits for them any more.
use super::*;

#[tokio::test]
async fn hedging_where_the_first_fails_after_the_second_was_sent() {
    let broken = stream([ROLE, ERROR]);
    for bad in [unavailable(), RESET.to_vec(), broken] {
        let (a, b) = (Stepping::silent(bad).await, Stepping::talking().await);
        let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), ""), up("c", &nowhere(), "")];
        let app = App::start(&(policy(&ups, "") + LIMITS));
        let mut client = asking(&app, STREAM).await;
        b.is_asked().await;
        a.go();
        tokio::time::sleep(Duration::from_millis(100)).await;
        b.go();
        b.go();
        let got = client.answer().await;
        assert_eq!((got.status, got.end), (200, End::Whole));
        assert_eq!(got.text(), format!("{ROLE}{TOKEN}{DONE}"));
        assert_eq!(counts([&a.origin, &b.origin]), [1, 1]);
        app.quiet().await;
        assert_eq!(["calls", "at-a", "at-b"].map(|name| used(&app, name)), [1, 1, 1]);
        let line = app.line().await;
        assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()));
    }
}

/// Tokens of an attempt that failed count no more than where calls move one after another.
#[tokio::test]
async fn hedging_charges_no_tokens_of_a_request_that_failed() {
    for first_fails in [true, false] {
        let (bad, well) = (unavailable(), good());
        let (says_a, says_b) = if first_fails { (bad, well) } else { (well, bad) };
        let (a, b) = (Stepping::silent(says_a).await, Stepping::silent(says_b).await);
        let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), ""), up("c", &nowhere(), "")];
        let app = App::start(&(policy(&ups, "") + LIMITS));
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        let (bad, well) = if first_fails { (&a, &b) } else { (&b, &a) };
        bad.go();
        tokio::time::sleep(Duration::from_millis(100)).await;
        well.go();
        assert_eq!(client.answer().await.text(), GOOD);
        app.quiet().await;
        assert_eq!(["calls", "at-a", "at-b", "tokens"].map(|name| used(&app, name)), [1, 1, 1, 10]);
        assert_eq!(app.line().await["attempts"], 2);
    }
}

#[tokio::test]
async fn hedging_where_both_fail_goes_on_to_a_third() {
    for first_fails_first in [true, false] {
        let a = Stepping::silent(unavailable()).await;
        let b = Stepping::silent(unavailable()).await;
        let c = Origin::saying(good()).await;
        let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), ""), up("c", &c.url(), "")];
        let app = App::start(&(policy(&ups, "") + LIMITS));
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        let (one, other) = if first_fails_first { (&a, &b) } else { (&b, &a) };
        one.go();
        tokio::time::sleep(Duration::from_millis(100)).await;
        other.go();
        assert_eq!(client.answer().await.text(), GOOD);
        assert_eq!(counts([&a.origin, &b.origin, &c]), [1, 1, 1], "nobody is asked twice");
        app.quiet().await;
        let all = ["calls", "at-a", "at-b", "at-c", "tokens"].map(|name| used(&app, name));
        assert_eq!(all, [1, 1, 1, 1, 10]);
        let line = app.line().await;
        assert_eq!((&line["upstream"], &line["attempts"]), (&"c".into(), &3.into()));
    }
}

/// Two addresses have failed: what is left is another target.
#[tokio::test]
async fn hedging_where_both_addresses_fail_goes_on_to_the_next_target() {
    let a = Stepping::silent(unavailable()).await;
    let b = Stepping::silent(unavailable()).await;
    let c = Origin::saying(good()).await;
    let text = two(&a, &b, HEDGE)
        .replace(" }\nroutes", &format!(", {} }}\nroutes", up("c", &c.url(), "")))
        .replace("to: a", "to: a, fallback: [c]");
    let app = App::start(&text);
    let mut client = asking(&app, PLAIN).await;
    a.is_asked().await;
    b.is_asked().await;
    a.go();
    b.go();
    assert_eq!(client.answer().await.text(), GOOD);
    assert_eq!(counts([&a.origin, &b.origin, &c]), [1, 1, 1]);
    app.quiet().await;
}

#[tokio::test]
async fn hedging_where_both_fail_and_none_is_left() {
    // the second has no answer to be passed on; then the first has none
    for (says_a, says_b) in [(unavailable(), RESET.to_vec()), (RESET.to_vec(), unavailable())] {
        let (a, b) = (Stepping::silent(says_a).await, Stepping::silent(says_b).await);
        let app = pair(&a.url(), &b.url(), HEDGE);
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        a.go();
        b.go();
        let got = client.answer().await;
        assert_eq!((got.status, got.text()), (503, "{}"), "as a backend has answered it");
        assert_eq!(counts([&a.origin, &b.origin]), [1, 1]);
        app.quiet().await;
        assert_eq!(app.line().await["attempts"], 2);
    }
}

/// The policy tries nothing again; but as two were asked, one of them may fail.
#[tokio::test]
async fn hedging_without_retries_still_takes_the_answer_of_the_other() {
    for first_fails in [true, false] {
        let (bad, well) = (unavailable(), good());
        let (says_a, says_b) = if first_fails { (bad, well) } else { (well, bad) };
        let (a, b) = (Stepping::silent(says_a).await, Stepping::silent(says_b).await);
        let app = App::start(&policy(
            &[up("a", &a.url(), &format!("{HEDGE} retry: off,")), up("b", &b.url(), "retry: off,")],
            "",
        ));
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        let (bad, well) = if first_fails { (&a, &b) } else { (&b, &a) };
        bad.go();
        tokio::time::sleep(Duration::from_millis(100)).await;
        well.go();
        assert_eq!(client.answer().await.text(), GOOD);
        app.quiet().await;
    }
}

#[tokio::test]
async fn hedging_a_call_whose_client_leaves_leaves_nothing_behind() {
    let (a, b) = (Stepping::talking().await, Stepping::talking().await);
    let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), ""), up("c", &nowhere(), "")];
    let app = App::start(&(policy(&ups, ", concurrency: 4") + LIMITS));
    let client = asking(&app, STREAM).await;
    a.is_asked().await;
    b.is_asked().await;
    drop(client);
    a.is_left().await;
    b.is_left().await;
    app.quiet().await;
    let line = app.line().await;
    assert_eq!((&line["status"], &line["outcome"]), (&499.into(), &"client_gone".into()));
    assert_eq!(line["attempts"], 2);
    assert_eq!(["calls", "at-a", "at-b"].map(|name| used(&app, name)), [1, 1, 1]);
    let tokens = used(&app, "tokens");
    assert!(tokens > 0, "both have had the prompt");
}

#[tokio::test]
async fn hedging_that_cannot_be_holds_no_stream() {
    let a = Stepping::talking().await;
    let hold = "retry: { hold: 1m },";
    let app = App::start(&policy(&[up("a", &a.url(), &format!("{HEDGE} {hold}"))], ""));
    let mut client = asking(&app, STREAM).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    a.go();
    a.go();
    assert_eq!(client.rest(head, false).await.text(), format!("{TOKEN}{DONE}"));
}

/// Nothing is known of the model, nothing is left of the budget, the second has failed: there is but
/// one request, and the policy's own hold ends in its time.
#[tokio::test]
async fn hedging_that_is_over_holds_a_stream_no_longer_than_the_policy() {
    for (hedge, more) in [
        ("hedge: on,", ""),
        ("hedge: { after: 100ms, budget: 1% },", ""),
        (HEDGE, "concurrency: 1,"),
        (HEDGE, ""),
    ] {
        let (a, b) = (Stepping::talking().await, Origin::saying(unavailable()).await);
        let held = Stepping::silent(good()).await;
        // the one place of the second is taken
        let b_url = if more.is_empty() { b.url() } else { held.url() };
        let ups = [
            up("a", &a.url(), &format!("{hedge} retry: {{ hold: 300ms }},")),
            up("b", &b_url, more),
        ];
        let text = policy(&ups, "").replace("routes: [", "routes: [{ path: /b, to: b }, ");
        let app = App::start(&text);
        let mut other = Client::connect(app.addr).await;
        if !more.is_empty() {
            other.send(&post(&format!("/b{CHAT}"), "", PLAIN)).await;
            held.is_asked().await;
        }
        let mut client = asking(&app, STREAM).await;
        let head = client.head().await.unwrap();
        assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes(), "{hedge}");
        a.go();
        a.go();
        assert_eq!(client.rest(head, false).await.text(), format!("{TOKEN}{DONE}"));
        let failed = usize::from(more.is_empty() && hedge == HEDGE);
        assert_eq!((b.requests(), hedges(&app)), (failed, failed));
        drop(other);
        app.quiet().await;
    }
}

#[tokio::test]
async fn hedging_holds_a_stream_for_as_long_as_both_run() {
    let (a, b) = (Stepping::talking().await, Stepping::talking().await);
    let app = pair(&a.url(), &b.url(), &format!("{HEDGE} retry: {{ hold: 150ms, slow: 300ms }},"));
    let mut client = asking(&app, STREAM).await;
    b.is_asked().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(a.origin.open(), 1, "it is not given up");
    b.go();
    b.go();
    assert_eq!(client.answer().await.text(), format!("{ROLE}{TOKEN}{DONE}"));
    assert_eq!(app.line().await["upstream"], "b");
}

/// The first found nobody, and the second may be at work: it is as if that one alone had been sent.
#[tokio::test]
async fn hedging_does_not_send_again_what_the_second_may_be_doing() {
    let (hole, _filling) = origin::black_hole().await;
    let at = hole.local_addr().unwrap().as_socket().unwrap();
    let (b, c) = (Stepping::silent(good()).await, Origin::saying(good()).await);
    let soon = "pool: { connect_timeout: 2s }, timeouts: { first_byte: 700ms },";
    let ups = [
        up("a", &format!("http://{at}"), &format!("{HEDGE} {soon}")),
        up("b", &b.url(), "timeouts: { first_byte: 700ms },"),
        up("c", &c.url(), ""),
    ];
    let app = App::start(&(policy(&ups, "") + LIMITS));
    let mut client = asking(&app, PLAIN).await;
    b.is_asked().await;
    let got = client.answer().await;
    assert!(got.status >= 500, "{}", got.text());
    assert_eq!(counts([&b.origin, &c]), [1, 0]);
    app.quiet().await;
    assert_eq!(used(&app, "calls"), 1, "it was sent");
    assert!(used(&app, "tokens") > 0, "its prompt may have been read");
    app.line().await;
}
