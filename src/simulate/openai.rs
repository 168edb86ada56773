//! OpenAI's chat completions, completions and models, as its API reference shows them
//! (November 2026). Reasoning comes as `reasoning_content`, the name that compatible servers use.
use super::answer::{Answer, Kind, Part};
use super::text::{CREATED, Put};

/// The models every list names.
pub(super) const MODELS: [&str; 4] = ["sim-small", "sim-large", "claude-sim", "gemini-sim"];

fn finish_reason(a: &Answer) -> &'static str {
    match (a.main(), a.cut) {
        (Kind::Tool, _) => "tool_calls",
        (_, true) => "length",
        _ => "stop",
    }
}

fn put_head(a: &Answer, id: &str, object: &str, out: &mut Vec<u8>) {
    out.put(r#"{"id":""#).put(id).hex(a.id).put(r#"","object":""#).put(object);
    out.put(r#"","created":"#).num(CREATED).put(r#","model":"#).quoted(&a.model);
}

fn put_usage(a: &Answer, out: &mut Vec<u8>) {
    let (input, output) = (u64::from(a.input_tokens), a.output_tokens());
    out.put(r#"{"prompt_tokens":"#).num(input).put(r#","completion_tokens":"#).num(output);
    out.put(r#","total_tokens":"#).num(input + output);
    out.put(r#","prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}"#);
    out.put(r#","completion_tokens_details":{"reasoning_tokens":"#).num(a.reasoning.into());
    out.put(r#","audio_tokens":0,"accepted_prediction_tokens":0,"#);
    out.put(r#""rejected_prediction_tokens":0}}"#);
}

pub(super) fn chat(a: &Answer, out: &mut Vec<u8>) {
    put_head(a, "chatcmpl-", "chat.completion", out);
    out.put(r#","choices":[{"index":0,"message":{"role":"assistant","content":"#);
    match &a.tool {
        None => {
            out.put("\"");
            a.put_block(out, Kind::Text);
            out.put("\"");
        }
        Some(tool) => {
            out.put(r#"null,"tool_calls":[{"id":"call_"#).hex(a.id);
            out.put(r#"","type":"function","function":{"name":"#).quoted(&tool.name);
            out.put(r#","arguments":"#).quoted(&tool.arguments).put("}}]");
        }
    }
    if a.reasoning > 0 {
        out.put(r#","reasoning_content":""#);
        a.put_block(out, Kind::Reasoning);
        out.put("\"");
    }
    out.put(r#","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":""#);
    out.put(finish_reason(a)).put("\"}]");
    if a.usage {
        put_usage(a, out.put(r#","usage":"#));
    }
    out.put(r#","service_tier":"default","system_fingerprint":"fp_simulator"}"#);
}

/// One chunk, up to the inside of `choices`.
fn chunk<'a>(a: &Answer, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
    put_head(a, "chatcmpl-", "chat.completion.chunk", out.put("data: "));
    out.put(r#","service_tier":"default","system_fingerprint":"fp_simulator""#);
    if a.usage {
        out.put(r#","usage":null"#);
    }
    out.put(r#","choices":["#)
}

/// One chunk with the start of a delta.
fn delta<'a>(a: &Answer, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
    chunk(a, out).put(r#"{"index":0,"delta":{"#)
}

const DELTA_END: &str = "},\"logprobs\":null,\"finish_reason\":null}]}\n\n";

pub(super) fn chat_part(a: &Answer, part: Part, out: &mut Vec<u8>) {
    match part {
        Part::Start => {
            let content = if a.tool.is_some() { "null" } else { "\"\"" };
            delta(a, out).put(r#""role":"assistant","content":"#).put(content);
            out.put(r#","refusal":null"#).put(DELTA_END);
        }
        Part::Piece(kind, k) => {
            let (before, after) = match kind {
                Kind::Text => (r#""content":""#, "\""),
                Kind::Reasoning => (r#""reasoning_content":""#, "\""),
                Kind::Tool => (r#""tool_calls":[{"index":0,"function":{"arguments":""#, "\"}}]"),
            };
            delta(a, out).put(before);
            a.put_piece(out, kind, k);
            out.put(after).put(DELTA_END);
        }
        Part::Open(Kind::Tool) => {
            let name = a.tool.as_ref().map_or("", |tool| &tool.name);
            delta(a, out).put(r#""tool_calls":[{"index":0,"id":"call_"#).hex(a.id);
            out.put(r#"","type":"function","function":{"name":"#).quoted(name);
            out.put(r#","arguments":""}}]"#).put(DELTA_END);
        }
        Part::Open(_) | Part::Shut(_) => {}
        Part::Finish => {
            delta(a, out).put(r#"},"logprobs":null,"finish_reason":""#).put(finish_reason(a));
            out.put("\"}]}\n\n");
            if a.usage {
                put_head(a, "chatcmpl-", "chat.completion.chunk", out.put("data: "));
                out.put(r#","service_tier":"default","system_fingerprint":"fp_simulator""#);
                put_usage(a, out.put(r#","choices":[],"usage":"#));
                out.put("}\n\n");
            }
            out.put("data: [DONE]\n\n");
        }
    }
}

pub(super) fn completion(a: &Answer, out: &mut Vec<u8>) {
    put_head(a, "cmpl-", "text_completion", out);
    out.put(r#","choices":[{"text":""#);
    a.put_block(out, Kind::Text);
    out.put(r#"","index":0,"logprobs":null,"finish_reason":""#).put(finish_reason(a)).put("\"}]");
    if a.usage {
        put_usage(a, out.put(r#","usage":"#));
    }
    out.put("}");
}

pub(super) fn completion_part(a: &Answer, part: Part, out: &mut Vec<u8>) {
    match part {
        Part::Piece(kind, k) => {
            put_head(a, "cmpl-", "text_completion", out.put("data: "));
            out.put(r#","choices":[{"text":""#);
            a.put_piece(out, kind, k);
            out.put("\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}]}\n\n");
        }
        Part::Finish => {
            put_head(a, "cmpl-", "text_completion", out.put("data: "));
            out.put(r#","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":""#);
            out.put(finish_reason(a)).put("\"}]}\n\n");
            if a.usage {
                put_head(a, "cmpl-", "text_completion", out.put("data: "));
                put_usage(a, out.put(r#","choices":[],"usage":"#));
                out.put("}\n\n");
            }
            out.put("data: [DONE]\n\n");
        }
        Part::Start | Part::Open(_) | Part::Shut(_) => {}
    }
}

pub(super) fn models(out: &mut Vec<u8>) {
    out.put(r#"{"object":"list","data":["#);
    for (i, id) in MODELS.iter().enumerate() {
        out.put(if i == 0 { "" } else { "," });
        put_model(id, out);
    }
    out.put("]}");
}

pub(super) fn put_model(id: &str, out: &mut Vec<u8>) {
    out.put(r#"{"id":"#).quoted(id).put(r#","object":"model","created":"#).num(CREATED);
    out.put(r#","owned_by":"simulator"}"#);
}
