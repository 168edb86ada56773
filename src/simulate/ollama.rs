//! Ollama's chat, generate, tags and version, as its API document shows them (November 2026):
//! one JSON object a line, streamed unless the request says `"stream": false`.
use super::answer::{Answer, Face, Kind, Part};
use super::openai::MODELS;
use super::text::Put;

const AT: &str = "2026-01-01T00:00:00Z";

fn put_head(a: &Answer, out: &mut Vec<u8>) {
    out.put(r#"{"model":"#).quoted(&a.model);
    out.put(r#","created_at":""#).put(AT).put("\"");
}

/// The text, reasoning or tool call of this object; `texts` writes the insides of the strings.
fn put_says(a: &Answer, kind: Option<Kind>, k: Option<u32>, out: &mut Vec<u8>) {
    let generate = a.face == Face::OllamaGenerate;
    out.put(if generate {
        r#","response":""#
    } else {
        r#","message":{"role":"assistant","content":""#
    });
    let put = |kind: Kind, out: &mut Vec<u8>| match k {
        Some(k) => a.put_piece(out, kind, k),
        None => a.put_block(out, kind),
    };
    let whole = kind.is_none() && k.is_none();
    if kind == Some(Kind::Text) || (whole && a.tool.is_none()) {
        put(Kind::Text, out);
    }
    out.put("\"");
    if kind == Some(Kind::Reasoning) || (whole && a.reasoning > 0) {
        out.put(r#","thinking":""#);
        put(Kind::Reasoning, out);
        out.put("\"");
    }
    if let Some(tool) = &a.tool
        && (kind == Some(Kind::Tool) || whole)
        && !generate
    {
        out.put(r#","tool_calls":[{"function":{"name":"#).quoted(&tool.name);
        out.put(r#","arguments":"#).put(&tool.arguments).put("}}]");
    }
    out.put(if generate { "" } else { "}" });
}

fn put_done(a: &Answer, out: &mut Vec<u8>) {
    let reason = if a.cut && a.tool.is_none() { "length" } else { "stop" };
    out.put(r#","done":true,"done_reason":""#).put(reason).put("\"");
    if a.usage {
        let output = a.output_tokens();
        out.put(r#","total_duration":"#).num(1_000_000 * (output + 1));
        out.put(r#","load_duration":0,"prompt_eval_count":"#).num(a.input_tokens.into());
        out.put(r#","prompt_eval_duration":1000000,"eval_count":"#).num(output);
        out.put(r#","eval_duration":"#).num(1_000_000 * output);
    }
    out.put("}");
}

pub(super) fn whole(a: &Answer, out: &mut Vec<u8>) {
    put_head(a, out);
    put_says(a, None, None, out);
    put_done(a, out);
}

pub(super) fn part(a: &Answer, part: Part, out: &mut Vec<u8>) {
    match part {
        Part::Start | Part::Open(_) | Part::Shut(_) => {}
        Part::Piece(kind, k) => {
            put_head(a, out);
            put_says(a, Some(kind), Some(k), out);
            out.put(",\"done\":false}\n");
        }
        Part::Finish => {
            put_head(a, out);
            // neither a kind nor the whole: empty strings
            put_says(a, None, Some(0), out);
            put_done(a, out);
            out.put("\n");
        }
    }
}

pub(super) fn tags(out: &mut Vec<u8>) {
    out.put(r#"{"models":["#);
    for (i, id) in MODELS.iter().enumerate() {
        out.put(if i == 0 { "" } else { "," });
        out.put(r#"{"name":""#).put(id).put(r#":latest","model":""#).put(id);
        out.put(r#":latest","modified_at":""#).put(AT).put(r#"","size":1000000,"digest":""#);
        out.hex(i as u64).hex(0).hex(0).hex(0);
        out.put(r#"","details":{"parent_model":"","format":"gguf","family":"sim","#);
        out.put(r#""families":["sim"],"parameter_size":"1M","quantization_level":"Q8_0"}}"#);
    }
    out.put("]}");
}
