//! Fields of requests, by dialect, each with values that make other questions.
use serde_json::{Value, json};

use crate::cache::{CHAT, Face};

type Fields = Vec<(&'static str, Vec<Value>)>;

/// Values that a field may have; each makes another question, and so does its absence.
pub fn fields(face: &Face) -> Fields {
    let of_dialect = match face.plain {
        CHAT => chat(),
        "/v1/completions" => completions(),
        "/v1/responses" => responses(),
        "/v1/messages" => messages(),
        "/api/chat" => ollama(),
        _ => gemini(),
    };
    let mut fields = vec![("unheard_of", vec![json!(1), json!("1"), json!([1]), json!({"a": 1})])];
    if face.plain != "/v1/completions" {
        fields.push(tools(face));
    }
    fields.extend(of_dialect);
    fields
}

fn tools(face: &Face) -> (&'static str, Vec<Value>) {
    let tool = |name: &str| match face.plain {
        "/v1/messages" => json!({"name": name, "input_schema": {"type": "object"}}),
        "/v1/responses" => json!({"type": "function", "name": name, "parameters": {}}),
        "/v1beta/models/m:generateContent" => json!({"functionDeclarations": [{"name": name}]}),
        _ => json!({"type": "function", "function": {"name": name, "parameters": {}}}),
    };
    ("tools", vec![json!([tool("f")]), json!([tool("g")]), json!([tool("f"), tool("g")])])
}

fn numbers(name: &'static str) -> (&'static str, Vec<Value>) {
    (name, vec![json!(0.1), json!(0.2), json!(1)])
}

fn chat() -> Fields {
    vec![
        numbers("temperature"),
        numbers("top_p"),
        numbers("frequency_penalty"),
        numbers("presence_penalty"),
        ("max_tokens", vec![json!(5), json!(6)]),
        ("max_completion_tokens", vec![json!(5), json!(6)]),
        ("n", vec![json!(2), json!(3)]),
        ("seed", vec![json!(1), json!(2)]),
        ("stop", vec![json!("a"), json!(["a"]), json!(["a", "b"])]),
        ("response_format", vec![json!({"type": "json_object"}), json!({"type": "text"})]),
        ("reasoning_effort", vec![json!("low"), json!("high")]),
        ("tool_choice", vec![json!("none"), json!("auto")]),
        ("parallel_tool_calls", vec![json!(true), json!(false)]),
        ("logit_bias", vec![json!({"1": 2}), json!({"1": 3})]),
        ("logprobs", vec![json!(true)]),
        ("top_logprobs", vec![json!(1), json!(2)]),
        ("modalities", vec![json!(["text"]), json!(["text", "audio"])]),
        ("verbosity", vec![json!("low"), json!("high")]),
        ("service_tier", vec![json!("flex"), json!("priority")]),
        ("store", vec![json!(true)]),
        ("prediction", vec![json!({"type": "content", "content": "a"})]),
    ]
}

fn completions() -> Fields {
    vec![
        numbers("temperature"),
        numbers("top_p"),
        ("max_tokens", vec![json!(5), json!(6)]),
        ("suffix", vec![json!("a"), json!("b")]),
        ("echo", vec![json!(true)]),
        ("best_of", vec![json!(2), json!(3)]),
        ("logprobs", vec![json!(1), json!(2)]),
    ]
}

fn responses() -> Fields {
    vec![
        numbers("temperature"),
        ("instructions", vec![json!("be brief"), json!("be long")]),
        ("max_output_tokens", vec![json!(5), json!(6)]),
        ("reasoning", vec![json!({"effort": "low"}), json!({"effort": "high"})]),
        ("text", vec![json!({"verbosity": "low"}), json!({"verbosity": "high"})]),
        ("include", vec![json!(["reasoning.encrypted_content"])]),
        ("truncation", vec![json!("auto"), json!("disabled")]),
        ("metadata", vec![json!({"a": "b"}), json!({"a": "c"})]),
    ]
}

fn messages() -> Fields {
    vec![
        numbers("temperature"),
        numbers("top_p"),
        ("top_k", vec![json!(5), json!(6)]),
        (
            "system",
            vec![
                json!("be brief"),
                json!("be long"),
                json!([{"type": "text", "text": "be brief"}]),
            ],
        ),
        (
            "thinking",
            vec![json!({"type": "enabled", "budget_tokens": 1024}), json!({"type": "disabled"})],
        ),
        ("stop_sequences", vec![json!(["a"]), json!(["b"])]),
        ("tool_choice", vec![json!({"type": "auto"}), json!({"type": "any"})]),
        ("service_tier", vec![json!("auto"), json!("standard_only")]),
    ]
}

fn ollama() -> Fields {
    vec![
        (
            "options",
            vec![json!({"temperature": 0}), json!({"temperature": 1}), json!({"num_ctx": 9})],
        ),
        ("format", vec![json!("json"), json!({"type": "object"})]),
        ("think", vec![json!(true), json!("high")]),
    ]
}

fn gemini() -> Fields {
    vec![
        (
            "systemInstruction",
            vec![json!({"parts": [{"text": "a"}]}), json!({"parts": [{"text": "b"}]})],
        ),
        (
            "generationConfig",
            vec![json!({"temperature": 0}), json!({"temperature": 1}), json!({"topK": 1})],
        ),
        ("safetySettings", vec![json!([{"category": "A", "threshold": "B"}])]),
        ("cachedContent", vec![json!("cachedContents/a"), json!("cachedContents/b")]),
    ]
}
