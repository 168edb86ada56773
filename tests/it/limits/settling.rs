//! What a call that fails is charged, and that no call is charged twice.
use std::time::Duration;

use super::{
    CHAT, MESSAGES, PLAIN, PRICES, STREAM, bucket, by, limited, policy, quiet, timing, used,
};
use crate::support::app::App;
use crate::support::client::{End, ask};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const LIMITS: &str = "  - { name: day, per: agent, limits: { requests: 1000/day calendar, \
     input_tokens: 1M/day calendar, output_tokens: 1M/day calendar, spend: $900/day hard } }\n";

/// Requests, tokens in and out, and thousandths of a dollar that an agent has used.
fn bill(app: &App, agent: &str) -> [i64; 4] {
    // what is as good as new is forgotten
    let used = |measure| bucket(app, "day", measure, agent)["used"].as_i64().unwrap_or(0);
    [used("requests"), used("input_tokens"), used("output_tokens"), used("spend") / 1_000_000]
}

#[tokio::test]
async fn a_failure_of_the_backend_gives_its_output_back_and_a_refusal_all_tokens() {
    let (app, _simulator) = limited("timeouts: { first_byte: 300ms }, ", LIMITS);
    for status in ["500", "502", "503", "529"] {
        let agent = format!("failed-{status}");
        let got = ask(app.addr, &by(&agent, CHAT, &format!("fault={status}"), PLAIN)).await;
        assert_eq!(got.status.to_string(), status);
        quiet(&app).await;
        let [requests, input, output, spent] = bill(&app, &agent);
        assert_eq!((requests, output), (1, 0), "{status}");
        assert!((5..100).contains(&input), "what was sent may have been billed: {input}");
        assert_eq!(spent, input);
    }
    for status in ["400", "401", "404", "422", "429"] {
        let agent = format!("rejected-{status}");
        let got = ask(app.addr, &by(&agent, CHAT, &format!("fault={status}"), STREAM)).await;
        assert_eq!(got.status.to_string(), status);
        quiet(&app).await;
        assert_eq!(bill(&app, &agent), [1, 0, 0, 0], "{status}");
    }
    for (agent, fault) in [("reset", "fault=reset"), ("stalled", "fault=stall")] {
        let got = ask(app.addr, &by(agent, MESSAGES, fault, PLAIN)).await;
        assert!(got.status >= 502, "{}", got.status);
        quiet(&app).await;
        let [requests, input, output, _] = bill(&app, agent);
        assert!(requests == 1 && input > 0 && output == 0, "{agent}");
    }
    let lines = app.lines(11).await;
    for line in &lines {
        let agent = line["agent"].as_str().unwrap();
        let logged = line["spend_dollars"].as_f64().unwrap_or(0.0);
        let charged = bill(&app, agent)[3] as f64 / 1e3;
        assert!((logged - charged).abs() < 1e-9, "{charged}: {line}");
    }
}

#[tokio::test]
async fn a_call_that_reached_nobody_is_as_if_it_had_not_been_made() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let app = App::start(&policy(&format!("http://{closed}"), "", LIMITS));
    for path in [CHAT, MESSAGES] {
        assert_eq!(ask(app.addr, &by("a", path, "", PLAIN)).await.status, 502);
    }
    quiet(&app).await;
    assert_eq!(bill(&app, "a"), [0; 4]);
    app.lines(2).await;
}

#[tokio::test]
async fn a_call_that_is_sent_again_is_charged_once() {
    let answer = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#;
    let answer = whole("200 OK", "content-type: application/json\r\n", answer);
    let origin = Origin::start(move |mut conn| {
        let answer = answer.clone();
        async move {
            // the first connection takes one call and breaks under the second
            while conn.request().await.is_some() {
                conn.send(&answer).await;
                if conn.number == 0 {
                    conn.head().await;
                    return conn.reset();
                }
            }
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    assert_eq!(ask(app.addr, &by("a", CHAT, "", PLAIN)).await.status, 200);
    until("the connection is kept", async || app.pool("idle") == 1).await;
    assert_eq!(ask(app.addr, &by("a", CHAT, "", PLAIN)).await.status, 200);
    let lines = app.lines(2).await;
    assert_eq!(lines[1]["attempts"], 2, "{}", lines[1]);
    quiet(&app).await;
    assert_eq!(bill(&app, "a"), [2, 14, 10, 24]);
}

#[tokio::test]
async fn what_no_backend_reports_is_estimated_and_charged() {
    let (app, _simulator) = limited("", LIMITS);
    let got = ask(app.addr, &by("a", CHAT, "tokens=200; usage=never", STREAM)).await;
    assert_eq!((got.status, got.end), (200, End::Whole));
    quiet(&app).await;
    let [requests, input, output, spent] = bill(&app, "a");
    assert_eq!(requests, 1);
    assert!((5..100).contains(&input), "{input}");
    assert!((100..400).contains(&output), "of 200 tokens: {output}");
    assert_eq!(spent, input + output);
    app.line().await;
}

#[tokio::test]
async fn a_stream_that_breaks_is_charged_for_what_came() {
    let (app, _simulator) = limited("", LIMITS);
    let got = ask(app.addr, &by("a", CHAT, "tokens=100; fault=reset-mid=50", STREAM)).await;
    assert_ne!(got.end, End::Whole);
    quiet(&app).await;
    let [requests, input, output, _] = bill(&app, "a");
    assert!(requests == 1 && input > 0, "{requests} {input}");
    assert!((25..100).contains(&output), "of 50 tokens: {output}");
    app.line().await;
}

#[tokio::test]
async fn server_timing_tells_the_wait_from_the_rest() {
    let (app, _simulator) = limited("concurrency: 1, ", LIMITS);
    let calls = (0..3).map(|_| by("a", CHAT, "ttft=150ms; tokens=2", STREAM));
    let answers = super::at_once(app.addr, calls).await;
    let mut waits: Vec<_> = answers.iter().map(|answer| timing(answer, "queue")).collect();
    waits.sort_by(f64::total_cmp);
    assert!(waits[0] < 60.0 && waits[1] >= 140.0 && waits[2] >= 290.0, "{waits:?}");
    for answer in &answers {
        assert!(timing(answer, "upstream") >= 150.0);
        assert!(timing(answer, "overhead") < 100.0, "waiting is no work of ours");
    }
    let lines = app.lines(3).await;
    let mut logged: Vec<_> = lines.iter().map(|line| line["queued_ms"].as_f64().unwrap()).collect();
    logged.sort_by(f64::total_cmp);
    for (said, logged) in waits.iter().zip(&logged) {
        assert!((said - logged).abs() < 1.0, "{waits:?} {logged}");
    }
    quiet(&app).await;
}

#[tokio::test]
async fn a_client_that_waits_for_nothing_we_know_is_not_counted_in_tokens() {
    let (app, _simulator) = limited("", LIMITS);
    let got = ask(app.addr, &by("a", "/simulate/mirror", "", "any bytes")).await;
    assert_eq!((got.status, got.text()), (200, "any bytes"));
    tokio::time::sleep(Duration::from_millis(5)).await;
    quiet(&app).await;
    assert_eq!(used(&app, "day", "requests", "a"), 1);
    assert!(super::bucket(&app, "day", "spend", "a").is_null());
    app.line().await;
    assert!(PRICES.contains("1000"));
}
