//! Recorded streams, and what the plain call says by the vendors' references (2026-11-22).
use serde_json::{Value, json};

use super::super::*;
use super::sample;
use Form::{Json, NdJson, Sse};

fn folded(kind: Kind, form: Form, body: &[u8]) -> Option<Value> {
    fold(kind, form, body).map(|plain| serde_json::from_slice(&plain).unwrap())
}

/// Chunks of a chat stream by their data.
fn stream(chunks: &[&str]) -> String {
    chunks.iter().flat_map(|data| ["data: ", data, "\n\n"]).collect()
}

fn chat(chunks: &[&str]) -> Option<Value> {
    folded(Kind::Chat, Sse, stream(chunks).as_bytes())
}

fn chunk(choices: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choices}]}}"#
    )
}

const COUNTS: &str = r#"{"id":"c","object":"chat.completion.chunk","created":2,"model":"m","choices":[],"usage":{"total_tokens":3}}"#;

fn samples() -> Vec<(Kind, Form, &'static str)> {
    vec![
        (Kind::Chat, Sse, "openai/chat_stream.sse"),
        (Kind::Chat, Sse, "openai/chat_reasoning_stream.sse"),
        (Kind::Chat, Sse, "openai/chat_tools_stream.sse"),
        (Kind::Completions, Sse, "openai/completions_stream.sse"),
        (Kind::Responses, Sse, "openai/responses_stream.sse"),
        (Kind::Responses, Sse, "openai/responses_incomplete_stream.sse"),
        (Kind::Messages, Sse, "anthropic/stream.sse"),
        (Kind::Messages, Sse, "anthropic/stream_cached.sse"),
        (Kind::Messages, Sse, "anthropic/thinking_stream.sse"),
        (Kind::Messages, Sse, "anthropic/tools_stream.sse"),
        (Kind::StreamGenerate, Sse, "gemini/stream.sse"),
        (Kind::StreamGenerate, Json, "gemini/stream_array.json"),
        (Kind::StreamGenerate, Sse, "gemini/stream_vertex.sse"),
        (Kind::StreamGenerate, Sse, "gemini/thinking_stream.sse"),
        (Kind::StreamGenerate, Sse, "gemini/tools_stream.sse"),
        (Kind::StreamGenerate, Sse, "gemini/blocked_stream.sse"),
        (Kind::OllamaChat, NdJson, "ollama/chat_stream.ndjson"),
        (Kind::OllamaChat, NdJson, "ollama/chat_thinking_stream.ndjson"),
        (Kind::OllamaChat, NdJson, "ollama/chat_tools_stream.ndjson"),
        (Kind::OllamaGenerate, NdJson, "ollama/generate_stream.ndjson"),
    ]
}

/// What a sample must be in its plain form, as far as the answer goes.
fn said(name: &str) -> Value {
    match name {
        "openai/chat_stream.sse" => json!([{"index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "The tide turns at six.", "refusal": null}}]),
        "openai/chat_reasoning_stream.sse" => {
            json!([{"index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "At six.", "reasoning_content": "First, the moon."}}])
        }
        "openai/chat_tools_stream.sse" => {
            json!([{"index": 0, "logprobs": null, "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "get_tide", "arguments": "{\"port\":\"Brest\"}"}},
                {"id": "call_b", "type": "function", "function": {"name": "get_wind", "arguments": "{\"error\":\"\\\"usage\\\"}"}}]}}])
        }
        "openai/completions_stream.sse" => {
            json!([{"index": 0, "logprobs": null, "finish_reason": "stop", "text": " high tide"}])
        }
        "anthropic/stream.sse" => json!([{"type": "text", "text": "Hello! \"message_stop\""}]),
        "anthropic/stream_cached.sse" => json!([{"type": "text", "text": "At six."}]),
        "anthropic/thinking_stream.sse" => json!([
            {"type": "thinking", "thinking": "The moon decides.", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
            {"type": "text", "text": "At six."}]),
        "anthropic/tools_stream.sse" => json!([{"type": "text", "text": "Okay"},
            {"type": "tool_use", "id": "toolu_01", "name": "get_tide", "input": {"port": "Brest"}}]),
        "gemini/stream.sse" | "gemini/stream_array.json" => {
            json!([{"index": 0, "finishReason": "STOP",
            "content": {"role": "model", "parts": [{"text": "The tide turns at six."}]}}])
        }
        "gemini/stream_vertex.sse" => json!([{"index": 0, "finishReason": "STOP",
            "content": {"role": "model", "parts": [{"text": "Hello! How"}, {"text": "", "thoughtSignature": "AY89a18iOcFus5wr"}]}}]),
        "gemini/thinking_stream.sse" => json!([{"index": 0, "finishReason": "STOP",
            "content": {"role": "model", "parts": [{"text": "The moon decides.", "thought": true}, {"text": "At six."}]}}]),
        "gemini/tools_stream.sse" => json!([{"index": 0, "finishReason": "STOP",
            "content": {"role": "model", "parts": [{"functionCall": {"name": "get_tide", "args": {"port": "Brest",
                "error": {"message": "no"}, "finishReason": "STOP", "usageMetadata": {"promptTokenCount": 999}}}}]}}]),
        "ollama/chat_stream.ndjson" => {
            json!({"role": "assistant", "content": "The \"done\":true tide"})
        }
        "ollama/chat_thinking_stream.ndjson" => {
            json!({"role": "assistant", "content": "Six.", "thinking": "The moon"})
        }
        "ollama/chat_tools_stream.ndjson" => json!({"role": "assistant", "content": "",
            "tool_calls": [{"function": {"name": "get_tide", "arguments": {"port": "Brest", "done": true, "error": "none", "eval_count": 5}}}]}),
        "ollama/generate_stream.ndjson" => json!("At six."),
        _ => Value::Null,
    }
}

#[test]
fn samples_fold_to_what_they_say() {
    for (kind, form, name) in samples() {
        let plain = folded(kind, form, &sample(name)).unwrap_or_else(|| panic!("{name}"));
        let member = match kind {
            Kind::Chat | Kind::Completions => "choices",
            Kind::Messages => "content",
            Kind::StreamGenerate => "candidates",
            Kind::OllamaChat => "message",
            Kind::OllamaGenerate => "response",
            _ => continue,
        };
        assert_eq!(plain.get(member).unwrap_or(&Value::Null), &said(name), "{name}");
    }
}

#[test]
fn all_else_of_a_stream_is_there_too() {
    let head = |name: &str, kind, form, without: &str| {
        let mut plain = folded(kind, form, &sample(name)).unwrap();
        plain.as_object_mut().unwrap().remove(without);
        plain
    };
    assert_eq!(
        head("openai/chat_stream.sse", Kind::Chat, Sse, "choices"),
        json!({"id": "chatcmpl-0002", "object": "chat.completion", "created": 1_763_800_000,
            "model": "gpt-4o-mini-2024-07-18", "service_tier": "default", "system_fingerprint": "fp_1",
            "usage": {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}})
    );
    assert_eq!(
        head("anthropic/thinking_stream.sse", Kind::Messages, Sse, "content"),
        json!({"model": "claude-sonnet-4-5-20250929", "id": "msg_01", "type": "message", "role": "assistant",
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 60, "output_tokens_details": {"thinking_tokens": 48}, "service_tier": "standard"}})
    );
    assert_eq!(
        head("gemini/stream.sse", Kind::StreamGenerate, Sse, "candidates"),
        json!({"usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}]},
            "modelVersion": "gemini-2.5-flash", "responseId": "tTCwacuE"})
    );
    assert_eq!(
        head("ollama/generate_stream.ndjson", Kind::OllamaGenerate, NdJson, "response"),
        json!({"model": "llama3.2", "created_at": "2026-11-22T08:52:19.385406455Z", "done": true,
            "done_reason": "stop", "context": [1, 2, 3], "total_duration": 4_883_583_458_u64,
            "load_duration": 1_334_875, "prompt_eval_count": 26, "prompt_eval_duration": 342_546_000,
            "eval_count": 259, "eval_duration": 4_535_599_000_u64})
    );
    let response: Value = serde_json::from_slice(&sample("openai/responses.json")).unwrap();
    let stream = sample("openai/responses_stream.sse");
    assert_eq!(folded(Kind::Responses, Sse, &stream), Some(response));
}

#[test]
fn choices_calls_and_probabilities_find_their_places() {
    let one = chunk(r#"{"index":1,"delta":{"role":"assistant","content":"b"},"logprobs":{"content":[{"token":"b","logprob":-1.0}],"refusal":null},"finish_reason":null},
        {"index":0,"delta":{"tool_calls":[{"index":1,"id":"y","type":"function","function":{"name":"g","arguments":"1"}},{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}}"#).replace('\n', "");
    let two = chunk(
        r#"{"index":0,"delta":{"reasoning":"h\u00e9","tool_calls":[{"index":0,"id":"","function":{"arguments":"1.0}"}}]},"finish_reason":"stop","stop_reason":null},{"index":1,"delta":{"content":"\u00e9","refusal":null},"logprobs":{"content":[{"token":"é","logprob":-2e-7}]},"finish_reason":"length"}"#,
    );
    let plain = fold(Kind::Chat, Sse, stream(&[&one, &two, COUNTS, "[DONE]"]).as_bytes()).unwrap();
    // numbers and escapes as they were written
    let text = std::str::from_utf8(&plain).unwrap();
    assert!(
        text.contains(r#""b\u00e9""#) && text.contains("-2e-7") && text.contains(r#"{\"a\":1.0}"#)
    );
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap()["choices"],
        json!([
            {"index": 0, "finish_reason": "stop", "stop_reason": null, "message": {
                "role": "assistant", "content": null, "reasoning": "hé", "tool_calls": [
                    {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1.0}"}},
                    {"id": "y", "type": "function", "function": {"name": "g", "arguments": "1"}}]}},
            {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": "bé", "refusal": null},
                "logprobs": {"content": [{"token": "b", "logprob": -1.0}, {"token": "é", "logprob": -2e-7}], "refusal": null}}])
    );
}

#[test]
fn a_chat_that_cannot_be_joined_is_not() {
    let end = chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#);
    let said =
        |delta: &str| chunk(&format!(r#"{{"index":0,"delta":{delta},"finish_reason":null}}"#));
    let whole = |middle: &str| chat(&[middle, &end, COUNTS, "[DONE]"]);
    assert!(whole(&said(r#"{"content":"a","audio":null,"annotations":[]}"#)).is_some());
    for delta in [
        r#"{"content":"a","citations":["x"]}"#,
        r#"{"content":[{"type":"text","text":"a"}]}"#,
        r#"{"reasoning_details":[{"type":"reasoning.text","text":"a"}]}"#,
        r#"{"content":"a","content":"b"}"#,
        r#"{"cont\u0065nt":"a"}"#,
        r#"{"tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"x","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"x","type":"custom","custom":{"name":"f","input":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""},"extra_content":{"a":1}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":""}},{"index":0,"id":"y"}]}"#,
        r#"{"content":"a"]"#,
    ] {
        assert_eq!(whole(&said(delta)), None, "{delta}");
    }
    for middle in [
        chunk(r#"{"index":1,"delta":{},"finish_reason":null}"#),
        chunk(r#"{"index":2,"delta":{},"finish_reason":"stop"}"#),
        chunk(r#"{"index":0,"delta":{},"finish_reason":"length"}"#),
        chunk(r#"{"index":0,"delta":{},"content_filter_results":{"hate":{"filtered":false}}}"#),
        chunk("").replace("\"m\"", "\"other\""),
        chunk("").replace(".chunk", ""),
        r#"{"error":{"message":"no"}}"#.to_owned(),
        "[DONE]".to_owned(),
        "no json".to_owned(),
    ] {
        assert_eq!(whole(&middle), None, "{middle}");
    }
    assert_eq!(chat(&[&end, "[DONE]"]), None, "without its usage");
    assert_eq!(chat(&[COUNTS, "[DONE]"]), None, "without a choice");
    let unasked = sample("openai/chat_stream_no_usage.sse");
    assert_eq!(folded(Kind::Chat, Sse, &unasked), None);
}

#[test]
fn the_others_are_as_strict() {
    let changed = |kind, form, name: &str, from: &str, to: &str| {
        let body = String::from_utf8(sample(name)).unwrap();
        assert!(body.contains(from), "{from}");
        folded(kind, form, body.replacen(from, to, 1).as_bytes())
    };
    for (from, to) in [
        ("\"text_delta\"", "\"new_delta\""),
        (r#""text":"Hello""#, r#""text":"Hello","more":1"#),
        ("event: ping\ndata: {\"type\":\"ping\"}", "data: {\"type\":\"news\"}"),
        (
            r#""stop_sequence":null},"usage":{"output_tokens":15}"#,
            r#""news":1},"usage":{"output_tokens":15}"#,
        ),
        (r#"{"type":"content_block_stop","index":0}"#, r#"{"type":"ping"}"#),
        (r#""index":0"#, r#""index":1"#),
        (r#"{"stop_reason":"end_turn""#, r#"{"stop_reason":null"#),
        (r#"{"type":"ping"}"#, r#"{"type":"error","error":{}}"#),
    ] {
        assert_eq!(changed(Kind::Messages, Sse, "anthropic/stream.sse", from, to), None, "{to}");
    }
    let tools = |from, to| changed(Kind::Messages, Sse, "anthropic/tools_stream.sse", from, to);
    assert_eq!(tools(r#"{\"port\":"#, r#"{\"port\""#), None, "no JSON");
    assert_eq!(tools(r#""input":{}"#, r#""input":{"a":1}"#), None, "an input before the input");
    let cited = tools(
        r#"{"type":"text_delta","text":"Okay"}"#,
        r#"{"type":"citations_delta","citation":{"cited_text":"a"}}"#,
    );
    assert_eq!(cited.unwrap()["content"][0]["citations"], json!([{"cited_text": "a"}]));
    for (name, from, to) in [
        ("gemini/stream.sse", r#""responseId": "tTCwacuE""#, r#""responseId": "other""#),
        ("gemini/stream.sse", r#""index": 0"#, r#""safetyRatings": [1], "index": 0"#),
        ("gemini/stream.sse", r#""totalTokenCount": 11"#, r#""thoughtsTokenCount": 11"#),
        ("gemini/stream.sse", r#""role": "model""#, r#""role": "model", "news": 1"#),
        (
            "gemini/tools_stream.sse",
            r#""functionCall": {"#,
            r#""functionCall": {"willContinue": true, "#,
        ),
    ] {
        let plain = changed(Kind::StreamGenerate, Sse, name, from, to);
        // one that says the same in all chunks where it stands is kept
        assert_eq!(plain.is_some(), from.contains("index"), "{to}");
    }
    for (from, to) in [
        (r#""content":"The""#, r#""content":"The","images":["a"]"#),
        (r#""done":false"#, r#""done":false,"news":1"#),
        (r#""done":false"#, r#""done":true"#),
        (r#""model":"llama3.2""#, r#""model":"other""#),
        (r#"{"model""#, r#"{"error":"x","model""#),
    ] {
        assert_eq!(
            changed(Kind::OllamaChat, NdJson, "ollama/chat_stream.ndjson", from, to),
            None,
            "{to}"
        );
    }
    let responses =
        |from, to| changed(Kind::Responses, Sse, "openai/responses_stream.sse", from, to);
    assert_eq!(responses(r#""type":"response.completed""#, r#""type":"response.failed""#), None);
    let left_out = r#""output":[{"id":"msg_01","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"At six."}]}]"#;
    assert_eq!(responses(left_out, r#""output":[]"#), None);
    // a thought that came is not in the end
    let tools = sample("openai/responses_tools_stream.sse");
    assert_eq!(folded(Kind::Responses, Sse, &tools), None);
}

#[test]
fn a_cut_stream_has_no_plain_form() {
    for (kind, form, name) in samples() {
        let body = sample(name);
        let whole = body.trim_ascii_end().len();
        for end in 0..whole {
            assert_eq!(fold(kind, form, &body[..end]), None, "{name} cut at {end}");
        }
        assert!(fold(kind, form, &body[..whole]).is_some(), "{name}");
    }
}

#[test]
fn other_spellings_of_a_stream_fold_alike() {
    for (kind, form, name) in samples() {
        if form == Sse {
            let body = String::from_utf8(sample(name)).unwrap().replace("\r\n", "\n");
            let plain = fold(kind, form, body.as_bytes());
            for other in [
                body.replace('\n', "\r\n"),
                body.replace('\n', "\r"),
                body.replace("data: ", "data:"),
                format!(": keep-alive\n\n{body}"),
            ] {
                assert_eq!(fold(kind, form, other.as_bytes()), plain, "{name}");
                assert_eq!(facts(kind, form, other.as_bytes()), facts(kind, form, body.as_bytes()));
            }
        }
    }
}
