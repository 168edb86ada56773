//! The streams that are made, event by event, and what cannot be one.
use serde_json::{Value, json};

use super::super::stream::pieces;
use super::super::*;
use super::sample;

/// The data of each event, and its name where it has one.
pub(super) fn events(made: &Unfolded) -> Vec<(Option<String>, Value)> {
    let mut from = 0;
    let mut all = Vec::new();
    for &end in &made.ends {
        let event = std::str::from_utf8(&made.body[from..end as usize]).unwrap();
        from = end as usize;
        if made.form == Form::NdJson {
            let line = event.strip_suffix('\n').unwrap();
            assert!(!line.contains('\n'));
            all.push((None, serde_json::from_str(line).unwrap()));
            continue;
        }
        let event = event.strip_suffix("\n\n").or_else(|| event.strip_suffix("\r\n\r\n")).unwrap();
        let (name, data) = match event.split_once('\n') {
            Some((name, data)) => (Some(name.strip_prefix("event: ").unwrap().to_owned()), data),
            None => (None, event),
        };
        let data = data.strip_prefix("data: ").unwrap();
        assert!(!data.contains(['\n', '\r']), "{data}");
        let value =
            if data == "[DONE]" { json!("[DONE]") } else { serde_json::from_str(data).unwrap() };
        all.push((name, value));
    }
    assert_eq!(from, made.body.len());
    all
}

#[test]
fn a_chat_becomes_chunks() {
    let body = sample("openai/chat.json");
    let made = unfold(Kind::Chat, &body, true).unwrap();
    assert_eq!((made.form, made.content_type), (Form::Sse, "text/event-stream; charset=utf-8"));
    let head = |choices: Value, usage: Value| {
        json!({"id": "chatcmpl-0001", "object": "chat.completion.chunk", "created": 1_763_800_000,
            "model": "gpt-5-2025-08-07", "service_tier": "default", "system_fingerprint": null,
            "choices": choices, "usage": usage})
    };
    let delta = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        (None, head(json!([choice]), Value::Null))
    };
    let whole: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        events(&made),
        [
            delta(
                json!({"role": "assistant", "content": "", "refusal": null, "annotations": []}),
                Value::Null
            ),
            delta(json!({"content": "The tide turns at \"six\":"}), Value::Null),
            delta(json!({"content": " {\"usage\": 9, \"error\":"}), Value::Null),
            delta(json!({"content": " 1}."}), Value::Null),
            delta(json!({}), json!("stop")),
            (None, head(json!([]), whole["usage"].clone())),
            (None, json!("[DONE]")),
        ]
    );
    let unasked = unfold(Kind::Chat, &body, false).unwrap();
    assert!(!chat::shows_usage(&unasked.body));
    assert!(chat::shows_usage(&made.body));
    assert_eq!(unasked.ends.len(), made.ends.len() - 1);
}

#[test]
fn probabilities_go_with_their_words() {
    let token =
        |text: &str| json!({"token": text, "logprob": -0.5, "bytes": null, "top_logprobs": []});
    let chat = |tokens: Value| {
        json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a bé"},
                "logprobs": {"content": tokens, "refusal": null}, "finish_reason": "stop"}],
            "usage": {}})
        .to_string()
    };
    let made =
        unfold(Kind::Chat, chat(json!([token("a"), token(" bé")])).as_bytes(), false).unwrap();
    let events = events(&made);
    assert_eq!(events[2].1["choices"][0]["delta"], json!({"content": " bé"}));
    assert_eq!(
        events[2].1["choices"][0]["logprobs"],
        json!({"content": [token(" bé")], "refusal": null})
    );
    // where they are not the words, they come at the end
    let made = unfold(Kind::Chat, chat(json!([token("a")])).as_bytes(), false).unwrap();
    let events = super::unfolding::events(&made);
    assert_eq!(
        events[2].1["choices"][0]["logprobs"],
        json!({"content": [token("a")], "refusal": null})
    );
}

#[test]
fn a_message_becomes_events() {
    let message = json!({"id": "msg", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "text", "text": "At six.", "citations": [{"cited_text": "six"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 1.0}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 7, "output_tokens": 9, "service_tier": "standard"}});
    let made = unfold(Kind::Messages, message.to_string().as_bytes(), false).unwrap();
    let events = events(&made);
    let datas: Vec<Value> = events.iter().map(|(_, data)| data.clone()).collect();
    assert!(events.iter().all(|(name, data)| name.as_deref() == data["type"].as_str()));
    let block = |index: u64, first: Value, deltas: Vec<Value>| {
        let mut all =
            vec![json!({"type": "content_block_start", "index": index, "content_block": first})];
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        all.extend(deltas.into_iter().map(delta));
        all.push(json!({"type": "content_block_stop", "index": index}));
        all
    };
    let mut want = vec![
        json!({"type": "message_start", "message": {"id": "msg", "type": "message",
        "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 7, "output_tokens": 0, "service_tier": "standard"}}}),
    ];
    want.extend(block(
        0,
        json!({"type": "thinking", "thinking": "", "signature": ""}),
        vec![
            json!({"type": "thinking_delta", "thinking": "Hm."}),
            json!({"type": "signature_delta", "signature": "sig"}),
        ],
    ));
    want.extend(block(1, json!({"type": "redacted_thinking", "data": "xx"}), vec![]));
    want.extend(block(
        2,
        json!({"type": "text", "text": "", "citations": []}),
        vec![
            json!({"type": "text_delta", "text": "At six."}),
            json!({"type": "citations_delta", "citation": {"cited_text": "six"}}),
        ],
    ));
    want.extend(block(
        3,
        json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        vec![json!({"type": "input_json_delta", "partial_json": "{\"n\":1.0}"})],
    ));
    want.push(
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
        "usage": {"input_tokens": 7, "output_tokens": 9}}),
    );
    want.push(json!({"type": "message_stop"}));
    assert_eq!(datas, want);
}

#[test]
fn a_response_becomes_the_documented_sequence() {
    let response = json!({"id": "resp", "object": "response", "status": "completed", "model": "m",
        "output": [
            {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "x"},
            {"id": "msg", "type": "message", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "At six.", "annotations": [{"type": "file_path"}], "logprobs": []},
                {"type": "refusal", "refusal": "No."}]},
            {"id": "fc", "type": "function_call", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"},
            {"id": "ct", "type": "custom_tool_call", "call_id": "d", "name": "g", "input": "x y"}],
        "usage": {"input_tokens": 1, "output_tokens": 2}});
    let made = unfold(Kind::Responses, response.to_string().as_bytes(), false).unwrap();
    let events = events(&made);
    for (at, (name, data)) in events.iter().enumerate() {
        assert_eq!(name.as_deref(), data["type"].as_str());
        assert_eq!(data["sequence_number"], json!(at));
    }
    let names: Vec<&str> = events
        .iter()
        .map(|(_, data)| data["type"].as_str().unwrap().trim_start_matches("response."))
        .collect();
    assert_eq!(
        names,
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.annotation.added",
            "output_text.done",
            "content_part.done",
            "content_part.added",
            "refusal.delta",
            "refusal.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "completed",
        ]
    );
    let begun = &events[0].1["response"];
    assert_eq!(
        (&begun["status"], &begun["output"], &begun["usage"]),
        (&json!("in_progress"), &json!([]), &Value::Null)
    );
    assert_eq!(events[2].1["item"], json!({"id": "rs", "type": "reasoning", "summary": []}));
    assert_eq!(
        events[10].1,
        json!({"type": "response.output_text.delta", "sequence_number": 10, "item_id": "msg",
        "output_index": 1, "content_index": 0, "delta": "At six.", "logprobs": []})
    );
    assert_eq!(events[27].1["response"], response);
}

#[test]
fn gemini_and_ollama_become_chunks() {
    let made = unfold(Kind::Generate, &sample("gemini/generate.json"), false).unwrap();
    let whole: Value = serde_json::from_slice(&sample("gemini/generate.json")).unwrap();
    assert_eq!(events(&made), [(None, whole)], "a short text is one chunk");
    let made = unfold(Kind::OllamaChat, &sample("ollama/chat.json"), false).unwrap();
    assert_eq!((made.form, made.content_type), (Form::NdJson, "application/x-ndjson"));
    let lines = events(&made);
    assert_eq!(
        lines[0].1,
        json!({"model": "llama3.2", "created_at": "2026-11-22T08:52:19.385406455Z",
        "message": {"role": "assistant", "content": "The tide turns at six."}, "done": false})
    );
    assert_eq!(lines[1].1["message"], json!({"role": "assistant", "content": ""}));
    assert_eq!((&lines[1].1["done"], &lines[1].1["eval_count"]), (&json!(true), &json!(298)));
}

#[test]
fn what_is_no_plain_answer_is_no_stream() {
    let chat = |message: &str, rest: &str| {
        format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{message},"finish_reason":"stop"}}]{rest}}}"#
        )
    };
    assert!(unfold(Kind::Chat, chat("{}", "").as_bytes(), false).is_some());
    for (kind, body, usage) in [
        (Kind::Chat, chat("{}", ""), true),
        (Kind::Chat, chat(r#"{"audio":{"id":"a"}}"#, ""), false),
        (Kind::Chat, chat(r#"{"content":"a","annotations":[{"type":"url_citation"}]}"#, ""), false),
        (Kind::Chat, chat(r#"{"tool_calls":[{"id":"a","type":"custom","custom":{}}]}"#, ""), false),
        (Kind::Chat, chat("{}", r#","error":{"message":"x"}"#), false),
        (Kind::Chat, chat("{}", "").replace("\"stop\"", "null"), false),
        (Kind::Chat, chat("{}", "") + "}", false),
        (Kind::Chat, r#"{"error":{"message":"x"}}"#.to_owned(), false),
        (Kind::Messages, r#"{"type":"message","content":[{"type":"news"}],"stop_reason":"end_turn","usage":{"output_tokens":1}}"#.to_owned(), false),
        (Kind::Messages, r#"{"type":"error","error":{}}"#.to_owned(), false),
        (Kind::Responses, r#"{"id":"r","status":"completed","output":[{"id":"w","type":"web_search_call"}]}"#.to_owned(), false),
        (Kind::Responses, r#"{"id":"r","status":"failed","output":[]}"#.to_owned(), false),
        (Kind::Generate, r#"{"candidates":[{"content":{"parts":[]}}]}"#.to_owned(), false),
        (Kind::OllamaChat, r#"{"message":{"content":"a"},"done":false}"#.to_owned(), false),
        (Kind::Embeddings, "{}".to_owned(), false),
    ] {
        assert_eq!(unfold(kind, body.as_bytes(), usage), None, "{body}");
    }
}

#[test]
fn a_stream_loses_its_usage_and_nothing_else() {
    let body = sample("openai/chat_stream.sse");
    let same = restream(Kind::Chat, Form::Sse, &body, true).unwrap();
    assert_eq!(same.body, body);
    assert_eq!(same.ends.len(), 10);
    let without = restream(Kind::Chat, Form::Sse, &body, false).unwrap();
    let text = String::from_utf8(body).unwrap();
    let at = text.find("\"choices\":[],").and_then(|at| text[..at].rfind("data: ")).unwrap();
    let want = text[..at].to_owned() + "data: [DONE]\n\n";
    assert_eq!(std::str::from_utf8(&without.body).unwrap(), want);
    assert_eq!((without.ends.len(), without.ends.last()), (9, Some(&(want.len() as u32))));
    let unasked = sample("openai/chat_stream_no_usage.sse");
    assert_eq!(restream(Kind::Chat, Form::Sse, &unasked, true), None);
    assert_eq!(restream(Kind::Chat, Form::Sse, &unasked, false).unwrap().body, unasked);
    assert_eq!(restream(Kind::Messages, Form::Sse, &unasked, false), None);
}

#[test]
fn pieces_tear_nothing() {
    for inner in [
        r#"a long line of words that goes on and on, with \"quotes\" and \\ in it "#,
        r"\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a\ud83c\udf0a",
        r"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\\\\\\\\",
        "潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐潮汐🌊🌊🌊🌊🌊🌊🌊🌊🌊🌊🌊🌊🌊",
        "",
    ] {
        let mut joined = Vec::new();
        for piece in pieces(inner.as_bytes()) {
            assert!(!piece.is_empty() && piece.len() <= 64 + 11, "{}", piece.len());
            let quoted = [b"\"", piece, b"\""].concat();
            serde_json::from_slice::<String>(&quoted).unwrap();
            joined.extend_from_slice(piece);
        }
        assert_eq!(joined, inner.as_bytes());
    }
}
