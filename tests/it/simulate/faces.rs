//! What each endpoint answers when all is well.
use super::*;

/// Path, pointer to the text of a plain answer, pointer to it in an event, and what the
/// stream's last bytes contain.
const FACES: [(&str, &str, &str, &str); 8] = [
    (CHAT, "/choices/0/message/content", "/choices/0/delta/content", "data: [DONE]\n\n"),
    ("/v1/completions", "/choices/0/text", "/choices/0/text", "data: [DONE]\n\n"),
    ("/responses", "/output/0/content/0/text", "/delta", "\"status\":\"completed\""),
    (MESSAGES, "/content/0/text", "/delta/text", "\"type\":\"message_stop\""),
    (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        "",
        "/candidates/0/content/parts/0/text",
        "\"finishReason\":\"STOP\"",
    ),
    (
        "/v1beta/models/m:streamGenerateContent",
        "",
        "/candidates/0/content/parts/0/text",
        "\"finishReason\":\"STOP\"",
    ),
    ("/api/chat", "/message/content", "/message/content", "\"done\":true"),
    ("/api/generate", "/response", "/response", "\"done\":true"),
];

#[test]
fn every_face_answers_whole_and_in_a_stream() {
    let simulator = simulator();
    for (path, whole, piece, end) in FACES {
        let body = PLAIN.replace("{\"model", "{\"stream\":false,\"model");
        if !whole.is_empty() {
            let (head, body) = ask(&simulator, path, "tokens=9", &body);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {head}");
            let said = json(&body);
            let said = said.pointer(whole).and_then(Value::as_str).unwrap_or_default();
            assert_eq!(said.split(' ').count(), 9, "{path}: {said}");
        }
        let (_, body) = ask(&simulator, path, "tokens=9", STREAM);
        let said: String = events(&body)
            .iter()
            .filter_map(|event| event.pointer(piece)?.as_str().map(str::to_owned))
            .collect();
        assert_eq!(said.split(' ').count(), 9, "{path}: {said}");
        let tail = body[body.len().saturating_sub(1600)..].to_vec();
        assert!(String::from_utf8_lossy(&tail).contains(end), "{path}: {tail:?}");
    }
}

#[test]
fn the_same_request_gets_the_same_bytes() {
    let simulator = simulator();
    let other = simulator_with_seed(1);
    for (path, ..) in FACES {
        for body in [PLAIN, STREAM] {
            let first = ask(&simulator, path, "reasoning=3", body);
            assert_eq!(first, ask(&simulator, path, "reasoning=3", body));
            assert_ne!(first, ask(&simulator, path, "reasoning=3; seed=1", body));
            assert_eq!(
                ask(&simulator, path, "reasoning=3; seed=1", body),
                ask(&other, path, "reasoning=3", body)
            );
        }
    }
}

fn simulator_with_seed(seed: u64) -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), seed, ..Options::default() }).unwrap()
}

#[test]
fn tools_are_called_in_every_dialect_that_has_them() {
    let simulator = simulator();
    let cases = [
        (CHAT, "/choices/0/message/tool_calls/0/function/arguments"),
        ("/v1/responses", "/output/0/arguments"),
        (MESSAGES, "/content/0/input"),
        ("/m:generateContent", "/candidates/0/content/parts/0/functionCall/args"),
        ("/api/chat", "/message/tool_calls/0/function/arguments"),
    ];
    for (path, place) in cases {
        for key in ["messages", "input", "contents"] {
            let body =
                format!(r#"{{"stream":false,{TOOLS},"{key}":[{{"text":"now use a tool"}}]}}"#);
            let answer = json(&ask(&simulator, path, "", &body).1);
            let arguments = answer.pointer(place).unwrap_or_else(|| panic!("{path}: {answer}"));
            let arguments = arguments.as_str().map_or(arguments.clone(), |s| json(s.as_bytes()));
            assert!(arguments["a"].is_string(), "{path}: {answer}");
        }
        let without = format!(r#"{{"stream":false,{TOOLS}}}"#);
        let answer = json(&ask(&simulator, path, "", &without).1);
        assert_eq!(answer.pointer(place), None, "{path}");
    }
}

#[test]
fn usage_comes_as_it_is_asked_for() {
    let simulator = simulator();
    let asked = STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    let usage = |script: &str, body: &str| {
        let events = events(&ask(&simulator, CHAT, script, body).1);
        events.iter().filter(|event| event["usage"]["total_tokens"].is_u64()).count()
    };
    assert_eq!(usage("", STREAM), 0);
    assert_eq!(usage("", &asked), 1, "{asked}");
    assert_eq!(usage("usage=always", STREAM), 1);
    assert_eq!(usage("usage=never", &asked), 0);
    assert_eq!(usage("fault=no-usage", &asked), 0);
    let plain = |script: &str| json(&ask(&simulator, CHAT, script, PLAIN).1)["usage"].clone();
    assert_eq!(plain("tokens=5; reasoning=2")["completion_tokens"], 7);
    assert_eq!(plain("usage=never"), Value::Null);
}

#[test]
fn an_answer_ends_at_the_requests_bound() {
    let simulator = simulator();
    let body = PLAIN.replace("{\"model", "{\"max_tokens\":2,\"model");
    let answer = json(&ask(&simulator, CHAT, "", &body).1);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[test]
fn an_answer_can_have_a_size() {
    let simulator = simulator();
    for bytes in [700, 1024, 50_000] {
        for path in [CHAT, MESSAGES] {
            let script = format!("answer-bytes={bytes}");
            let length = ask(&simulator, path, &script, PLAIN).1.len();
            assert!(length.abs_diff(bytes) < 10, "{length} for {bytes}");
        }
    }
}

#[test]
fn lists_counts_and_control_paths_answer() {
    let simulator = simulator();
    let get = |path: &str| {
        let (all, end) =
            raw(&simulator, &format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n"));
        end.unwrap();
        split_head(&all)
    };
    assert_eq!(json(&get("/v1/models").1)["data"][0]["object"], "model");
    assert_eq!(json(&get("/v1beta/models").1)["models"][0]["name"], "models/sim-small");
    assert_eq!(json(&get("/api/tags").1)["models"][0]["name"], "sim-small:latest");
    assert!(get("/").0.starts_with("HTTP/1.1 200"));
    assert!(get("/nowhere").0.starts_with("HTTP/1.1 404"));
    assert!(get(CHAT).0.starts_with("HTTP/1.1 405"));
    let count = ask(&simulator, "/v1/messages/count_tokens", "", PLAIN).1;
    assert_eq!(json(&count)["input_tokens"].as_u64(), Some(PLAIN.len().div_ceil(4) as u64));
    let echo = json(&ask(&simulator, "/simulate/echo/x?y", "id=1", "\u{e9}").1);
    assert_eq!(echo["target"], "/simulate/echo/x?y");
    assert_eq!(echo["headers"][1], serde_json::json!(["x-simulate", "id=1"]));
    assert_eq!((&echo["body"], &echo["body_bytes"]), (&"é".into(), &2.into()));
    assert_eq!(ask(&simulator, "/simulate/mirror", "", "as it came").1, b"as it came");
    assert!(json(&get("/simulate/seen").1)["requests"].as_u64() > Some(8));
}
