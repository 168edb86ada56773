use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::wire::view;

const USAGE: Wish<'_> =
    Wish { include_usage: true, max_tokens: None, completion_tokens: false, model: None };

fn at_most(limit: u64) -> Wish<'static> {
    Wish { max_tokens: Some(limit), ..Wish::default() }
}

fn edits(kind: Kind, body: &str, wish: Wish<'_>) -> Edits {
    Edits::new(kind, &view(kind, body.as_bytes()).unwrap(), wish)
}

fn edited(kind: Kind, body: &str, wish: Wish<'_>) -> String {
    let out = edits(kind, body, wish).apply(&Bytes::copy_from_slice(body.as_bytes()));
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn usage_is_asked_for_where_a_stream_does_not() {
    for (body, want) in [
        (
            r#"{"stream":true,"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"model":"m"}"#,
        ),
        (
            "\u{feff} {\r\n \"stream\" : true }\n",
            "\u{feff} {\"stream_options\":{\"include_usage\":true},\r\n \"stream\" : true }\n",
        ),
        (
            r#"{"stream":true,"stream_options":null}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{ }}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"stream_options":{"x":{"include_usage":false}},"stream":true}"#,
            r#"{"stream_options":{"include_usage":true,"x":{"include_usage":false}},"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"x":1,"include_usage": false }}"#,
            r#"{"stream":true,"stream_options":{"x":1,"include_usage": true }}"#,
        ),
        (
            r#"{"stream":true,"str\u0065am_options":{"includ\u0065_usage":null}}"#,
            r#"{"stream":true,"str\u0065am_options":{"includ\u0065_usage":true}}"#,
        ),
    ] {
        assert_eq!(edited(Kind::Chat, body, USAGE), want);
        assert!(edits(Kind::Completions, body, USAGE).asks_usage());
    }
}

#[test]
fn usage_is_left_alone_elsewhere() {
    for (kind, body) in [
        (Kind::Chat, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        (Kind::Chat, r#"{"stream":false}"#),
        (Kind::Chat, r#"{"model":"m"}"#),
        (Kind::Chat, r#"{"stream":true,"stream_options":"x"}"#),
        (Kind::Responses, r#"{"stream":true}"#),
        (Kind::Messages, r#"{"stream":true}"#),
        (Kind::OllamaChat, r#"{"stream":true}"#),
        (Kind::Other, r#"{"stream":true}"#),
    ] {
        let edits = edits(kind, body, USAGE);
        assert!(edits.is_empty() && !edits.asks_usage(), "{body}");
        let same = Bytes::copy_from_slice(body.as_bytes());
        assert_eq!(edits.apply(&same).as_ptr(), same.as_ptr(), "copied for nothing");
    }
}

#[test]
fn the_bound_is_set_under_the_name_of_its_kind() {
    let openai = Wish { completion_tokens: true, ..at_most(50) };
    for (kind, wish, body, want) in [
        (Kind::Chat, at_most(50), r#"{"model":"m"}"#, r#"{"max_tokens":50,"model":"m"}"#),
        (Kind::Chat, openai, r#"{"model":"m"}"#, r#"{"max_completion_tokens":50,"model":"m"}"#),
        (
            Kind::Chat,
            openai,
            r#"{"max_tokens":null}"#,
            r#"{"max_completion_tokens":50,"max_tokens":null}"#,
        ),
        (Kind::Completions, openai, "{ }", r#"{"max_tokens":50 }"#),
        (Kind::Responses, at_most(50), "{}", r#"{"max_output_tokens":50}"#),
        (
            Kind::Responses,
            at_most(50),
            r#"{"max_output_tokens" : null}"#,
            r#"{"max_output_tokens" : 50}"#,
        ),
        (Kind::Messages, at_most(50), r#"{"max_tokens":null}"#, r#"{"max_tokens":50}"#),
        (Kind::Generate, at_most(50), "{}", r#"{"generationConfig":{"maxOutputTokens":50}}"#),
        (
            Kind::StreamGenerate,
            at_most(50),
            r#"{"generation_config":null,"contents":[]}"#,
            r#"{"generation_config":{"maxOutputTokens":50},"contents":[]}"#,
        ),
        (
            Kind::Generate,
            at_most(50),
            r#"{"generation_config":{"top_p":1}}"#,
            r#"{"generation_config":{"maxOutputTokens":50,"top_p":1}}"#,
        ),
        (
            Kind::OllamaChat,
            at_most(50),
            r#"{"Model":"m"}"#,
            r#"{"options":{"num_predict":50},"Model":"m"}"#,
        ),
        (
            Kind::OllamaGenerate,
            at_most(50),
            r#"{"Options":{}}"#,
            r#"{"Options":{"num_predict":50}}"#,
        ),
        (
            Kind::OllamaGenerate,
            at_most(50),
            r#"{"options":null}"#,
            r#"{"options":{"num_predict":50}}"#,
        ),
    ] {
        assert_eq!(edited(kind, body, wish), want);
        assert!(!edits(kind, body, wish).unbounded(), "{body}");
    }
}

#[test]
fn a_bound_is_lowered_where_it_stands_and_never_raised() {
    for (kind, body, want) in [
        (Kind::Chat, r#"{"max_tokens": 4096 }"#, r#"{"max_tokens": 50 }"#),
        (Kind::Chat, r#"{"max_tokens":50}"#, r#"{"max_tokens":50}"#),
        (Kind::Chat, r#"{"max_tokens":7}"#, r#"{"max_tokens":7}"#),
        (Kind::Messages, r#"{"max_tokens":0}"#, r#"{"max_tokens":0}"#),
        (
            Kind::Chat,
            r#"{"max_completion_tokens":1e6,"x":1,"max_tokens":60}"#,
            r#"{"max_completion_tokens":50,"x":1,"max_tokens":50}"#,
        ),
        (
            Kind::Chat,
            r#"{"max_tokens":null,"max_completion_tokens":20}"#,
            r#"{"max_tokens":null,"max_completion_tokens":20}"#,
        ),
        (Kind::Chat, r#"{"max_tok\u0065ns":-1}"#, r#"{"max_tok\u0065ns":50}"#),
        (Kind::Chat, r#"{"max_tokens":"100000"}"#, r#"{"max_tokens":50}"#),
        (
            Kind::Generate,
            r#"{"generationConfig":{"a":[1],"max_output_tokens":99}}"#,
            r#"{"generationConfig":{"a":[1],"max_output_tokens":50}}"#,
        ),
        (
            Kind::Generate,
            r#"{"generationConfig":{"maxOutputTokens":0}}"#,
            r#"{"generationConfig":{"maxOutputTokens":50}}"#,
        ),
        (
            Kind::OllamaChat,
            r#"{"options":{"num_predict":-1}}"#,
            r#"{"options":{"num_predict":50}}"#,
        ),
    ] {
        assert_eq!(edited(kind, body, at_most(50)), want);
        assert!(!edits(kind, body, at_most(50)).unbounded(), "{body}");
    }
}

#[test]
fn what_cannot_be_bounded_says_so() {
    for (kind, body, unbounded) in [
        (Kind::Generate, r#"{"generationConfig":[]}"#, true),
        (Kind::OllamaChat, r#"{"options":"x"}"#, true),
        (Kind::Other, "{}", true),
        (Kind::Embeddings, "{}", false),
        (Kind::CountTokens, "{}", false),
    ] {
        let edits = edits(kind, body, at_most(50));
        assert_eq!((edits.unbounded(), edits.is_empty()), (unbounded, true), "{body}");
    }
}

#[test]
fn both_at_once() {
    let wish = Wish { include_usage: true, ..at_most(9) };
    assert_eq!(
        edited(Kind::Chat, r#"{"stream":true}"#, wish),
        r#"{"stream_options":{"include_usage":true},"max_tokens":9,"stream":true}"#
    );
    let body = r#"{"max_completion_tokens":10,"stream_options":{},"max_tokens":11,"stream":true}"#;
    assert_eq!(
        edited(Kind::Chat, body, wish),
        r#"{"max_completion_tokens":9,"stream_options":{"include_usage":true},"max_tokens":9,"stream":true}"#
    );
}

fn asked_for(model: &str) -> Wish<'_> {
    Wish { model: Some(model), ..Wish::default() }
}

#[test]
fn the_model_is_renamed_where_it_stands() {
    for (kind, body, want) in [
        (Kind::Chat, r#"{ "model" : "a" , "x":1}"#, r#"{ "model" : "b" , "x":1}"#),
        (Kind::Completions, r#"{"m\u006fdel":"a"}"#, r#"{"m\u006fdel":"b"}"#),
        (
            Kind::Responses,
            r#"{"x":{"model":"a"},"model":null}"#,
            r#"{"x":{"model":"a"},"model":"b"}"#,
        ),
        (Kind::Messages, "\u{feff} {\n}", "\u{feff} {\"model\":\"b\"\n}"),
        (Kind::CountTokens, r#"{"messages":[]}"#, r#"{"model":"b","messages":[]}"#),
        (Kind::Embeddings, r#"{"input":"model","model":"a"}"#, r#"{"input":"model","model":"b"}"#),
        (Kind::OllamaChat, r#"{"Model":"a"}"#, r#"{"Model":"b"}"#),
        (Kind::OllamaGenerate, r#"{"MODEL":"a","prompt":"a"}"#, r#"{"MODEL":"b","prompt":"a"}"#),
        (Kind::OllamaEmbed, r#"{"model":"a","input":"a"}"#, r#"{"model":"b","input":"a"}"#),
        // where the path names it, only what is there follows
        (
            Kind::Generate,
            r#"{"contents":[{"model":"models/a"}]}"#,
            r#"{"contents":[{"model":"models/a"}]}"#,
        ),
        (Kind::StreamGenerate, r#"{"model":"models/a"}"#, r#"{"model":"models/b"}"#),
        (
            Kind::GeminiEmbed,
            r#"{"model":"a","content":{"model":"a"}}"#,
            r#"{"model":"b","content":{"model":"a"}}"#,
        ),
        (
            Kind::GeminiEmbed,
            r#"{"requests":[{"model":"models/a","content":{}} , 7, {"content":{},"m\u006fdel" : "models/a"}],"x":1}"#,
            r#"{"requests":[{"model":"models/b","content":{}} , 7, {"content":{},"m\u006fdel" : "models/b"}],"x":1}"#,
        ),
        (
            Kind::GeminiCount,
            r#"{"generate_content_request":{"contents":[],"model":"projects/p/models/a"}}"#,
            r#"{"generate_content_request":{"contents":[],"model":"projects/p/models/b"}}"#,
        ),
    ] {
        let edits = edits(kind, body, asked_for("b"));
        assert_eq!(edits.is_empty(), body == want, "{body}");
        assert_eq!(edited(kind, body, asked_for("b")), want);
        // and once it is done, it is done
        assert!(
            super::Edits::new(kind, &view(kind, want.as_bytes()).unwrap(), asked_for("b"))
                .is_empty()
        );
    }
    let whole = edited(Kind::StreamGenerate, r#"{"model":"models/a"}"#, asked_for("tunedModels/b"));
    assert_eq!(whole, r#"{"model":"tunedModels/b"}"#);
    for kind in [Kind::Other, Kind::Models] {
        assert!(edits(kind, r#"{"model":"a"}"#, asked_for("b")).is_empty());
    }
}

#[test]
fn a_models_name_is_written_as_json() {
    let name = "a\"b\\c\u{1}\u{e9}";
    let out = edited(Kind::Chat, r#"{"model":"x","n":1}"#, asked_for(name));
    assert_eq!(out, "{\"model\":\"a\\\"b\\\\c\\u0001\u{e9}\",\"n\":1}");
    let same = format!(r#"{{"model":{}}}"#, serde_json::to_string(name).unwrap());
    assert!(edits(Kind::Chat, &same, asked_for(name)).is_empty());
}

#[test]
fn all_three_at_once() {
    let wish = Wish { include_usage: true, model: Some("b"), ..at_most(9) };
    assert_eq!(
        edited(Kind::Chat, r#"{"stream":true}"#, wish),
        r#"{"stream_options":{"include_usage":true},"max_tokens":9,"model":"b","stream":true}"#
    );
    assert_eq!(
        edited(
            Kind::Chat,
            r#"{"max_tokens":99,"model":"a","stream":true,"stream_options":{}}"#,
            wish
        ),
        r#"{"max_tokens":9,"model":"b","stream":true,"stream_options":{"include_usage":true}}"#
    );
}

/// The same edit on the parsed body.
fn expected(kind: Kind, body: &Value, limit: u64, openai: bool) -> Value {
    let mut want = body.clone();
    let root = want.as_object_mut().unwrap();
    if matches!(kind, Kind::Chat | Kind::Completions) && root.get("stream") == Some(&json!(true)) {
        let options = root.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
    }
    let set = |object: &mut Map<String, Value>, names: &[&str]| {
        let mut stated = false;
        for name in names {
            let Some(bound) = object.get_mut(*name).filter(|bound| !bound.is_null()) else {
                continue;
            };
            stated = true;
            if bound.as_u64().is_none_or(|count| count > limit) {
                *bound = json!(limit);
            }
        }
        let name = if kind == Kind::Chat && openai { names[1] } else { names[0] };
        if !stated {
            object.insert(name.to_owned(), json!(limit));
        }
    };
    let holder = |root: &mut Map<String, Value>, name: &str, bound: &str| {
        let options = root.entry(name).or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        set(options.as_object_mut().unwrap(), &[bound]);
    };
    match kind {
        Kind::Generate => holder(root, "generationConfig", "maxOutputTokens"),
        Kind::OllamaChat => holder(root, "options", "num_predict"),
        Kind::Chat => set(root, &["max_tokens", "max_completion_tokens"]),
        Kind::Responses => set(root, &["max_output_tokens"]),
        _ => set(root, &["max_tokens"]),
    }
    want
}

fn bound() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (1_u64..2000).prop_map(Value::from),
        Just(json!(-1)),
        Just(json!("many")),
    ]
}

fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    proptest::option::of(value)
}

proptest! {
    /// Only what was to change has changed, for bodies of any shape and spelling.
    #[test]
    fn nothing_else_changes(
        first in maybe(bound()), second in maybe(bound()), output in maybe(bound()),
        stream in maybe(any::<bool>().prop_map(Value::from)),
        stream_options in maybe(prop_oneof![
            Just(Value::Null), Just(json!({})), Just(json!({"include_usage": false})),
            Just(json!({"x": [1], "include_usage": null})), Just(json!({"include_usage": true})),
        ]),
        holder in maybe(prop_oneof![Just(Value::Null), Just(json!({})), Just(json!({"x": {"y": "}"}}))]),
        held in maybe(bound()), limit in 1_u64..1500, openai in any::<bool>(), pretty in any::<bool>(),
        escape in any::<bool>(), other in "\\PC{0,20}", first_member in any::<bool>(),
    ) {
        for kind in [Kind::Chat, Kind::Completions, Kind::Responses, Kind::Messages, Kind::Generate, Kind::OllamaChat] {
            let mut root = Map::new();
            if first_member {
                root.insert("A".to_owned(), json!([other.clone(), {"max_tokens": 1}]));
            }
            let members = [
                ("max_tokens", &first), ("max_completion_tokens", &second), ("max_output_tokens", &output),
                ("stream", &stream), ("stream_options", &stream_options),
            ];
            for (name, value) in members {
                if let Some(value) = value {
                    root.insert(name.to_owned(), value.clone());
                }
            }
            for (name, bound) in [("generationConfig", "maxOutputTokens"), ("options", "num_predict")] {
                let mut object = holder.clone();
                if let (Some(Value::Object(object)), Some(held)) = (&mut object, &held) {
                    object.insert(bound.to_owned(), held.clone());
                }
                root.extend(object.map(|object| (name.to_owned(), object)));
            }
            let before = Value::Object(root);
            let mut text = if pretty { format!(" {before:#}\n") } else { before.to_string() };
            if escape {
                text = text.replace("_tokens\"", "_tok\\u0065ns\"").replace("num_pr", "n\\u0075m_pr");
            }
            let wish = Wish { include_usage: true, completion_tokens: openai, ..at_most(limit) };
            let edits = edits(kind, &text, wish);
            prop_assert!(!edits.unbounded());
            let after = edits.apply(&Bytes::from(text.clone()));
            let after_text = String::from_utf8(after.to_vec()).unwrap();
            let after: Value = serde_json::from_slice(&after)
                .map_err(|error| TestCaseError::fail(format!("{error}: {after_text}")))?;
            prop_assert_eq!(&after, &expected(kind, &before, limit, openai), "{:?} {}", kind, text);
            // and once it is done, it is done
            prop_assert!(super::Edits::new(kind, &view(kind, after_text.as_bytes()).unwrap(), wish).is_empty());
        }
    }

    /// A new name for the model, whatever it is, is the only difference, to the byte.
    #[test]
    fn only_the_model_changes(
        before in proptest::option::of("\\PC{0,12}"), to in "\\PC{1,12}", other in "\\PC{0,20}", front in any::<bool>(),
        pretty in any::<bool>(), escape in any::<bool>(),
    ) {
        for kind in [Kind::Chat, Kind::Responses, Kind::Embeddings, Kind::Messages, Kind::OllamaChat] {
            let mut root = Map::new();
            if front {
                root.insert("A".to_owned(), json!([other.clone(), {"model": other.clone()}]));
            }
            if let Some(before) = &before {
                root.insert("model".to_owned(), json!(before));
            }
            root.insert("z".to_owned(), json!({"model": other.clone()}));
            let value = Value::Object(root.clone());
            let mut text = if pretty { format!(" {value:#}\n") } else { value.to_string() };
            if escape {
                text = text.replace("\"model\"", "\"m\\u006fdel\"");
            }
            let out = edited(kind, &text, asked_for(&to));
            root.insert("model".to_owned(), json!(to));
            let after: Value = serde_json::from_str(&out)
                .map_err(|error| TestCaseError::fail(format!("{error}: {out}")))?;
            prop_assert_eq!(after, Value::Object(root));
            // take the value out of both: what is left is the same
            let cut = |text: &str| {
                let view = view(kind, text.as_bytes()).unwrap();
                let at = view.places.model.unwrap().at;
                format!("{}|{}", &text[..at.start], &text[at.end..])
            };
            if before.is_some() {
                prop_assert_eq!(cut(&text), cut(&out));
            } else {
                let (head, tail) = text.split_once('{').unwrap();
                prop_assert_eq!(out, format!("{head}{{\"model\":{},{tail}", json!(to)));
            }
        }
    }
}
