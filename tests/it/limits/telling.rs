//! Refusals, and what callers are told of their limits: names, headers, words of each dialect.
use std::time::Duration;

use super::{
    CHAT, GENERATE, MESSAGES, OLLAMA, PLAIN, RESPONSES, STREAM, at_once, bucket, by, error,
    limited, number, quiet, statuses, used,
};
use crate::support::client::{Answer, ask, get, request};

/// A field of `RateLimit`: `"name";r=1;t=2`
fn part(answer: &Answer, header: &str, letter: char) -> u64 {
    let value = answer.head.get(header).unwrap_or_else(|| panic!("{}", answer.head.text));
    let found = value.split(';').find_map(|part| part.strip_prefix(&format!("{letter}=")));
    found.unwrap_or_else(|| panic!("{letter} in {value}")).parse().unwrap()
}

#[tokio::test]
async fn of_five_calls_at_once_100_tokens_a_minute_let_one_go() {
    let (app, simulator) =
        limited("", "  - { name: little, per: agent, limits: { tokens: 100/min } }\n");
    for (path, word) in [
        (CHAT, "rate_limit_exceeded"),
        (RESPONSES, "rate_limit_exceeded"),
        (MESSAGES, "rate_limit_error"),
        (GENERATE, "RESOURCE_EXHAUSTED"),
        (OLLAMA, ""),
    ] {
        let agent = format!("five-{}", path.len());
        let calls = || (0..5).map(|_| by(&agent, path, "ttft=400ms; tokens=100", PLAIN));
        let answers = at_once(app.addr, calls()).await;
        assert_eq!(statuses(&answers), [200, 429, 429, 429, 429], "{path}");
        for answer in &answers {
            assert_eq!(part(answer, "ratelimit-policy", 'q'), 100);
            assert_eq!(part(answer, "ratelimit-policy", 'w'), 60);
            assert!(part(answer, "ratelimit", 't') > 0);
            assert!(answer.head.get("ratelimit").unwrap().starts_with("\"little/tokens\";r="));
            if path == MESSAGES {
                assert_eq!(number(answer, "anthropic-ratelimit-tokens-limit"), 100);
                number(answer, "anthropic-ratelimit-tokens-remaining");
                let reset = answer.head.get("anthropic-ratelimit-tokens-reset").unwrap();
                assert!(reset.contains('T') && reset.ends_with('Z'), "{reset}");
            } else {
                assert_eq!(number(answer, "x-ratelimit-limit-tokens"), 100);
                number(answer, "x-ratelimit-remaining-tokens");
                assert!(answer.head.get("x-ratelimit-reset-tokens").unwrap().ends_with('s'));
            }
        }
        for refused in answers.iter().filter(|answer| answer.status == 429) {
            let (message, said) = error(path, refused);
            let named = message.contains("`little/tokens`") && message.contains(&agent);
            assert!(named && said == word, "{path}: {message} {said}");
            assert!(number(refused, "retry-after") >= 1);
            assert!(number(refused, "retry-after-ms") >= 1);
            assert_eq!(refused.head.get("x-should-retry"), None, "it has room again in a minute");
        }
        // the one that went was larger than the bucket: that is debt now, and tells when it is paid
        quiet(&app).await;
        assert!(used(&app, "little", "tokens", &agent) > 100);
        let answers = at_once(app.addr, calls()).await;
        assert_eq!(statuses(&answers), [429; 5], "{path}: in debt");
        for refused in &answers {
            assert!((1..=60).contains(&number(refused, "retry-after")));
        }
    }
    assert_eq!(simulator.seen().requests, 5);
    let refused = app.metric(
        "tidegate_limit_refusals_total",
        &["policy=\"little\"", "measure=\"tokens\"", "mode=\"soft\""],
    );
    assert!((refused - 45.0).abs() < 0.1, "{refused}");
    let lines = app.lines(50).await;
    let refused = lines.iter().filter(|line| line["status"] == 429);
    assert!(refused.clone().all(|line| line["limited_by"] == "little/tokens"));
    assert!(refused.clone().all(|line| line["outcome"] == "refused"));
    assert_eq!(refused.count(), 45);
}

#[tokio::test]
async fn what_is_left_is_told_on_success_and_counts_down() {
    let (app, _simulator) = limited(
        "",
        "  - name: four\n    per: agent\n    limits: { requests: 5/day calendar, \
         spend: $100/day, input_tokens: 10k/day, output_tokens: 20k/day, concurrency: 9 }\n",
    );
    for left in [4, 3, 2] {
        let answer = ask(app.addr, &by("a", CHAT, "tokens=5", PLAIN)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(number(&answer, "x-ratelimit-limit-requests"), 5);
        assert_eq!(number(&answer, "x-ratelimit-remaining-requests"), left);
        let money = answer.head.get("x-tidegate-spend-remaining").unwrap();
        assert!(money.starts_with('$') && money.contains('.'), "{money}");
        let policies = answer.head.get("ratelimit-policy").unwrap();
        assert!(policies.contains("\"four/requests\";q=5;w=86400"), "{policies}");
        assert!(!policies.contains("spend") && !policies.contains("concurrency"));
    }
    let answer = ask(app.addr, &by("a", MESSAGES, "tokens=5", STREAM)).await;
    assert_eq!(number(&answer, "anthropic-ratelimit-requests-remaining"), 1);
    assert_eq!(number(&answer, "anthropic-ratelimit-input-tokens-limit"), 10_000);
    assert_eq!(number(&answer, "anthropic-ratelimit-output-tokens-limit"), 20_000);
    // another agent has its own
    let answer = ask(app.addr, &by("b", CHAT, "tokens=5", PLAIN)).await;
    assert_eq!(number(&answer, "x-ratelimit-remaining-requests"), 4);
    assert_eq!(ask(app.addr, &by("a", CHAT, "", PLAIN)).await.status, 200);
    let refused = ask(app.addr, &by("a", CHAT, "", PLAIN)).await;
    assert_eq!(refused.status, 429);
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    app.lines(7).await;
}

#[tokio::test]
async fn the_backends_own_headers_are_not_overwritten() {
    let more = "x-ratelimit-limit-requests: 77\r\nx-ratelimit-remaining-requests: 76\r\n";
    let origin =
        crate::support::origin::Origin::saying(crate::support::origin::whole("200 OK", more, "{}"))
            .await;
    let app = crate::support::app::App::start(&super::policy(
        &origin.url(),
        "",
        "  - { name: ours, per: all, limits: { requests: 5/min, tokens: 1M/min } }\n",
    ));
    let answer = ask(app.addr, &by("a", CHAT, "", PLAIN)).await;
    assert_eq!(answer.head.all("x-ratelimit-limit-requests"), ["77"]);
    assert_eq!(answer.head.all("x-ratelimit-remaining-requests"), ["76"]);
    assert_eq!(number(&answer, "x-ratelimit-limit-tokens"), 1_000_000);
    assert!(answer.head.get("ratelimit").unwrap().contains("\"ours/requests\";r=4"));
    app.line().await;
}

#[tokio::test]
async fn a_request_that_never_fits_is_told_so_and_not_to_try_again() {
    let (app, simulator) = limited(
        "",
        "  - { name: small, per: all, limits: { input_tokens: 50/min }, queue: { wait: 5s } }\n",
    );
    let long = "many words ".repeat(100);
    let (long, parts) = (PLAIN.replace("hi there", &long), format!(r#"{{"contents":["{long}"]}}"#));
    for (path, long) in [(CHAT, &long), (MESSAGES, &long), (GENERATE, &parts), (OLLAMA, &long)] {
        let refused = ask(app.addr, &by("a", path, "", long)).await;
        assert_eq!(refused.status, 400, "{path}");
        let (message, word) = error(path, &refused);
        assert!(message.contains("`small/input_tokens`") && message.contains("allows at once"));
        assert!(path != CHAT || word == "request_exceeds_limit", "{word}");
        assert_eq!(refused.head.get("x-should-retry"), Some("false"));
        assert_eq!(refused.head.get("retry-after"), None);
    }
    assert_eq!(simulator.seen().requests, 0);
    app.lines(4).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_only_where_limits_are() {
    let head = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let zipped = request("POST", CHAT, head, "who knows what this says");
    let broken = by("a", CHAT, "", r#"{"model":"m","stream":tru"#);
    let (app, simulator) =
        limited("", "  - { per: all, limits: { requests: 1000/day calendar } }\n");
    let refused = ask(app.addr, &zipped).await;
    assert_eq!((refused.status, error(CHAT, &refused).1.as_str()), (415, "encoded_body"));
    let refused = ask(app.addr, &broken).await;
    assert_eq!((refused.status, error(CHAT, &refused).1.as_str()), (400, "invalid_body"));
    assert_eq!(simulator.seen().requests, 0);
    let identity = request("POST", CHAT, "content-encoding: identity\r\n", PLAIN);
    assert_eq!(ask(app.addr, &identity).await.status, 200);
    app.lines(3).await;
    assert_eq!(used(&app, "policy-1", "requests", ""), 1, "what was refused is not counted");
    // what we do not look into passes as it is
    let upload = request("POST", "/v1/files", head, "whatever");
    ask(app.addr, &upload).await;
    assert_eq!(simulator.seen().requests, 2);
    let (free, _backend) = limited("", "");
    let backends = ask(free.addr, &broken).await;
    assert_eq!(backends.head.get("x-tidegate-source"), Some("upstream"), "not ours to judge");
    assert_eq!(ask(free.addr, &zipped).await.head.get("x-tidegate-source"), Some("upstream"));
    free.lines(2).await;
}

#[tokio::test]
async fn a_list_of_models_and_a_count_cost_a_request_and_no_token() {
    let (app, _simulator) = limited(
        "",
        "  - { name: day, per: all, limits: { requests: 100/day calendar, tokens: 1M/day calendar, \
         spend: $9/day hard } }\n",
    );
    assert_eq!(ask(app.addr, &get("/v1/models", "")).await.status, 200);
    assert_eq!(ask(app.addr, &get("/v1/models/m", "")).await.status, 200);
    quiet(&app).await;
    let count = ask(app.addr, &by("a", "/v1/messages/count_tokens", "", PLAIN)).await;
    assert_eq!(count.status, 200, "{}", count.text());
    let count = ask(app.addr, &by("a", "/v1beta/models/m:countTokens", "", PLAIN)).await;
    assert_eq!(count.status, 200, "{}", count.text());
    quiet(&app).await;
    assert_eq!(used(&app, "day", "requests", ""), 4);
    for measure in ["tokens", "spend"] {
        assert!(bucket(&app, "day", measure, "").is_null(), "{measure}: nothing asked for it");
    }
    let embed = r#"{"model":"m","input":"some words that are turned into numbers"}"#;
    let got = ask(app.addr, &by("a", "/v1/embeddings", "", embed)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let tokens = got.json()["usage"]["prompt_tokens"].as_i64().unwrap();
    quiet(&app).await;
    assert_eq!(used(&app, "day", "requests", ""), 5);
    assert_eq!(used(&app, "day", "tokens", ""), tokens);
    assert_eq!(used(&app, "day", "spend", ""), tokens * 1_000_000);
    app.lines(5).await;
}

#[tokio::test]
async fn observe_tells_and_never_refuses() {
    let (app, simulator) = limited(
        "",
        "  - { name: watch, per: agent, limits: { requests: 2/day observe, \
         tokens: 100/day calendar observe, spend: $0.01/day observe, concurrency: 1 observe } }\n",
    );
    let answers =
        at_once(app.addr, (0..6).map(|_| by("a", CHAT, "ttft=100ms; tokens=60", STREAM))).await;
    assert_eq!(statuses(&answers), [200; 6]);
    for answer in &answers {
        assert_eq!(answer.head.get("ratelimit"), None, "what is only watched is not told");
        assert_eq!(answer.head.get("x-ratelimit-limit-requests"), None);
    }
    assert_eq!(simulator.seen().requests, 6);
    let lines = app.lines(6).await;
    let said = |line: &&serde_json::Value| line["would_refuse"].is_string();
    assert!(lines.iter().filter(said).count() >= 5, "{lines:#?}");
    let by_requests =
        app.metric("tidegate_limit_refusals_total", &["measure=\"requests\"", "mode=\"observe\""]);
    assert!((by_requests - 4.0).abs() < 0.1, "{by_requests}");
    let by_place = app
        .metric("tidegate_limit_refusals_total", &["measure=\"concurrency\"", "mode=\"observe\""]);
    assert!(by_place >= 3.0, "{by_place}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    quiet(&app).await;
    assert_eq!(bucket(&app, "watch", "requests", "a")["used"], 2, "what would not have gone");
}
