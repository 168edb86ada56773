//! The JSON Schema (draft 2020-12) of the policy file, made from the table of keys, so that
//! editors complete and check what the readers accept.
//!
//! A schema cannot see everything: references, shadowed rules and variables are left to
//! `tidegate check`. It never refuses what the readers accept.
use serde_json::{Map, Value, json};

use super::keys::{ROOT, Section, Shape};

/// Matches text that holds a variable: its value is not known to an editor.
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}";

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
                let number = matches!(key.shape, Shape::Count(_)).then(|| default.parse().ok());
                let default =
                    number.flatten().map_or_else(|| Value::from(default), |n: u64| n.into());
                value.insert("default".to_owned(), default);
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
        Shape::Text(form) => json!({ "type": "string", "minLength": 1, "title": form }),
        Shape::Secret => {
            json!({ "type": "string", "minLength": 1, "title": "${NAME} or file:/path" })
        }
        Shape::File => json!({ "type": "string", "minLength": 1, "title": "path of a PEM file" }),
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

fn pattern(form: &str, title: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^{form}$|{VARIABLE}"), "title": title })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
