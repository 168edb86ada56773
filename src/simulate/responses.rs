//! OpenAI's Responses API, as its API reference shows it (November 2026): the object, and the full
//! set of stream events with their sequence numbers. Nothing is stored, so there is no `GET`.
use super::answer::{Answer, Kind, Part};
use super::text::{CREATED, Put};

/// How many events come before the pieces of a block, and after them.
const fn around(kind: Kind) -> (u32, u32) {
    match kind {
        Kind::Tool => (1, 2),
        Kind::Reasoning | Kind::Text => (2, 3),
    }
}

/// The sequence number of the first event of a part.
fn sequence(a: &Answer, part: Part) -> u32 {
    let block = |kind: Kind| around(kind).0 + a.pieces(kind) + around(kind).1;
    let reasoning = if a.reasoning > 0 { block(Kind::Reasoning) } else { 0 };
    let start = |kind: Kind| if kind == Kind::Reasoning { 2 } else { 2 + reasoning };
    match part {
        Part::Start => 0,
        Part::Open(kind) => start(kind),
        Part::Piece(kind, k) => start(kind) + around(kind).0 + k,
        Part::Shut(kind) => start(kind) + around(kind).0 + a.pieces(kind),
        Part::Finish => start(a.main()) + block(a.main()),
    }
}

/// The `response` object; `done` says whether it has its output and its usage.
fn put_response(a: &Answer, done: bool, out: &mut Vec<u8>) {
    let cut = done && a.cut && a.tool.is_none();
    let status = match (done, cut) {
        (false, _) => "in_progress",
        (true, false) => "completed",
        (true, true) => "incomplete",
    };
    out.put(r#"{"id":"resp_"#).hex(a.id).put(r#"","object":"response","created_at":"#);
    out.num(CREATED).put(r#","status":""#).put(status);
    out.put(r#"","background":false,"error":null,"incomplete_details":"#);
    out.put(if cut { r#"{"reason":"max_output_tokens"}"# } else { "null" });
    out.put(r#","instructions":null,"max_output_tokens":null,"metadata":{},"model":"#);
    out.quoted(&a.model).put(r#","output":["#);
    if done {
        if a.reasoning > 0 {
            put_item(a, Kind::Reasoning, true, out);
            out.put(",");
        }
        put_item(a, a.main(), true, out);
    }
    out.put(r#"],"parallel_tool_calls":true,"previous_response_id":null,"#);
    out.put(
        r#""reasoning":{"effort":null,"summary":null},"service_tier":"default","store":false,"#,
    );
    out.put(r#""temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","#);
    out.put(r#""tools":[],"top_p":1.0,"truncation":"disabled","usage":"#);
    if done && a.usage {
        let (input, output) = (u64::from(a.input_tokens), a.output_tokens());
        out.put(r#"{"input_tokens":"#).num(input);
        out.put(r#","input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0}"#);
        out.put(r#","output_tokens":"#).num(output);
        out.put(r#","output_tokens_details":{"reasoning_tokens":"#).num(a.reasoning.into());
        out.put(r#"},"total_tokens":"#).num(input + output).put("}");
    } else {
        out.put("null");
    }
    out.put(r#","user":null}"#);
}

fn put_item_id(a: &Answer, kind: Kind, out: &mut Vec<u8>) {
    let prefix = match kind {
        Kind::Reasoning => "rs_",
        Kind::Text => "msg_",
        Kind::Tool => "fc_",
    };
    out.put("\"").put(prefix).hex(a.id).put("\"");
}

/// The text of a block as a part: of an output message or of a summary.
fn put_text_part(a: &Answer, kind: Kind, done: bool, out: &mut Vec<u8>) {
    out.put(match kind {
        Kind::Reasoning => r#"{"type":"summary_text","text":""#,
        _ => r#"{"type":"output_text","annotations":[],"logprobs":[],"text":""#,
    });
    if done {
        a.put_block(out, kind);
    }
    out.put("\"}");
}

fn put_item(a: &Answer, kind: Kind, done: bool, out: &mut Vec<u8>) {
    put_item_id(a, kind, out.put(r#"{"id":"#));
    let status = if done { r#","status":"completed""# } else { r#","status":"in_progress""# };
    match (kind, &a.tool) {
        (Kind::Reasoning, _) => {
            out.put(r#","type":"reasoning","summary":["#);
            if done {
                put_text_part(a, kind, true, out);
            }
            out.put("]}");
        }
        (Kind::Tool, Some(tool)) => {
            out.put(status).put(r#","type":"function_call","call_id":"call_"#).hex(a.id);
            out.put(r#"","name":"#).quoted(&tool.name).put(r#","arguments":"#);
            out.quoted(if done { &tool.arguments } else { "" }).put("}");
        }
        _ => {
            out.put(status).put(r#","type":"message","role":"assistant","content":["#);
            if done {
                put_text_part(a, kind, true, out);
            }
            out.put("]}");
        }
    }
}

pub(super) fn whole(a: &Answer, out: &mut Vec<u8>) {
    put_response(a, true, out);
}

/// Where events go: the answer, the block they belong to, the next sequence number.
struct Events<'a> {
    a: &'a Answer,
    kind: Kind,
    next: u32,
    out: &'a mut Vec<u8>,
}

impl Events<'_> {
    /// One event; `fields` writes what follows its type and number.
    fn event(&mut self, name: &str, fields: impl FnOnce(&Answer, Kind, &mut Vec<u8>)) {
        self.out.put("event: ").put(name).put("\ndata: {\"type\":\"").put(name);
        self.out.put(r#"","sequence_number":"#).num(self.next.into()).put(",");
        fields(self.a, self.kind, self.out);
        self.out.put("}\n\n");
        self.next += 1;
    }

    /// One event about the block's item.
    fn item(&mut self, name: &str, fields: impl FnOnce(&Answer, Kind, &mut Vec<u8>)) {
        self.event(name, |a, kind, out| {
            put_item_id(a, kind, out.put(r#""item_id":"#));
            out.put(r#","output_index":"#).num(output_index(a, kind));
            out.put(match kind {
                Kind::Reasoning => r#","summary_index":0,"#,
                Kind::Text => r#","content_index":0,"#,
                Kind::Tool => ",",
            });
            fields(a, kind, out);
        });
    }

    /// The start or the end of the block's item.
    fn whole_item(&mut self, name: &str, done: bool) {
        self.event(name, |a, kind, out| {
            out.put(r#""output_index":"#).num(output_index(a, kind)).put(r#","item":"#);
            put_item(a, kind, done, out);
        });
    }

    /// The start or the end of the part in the block's item.
    fn text_part(&mut self, name: &str, done: bool) {
        self.item(name, |a, kind, out| put_text_part(a, kind, done, out.put(r#""part":"#)));
    }
}

fn output_index(a: &Answer, kind: Kind) -> u64 {
    u64::from(kind != Kind::Reasoning && a.reasoning > 0)
}

pub(super) fn part(a: &Answer, part: Part, out: &mut Vec<u8>) {
    let kind = match part {
        Part::Open(kind) | Part::Piece(kind, _) | Part::Shut(kind) => kind,
        Part::Start | Part::Finish => a.main(),
    };
    let mut events = Events { a, kind, next: sequence(a, part), out };
    match part {
        Part::Start => {
            for name in ["response.created", "response.in_progress"] {
                events.event(name, |a, _, out| put_response(a, false, out.put(r#""response":"#)));
            }
        }
        Part::Open(kind) => {
            events.whole_item("response.output_item.added", false);
            match kind {
                Kind::Reasoning => events.text_part("response.reasoning_summary_part.added", false),
                Kind::Text => events.text_part("response.content_part.added", false),
                Kind::Tool => {}
            }
        }
        Part::Piece(kind, k) => {
            let (name, tail) = match kind {
                Kind::Reasoning => ("response.reasoning_summary_text.delta", "\""),
                Kind::Text => ("response.output_text.delta", r#"","logprobs":[]"#),
                Kind::Tool => ("response.function_call_arguments.delta", "\""),
            };
            events.item(name, |a, kind, out| {
                a.put_piece(out.put(r#""delta":""#), kind, k);
                out.put(tail);
            });
        }
        Part::Shut(kind) => {
            shut(&mut events, kind);
            events.whole_item("response.output_item.done", true);
        }
        Part::Finish => {
            let cut = a.cut && a.tool.is_none();
            let name = if cut { "response.incomplete" } else { "response.completed" };
            events.event(name, |a, _, out| put_response(a, true, out.put(r#""response":"#)));
        }
    }
}

/// The event that tells of an error in the place of `part`.
pub(super) fn error(a: &Answer, part: Part, out: &mut Vec<u8>) {
    let mut events = Events { a, kind: a.main(), next: sequence(a, part), out };
    events.event("error", |_, _, out| {
        out.put(r#""code":"server_error","message":"Internal server error.","param":null"#);
    });
}

/// The events that repeat a block in full.
fn shut(events: &mut Events<'_>, kind: Kind) {
    match kind {
        Kind::Reasoning => {
            events.item("response.reasoning_summary_text.done", |a, kind, out| {
                a.put_block(out.put(r#""text":""#), kind);
                out.put("\"");
            });
            events.text_part("response.reasoning_summary_part.done", true);
        }
        Kind::Text => {
            events.item("response.output_text.done", |a, kind, out| {
                a.put_block(out.put(r#""text":""#), kind);
                out.put(r#"","logprobs":[]"#);
            });
            events.text_part("response.content_part.done", true);
        }
        Kind::Tool => events.item("response.function_call_arguments.done", |a, _, out| {
            let tool = a.tool.as_ref();
            out.put(r#""name":"#).quoted(tool.map_or("", |t| &t.name));
            out.put(r#","arguments":"#).quoted(tool.map_or("", |t| &t.arguments));
        }),
    }
}
