//! Whether JSON keeps to a JSON Schema, as far as the schemas of the logs go: no other word of the
//! language may be in them.
use serde_json::Value;

/// What is wrong with `value`, if anything is.
pub fn fault(schema: &Value, value: &Value) -> Option<String> {
    let words = schema.as_object().expect("a schema");
    words.iter().find_map(|(word, rule)| {
        let is_fine = match word.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => is_a(rule.as_str().expect("a type"), value),
            "const" => rule == value,
            "enum" => rule.as_array().expect("values").contains(value),
            "minLength" => value.as_str().is_some_and(|text| text.len() as u64 >= number(rule)),
            "minimum" => value.as_f64().is_some_and(|it| it >= number(rule) as f64),
            "maximum" => value.as_f64().is_some_and(|it| it <= number(rule) as f64),
            "pattern" => value.as_str().is_some_and(|text| fits(rule.as_str().expect("one"), text)),
            "required" => {
                let names = rule.as_array().expect("names").iter();
                names
                    .map(|name| name.as_str().expect("a name"))
                    .all(|name| value.get(name).is_some())
            }
            "properties" => return members(rule, value),
            "additionalProperties" => {
                assert_eq!(*rule, false);
                let known = &schema["properties"];
                value.as_object().is_some_and(|it| it.keys().all(|key| known.get(key).is_some()))
            }
            "oneOf" => {
                let fitting = rule.as_array().expect("schemas").iter();
                fitting.filter(|one| fault(one, value).is_none()).count() == 1
            }
            word => panic!("a schema with `{word}` cannot be tried here"),
        };
        (!is_fine).then(|| format!("{word} {rule}: {value}"))
    })
}

fn members(rules: &Value, value: &Value) -> Option<String> {
    rules.as_object()?.iter().find_map(|(name, rule)| {
        let wrong = fault(rule, value.get(name)?)?;
        Some(format!("{name}: {wrong}"))
    })
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().expect("a number")
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        kind => panic!("a schema with the type `{kind}` cannot be tried here"),
    }
}

/// The patterns that there are, each by hand.
fn fits(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match pattern {
        "^req_[0-9a-f]{24}$" => text.strip_prefix("req_").is_some_and(|id| hex(id, 24)),
        "^[0-9a-f]{32}$" => hex(text, 32),
        "^task_" => text.starts_with("task_"),
        r"^[0-9]+(\.[0-9]{1,9})?$" => match text.split_once('.') {
            Some((whole, rest)) => digits(whole) && digits(rest) && rest.len() <= 9,
            None => digits(text),
        },
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$" => {
            let form: String =
                text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            form == "0000-00-00T00:00:00.000Z"
        }
        pattern => panic!("the pattern {pattern} cannot be tried here"),
    }
}
