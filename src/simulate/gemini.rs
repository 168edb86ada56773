//! Gemini's generateContent and streamGenerateContent, as its API reference shows them
//! (November 2026). Without `alt=sse` a streamed answer is one JSON array, written as it grows.
use super::answer::{Answer, Kind, Part};
use super::openai::MODELS;
use super::text::Put;

fn put_usage(a: &Answer, output: u64, out: &mut Vec<u8>) {
    if !a.usage {
        return;
    }
    let (input, thoughts) = (u64::from(a.input_tokens), u64::from(a.reasoning));
    out.put(r#","usageMetadata":{"promptTokenCount":"#).num(input);
    out.put(r#","candidatesTokenCount":"#).num(output);
    if thoughts > 0 {
        out.put(r#","thoughtsTokenCount":"#).num(thoughts);
    }
    out.put(r#","totalTokenCount":"#).num(input + output + thoughts).put("}");
}

/// One answer object: `parts` writes the inside of its parts.
fn put_object(
    a: &Answer,
    parts: impl FnOnce(&mut Vec<u8>),
    finish: bool,
    output: u64,
    out: &mut Vec<u8>,
) {
    out.put(r#"{"candidates":[{"content":{"parts":["#);
    parts(out);
    out.put(r#"],"role":"model"}"#);
    if finish {
        let reason = if a.cut && a.tool.is_none() { "MAX_TOKENS" } else { "STOP" };
        out.put(r#","finishReason":""#).put(reason).put("\"");
    }
    out.put(r#","index":0}]"#);
    put_usage(a, output, out);
    out.put(r#","modelVersion":"#).quoted(&a.model).put(r#","responseId":""#).hex(a.id).put("\"}");
}

/// The part of a block; `k` is one piece of it, `None` all of it.
fn put_part(a: &Answer, kind: Kind, k: Option<u32>, out: &mut Vec<u8>) {
    if let (Kind::Tool, Some(tool)) = (kind, &a.tool) {
        out.put(r#"{"functionCall":{"name":"#).quoted(&tool.name);
        out.put(r#","args":"#).put(&tool.arguments).put("}}");
        return;
    }
    out.put(r#"{"text":""#);
    match k {
        Some(k) => a.put_piece(out, kind, k),
        None => a.put_block(out, kind),
    }
    out.put(if kind == Kind::Reasoning { r#"","thought":true}"# } else { "\"}" });
}

/// Tokens of the visible answer, which `candidatesTokenCount` counts.
fn visible(a: &Answer) -> u64 {
    a.output_tokens() - u64::from(a.reasoning)
}

pub(super) fn whole(a: &Answer, out: &mut Vec<u8>) {
    let parts = |out: &mut Vec<u8>| {
        if a.reasoning > 0 {
            put_part(a, Kind::Reasoning, None, out);
            out.put(",");
        }
        put_part(a, a.main(), None, out);
    };
    put_object(a, parts, true, visible(a), out);
}

pub(super) fn part(a: &Answer, part: Part, array: bool, out: &mut Vec<u8>) {
    let first = match part {
        Part::Piece(kind, 0) => kind == Kind::Reasoning || a.reasoning == 0,
        Part::Piece(..) => false,
        _ => a.reasoning == 0 && a.pieces(a.main()) == 0,
    };
    let begin = match (array, first) {
        (false, _) => "data: ",
        (true, true) => "[",
        (true, false) => ",\r\n",
    };
    match part {
        Part::Start | Part::Open(_) | Part::Shut(_) => {}
        Part::Piece(kind, k) => {
            let sent = if kind == Kind::Text { u64::from(k) + 1 } else { 0 };
            put_object(a, |out| put_part(a, kind, Some(k), out), false, sent, out.put(begin));
            out.put(if array { "" } else { "\r\n\r\n" });
        }
        Part::Finish => {
            put_object(a, |out| _ = out.put(r#"{"text":""}"#), true, visible(a), out.put(begin));
            out.put(if array { "]" } else { "\r\n\r\n" });
        }
    }
}

pub(super) fn models(out: &mut Vec<u8>) {
    out.put(r#"{"models":["#);
    for (i, id) in MODELS.iter().enumerate() {
        out.put(if i == 0 { "" } else { "," });
        put_model(id, out);
    }
    out.put("]}");
}

pub(super) fn put_model(id: &str, out: &mut Vec<u8>) {
    out.put(r#"{"name":"models/"#).escaped(id).put(r#"","version":"001","displayName":"#);
    out.quoted(id).put(r#","inputTokenLimit":1048576,"outputTokenLimit":65536,"#);
    out.put(r#""supportedGenerationMethods":["generateContent","countTokens"]}"#);
}
