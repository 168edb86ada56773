//! What an attacker would try, and what an unlucky caller runs into.
use std::time::Duration;

use super::{
    Backend, CHAT, GEMINI, OPENAI_CHAT, Script, ask, by, is_hit, policy, quiet, sent, status,
    until_inside,
};
use crate::support::app::App;
use crate::support::client::Answer;
use crate::support::origin::Origin;
use crate::support::until;

/// Two callers that differ in these lines alone.
async fn second_of(cache: &str, lines: [&str; 2]) -> Answer {
    let script = Script::recorded(&OPENAI_CHAT, false, "tokens=5").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = backend.behind(cache);
    let body = OPENAI_CHAT.json("whose?", false);
    let call = |lines: &str| {
        let length = body.len();
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: sidecar.test\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{lines}\r\n{body}"
        )
        .into_bytes()
    };
    assert_eq!(status(&ask(&app, &call(lines[0])).await), "tidegate; fwd=miss");
    let second = ask(&app, &call(lines[1])).await;
    assert!(is_hit(&ask(&app, &call(lines[0])).await), "the first one's own");
    second
}

#[tokio::test]
async fn whatever_may_be_a_credential_is_a_wall() {
    for lines in [
        ["authorization: Token one\r\n", "authorization: Token two\r\n"],
        ["authorization: Token one\r\n", ""],
        ["x-litellm-api-key: one\r\n", "x-litellm-api-key: two\r\n"],
        ["cf-aig-authorization: one\r\n", "cf-aig-authorization: two\r\n"],
        ["ocp-apim-subscription-key: one\r\n", "ocp-apim-subscription-key: two\r\n"],
        ["x-auth-token: one\r\n", "x-auth-token: two\r\n"],
        ["cookie: session=one\r\n", "cookie: session=two\r\n"],
        // one of ours, and one of the backend's
        [
            "authorization: Bearer all\r\nx-api-key: one\r\n",
            "authorization: Bearer all\r\nx-api-key: two\r\n",
        ],
    ] {
        let answer = second_of("{ ttl: 1h }", lines).await;
        assert_eq!(status(&answer), "tidegate; fwd=miss", "{lines:?}");
    }
    for lines in ["idempotency-key: 2\r\n", "x-stainless-retry-count: 2\r\n", "user-agent: x\r\n"] {
        assert!(is_hit(&second_of("{ ttl: 1h }", ["", lines]).await), "{lines}");
    }
}

/// A backend that answers by a condition in the head, as HTTP has it.
async fn conditional() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let (status, body) = if request.get("if-none-match").is_some() {
                ("304 Not Modified", "")
            } else if request.get("range").is_some() {
                ("206 Partial Content", "{\"choices\":")
            } else if request.get("accept") == Some("text/plain") {
                ("406 Not Acceptable", "no")
            } else {
                let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}"#;
                ("200 OK", body)
            };
            let length = if status.starts_with("304") { String::new() } else {
                format!("content-length: {}\r\n", body.len())
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{length}\r\n{body}");
            conn.send(head.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_condition_of_one_is_not_the_answer_of_another() {
    for lines in ["if-none-match: \"a\"\r\n", "range: bytes=0-9\r\n", "accept: text/plain\r\n"] {
        let origin = conditional().await;
        let policies = "  - { name: once, cache: { ttl: 1h, scope: shared } }\n";
        let app = App::start(&policy(&origin.url(), "", policies));
        let body = OPENAI_CHAT.json("on which condition?", false);
        let mut first = sent(app.addr, &by("sk-one", CHAT, lines, &body)).await;
        until("it is asked", async || origin.requests() == 1).await;
        let second = ask(&app, &by("sk-one", CHAT, "", &body)).await;
        assert_eq!(second.status, 200, "{lines}: {}", second.head.text);
        first.answer().await;
        quiet(&app).await;
    }
}

#[tokio::test]
async fn the_form_of_a_gemini_stream_is_read_as_the_backend_reads_it() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let query = request.target.split_once('?').map_or("", |(_, query)| query);
            let candidate = r#"{"candidates":[{"content":{"parts":[{"text":"yes"}],"role":"model"},"finishReason":"STOP","index":0}]}"#;
            let (kind, body) = match query.replace("%73", "s").as_str() {
                "alt=sse" => ("text/event-stream", format!("data: {candidate}\r\n\r\n")),
                "alt=proto" => ("application/x-protobuf", "\x0a\x05bytes".to_owned()),
                _ => ("application/json", format!("[{candidate}]")),
            };
            let length = body.len();
            conn.send(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes()).await;
        }
    })
    .await;
    for sly in ["alt=%73se", "alt=proto", "alt=json&alt=sse"] {
        let policies = "  - { name: once, cache: { ttl: 1h, scope: shared } }\n";
        let app = App::start(&policy(&origin.url(), "", policies));
        let body = GEMINI.json("in which form?", true);
        let target = "/v1beta/models/m:streamGenerateContent";
        ask(&app, &by("sk-one", &format!("{target}?{sly}"), "", &body)).await;
        let plain = ask(&app, &by("sk-one", target, "", &body)).await;
        assert_eq!(plain.head.get("content-type"), Some("application/json"), "{sly}");
    }
}

#[tokio::test]
async fn usage_that_was_asked_for_in_another_way_is_nobody_elses() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            // as a lenient backend takes it
            let usage = body.contains("include_usage\":1") || body.contains("include_usage\":true");
            let chunk = r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"yes"},"finish_reason":null}]}"#;
            let end = r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
            let counted = r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
            let counted = if usage { format!("{counted}\n\n") } else { String::new() };
            let text = format!("{chunk}\n\n{end}\n\n{counted}data: [DONE]\n\n");
            conn.send(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{text}", text.len()).as_bytes()).await;
        }
    })
    .await;
    let policies = "  - { name: once, cache: { ttl: 1h, scope: shared } }\n";
    let app = App::start(&policy(&origin.url(), "", policies));
    let body = OPENAI_CHAT.json("how many?", true);
    let sly = body.replacen('{', r#"{"stream_options":{"include_usage":1},"#, 1);
    ask(&app, &by("sk-one", CHAT, "", &sly)).await;
    let plain = ask(&app, &by("sk-one", CHAT, "", &body)).await;
    assert!(!plain.text().contains("usage"), "{}", plain.text());
}

#[tokio::test]
async fn a_call_that_a_poor_agents_limit_bounds_is_not_shared_with_a_rich_one() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=20; usage=always").await;
    let backend = Backend::held(script, Duration::ZERO, 0).await;
    let policies = "  - { name: once, per: all, cache: { ttl: 1h, scope: shared } }\n  \
                    - { name: poor, match: { agent: poor }, limits: { tokens: 400/min hard } }\n";
    let agents = "agents: { identify: [header, credential, address], access: open }\n";
    let app = App::start(&format!("{agents}{}", policy(&backend.origin.url(), "", policies)));
    let body = OPENAI_CHAT.json("for how much?", true);
    let call = |agent: &str| by("sk-one", CHAT, &format!("x-agent-id: {agent}\r\n"), &body);
    let mut poor = sent(app.addr, &call("poor")).await;
    until("it is asked", async || backend.calls() == 1).await;
    let asked = backend.origin.take();
    assert!(String::from_utf8_lossy(&asked[0].body).contains("max_"), "it is bounded");
    let mut rich = sent(app.addr, &call("rich")).await;
    until_inside(&app, 2).await;
    backend.release(usize::MAX);
    let (_, rich) = (poor.answer().await, rich.answer().await);
    assert_eq!(rich.head.get("x-tidegate-max-tokens"), None, "{}", rich.head.text);
    quiet(&app).await;
}

#[tokio::test]
async fn who_wants_it_fresh_takes_nothing_from_others() {
    let script = Script::recorded(&OPENAI_CHAT, false, "tokens=5").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = backend.behind("{ ttl: 1h, canonical: true }");
    let say =
        async |question, lines| ask(&app, &OPENAI_CHAT.call_with(question, false, lines)).await;
    say("How do I cancel a booking?", "").await;
    until("it is found", async || is_hit(&say("how do i cancel a booking", "").await)).await;
    let fresh = "cache-control: max-age=0, no-store\r\n";
    assert!(!is_hit(&say("How do I cancel a BOOKING!", fresh).await));
    // its own answer is not kept, so the one before is all that there is
    let picky = "cache-control: min-fresh=86400\r\nx-tidegate-cache-ttl: 0\r\n";
    assert!(!is_hit(&say("how do I cancel a booking!", picky).await));
    assert!(is_hit(&say("HOW do I cancel a booking", "").await));
}

/// Where the backend judges the callers' own credentials, what it says to one is said to no other.
#[tokio::test]
async fn a_wrong_credential_is_nobody_elses_answer() {
    for (behind_a_key, calls) in [(false, 2), (true, 1)] {
        let script = Script::recorded(&OPENAI_CHAT, true, "tokens=5").await;
        let backend = Backend::held(script, Duration::ZERO, 0).await;
        let cache = "{ ttl: 1h, scope: shared }";
        let app = if behind_a_key { backend.behind_a_key(cache) } else { backend.behind(cache) };
        let body = OPENAI_CHAT.json("who may?", true);
        let mut first = sent(app.addr, &by("sk-wrong", CHAT, "", &body)).await;
        until("it is asked", async || backend.calls() == 1).await;
        let mut second = sent(app.addr, &by("sk-right", CHAT, "", &body)).await;
        until_inside(&app, 2).await;
        until("the second one as well", async || backend.calls() == calls).await;
        backend.release(usize::MAX);
        for client in [&mut first, &mut second] {
            assert_eq!(client.answer().await.status, 200);
        }
        assert_eq!(backend.calls(), calls);
        quiet(&app).await;
    }
}

#[tokio::test]
async fn who_joins_is_not_told_of_the_first_ones_purse() {
    let mut script = Script::recorded(&OPENAI_CHAT, true, "tokens=5").await;
    let names = [
        "x-litellm-key-spend",
        "x-account-id",
        "x-credits-remaining",
        "x-quota-left",
        "x-user-tier",
        "set-cookie",
        "x-tenant",
        "x-litellm-key-max-budget",
    ];
    for name in names {
        script.lines.extend([name, ": of-the-first\r\n"]);
    }
    let backend = Backend::held(script, Duration::ZERO, 0).await;
    let app = backend.behind_a_key("{ ttl: 1h, scope: shared }");
    let body = OPENAI_CHAT.json("whose purse?", true);
    let mut first = sent(app.addr, &by("sk-one", CHAT, "", &body)).await;
    until("it is asked", async || backend.calls() == 1).await;
    let mut second = sent(app.addr, &by("sk-two", CHAT, "", &body)).await;
    until_inside(&app, 2).await;
    backend.release(usize::MAX);
    let (_, second) = (first.answer().await, second.answer().await);
    assert_eq!(status(&second), "tidegate; fwd=miss; collapsed");
    assert!(!second.head.text.contains("of-the-first"), "{}", second.head.text);
    assert_eq!(second.head.get("x-request-id"), Some("req_of_upstream"));
    quiet(&app).await;
}
