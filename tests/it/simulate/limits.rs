//! Rate limits, and the bound that a request puts on its answer.
use super::*;

/// 15 tokens of prompt.
const BODY: &str = r#"{"model":"m","max_tokens":45,"messages":[],"x":"123456789"}"#;

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn ask_as(simulator: &Simulator, key: &str, path: &str, script: &str) -> (String, Vec<u8>) {
    let head = request(path, script, BODY);
    let text = format!("{head}{key}\r\nconnection: close\r\n\r\n{BODY}");
    split_head(&raw(simulator, &text).0)
}

#[test]
fn the_process_has_limits_for_each_credential() {
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = start(Options { listen, tpm: 100, ..Options::default() }).unwrap();
    for key in ["authorization: Bearer a", "Authorization: Bearer b", "x-api-key: a"] {
        let statuses: Vec<_> = (0..5)
            .map(|_| ask_as(&simulator, key, CHAT, "tokens=45").0[9..12].to_owned())
            .collect();
        assert_eq!(statuses, ["200", "429", "429", "429", "429"], "{key}");
    }
    assert_eq!(simulator.seen().limited, 12);
    let echo = ask(&simulator, "/simulate/echo", "", "").0;
    assert!(echo.starts_with("HTTP/1.1 200") && !echo.contains("ratelimit"), "{echo}");
}

#[test]
fn openai_says_what_is_left_and_when_to_come_back() {
    let simulator = simulator();
    let script = "rpm=60; tpm=100; tokens=45";
    let (head, _) = ask(&simulator, CHAT, script, BODY);
    let at = |head: &str, name: &str| field(head, name).unwrap_or_default().to_owned();
    assert_eq!(at(&head, "x-ratelimit-limit-requests"), "60");
    assert_eq!(at(&head, "x-ratelimit-remaining-requests"), "59");
    assert_eq!(at(&head, "x-ratelimit-reset-requests"), "1s");
    assert_eq!(at(&head, "x-ratelimit-limit-tokens"), "100");
    assert_eq!(at(&head, "x-ratelimit-remaining-tokens"), "40");
    assert_eq!(at(&head, "x-ratelimit-reset-tokens"), "36s");
    assert!(!head.contains("retry-after"), "{head}");
    let (head, body) = ask(&simulator, CHAT, script, BODY);
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    // 20 more at 100 a minute, less what has passed
    let after: u64 = at(&head, "retry-after").parse().unwrap();
    let millis: u64 = at(&head, "retry-after-ms").parse().unwrap();
    assert!((11..=12).contains(&after) && (10_500..=12_000).contains(&millis), "{head}");
    assert_eq!(json(&body)["error"]["code"], "rate_limit_exceeded");
    let said = json(&body)["error"]["message"].to_string();
    assert!(said.contains("Limit 100, Used 60, Requested 60"), "{said}");
    let small = "tpm=59; tokens=45";
    let (head, body) = ask(&simulator, CHAT, small, BODY);
    assert!(head.starts_with("HTTP/1.1 429") && !head.contains("retry-after"), "{head}");
    assert!(json(&body)["error"]["message"].to_string().contains("Request too large"));
}

#[test]
fn anthropic_says_it_in_its_own_words_and_the_others_in_none() {
    let simulator = simulator();
    let script = "tpm=100; tokens=45";
    let (head, _) = ask(&simulator, MESSAGES, script, BODY);
    assert_eq!(field(&head, "anthropic-ratelimit-tokens-limit"), Some("100"));
    assert_eq!(field(&head, "anthropic-ratelimit-tokens-remaining"), Some("40"));
    let reset = field(&head, "anthropic-ratelimit-tokens-reset").unwrap();
    let reset: jiff::Timestamp = reset.parse().unwrap();
    let away = reset.as_second() - jiff::Timestamp::now().as_second();
    assert!((34..=38).contains(&away), "{head}");
    assert!(!head.contains("requests") && !head.contains("x-ratelimit"), "{head}");
    let (head, body) = ask(&simulator, MESSAGES, script, BODY);
    assert!(head.starts_with("HTTP/1.1 429") && field(&head, "retry-after").is_some(), "{head}");
    assert_eq!(json(&body)["error"]["type"], "rate_limit_error");
    let (head, body) = ask(&simulator, "/v1beta/models/m:generateContent", script, BODY);
    assert!(head.starts_with("HTTP/1.1 429") && !head.contains("ratelimit"), "{head}");
    assert_eq!(json(&body)["error"]["status"], "RESOURCE_EXHAUSTED");
}

#[test]
fn what_was_not_used_comes_back_also_from_who_left() {
    let simulator = simulator();
    let remaining = |script: &str| -> u64 {
        let body = BODY.replace("45", "1");
        let head = ask(&simulator, CHAT, script, &body).0;
        field(&head, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
    };
    // 15 and 10 of the 60 that were taken
    ask(&simulator, CHAT, "tpm=60; tokens=10", BODY);
    assert!((19..=21).contains(&remaining("tpm=60; tokens=1")));
    // a stream that is left after its first token: 15 and 1
    let body = BODY.replace("\"model\"", "\"stream\":true,\"model\"");
    let mut stream = connect(&simulator);
    let head = request(CHAT, "tpm=80; tokens=45; gap=60s", &body);
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut some = [0; 4096];
    let first = stream.read(&mut some).unwrap();
    let head = String::from_utf8_lossy(&some[..first]).into_owned();
    assert_eq!(field(&head, "x-ratelimit-remaining-tokens"), Some("16"), "{head}");
    drop(stream);
    until(|| simulator.seen().cancelled == 1);
    let mut left = 0;
    // it is counted as left a moment before its charge is settled
    until(|| {
        left = remaining("tpm=80; tokens=0");
        left > 16
    });
    assert!((30..=50).contains(&left), "{left}");
}

#[test]
fn the_bound_holds_for_reasoning_tools_and_streams() {
    let simulator = simulator();
    let used = |body: &str, script: &str| {
        let answer = json(&ask(&simulator, CHAT, script, body).1);
        let usage = &answer["usage"];
        let reasoning = &usage["completion_tokens_details"]["reasoning_tokens"];
        (
            usage["completion_tokens"].as_u64().unwrap(),
            reasoning.as_u64().unwrap(),
            answer["choices"][0]["finish_reason"].as_str().unwrap().to_owned(),
        )
    };
    let bound = |n: u32| BODY.replace("45", &n.to_string());
    assert_eq!(used(&bound(9), "tokens=20; reasoning=5"), (9, 5, "length".to_owned()));
    assert_eq!(used(&bound(3), "tokens=20; reasoning=5"), (3, 3, "length".to_owned()));
    assert_eq!(used(&bound(25), "tokens=20; reasoning=5"), (25, 5, "stop".to_owned()));
    for tokens in [3, 300] {
        let whole = (tokens.into(), 0, "length".to_owned());
        assert_eq!(used(&bound(tokens), "answer-bytes=50KiB"), whole);
    }
    let tools = |n: u32| bound(n).replace("\"messages\"", &format!("{TOOLS},\"messages\""));
    assert_eq!(used(&tools(500), "tool").2, "tool_calls");
    assert_eq!(used(&tools(2), "tool"), (2, 0, "length".to_owned()));
    let options = r#""stream":true,"stream_options":{"include_usage":true},"model""#;
    let body = bound(7).replace("\"model\"", options);
    let events = events(&ask(&simulator, CHAT, "tokens=20", &body).1);
    let last = events.last().unwrap();
    assert_eq!(last["usage"]["completion_tokens"], 7, "{last}");
}
