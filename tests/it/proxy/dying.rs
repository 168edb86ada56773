//! Upstreams that die, or fail in the middle: the client is told, and never hears a clean end.
use serde_json::Value;

use super::{CHAT, GEMINI, MESSAGES, OLLAMA, PLAIN, RESPONSES, STREAM, policy, simulated};
use crate::support::app::App;
use crate::support::client::{Answer, End, ask, post};
use crate::support::h2;
use crate::support::origin::{self, Origin, chunk};

const FACES: [&str; 5] = [CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA];

/// The JSON of the last event, and the line that names its kind, if there is one.
fn last_event(body: &str) -> (Value, Option<&str>) {
    let mut lines = body.lines().rev().filter(|line| !line.is_empty());
    let data = lines.next().expect("an event");
    let data = data.strip_prefix("data: ").unwrap_or(data);
    let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
    (data, lines.next().and_then(|line| line.strip_prefix("event: ")))
}

/// What each dialect's SDK looks for in an error event.
fn check_event(path: &str, body: &str, message: &str) {
    let (event, name) = last_event(body);
    let found = match path {
        CHAT => &event["error"]["message"],
        RESPONSES => {
            assert_eq!((&event["type"], name), (&"error".into(), Some("error")), "{event}");
            &event["message"]
        }
        MESSAGES => {
            assert_eq!((&event["type"], name), (&"error".into(), Some("error")), "{event}");
            &event["error"]["message"]
        }
        GEMINI => {
            assert!(event["error"]["code"].is_u64() && event["error"]["status"].is_string());
            &event["error"]["message"]
        }
        _ => &event["error"],
    };
    assert!(found.as_str().is_some_and(|found| found.contains(message)), "{path}: {event}");
    assert!(body.ends_with(if path == OLLAMA { "\n" } else { "\n\n" }));
}

#[tokio::test]
async fn case_54_reset_in_mid_stream_ends_abnormally() {
    let (app, simulator) = simulated("");
    let faults =
        [("reset-mid=5", "broke"), ("close-mid=5", "broke"), ("bad-chunk=5", "not valid HTTP")];
    let mut calls = 0;
    for path in FACES {
        let whole = ask(simulator.addr, &post(path, "tokens=12", STREAM)).await;
        for (fault, message) in faults {
            let got =
                ask(app.addr, &post(path, &format!("tokens=12; fault={fault}"), STREAM)).await;
            assert_eq!((got.status, got.end), (200, End::Closed), "{path} {fault}");
            check_event(path, got.text(), message);
            // all that came before the error is what a direct call gives
            let same = got.body.iter().zip(&whole.body).take_while(|(a, b)| a == b).count();
            assert!(same > 100 && got.text()[..same].contains('\n'), "{path} {fault} {same}");
            calls += 1;
        }
    }
    for line in app.lines(calls).await {
        assert_eq!((&line["outcome"], &line["status"]), (&"upstream_broken".into(), &200.into()));
        assert!(
            ["upstream_broken", "upstream_malformed"].contains(&line["error"].as_str().unwrap())
        );
    }
    assert_eq!(app.ended("upstream_broken"), calls);
}

#[tokio::test]
async fn case_54_over_http2_the_stream_is_reset() {
    let (app, _simulator) = simulated("");
    let client = h2::Client::connect(app.addr).await;
    for path in FACES {
        let answer = client.ask(path, "tokens=12; fault=reset-mid=5", STREAM).await;
        assert_eq!(answer.reset, Some(::h2::Reason::INTERNAL_ERROR), "{path}");
        check_event(path, std::str::from_utf8(&answer.body).unwrap(), "broke");
    }
    let answer = client.ask(CHAT, "fault=close-mid=5", PLAIN).await;
    assert!(answer.reset.is_some() && !answer.body.is_empty());
    assert_eq!(client.ask(CHAT, "", STREAM).await.reset, None, "the connection lives on");
    let lines = app.lines(7).await;
    assert!(lines[..6].iter().all(|line| line["outcome"] == "upstream_broken"), "{lines:#?}");
}

#[tokio::test]
async fn case_55_a_plain_answer_that_is_cut_ends_abnormally() {
    let (app, _simulator) = simulated("");
    let faults = ["reset-mid=5", "close-mid=5", "cl-long"];
    for fault in faults {
        let got = ask(app.addr, &post(CHAT, &format!("fault={fault}"), PLAIN)).await;
        assert_eq!((got.status, got.end), (200, End::Closed), "{fault}");
        assert!(!got.text().contains("tidegate") && got.text().starts_with('{'), "{fault}");
    }
    let lines = app.lines(faults.len()).await;
    assert!(lines.iter().all(|line| line["outcome"] == "upstream_broken"), "{lines:#?}");
}

#[tokio::test]
async fn an_event_that_was_torn_is_ended_before_the_error() {
    for (path, head, torn) in [
        (CHAT, origin::STREAM.to_vec(), "data: {\"choices\":[{\"de"),
        (MESSAGES, origin::STREAM.to_vec(), "event: content_block_delta\ndata: {\"ty"),
        (
            OLLAMA,
            String::from_utf8_lossy(origin::STREAM)
                .replace("text/event-stream", "application/x-ndjson")
                .into_bytes(),
            "{\"message\":{\"content\":\"x",
        ),
    ] {
        let origin = Origin::start(move |mut conn| {
            let head = head.clone();
            async move {
                conn.request().await;
                conn.send(&head).await;
                conn.send(&chunk(torn)).await;
            }
        })
        .await;
        let app = App::start(&policy(&origin.url(), ""));
        let got = ask(app.addr, &post(path, "", STREAM)).await;
        assert_eq!(got.end, End::Closed);
        assert!(got.text().starts_with(torn), "what came was passed on");
        check_event(path, got.text(), "broke");
        app.lines(1).await;
    }
}

#[tokio::test]
async fn case_56_a_clean_end_without_the_terminal_event_is_passed_and_recorded() {
    let (app, simulator) = simulated("");
    for path in FACES {
        let request = post(path, "tokens=12; fault=truncated", STREAM);
        let (got, wanted) = (ask(app.addr, &request).await, ask(simulator.addr, &request).await);
        assert_eq!((got.end, got.text()), (End::Whole, wanted.text()), "{path}");
    }
    // Gemini says it is done inside its last event, and the simulator cuts that off too
    for line in app.lines(FACES.len()).await {
        assert_eq!(line["outcome"], "truncated", "{line}");
    }
    assert_eq!(app.ended("truncated"), FACES.len());
}

#[tokio::test]
async fn case_66_67_errors_of_the_upstream_pass_unchanged() {
    let (app, simulator) = simulated("");
    let mut calls = 0;
    for (script, body) in [
        ("tokens=12; fault=error-event=0", STREAM),
        ("tokens=12; fault=error-event=5", STREAM),
        ("fault=error-200", PLAIN),
        ("fault=error-200", STREAM),
        ("fault=500", PLAIN),
        ("fault=529; retry=ms", STREAM),
    ] {
        for path in FACES {
            let request = post(path, script, body);
            let (got, wanted): (Answer, Answer) =
                (ask(app.addr, &request).await, ask(simulator.addr, &request).await);
            assert_eq!((got.status, got.end), (wanted.status, End::Whole), "{path} {script}");
            assert_eq!(got.text(), wanted.text(), "{path} {script}");
            for name in ["retry-after", "retry-after-ms", "content-type", "request-id"] {
                assert_eq!(got.head.get(name), wanted.head.get(name), "{path} {script}");
            }
            calls += 1;
        }
    }
    for line in app.lines(calls).await {
        assert_eq!(line["outcome"], "upstream_error", "{line}");
    }
}

#[tokio::test]
async fn case_62_429_passes_with_every_form_of_its_hint() {
    // the next call would wait as it was told
    let (app, simulator) = simulated("pacing: off,");
    let hints = ["seconds", "ms", "past", "huge", "garbage", "x-ratelimit"];
    for hint in hints {
        let request = post(CHAT, &format!("fault=429; retry={hint}"), PLAIN);
        let (got, wanted) = (ask(app.addr, &request).await, ask(simulator.addr, &request).await);
        assert_eq!((got.status, got.text()), (429, wanted.text()));
        for line in
            wanted.head.text.lines().filter(|line| line.contains("ret") || line.contains("rat"))
        {
            assert!(got.head.text.contains(line), "{hint}: {line}\n{}", got.head.text);
        }
        assert_eq!(got.head.get("x-tidegate-source"), Some("upstream"));
    }
    for line in app.lines(hints.len()).await {
        assert_eq!((&line["outcome"], &line["attempts"]), (&"complete".into(), &1.into()));
    }
}

#[tokio::test]
async fn case_77_no_answer_or_none_that_can_be_read_is_502() {
    let (app, _simulator) = simulated("");
    let faults = [
        ("reset", "upstream_broken"),
        ("close", "upstream_broken"),
        ("garbage", "upstream_malformed"),
        ("huge-headers=80KiB", "upstream_malformed"),
        ("many-headers=250", "upstream_malformed"),
    ];
    for (fault, code) in faults {
        let got = ask(app.addr, &post(CHAT, &format!("fault={fault}"), STREAM)).await;
        assert_eq!((got.status, got.end), (502, End::Whole), "{fault}");
        assert_eq!(got.json()["error"]["code"], code, "{fault}");
        assert_eq!(got.head.get("x-tidegate-source"), Some("policy"));
    }
    for line in app.lines(faults.len()).await {
        assert_eq!(line["outcome"], "upstream_broken", "{line}");
    }
    // what is only slow or large is an answer
    for script in ["fault=slow-headers", "fault=huge-headers=40KiB", "fault=many-headers=150"] {
        assert_eq!(ask(app.addr, &post(CHAT, script, PLAIN)).await.status, 200, "{script}");
    }
    app.lines(faults.len() + 3).await;
}

/// Heads whose framing is in doubt are no answers.
#[tokio::test]
async fn answers_that_could_be_read_in_two_ways_are_502() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nabcde",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let origin = Origin::saying(head).await;
        let app = App::start(&policy(&origin.url(), ""));
        let got = ask(app.addr, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, &got.json()["error"]["code"]), (502, &"upstream_malformed".into()));
        app.lines(1).await;
        assert_eq!(app.pool("open"), 0, "{head}");
    }
}
