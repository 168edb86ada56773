//! Answers with a good status that are errors, and nothing else: they are answered by another.
use super::*;
use crate::support::client::{End, request};
use crate::support::origin::Conn;

const REFUSED: &str = r#"{"error":{"message":"no","type":"server_error","code":null}}"#;

/// How many each has seen, and what the caller got.
async fn asked(bad: Vec<u8>, target: &str, body: &str) -> ([usize; 2], String) {
    let (a, b) = (Origin::saying(bad).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "");
    let got = ask(app.addr, &request("POST", target, "", body)).await;
    assert_eq!((got.status, got.end), (200, End::Whole), "{}", got.text());
    let seen = counts([&a, &b]);
    assert_eq!(app.line().await["attempts"].as_u64(), Some(seen.iter().sum::<usize>() as u64));
    app.quiet().await;
    (seen, got.text().to_owned())
}

#[tokio::test]
async fn an_error_under_a_good_status_is_answered_by_another() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{REFUSED}\r\n0\r\n\r\n",
        REFUSED.len()
    );
    let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "no ".repeat(2000));
    let theirs =
        r#"{"error":{"message":"no","type":"invalid_request_error","code":"invalid_value"}}"#;
    let answer = r#"{"error":null,"choices":[{"message":{"content":"x"}}]}"#;
    for (bad, body, moves) in [
        (json("200 OK", REFUSED), PLAIN, true),
        (json("200 OK", " {\n \"error\": \"the engine is gone\" }"), PLAIN, true),
        (json("200 OK", r#"{"error":{"message":"slow down","code":429}}"#), PLAIN, true),
        // the caller's own doing, or an answer
        (json("200 OK", theirs), PLAIN, false),
        (json("200 OK", answer), PLAIN, false),
        // of no known length, or a long one: it goes on as it comes
        (chunked.into_bytes(), PLAIN, false),
        (json("200 OK", &long), PLAIN, false),
        // nothing that we know
        (whole("200 OK", "content-type: text/plain\r\n", REFUSED), PLAIN, false),
    ] {
        let (seen, text) = asked(bad.clone(), CHAT, body).await;
        let shown = String::from_utf8_lossy(&bad);
        assert_eq!(seen, [1, usize::from(moves)], "{shown}");
        assert_eq!(text == GOOD, moves, "{shown}");
        assert!(moves || shown.contains(&text), "as it was: {text}");
    }
}

#[tokio::test]
async fn an_error_under_a_good_status_is_not_asked_for_twice_where_work_may_have_been_done() {
    let lasting = r#"{"model":"m","input":"hi","background":true}"#;
    let (seen, text) = asked(json("200 OK", REFUSED), RESPONSES, lasting).await;
    assert_eq!((seen, text.as_str()), ([1, 0], REFUSED));
    let (seen, _) =
        asked(json("200 OK", REFUSED), RESPONSES, r#"{"model":"m","input":"hi"}"#).await;
    assert_eq!(seen, [1, 1]);
}

/// It is the best there is, and counts against who gave it.
#[tokio::test]
async fn an_error_under_a_good_status_is_passed_on_where_nobody_does_better() {
    let touchy = "breaker: { failures: 1, open: 1m },";
    let (a, b) = (Origin::saying(json("200 OK", REFUSED)).await, nowhere());
    let app = pair(&a.url(), &b, touchy);
    let got = call(&app).await;
    assert_eq!((got.status, got.text()), (200, REFUSED));
    assert_eq!(app.upstream()["breaker"]["state"], "open");
    app.quiet().await;

    // where there is nobody else, nothing is held back
    let a = Origin::saying(json("200 OK", REFUSED)).await;
    let app = App::start(&policy(&[up("a", &a.url(), "")], ""));
    let got = call(&app).await;
    assert_eq!((got.status, got.text(), a.requests()), (200, REFUSED, 1));
    app.quiet().await;
}

/// The head waits for such a body, and not for long.
#[tokio::test]
async fn a_small_answer_that_is_slow_to_come_is_passed_on() {
    let (first, rest) = GOOD.split_at(20);
    let a = Origin::start(move |mut conn: Conn| async move {
        while conn.request().await.is_some() {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
                GOOD.len()
            );
            conn.send(head.as_bytes()).await;
            tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
            conn.send(rest.as_bytes()).await;
        }
    })
    .await;
    let b = Origin::saying(good()).await;
    let app = pair(&a.url(), &b.url(), "");
    let got = call(&app).await;
    assert_eq!((got.status, got.text(), counts([&a, &b])), (200, GOOD, [1, 0]));
    app.quiet().await;
}
