//! What a call asks, in the form that the `GenAI` conventions have for it: `[{"role", "parts"}]`.
//!
//! For policies that switch content on. Only text is shown; other parts are named. At most 64 KiB of it,
//! and nothing of a body that is larger than a mebibyte: reading it would take a worker's time.
use serde_json::{Value, json};

const LARGEST: usize = 1 << 20;
const MOST: usize = 64 * 1024;
/// What a message and a part take of that, besides their text.
const EACH: usize = 64;
/// Longest role, and kind of a part.
const WORD: usize = 64;

/// `None`: nothing is known of it.
pub(super) fn messages(body: &[u8]) -> Option<String> {
    if body.len() > LARGEST {
        return None;
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    let mut room = MOST;
    let mut said = Vec::new();
    for key in ["system", "instructions", "systemInstruction", "system_instruction"] {
        said.extend(body.get(key).map(|words| message("system", words, &mut room)));
    }
    let asked = ["messages", "input", "contents", "prompt"].iter().find_map(|key| body.get(key))?;
    match asked {
        Value::Array(all) if all.iter().any(Value::is_object) => {
            for one in all {
                if room == 0 {
                    break;
                }
                let role = one.get("role").and_then(Value::as_str).unwrap_or("user");
                said.push(message(role, one, &mut room));
            }
        }
        words => said.push(message("user", words, &mut room)),
    }
    Some(Value::from(said).to_string())
}

fn message(role: &str, words: &Value, room: &mut usize) -> Value {
    let mut parts = Vec::new();
    *room = room.saturating_sub(EACH);
    collect(words, &mut parts, room);
    json!({ "role": word(role), "parts": parts })
}

fn word(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORD)]
}

/// Vendors put text into `content`, `parts` and `text`, one in the other.
fn collect(words: &Value, parts: &mut Vec<Value>, room: &mut usize) {
    if *room == 0 {
        return;
    }
    match words {
        Value::String(text) => {
            let text = &text[..text.floor_char_boundary(*room)];
            *room = room.saturating_sub(text.len() + EACH);
            if !text.is_empty() {
                parts.push(json!({ "type": "text", "content": text }));
            }
        }
        Value::Array(all) => {
            for one in all {
                if *room == 0 {
                    break;
                }
                collect(one, parts, room);
            }
        }
        Value::Object(fields) => {
            let inner = ["content", "parts", "text"].iter().find_map(|key| fields.get(*key));
            match (inner, fields.get("type").and_then(Value::as_str)) {
                (Some(inner), _) => collect(inner, parts, room),
                (None, Some(kind)) => {
                    *room = room.saturating_sub(EACH);
                    parts.push(json!({ "type": word(kind) }));
                }
                (None, None) => {}
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_bounded_however_it_is_made() {
        let empty = format!(r#"{{"messages":[{}]}}"#, vec!["{}"; 300_000].join(","));
        let parts = format!(
            r#"{{"messages":[{{"content":[{}]}}]}}"#,
            vec![r#"{"type":"x"}"#; 80_000].join(",")
        );
        let words = format!(
            r#"{{"messages":[{{"role":"{0}","content":[{{"type":"{0}"}}]}}]}}"#,
            "r".repeat(400_000)
        );
        let text = format!(r#"{{"messages":[{{"content":"{}"}}]}}"#, "t".repeat(900_000));
        for body in [empty, parts, words, text] {
            assert!(body.len() < LARGEST);
            let shown = messages(body.as_bytes()).expect("it is read");
            assert!(shown.len() < 2 * MOST, "{}", shown.len());
        }
    }
}
