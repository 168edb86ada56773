use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::question::question;

const TALKING: [Kind; 5] =
    [Kind::Chat, Kind::Responses, Kind::Messages, Kind::StreamGenerate, Kind::OllamaChat];

fn turn(kind: Kind, body: &str) -> Result<String, NotAlike> {
    let question = question(kind, body.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {body}"));
    question.last_turn().map(|turn| turn.text.into_owned())
}

/// All that is said, and what is said around the last turn.
fn said(kind: Kind, body: &str) -> (Vec<u8>, Vec<u8>) {
    let question = question(kind, body.as_bytes()).unwrap();
    let turn = question.last_turn().unwrap_or_else(|why| panic!("{why:?}: {body}"));
    let (mut all, mut around) = (Vec::new(), Vec::new());
    question.say(&mut |piece| all.extend_from_slice(piece));
    question.say_around(&turn, &mut |piece| around.extend_from_slice(piece));
    (all, around)
}

/// A chat whose last message is this.
fn chat(last: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"system","content":"s"}},{last}]}}"#)
}

#[test]
fn the_last_turn_is_found() {
    for (kind, body) in [
        (Kind::Chat, chat(r#"{"role":"user","content":"a \"b\"\u00e9"}"#)),
        (Kind::Chat, chat(r#"{"content":[{"type":"text","text":"a \"b\"é"}],"role":"user"}"#)),
        (Kind::Completions, r#"{"prompt":"a \"b\"é"}"#.into()),
        (Kind::Responses, r#"{"input":"a \"b\"é"}"#.into()),
        (Kind::Responses, r#"{"input":[{"type":"message","role":"user","content":"a \"b\"é"}]}"#.into()),
        (
            Kind::Responses,
            r#"{"input":[{"type":"reasoning","id":"r"},{"role":"user","content":[{"type":"input_text","text":"a \"b\"é"}]}]}"#.into(),
        ),
        (
            Kind::Messages,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a \"b\"é","cache_control":{}}]}]}"#.into(),
        ),
        (Kind::Generate, r#"{"contents":{"parts":{"text":"a \"b\"é"}}}"#.into()),
        (
            Kind::Generate,
            r#"{"contents":[{"parts":[{"inline_data":{}},{"text":"x"}]},{"role":"model","parts":[{"text":"y","thoughtSignature":"t"}]},{"role":"user","parts":[{"text":"a \"b\"é"}]}]}"#.into(),
        ),
        (Kind::OllamaChat, r#"{"messages":[{"role":"user","content":"x","images":["i"]},{"Role":"user","CONTENT":"a \"b\"é","images":[]}]}"#.into()),
        (Kind::OllamaGenerate, r#"{"prompt":"a \"b\"é","images":[]}"#.into()),
    ] {
        assert_eq!(turn(kind, &body).as_deref(), Ok("a \"b\"é"), "{body}");
    }
}

#[rustfmt::skip]
#[test]
fn other_turns_are_left_alone() {
    use NotAlike::{Answers, Attachment, Empty, Kind as NoKind, NotText, NotUser, Parts, TooLong, Tools};
    let long = format!(r#"{{"role":"user","content":"{}"}}"#, "é".repeat(LONGEST / 2 + 1));
    let escaped = format!(r#"{{"role":"user","content":"{}"}}"#, "\\u0041".repeat(LONGEST + 1));
    let image = r#"{"type":"image_url","image_url":{"url":"u"}}"#;
    let text = r#"{"type":"text","text":"t"}"#;
    for (last, why) in [
        (r#"{"role":"assistant","content":"hi"}"#, NotUser),
        (r#"{"content":"hi"}"#, NotUser),
        (r#"{"role":"user","role":"assistant","content":"hi"}"#, NotUser),
        (r#"{"role":"assistant","role":"user","content":"hi"}"#, Parts),
        (r#"{"role":"user","content":"hi","content":"ho"}"#, Parts),
        (r#"{"role":"user","content":"hi"},"hi""#, Parts),
        (r#"{"role":"user","content":""}"#, Empty),
        (r#"{"role":"user","content":" \n"}"#, Empty),
        (r#"{"role":"user","content":null}"#, Empty),
        (r#"{"role":"user","content":[]}"#, Empty),
        (r#"{"role":"user","content":{"text":"hi"}}"#, Parts),
        (r#"{"role":"user","content":"\ud800"}"#, NotText),
        (r#"{"role":"tool","tool_call_id":"c","content":"hi"}"#, Tools),
        (r#"{"role":"tool","content":"x"},{"role":"user","content":"hi"}"#, Tools),
        (r#"{"role":"assistant","t\u006fol_calls":[{}]},{"role":"user","content":"hi"}"#, Tools),
        (r#"{"role":"assistant","function_call":{"name":"f"}},{"role":"user","content":"hi"}"#, Tools),
        (&format!(r#"{{"role":"user","content":[{text},{text}]}}"#), Parts),
        (&format!(r#"{{"role":"user","content":[{text},{image}]}}"#), Attachment),
        (&format!(r#"{{"role":"user","content":[{image}]}}"#), Attachment),
        (r#"{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}"#, Parts),
        (r#"{"role":"user","content":[{"text":"a"}]}"#, Parts),
        (&long, TooLong),
        (&escaped, TooLong),
    ] {
        assert_eq!(turn(Kind::Chat, &chat(last)), Err(why), "{last}");
    }
    for (kind, body, why) in [
        (Kind::Chat, r#"{"model":"m"}"#, Empty),
        (Kind::Chat, r#"{"messages":[]}"#, Empty),
        (Kind::Chat, r#"{"messages":"hi"}"#, Parts),
        (Kind::Chat, r#"{"n":2,"messages":[{"role":"user","content":"hi"}]}"#, Answers),
        (Kind::Chat, r#"{"functions":[{"name":"f"}],"messages":[{"role":"user","content":"hi"}]}"#, Tools),
        (Kind::Completions, r#"{"prompt":["a"]}"#, Parts),
        (Kind::Completions, r#"{"prompt":[1,2]}"#, Parts),
        (Kind::Responses, r#"{"input":[{"type":"function_call_output","output":"x"},{"role":"user","content":"hi"}]}"#, Tools),
        (Kind::Responses, r#"{"input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]}"#, Attachment),
        (Kind::Messages, r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"t"},{"type":"tool_use"}]},{"role":"user","content":"hi"}]}"#, Tools),
        (Kind::Messages, r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":"x"}]}]}"#, Tools),
        (Kind::Messages, r#"{"messages":[{"role":"assistant","content":[{"type":"web_search_tool_result"}]},{"role":"user","content":"hi"}]}"#, Tools),
        (Kind::Messages, r#"{"messages":[{"role":"user","content":[{"type":"document","source":{}}]}]}"#, Attachment),
        (Kind::CountTokens, r#"{"messages":[{"role":"user","content":"hi"}]}"#, NoKind),
        (Kind::Generate, r#"{"contents":[{"parts":[{"text":"a"},{"text":"b"}]}]}"#, Parts),
        (Kind::Generate, r#"{"contents":[{"parts":[{"text":"a"},{"fileData":{}}]}]}"#, Attachment),
        (Kind::Generate, r#"{"contents":[{"parts":[{"text":"a","inline_data":{}}]}]}"#, Attachment),
        (Kind::Generate, r#"{"contents":[{"role":"model","parts":[{"text":"a"}]}]}"#, NotUser),
        (Kind::Generate, r#"{"contents":[{"parts":[{"function_call":{}}]},{"parts":[{"text":"a"}]}]}"#, Tools),
        (Kind::Generate, r#"{"contents":[{"parts":[{"somethingNew":{}}]},{"parts":[{"text":"a"}]}]}"#, Tools),
        (Kind::Generate, r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"candidateCount":2}}"#, Answers),
        (Kind::OllamaChat, r#"{"messages":[{"role":"user","content":"hi","Images":["i"]}]}"#, Attachment),
        (Kind::OllamaChat, r#"{"messages":[{"role":"assistant","Tool_Calls":[{}]},{"role":"user","content":"hi"}]}"#, Tools),
        (Kind::OllamaGenerate, r#"{"prompt":"hi","images":["i"]}"#, Attachment),
    ] {
        assert_eq!(turn(kind, body), Err(why), "{body}");
    }
}

/// A turn of another body does not cut into this one.
#[test]
fn a_foreign_turn_leaves_nothing_out() {
    let (one, two) =
        (chat(r#"{"role":"user","content":"hi"}"#), chat(r#"{"role":"user","content":"hi"}"#));
    let asked = question(Kind::Chat, one.as_bytes()).unwrap();
    let foreign = question(Kind::Chat, two.as_bytes()).unwrap().last_turn().unwrap();
    let (mut all, mut around) = (Vec::new(), Vec::new());
    asked.say(&mut |piece| all.extend_from_slice(piece));
    asked.say_around(&foreign, &mut |piece| around.extend_from_slice(piece));
    assert_eq!(all, around);
}

/// A conversation, whatever its dialect.
#[derive(Debug, Clone, PartialEq)]
struct Talk {
    system: Option<String>,
    /// Whether the user says it, and what.
    earlier: Vec<(bool, String)>,
    last: String,
    in_parts: bool,
    temperature: Option<u8>,
    other: Option<String>,
}

impl Talk {
    fn write(&self, kind: Kind, spaced: bool) -> String {
        let turns = self.earlier.iter().map(|(user, text)| self.message(kind, *user, text));
        let turns: Vec<_> = turns.chain([self.message(kind, true, &self.last)]).collect();
        let name = match kind {
            Kind::Responses => "input",
            Kind::StreamGenerate => "contents",
            _ => "messages",
        };
        let mut body = json!({"model": "m", (name): turns});
        if let Some(system) = &self.system {
            match kind {
                Kind::Responses => body["instructions"] = json!(system),
                Kind::StreamGenerate => {
                    body["systemInstruction"] = json!({"parts": [{"text": system}]});
                }
                Kind::Messages => body["system"] = json!(system),
                _ => {
                    let first = json!({"role": "system", "content": system});
                    body[name].as_array_mut().unwrap().insert(0, first);
                }
            }
        }
        if let Some(temperature) = self.temperature {
            match kind {
                Kind::StreamGenerate => {
                    body["generationConfig"]["temperature"] = json!(temperature);
                }
                Kind::OllamaChat => body["options"]["temperature"] = json!(temperature),
                _ => body["temperature"] = json!(temperature),
            }
        }
        if let Some(other) = &self.other {
            body["not_known"] = json!(other);
        }
        if spaced { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() }
    }

    fn message(&self, kind: Kind, user: bool, text: &str) -> Value {
        let part = match (kind, user) {
            (Kind::StreamGenerate, _) => {
                let role = if user { "user" } else { "model" };
                return json!({"role": role, "parts": [{"text": text}]});
            }
            (Kind::Responses, true) => json!([{"type": "input_text", "text": text}]),
            (Kind::Responses, false) => json!([{"type": "output_text", "text": text}]),
            _ => json!([{"type": "text", "text": text}]),
        };
        let plain = !self.in_parts || kind == Kind::OllamaChat;
        let content = if plain { json!(text) } else { part };
        json!({"role": if user { "user" } else { "assistant" }, "content": content})
    }

    /// What must be the same for two to be compared.
    fn rest(&self, kind: Kind) -> Self {
        let only_plain = matches!(kind, Kind::OllamaChat | Kind::StreamGenerate);
        Self { last: String::new(), in_parts: self.in_parts && !only_plain, ..self.clone() }
    }
}

/// From few words, so that earlier and last turns are often the same.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("turn it on".to_owned()),
        Just("turn it off".to_owned()),
        "[ab\"\\\\{}\\[\\], ]{0,4}x",
    ]
}

fn talk() -> impl Strategy<Value = Talk> {
    (
        prop::option::of(words()),
        prop::collection::vec((any::<bool>(), words()), 0..4),
        words(),
        any::<bool>(),
        prop::option::of(0..3_u8),
        prop::option::of(words()),
    )
        .prop_map(|(system, earlier, last, in_parts, temperature, other)| Talk {
            system,
            earlier,
            last,
            in_parts,
            temperature,
            other,
        })
}

/// Two talks; the second takes some of its parts from a third.
fn pair() -> impl Strategy<Value = (Talk, Talk)> {
    (talk(), talk(), prop::array::uniform6(prop::bool::weighted(0.25))).prop_map(
        |(one, other, take)| {
            let mut two = one.clone();
            let Talk { system, earlier, last, in_parts, temperature, other } = other;
            if take[0] {
                two.system = system;
            }
            if take[1] {
                two.earlier = earlier;
            }
            if take[2] {
                two.last = last;
            }
            two.in_parts ^= take[3] & in_parts;
            if take[4] {
                two.temperature = temperature;
            }
            if take[5] {
                two.other = other;
            }
            (one, two)
        },
    )
}

proptest! {
    /// Only what differs in the words of the last turn and nowhere else is said alike around it.
    #[test]
    fn only_the_last_turn_is_left_out((one, two) in pair(), spaced: bool) {
        for kind in TALKING {
            let (a, b) = (one.write(kind, false), two.write(kind, spaced));
            let ((all_a, around_a), (all_b, around_b)) = (said(kind, &a), said(kind, &b));
            let alike = one.rest(kind) == two.rest(kind);
            prop_assert_eq!(around_a == around_b, alike, "{} {}", &a, &b);
            prop_assert_eq!(all_a == all_b, alike && one.last == two.last, "{} {}", &a, &b);
            prop_assert_eq!(turn(kind, &a).unwrap(), one.last.as_str());
            prop_assert!(around_a.len() < all_a.len());
        }
    }

    /// What once stood last is another conversation when it stands before.
    #[test]
    fn what_was_said_before_counts(mut one in talk(), before in words(), other in words()) {
        prop_assume!(before != other);
        let mut two = one.clone();
        one.earlier.push((true, before));
        two.earlier.push((true, other));
        for kind in TALKING {
            let (a, b) = (one.write(kind, false), two.write(kind, false));
            prop_assert_ne!(said(kind, &a).1, said(kind, &b).1);
        }
    }
}
