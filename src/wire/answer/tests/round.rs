//! There and back again, over made-up answers and over any bytes.
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::unfolding::events;

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z \"\\\\\n\t/{}:,é潮🌊\u{1}]{0,160}",
        Just("a few plain words in a row, and then some more of them".to_owned()),
    ]
}

fn some_words() -> impl Strategy<Value = String> {
    words().prop_map(|words| if words.is_empty() { "x".to_owned() } else { words })
}

fn arguments() -> impl Strategy<Value = Value> {
    words().prop_map(
        |words| json!({"a": words, "n": 1.5, "big": 12_345_678_901_234_567_u64, "l": [true, null]}),
    )
}

fn chat() -> impl Strategy<Value = Value> {
    let call = ("[a-z]{3}", arguments()).prop_map(|(id, arguments)| {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments.to_string()}})
    });
    let choice =
        (option::of(words()), option::of(words()), option::of(words()), vec(call, 0..3), 0..4_u8);
    vec(choice, 1..4).prop_map(|choices| {
        let choice = |(index, (content, refusal, thought, calls, logprobs))| {
            let content: Option<String> = content;
            let thought: Option<String> = thought;
            let calls: Vec<Value> = calls;
            let mut message = json!({"role": "assistant", "content": content, "refusal": refusal, "annotations": []});
            if let Some(thought) = thought {
                message["reasoning_content"] = json!(thought);
            }
            if !calls.is_empty() {
                message["tool_calls"] = json!(calls);
            }
            let tokens = |text: &str| {
                let tokens = text.chars().map(|token| json!({"token": token, "logprob": -1.0}));
                tokens.collect::<Vec<_>>()
            };
            let mut choice = json!({"index": index, "message": message, "finish_reason": "stop"});
            match logprobs {
                0 => {}
                1 => choice["logprobs"] = Value::Null,
                2 => choice["logprobs"] = json!({"content": tokens(&content.unwrap_or_default()), "refusal": null}),
                _ => choice["logprobs"] = json!({"content": null, "refusal": tokens("no")}),
            }
            choice
        };
        let choices: Vec<Value> = choices.into_iter().enumerate().map(choice).collect();
        json!({"id": "c", "object": "chat.completion", "created": 17, "model": "m", "choices": choices,
            "usage": {"total_tokens": 5}, "system_fingerprint": null, "timings": {"ms": 1.25}})
    })
}

fn completion() -> impl Strategy<Value = Value> {
    vec((words(), any::<bool>()), 1..3).prop_map(|choices| {
        let choice = |(index, (text, probable)): (usize, (String, bool))| {
            let lists = json!({"tokens": [text], "token_logprobs": [-0.1], "top_logprobs": null, "text_offset": [0]});
            let logprobs = if probable { lists } else { Value::Null };
            json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": "length"})
        };
        let choices: Vec<Value> = choices.into_iter().enumerate().map(choice).collect();
        json!({"id": "c", "object": "text_completion", "created": 17, "model": "m", "choices": choices, "usage": {"total_tokens": 5}})
    })
}

fn message() -> impl Strategy<Value = Value> {
    let block = prop_oneof![
        words().prop_map(|text| json!({"type": "text", "text": text})),
        words().prop_map(|text| json!({"type": "text", "text": text, "citations": [{"cited_text": text}, {"n": 1}]})),
        words().prop_map(|text| json!({"type": "text", "text": text, "citations": null})),
        words().prop_map(|text| json!({"type": "thinking", "thinking": text, "signature": "s=="})),
        words().prop_map(|text| json!({"type": "redacted_thinking", "data": text})),
        arguments().prop_map(|input| json!({"type": "tool_use", "id": "t", "name": "f", "input": input})),
        Just(json!({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}})),
        words().prop_map(|text| json!({"type": "web_search_tool_result", "tool_use_id": "t", "content": [text]})),
    ];
    (vec(block, 0..5), any::<bool>()).prop_map(|(content, more)| {
        let mut message = json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content,
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2,
            "cache_read_input_tokens": 0, "cache_creation": {"a": 1}, "service_tier": "standard"}});
        if more {
            message["container"] = json!({"id": "c"});
            message["stop_details"] = Value::Null;
            message["context_management"] = json!({"applied_edits": []});
            message["usage"]["output_tokens_details"] = json!({"thinking_tokens": 1});
            message["usage"]["server_tool_use"] = json!({"web_search_requests": 1});
        }
        message
    })
}

fn gemini() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        some_words().prop_map(|text| json!({"text": text})),
        some_words().prop_map(|text| json!({"text": text, "thought": true})),
        words().prop_map(|text| json!({"text": text, "thoughtSignature": "s=="})),
        arguments()
            .prop_map(|args| json!({"functionCall": {"id": "i", "name": "f", "args": args}})),
        Just(json!({"inlineData": {"mimeType": "image/png", "data": "aaaa"}})),
    ];
    vec(vec(part, 0..5), 1..3).prop_map(|candidates| {
        let candidate = |(index, parts): (usize, Vec<Value>)| {
            let content = if parts.is_empty() { json!({"role": "model"}) } else { json!({"role": "model", "parts": parts}) };
            json!({"content": content, "finishReason": "STOP", "index": index, "safetyRatings": [{"a": 1}]})
        };
        let candidates: Vec<Value> = candidates.into_iter().enumerate().map(candidate).collect();
        json!({"candidates": candidates, "usageMetadata": {"totalTokenCount": 3}, "modelVersion": "g",
            "responseId": "r", "promptFeedback": {"safetyRatings": []}})
    })
}

fn ollama_chat() -> impl Strategy<Value = Value> {
    (words(), option::of(words()), vec(arguments(), 0..3), any::<bool>()).prop_map(|(content, thinking, calls, probable)| {
        let mut message = json!({"role": "assistant", "content": content});
        if let Some(thinking) = thinking {
            message["thinking"] = json!(thinking);
        }
        if !calls.is_empty() {
            let call = |args| json!({"function": {"name": "f", "arguments": args}});
            message["tool_calls"] = calls.into_iter().map(call).collect();
        }
        let mut whole = json!({"model": "m", "created_at": "t", "message": message, "done": true, "done_reason": "stop", "eval_count": 3});
        if probable {
            whole["logprobs"] = json!([{"token": "a", "logprob": -1.0}]);
        }
        whole
    })
}

fn ollama_generate() -> impl Strategy<Value = Value> {
    (words(), option::of(words())).prop_map(|(response, thinking)| {
        let mut whole = json!({"model": "m", "created_at": "t", "response": response, "done": true, "done_reason": "stop", "context": [1, 2]});
        if let Some(thinking) = thinking {
            whole["thinking"] = json!(thinking);
        }
        whole
    })
}

fn response() -> impl Strategy<Value = Value> {
    let item = prop_oneof![
        vec(words(), 0..3).prop_map(|texts| {
            let part = |text| json!({"type": "output_text", "text": text, "annotations": [{"n": 1}], "logprobs": []});
            json!({"id": "m", "type": "message", "status": "completed", "role": "assistant",
                "content": texts.into_iter().map(part).collect::<Vec<_>>()})
        }),
        words().prop_map(|text| json!({"id": "r", "type": "reasoning", "summary": [{"type": "summary_text", "text": text}],
            "content": [{"type": "reasoning_text", "text": text}]})),
        arguments().prop_map(|arguments| json!({"id": "f", "type": "function_call", "call_id": "c", "name": "f",
            "arguments": arguments.to_string(), "status": "completed"})),
    ];
    vec(item, 0..4).prop_map(|output| json!({"id": "r", "object": "response", "status": "incomplete", "model": "m",
        "incomplete_details": {"reason": "max_output_tokens"}, "output": output, "usage": {"total_tokens": 1}}))
}

fn answers() -> impl Strategy<Value = (Kind, Value)> {
    prop_oneof![
        chat().prop_map(|answer| (Kind::Chat, answer)),
        completion().prop_map(|answer| (Kind::Completions, answer)),
        response().prop_map(|answer| (Kind::Responses, answer)),
        message().prop_map(|answer| (Kind::Messages, answer)),
        gemini().prop_map(|answer| (Kind::Generate, answer)),
        ollama_chat().prop_map(|answer| (Kind::OllamaChat, answer)),
        ollama_generate().prop_map(|answer| (Kind::OllamaGenerate, answer)),
    ]
}

const KINDS: [Kind; 8] = [
    Kind::Chat,
    Kind::Completions,
    Kind::Responses,
    Kind::Messages,
    Kind::Generate,
    Kind::StreamGenerate,
    Kind::OllamaChat,
    Kind::OllamaGenerate,
];

/// Scraps that make many near misses of an answer.
fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop::sample::select(vec![
        "data: ",
        "\n\n",
        "\n",
        "\r\n\r\n",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "null",
        "0",
        "1e9",
        "\\u",
        "é",
        "\"choices\":[",
        "{\"index\":0,",
        "\"delta\":{",
        "\"content\":\"a\"",
        "\"tool_calls\":[",
        "\"logprobs\":{",
        "\"finish_reason\":\"stop\"",
        "\"usage\":{}",
        "data: [DONE]\n\n",
        "\"type\":\"message_start\",",
        "\"message\":{",
        "{\"type\":\"message_stop\"}",
        "\"output\":[",
        "\"response\":{",
        "\"candidates\":[",
        "\"parts\":[",
        "\"text\":\"",
        "\"finishReason\":\"STOP\"",
        "\"done\":true",
        "\"object\":\"chat.completion.chunk\",",
        "\"status\":\"completed\",",
        "\"type\":\"response.completed\",",
        "\"function\":{",
        "\"input\":",
        "\"stop_reason\":\"end_turn\"",
    ]);
    prop_oneof![
        vec(scrap, 0..40).prop_map(|scraps| scraps.concat().into_bytes()),
        vec(any::<u8>(), 0..200),
    ]
}

fn try_all(body: &[u8]) {
    for kind in KINDS {
        for form in [Form::Json, Form::Sse, Form::NdJson, Form::Opaque] {
            let _ = (facts(kind, form, body), text(kind, form, body), chat::shows_usage(body));
            let _ = (restream(kind, form, body, true), restream(kind, form, body, false));
            if let Some(plain) = fold(kind, form, body) {
                serde_json::from_slice::<Value>(&plain).unwrap();
            }
        }
        if let Some(made) = unfold(kind, body, true) {
            events(&made);
        }
    }
}

proptest! {
    #[test]
    fn an_answer_comes_back_as_it_was((kind, answer) in answers(), pretty: bool, usage: bool) {
        let plain = if pretty { format!("{answer:#}") } else { answer.to_string() };
        let made = unfold(kind, plain.as_bytes(), usage).unwrap();
        events(&made);
        let (json, form, stream) = (Form::Json, made.form, &made.body);
        prop_assert_eq!(facts(kind, json, plain.as_bytes()), facts(kind, form, stream));
        prop_assert_eq!(text(kind, json, plain.as_bytes()), text(kind, form, stream));
        let back = fold(kind, form, stream);
        if usage || !matches!(kind, Kind::Chat | Kind::Completions) {
            let back: Value = serde_json::from_slice(&back.unwrap()).unwrap();
            prop_assert_eq!(back, answer);
        } else {
            prop_assert_eq!(back, None);
            let with = unfold(kind, plain.as_bytes(), true).unwrap();
            let without = restream(kind, form, &with.body, false).unwrap();
            let told = std::str::from_utf8(&without.body).unwrap().replace(r#","usage":null"#, "");
            prop_assert_eq!(told.as_bytes(), &made.body[..]);
        }
    }

    #[test]
    fn any_bytes_are_borne(body in scraps()) {
        try_all(&body);
    }

    #[test]
    fn a_spoilt_answer_is_borne((kind, answer) in answers(), at: prop::sample::Index, byte: u8) {
        let made = unfold(kind, answer.to_string().as_bytes(), true).unwrap();
        let mut spoilt = made.body.to_vec();
        let at = at.index(spoilt.len());
        spoilt[at] = byte;
        try_all(&spoilt);
        try_all(&spoilt[..at]);
    }
}
