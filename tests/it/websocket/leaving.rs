//! Who leaves in the middle of a response pays for what it has got.
use std::time::Duration;

use super::*;

/// Tokens and money, and none of it near its end.
const COUNTED: &str = "policies:\n  - { name: all, per: all, limits: { output_tokens: 1M/day calendar, \
                       input_tokens: 1M/day calendar, spend: $900/day calendar } }\n";

/// What a limit has counted, in its own units.
fn used(app: &App, measure: &str) -> u64 {
    let state = app.state();
    let mut limits = state["limits"].as_array().expect("limits").iter();
    let limit = limits.find(|limit| limit["measure"] == measure).expect("the limit");
    assert_eq!(limit["held"], 0, "{limit}");
    limit["used"].as_u64().expect("a figure")
}

/// After these answers to one question, of which the client reads all, it leaves.
async fn left_after(answers: &'static [&'static str], question: &str) -> (App, Value) {
    let origin = backend(answers).await;
    let app = App::start(&policy(&origin, "", COUNTED));
    let mut client = open(&app, "").await;
    client.send(&said(question)).await;
    for wanted in answers {
        assert_eq!(next(&mut client).await, (1, wanted.as_bytes().to_vec()));
    }
    if answers.is_empty() {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    drop(client);
    let line = app.line().await;
    app.quiet().await;
    (app, line)
}

#[tokio::test]
async fn what_has_come_is_charged() {
    let long = format!(r#"{{"type":"response.create","input":"{}"}}"#, "some words ".repeat(100));
    let (app, line) = left_after(&[BEGUN, DELTA, DELTA, DELTA], &long).await;
    let (input, output) = (used(&app, "input_tokens"), used(&app, "output_tokens"));
    assert!((3..40).contains(&output), "{output}: {line}");
    assert!((100..600).contains(&input), "{input}: {line}");
    assert!(used(&app, "spend") > 0);
}

#[tokio::test]
async fn and_what_may_have_been_made_before_any_came() {
    let (app, line) = left_after(&[], CREATE).await;
    let output = used(&app, "output_tokens");
    assert!((1..=4096).contains(&output), "{output}: {line}");
}

/// An error about something else does not make the response that runs one that has failed.
#[tokio::test]
async fn an_error_beside_the_response_gives_nothing_back() {
    const ERROR: &str =
        r#"{"type":"error","error":{"code":"conversation_already_has_active_response"}}"#;
    let (app, _) = left_after(&[BEGUN, DELTA, DELTA, ERROR], CREATE).await;
    assert!(used(&app, "output_tokens") >= 2);
}

#[tokio::test]
async fn what_failed_and_what_is_over_is_charged_as_it_was_told() {
    const FAILED: &str = r#"{"type":"error","error":{"code":"invalid_request_error"}}"#;
    let (app, _) = left_after(&[FAILED], CREATE).await;
    assert_eq!((used(&app, "input_tokens"), used(&app, "output_tokens")), (0, 0));
    let (app, _) = left_after(&[BEGUN, DELTA, DONE], CREATE).await;
    assert_eq!((used(&app, "input_tokens"), used(&app, "output_tokens")), (30, 12));
}

#[tokio::test]
async fn it_comes_on_top_of_what_was_told() {
    let (app, line) = left_after(&[BEGUN, DELTA, DONE, BEGUN, DELTA, DELTA], CREATE).await;
    let (input, output) = (used(&app, "input_tokens"), used(&app, "output_tokens"));
    assert!((14..60).contains(&output), "{output}: {line}");
    assert!((60..120).contains(&input), "as much as the one before: {input}");
}

#[tokio::test]
async fn a_response_that_ends_without_a_count_is_no_gift() {
    const CUT: &str = r#"{"type":"response.done","response":{"status":"cancelled","usage":null}}"#;
    let (app, _) = left_after(&[BEGUN, DELTA, DELTA, CUT], CREATE).await;
    assert!(used(&app, "output_tokens") >= 2);
}

/// What came with the backend's goodbye is the client's, also where it uses up the limit.
#[tokio::test]
async fn a_last_word_is_heard_where_the_limit_ends_with_it() {
    let origin = Origin::start(|mut conn| async move {
        conn.head().await;
        conn.send(SWITCH).await;
        for _ in 0..2 {
            heard(&mut conn).await;
            conn.send(&told(DONE)).await;
        }
        heard(&mut conn).await;
        let goodbye = frame(8, &1000_u16.to_be_bytes(), false);
        conn.send(&[told(DONE), goodbye].concat()).await;
        conn.until_gone().await;
    })
    .await;
    let limits = "policies:\n  - { name: cap, per: all, limits: { spend: $0.1/day hard } }\n";
    let app = App::start(&policy(&origin, "", limits));
    let mut client = open(&app, "").await;
    for _ in 0..3 {
        client.send(&said(CREATE)).await;
        assert_eq!(next(&mut client).await, (1, DONE.as_bytes().to_vec()));
    }
    assert_eq!(next(&mut client).await.0, 8);
    drop(client);
    app.line().await;
}
