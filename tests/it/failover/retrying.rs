//! What is sent again, where to, and how often.
use super::{GOOD, call, counts, good, json, pair};
use crate::support::origin::Origin;

/// The client sees the good answer, and the record the one who gave it.
async fn goes_on(bad: Vec<u8>) {
    let (a, b) = (Origin::by_turns([bad]).await, Origin::by_turns([good()]).await);
    let app = pair(&a.url(), &b.url(), "");
    let got = call(&app).await;
    assert_eq!((got.status, got.text()), (200, GOOD));
    assert_eq!(got.head.get("x-should-retry"), None);
    assert_eq!(counts([&a, &b]), [1, 1]);
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()), "{line}");
    assert_eq!(line["outcome"], "complete");
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"b\"", "complete"]), 1);
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"a\""]), 0);
    app.quiet().await;
}

#[tokio::test]
async fn an_internal_error_is_answered_by_another() {
    goes_on(json("500 Internal Server Error", "{}")).await;
}

#[tokio::test]
async fn one_that_is_unavailable_is_replaced() {
    goes_on(json("503 Service Unavailable", "{}")).await;
}

#[tokio::test]
async fn one_that_is_overloaded_is_replaced() {
    goes_on(json("529 Overloaded", r#"{"type":"error","error":{"type":"overloaded_error"}}"#))
        .await;
}

#[tokio::test]
async fn one_that_hangs_up_is_replaced() {
    goes_on(Vec::new()).await;
}

#[tokio::test]
async fn what_is_the_callers_doing_is_told_at_once() {
    for status in ["400 Bad Request", "404 Not Found", "422 Unprocessable Content"] {
        let (a, b) = (Origin::saying(json(status, "{}")).await, Origin::saying(good()).await);
        let app = pair(&a.url(), &b.url(), "");
        let got = call(&app).await;
        assert_eq!((got.status.to_string().as_str(), got.text()), (&status[..3], "{}"));
        assert_eq!(got.head.get("x-should-retry"), None);
        assert_eq!(counts([&a, &b]), [1, 0], "{status}");
        app.quiet().await;
    }
}
