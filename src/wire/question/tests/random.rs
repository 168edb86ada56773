//! Whole bodies, made at random: what differs differs, what does not does not.
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::fields::fields;
use super::*;

const KINDS: [Kind; 9] = [
    Kind::Chat,
    Kind::Completions,
    Kind::Responses,
    Kind::Messages,
    Kind::CountTokens,
    Kind::Generate,
    Kind::GeminiCount,
    Kind::OllamaChat,
    Kind::OllamaGenerate,
];

/// Members by their names; the last two are in no table.
type Body = Vec<(String, Value)>;

fn value() -> impl Strategy<Value = Value> {
    let word = "[a-c \"\\\\{}\\[\\]:,\n\u{e9}]{0,6}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-20..200_i64).prop_map(Value::from),
        (0..16).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word, inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A value for the field; tools that the client runs, turns that ask for something.
fn fitting(kind: Kind, field: Field) -> BoxedStrategy<Value> {
    match field.tells {
        Tells::Tools => prop::collection::vec("[a-c]{1,3}", 0..3)
            .prop_map(move |names| match kind.dialect() {
                Dialect::Gemini => json!([{"functionDeclarations": names}]),
                _ => names.into_iter().map(|name| json!({"name": name})).collect(),
            })
            .boxed(),
        Tells::Turns => value().prop_map(|value| json!([value])).boxed(),
        _ => value().boxed(),
    }
}

/// A body with every field that stops nothing, and a second value for each of them.
fn bodies() -> impl Strategy<Value = (Kind, Body, Body)> {
    prop::sample::select(KINDS.to_vec()).prop_flat_map(|kind| {
        let fields = fields(kind).unwrap().iter();
        let kept: Vec<_> = fields
            .filter(|field| !matches!(field.does, Does::Recalls | Does::Reaches))
            .copied()
            .collect();
        let all = || -> Vec<BoxedStrategy<(String, Value)>> {
            let named = kept.iter().map(|&field| {
                let name = field.name.to_owned();
                fitting(kind, field).prop_map(move |value| (name.clone(), value)).boxed()
            });
            let others = ["zz", "\u{e9}\"\n"]
                .into_iter()
                .map(|name| value().prop_map(move |value| (name.to_owned(), value)).boxed());
            named.chain(others).collect()
        };
        (Just(kind), all(), all())
    })
}

/// The body as text; `dice` says where space stands, and how much.
fn text(body: &[(String, Value)], dice: &mut impl Iterator<Item = u8>) -> String {
    let mut out = String::new();
    let object: Vec<_> = body.iter().map(|(name, value)| (name.as_str(), value)).collect();
    write_object(&object, dice, &mut out);
    space(dice, &mut out);
    out
}

fn space(dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    let throw = dice.next().unwrap_or(0);
    out.extend(
        [' ', '\n', '\t', '\r'].iter().cycle().skip(throw.into()).take(usize::from(throw % 3)),
    );
}

fn write_object(object: &[(&str, &Value)], dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in object.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        space(dice, out);
        out.push_str(&Value::from(*name).to_string());
        space(dice, out);
        out.push(':');
        write(value, dice, out);
    }
    space(dice, out);
    out.push('}');
}

fn write(value: &Value, dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    space(dice, out);
    match value {
        Value::Array(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(value, dice, out);
            }
            space(dice, out);
            out.push(']');
        }
        Value::Object(map) => {
            let object: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value)).collect();
            write_object(&object, dice, out);
        }
        other => out.push_str(&other.to_string()),
    }
    space(dice, out);
}

fn compact(body: &[(String, Value)]) -> String {
    text(body, &mut std::iter::empty())
}

/// Reads back what was said: `None` if it is not one list of fields.
fn heard(mut said: &[u8]) -> Option<Body> {
    let mut body = Vec::new();
    loop {
        let (len, rest) = said.split_first_chunk::<4>()?;
        if *len == END {
            return rest.is_empty().then_some(body);
        }
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let rest = &rest[values.byte_offset()..];
        body.push((String::from_utf8(name.to_vec()).ok()?, value));
        said = rest.strip_prefix(b"\n")?;
    }
}

/// What should be heard of a body.
fn expected(kind: Kind, body: &Body) -> Body {
    let mut kept: Vec<_> = body
        .iter()
        .filter_map(|(name, value)| {
            let field = fields(kind).unwrap().iter().find(|field| field.name == name);
            match field.map(|field| field.does) {
                Some(Does::Form | Does::Label | Does::Cost) => None,
                Some(Does::ChangesBut(but)) => {
                    let mut value = value.clone();
                    if let Some(object) = value.as_object_mut() {
                        object.retain(|name, _| !but.contains(&name.as_str()));
                    }
                    let nothing = value.is_null() || value == json!({});
                    (!nothing).then(|| (name.clone(), value))
                }
                _ => Some((name.clone(), value.clone())),
            }
        })
        .collect();
    let order = |name: &str| fields(kind).unwrap().iter().position(|field| field.name == name);
    kept.sort_by_key(|(name, _)| (order(name).unwrap_or(usize::MAX), name.clone()));
    kept
}

/// Another spelling that the backend takes for the same name.
fn respelled(dialect: Dialect, name: &str) -> String {
    let upper = |letter: char| letter.is_ascii_uppercase();
    match dialect {
        Dialect::Ollama => name.to_ascii_uppercase(),
        Dialect::Gemini => name
            .chars()
            .flat_map(|letter| {
                upper(letter).then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
            })
            .collect(),
        _ => name.to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is said can be read back, so no two questions say the same.
    #[test]
    fn what_is_said_is_the_question((kind, body, _) in bodies(), dice: Vec<u8>) {
        let written = text(&body, &mut dice.into_iter());
        let said = said(kind, &written);
        prop_assert_eq!(heard(&said).unwrap(), expected(kind, &body), "{}", written);
    }

    #[test]
    fn order_space_and_spelling_mean_nothing(
        ((kind, body, _), shuffled) in bodies().prop_flat_map(|bodies| {
            let body = Just(bodies.1.clone()).prop_shuffle();
            (Just(bodies), body)
        }),
        dice: Vec<u8>,
    ) {
        let named = |name: &str| fields(kind).unwrap().iter().any(|field| field.name == name);
        let respelled: Vec<_> = shuffled
            .into_iter()
            .map(|(name, value)| {
                (if named(&name) { respelled(kind.dialect(), &name) } else { name }, value)
            })
            .collect();
        let other = text(&respelled, &mut dice.into_iter());
        prop_assert_eq!(said(kind, &compact(&body)), said(kind, &other), "{}", other);
    }

    /// Every field of every kind: changed, and taken away.
    #[test]
    fn one_field_makes_another_question((kind, body, second) in bodies()) {
        let said_first = said(kind, &compact(&body));
        for index in 0..body.len() {
            let mut changed = body.clone();
            changed[index].1 = second[index].1.clone();
            let same = expected(kind, &changed) == expected(kind, &body);
            prop_assert_eq!(said(kind, &compact(&changed)) == said_first, same, "{}", body[index].0);
            let mut without = body.clone();
            let (name, _) = without.remove(index);
            let same = expected(kind, &without) == expected(kind, &body);
            match bytes(kind, compact(&without).as_bytes()) {
                Ok(said) => prop_assert_eq!(said == said_first, same, "{}", name),
                Err(why) => prop_assert_eq!(why, Unasked::Stateful("load")),
            }
        }
    }

    /// A field that stops does so in any body, and one that is switched off is not there.
    #[test]
    fn what_stops_stops_anywhere((kind, body, _) in bodies(), at: prop::sample::Index) {
        let said_without = said(kind, &compact(&body));
        for field in fields(kind).unwrap() {
            let expected = match field.does {
                Does::Recalls => Unasked::Stateful(field.name),
                Does::Reaches => Unasked::Hosted(field.name),
                _ => continue,
            };
            let with = |value: Value| {
                let mut body = body.clone();
                body.insert(at.index(body.len()), (field.name.to_owned(), value));
                bytes(kind, compact(&body).as_bytes())
            };
            for on in [json!(true), json!("id"), json!({}), json!([{}])] {
                prop_assert_eq!(with(on), Err(expected));
            }
            for off in [json!(null), json!(false), json!([])] {
                prop_assert_eq!(with(off).unwrap(), said_without.as_slice());
            }
        }
    }

    /// Broken bodies are refused or taken, without a fall; what is taken has its words in a row.
    #[test]
    fn broken_bodies_do_no_harm(
        (kind, body, _) in bodies(),
        hits: Vec<(prop::sample::Index, u8)>,
        end: prop::sample::Index,
    ) {
        let mut written = compact(&body).into_bytes();
        for (at, byte) in hits {
            let at = at.index(written.len());
            written[at] = byte;
        }
        let whole = bytes(kind, &written);
        prop_assert!(bytes(kind, &written[..end.index(written.len())]).is_err());
        if let Ok(question) = question(kind, &written) {
            let mut around = Vec::new();
            if let Ok(turn) = question.last_turn() {
                question.say_around(&turn, &mut |piece| around.extend_from_slice(piece));
                prop_assert!(around.len() < whole.unwrap().len());
            }
        }
    }
}
