//! Answers that are kept or shared are got by the same attempts as all others.
use super::*;
use crate::support::client::Client;
use crate::support::origin::stream;
use crate::support::until;

const KEEP: &str = "policies: [{ cache: { ttl: 1h } }]\n";

#[tokio::test]
async fn an_answer_got_from_a_fallback_is_kept() {
    for (body, good, text) in [
        (PLAIN, good(), GOOD),
        (STREAM, stream([TOKEN, STOP, DONE]), &*[TOKEN, STOP, DONE].concat()),
    ] {
        let bad = stream([ROLE, ERROR]);
        let bad = if body == PLAIN { unavailable() } else { bad };
        let (a, b) = (Origin::saying(bad).await, Origin::saying(good).await);
        let ups = [up("a", &a.url(), ""), up("b", &b.url(), "")];
        let app = App::start(&(policy(&ups, "") + KEEP));
        for _ in 0..2 {
            let got = ask(app.addr, &post(CHAT, "", body)).await;
            assert_eq!((got.status, got.text()), (200, text));
        }
        assert_eq!(counts([&a, &b]), [1, 1]);
        let lines = app.lines(2).await;
        assert_eq!((&lines[0]["upstream"], &lines[0]["attempts"]), (&"b".into(), &2.into()));
        assert_eq!(app.count("tidegate_requests_total", &["upstream=\"b\"", "complete"]), 1);
        app.quiet().await;
    }
}

#[tokio::test]
async fn an_answer_of_another_model_is_not_kept() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let app = App::start(&format!(
        "upstreams: {{ {}, {} }}\n\
         routes: [{{ to: a, fallback: [{{ to: b, model: other }}] }}]\n{KEEP}",
        up("a", &a.url(), ""),
        up("b", &b.url(), "")
    ));
    for _ in 0..2 {
        assert_eq!(call(&app).await.text(), GOOD);
    }
    assert_eq!(counts([&a, &b]), [2, 2]);
    app.lines(2).await;
    app.quiet().await;
}

#[tokio::test]
async fn those_who_share_a_call_share_its_fallback() {
    let a = Origin::start(|mut conn| async move {
        conn.request().await;
        // until all have joined
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        conn.send(&unavailable()).await;
    })
    .await;
    let b = Origin::saying(good()).await;
    let ups = [up("a", &a.url(), ""), up("b", &b.url(), "")];
    let app = App::start(&(policy(&ups, "") + KEEP));
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(app.addr).await;
        client.send(&post(CHAT, "", PLAIN)).await;
        until("the first is sent", async || a.requests() == 1).await;
        clients.push(client);
    }
    for mut client in clients {
        let got = client.answer().await;
        assert_eq!((got.status, got.text()), (200, GOOD));
    }
    assert_eq!(counts([&a, &b]), [1, 1]);
    app.lines(3).await;
    app.quiet().await;
}

#[tokio::test]
async fn a_shared_call_that_nobody_can_take_fails_for_all_alike() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(unavailable()).await);
    let ups = [up("a", &a.url(), ""), up("b", &b.url(), "")];
    let app = App::start(&(policy(&ups, "") + KEEP));
    let got = call(&app).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (503, Some("false")));
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()));
    app.quiet().await;
}
