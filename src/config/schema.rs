//! The JSON Schema (draft 2020-12) of the policy file, made from the table of keys, so that
//! editors complete and check what the readers accept.
//!
//! A schema cannot see everything: references, shadowed rules and variables are left to
//! `tidegate check`. It never refuses what the readers accept.
use serde_json::{Map, Value, json};

use super::keys::{ROOT, Section, Shape};

/// Matches text that holds a variable: its value is not known to an editor.
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}";

const DECIMAL: &str = r"[0-9]+(\.[0-9]+)?";
const AMOUNT: &str = r"[0-9]+(\.[0-9]+)?[kMG]?";
const MONEY: &str = r"\$[0-9]+(\.[0-9]+)?";

pub fn schema() -> Value {
    let mut root = section(&ROOT);
    root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    Value::Object(root)
}

fn section(section: &Section) -> Map<String, Value> {
    let properties: Map<String, Value> = section
        .keys
        .iter()
        .map(|key| {
            let mut value = shape(key.shape);
            value.insert("description".to_owned(), key.doc.into());
            if let Some(default) = key.default {
                value.insert("default".to_owned(), default_of(key.shape, default));
            }
            (key.name.to_owned(), Value::Object(value))
        })
        .collect();
    object(json!({
        "title": section.title,
        "type": "object",
        "properties": properties,
        "required": section.required,
        "additionalProperties": false,
    }))
}

/// As JSON, where it is more than text.
fn default_of(shape: &Shape, default: &str) -> Value {
    match shape {
        Shape::Count(_) | Shape::Decimal | Shape::Flag => {
            serde_json::from_str(default).unwrap_or_else(|_| default.into())
        }
        Shape::List(_) => {
            let items = default.trim_matches(['[', ']']).split(", ");
            items.map(Value::from).collect()
        }
        _ => default.into(),
    }
}

fn shape(shape: &Shape) -> Map<String, Value> {
    object(match shape {
        Shape::Duration => pattern(r"[0-9]+(ms|s|m|h|d)", "250ms 30s 15m 1h 1d"),
        Shape::Size => pattern(r"[0-9]+([KMG]iB|kB|MB|GB|B)", "512B 64KiB 32MiB"),
        Shape::Count(least) => json!({
            "anyOf": [
                { "type": "integer", "minimum": least },
                { "type": "string", "pattern": VARIABLE },
            ]
        }),
        Shape::Word(words) => json!({
            "anyOf": [{ "enum": words }, { "type": "string", "pattern": VARIABLE }]
        }),
        Shape::Decimal => json!({
            "anyOf": [
                { "type": "number", "minimum": 0 },
                pattern(DECIMAL, "0.50"),
            ]
        }),
        Shape::Flag => json!({
            "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": VARIABLE }]
        }),
        Shape::Weight => pattern(r"[0-9]+(\.[0-9]+)?%", "10% 125%"),
        Shape::AtMost => pattern(&format!("<={DECIMAL}"), "<=0.3"),
        Shape::Rate => rate(AMOUNT, "600/min 400k/min burst 100k 5M/day calendar hard"),
        Shape::Spend => rate(MONEY, "$20/day $300/month hard $0.50/min burst $5"),
        Shape::AtOnce => json!({
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                pattern(r"\s*[0-9]+(\s+(observe|soft|hard))?\s*", "16 observe"),
            ]
        }),
        Shape::Hash => pattern("[0-9a-fA-F]{64}", "64 hexadecimal digits"),
        Shape::Text(form) => json!({ "type": "string", "minLength": 1, "title": form }),
        Shape::Secret => {
            json!({ "type": "string", "minLength": 1, "title": "${NAME} or file:/path" })
        }
        Shape::File => json!({ "type": "string", "minLength": 1, "title": "path of a PEM file" }),
        Shape::LogFile => pattern(r"(\.\.?)?/.+", "/path or ./path of a file"),
        Shape::Section(inner) => return section(inner),
        Shape::Names(value) => json!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": self::shape(value),
        }),
        Shape::List(item) => json!({
            "type": "array",
            "minItems": 1,
            "items": self::shape(item),
        }),
        Shape::AnyOf(shapes) => {
            let shapes: Vec<Value> =
                shapes.iter().map(|inner| Value::Object(self::shape(inner))).collect();
            json!({ "anyOf": shapes })
        }
    })
}

fn rate(amount: &str, title: &str) -> Value {
    let period = "(s|second|min|minute|h|hour|day|month)";
    let word = format!(r"(burst\s+{amount}|calendar|observe|soft|hard)");
    pattern(&format!(r"\s*{amount}/{period}(\s+{word})*\s*"), title)
}

fn pattern(form: &str, title: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^{form}$|{VARIABLE}"), "title": title })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
