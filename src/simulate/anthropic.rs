//! Anthropic's messages, token counts and models, as its API reference shows them
//! (November 2026). Reasoning comes as a `thinking` block with a made-up signature.
use super::answer::{Answer, Kind, Part};
use super::openai::MODELS;
use super::text::Put;

fn stop_reason(a: &Answer) -> &'static str {
    match (a.main(), a.cut) {
        (Kind::Tool, _) => "tool_use",
        (_, true) => "max_tokens",
        _ => "end_turn",
    }
}

fn put_head(a: &Answer, out: &mut Vec<u8>) {
    out.put(r#"{"id":"msg_"#).hex(a.id).put(r#"","type":"message","role":"assistant","model":"#);
    out.quoted(&a.model);
}

/// The `usage` object; counts of 0 where the answer is to show none.
fn put_usage(a: &Answer, output: u64, out: &mut Vec<u8>) {
    out.put(r#"{"input_tokens":"#).num(a.input_tokens.into());
    out.put(r#","cache_creation_input_tokens":0,"cache_read_input_tokens":0,"#);
    out.put(r#""cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"#);
    out.put(r#""output_tokens":"#).num(output).put(r#","service_tier":"standard"}"#);
}

fn put_signature(a: &Answer, out: &mut Vec<u8>) {
    out.put("c2lt").hex(a.id);
}

/// A block as it starts, or whole.
fn put_block(a: &Answer, kind: Kind, whole: bool, out: &mut Vec<u8>) {
    match (kind, &a.tool) {
        (Kind::Reasoning, _) => {
            out.put(r#"{"type":"thinking","thinking":""#);
            if whole {
                a.put_block(out, kind);
            }
            out.put(r#"","signature":""#);
            if whole {
                put_signature(a, out);
            }
            out.put("\"}");
        }
        (Kind::Tool, Some(tool)) => {
            out.put(r#"{"type":"tool_use","id":"toolu_"#).hex(a.id).put(r#"","name":"#);
            out.quoted(&tool.name).put(r#","input":"#);
            out.put(if whole { &tool.arguments } else { "{}" }).put("}");
        }
        _ => {
            out.put(r#"{"type":"text","text":""#);
            if whole {
                a.put_block(out, kind);
            }
            out.put("\"}");
        }
    }
}

pub(super) fn message(a: &Answer, out: &mut Vec<u8>) {
    put_head(a, out);
    out.put(r#","content":["#);
    if a.reasoning > 0 {
        put_block(a, Kind::Reasoning, true, out);
        out.put(",");
    }
    put_block(a, a.main(), true, out);
    out.put(r#"],"stop_reason":""#).put(stop_reason(a)).put(r#"","stop_sequence":null"#);
    if a.usage {
        put_usage(a, a.output_tokens(), out.put(r#","usage":"#));
    }
    out.put("}");
}

fn event<'a>(name: &str, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
    out.put("event: ").put(name).put("\ndata: {\"type\":\"").put(name).put("\"")
}

fn block_event<'a>(a: &Answer, name: &str, kind: Kind, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
    let index = u64::from(kind != Kind::Reasoning && a.reasoning > 0);
    event(name, out).put(r#","index":"#).num(index)
}

pub(super) fn part(a: &Answer, part: Part, out: &mut Vec<u8>) {
    match part {
        Part::Start => {
            put_head(a, event("message_start", out).put(r#","message":"#));
            out.put(r#","content":[],"stop_reason":null,"stop_sequence":null"#);
            if a.usage {
                put_usage(a, 1, out.put(r#","usage":"#));
            }
            out.put("}}\n\n");
        }
        Part::Open(kind) => {
            block_event(a, "content_block_start", kind, out).put(r#","content_block":"#);
            put_block(a, kind, false, out);
            out.put("}\n\n");
            if kind != Kind::Tool {
                event("ping", out).put("}\n\n");
            }
        }
        Part::Piece(kind, k) => {
            block_event(a, "content_block_delta", kind, out).put(match kind {
                Kind::Text => r#","delta":{"type":"text_delta","text":""#,
                Kind::Reasoning => r#","delta":{"type":"thinking_delta","thinking":""#,
                Kind::Tool => r#","delta":{"type":"input_json_delta","partial_json":""#,
            });
            a.put_piece(out, kind, k);
            out.put("\"}}\n\n");
        }
        Part::Shut(kind) => {
            if kind == Kind::Reasoning {
                block_event(a, "content_block_delta", kind, out);
                out.put(r#","delta":{"type":"signature_delta","signature":""#);
                put_signature(a, out);
                out.put("\"}}\n\n");
            }
            block_event(a, "content_block_stop", kind, out).put("}\n\n");
        }
        Part::Finish => {
            event("message_delta", out).put(r#","delta":{"stop_reason":""#).put(stop_reason(a));
            out.put(r#"","stop_sequence":null}"#);
            if a.usage {
                put_usage(a, a.output_tokens(), out.put(r#","usage":"#));
            }
            out.put("}\n\n");
            event("message_stop", out).put("}\n\n");
        }
    }
}

pub(super) fn models(out: &mut Vec<u8>) {
    out.put(r#"{"data":["#);
    for (i, id) in MODELS.iter().enumerate() {
        out.put(if i == 0 { "" } else { "," });
        put_model(id, out);
    }
    out.put(r#"],"has_more":false,"first_id":"#).quoted(MODELS[0]);
    out.put(r#","last_id":"#).quoted(MODELS[MODELS.len() - 1]).put("}");
}

pub(super) fn put_model(id: &str, out: &mut Vec<u8>) {
    out.put(r#"{"type":"model","id":"#).quoted(id).put(r#","display_name":"#).quoted(id);
    out.put(r#","created_at":"2026-01-01T00:00:00Z","lifecycle":"active"}"#);
}
