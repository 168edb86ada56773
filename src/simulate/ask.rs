//! What a request asks for, read from its body: the few fields of the four dialects that change
//! an answer. Everything else is ignored; a key given twice counts the last time, as with most
//! vendors.
use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::text::{mix, word};
use crate::wire::Dialect;

/// The body, borrowed.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    pub model: Option<Cow<'a, str>>,
    pub stream: Option<bool>,
    pub max_tokens: Option<u32>,
    pub include_usage: bool,
    /// `messages`, `input`, `contents` or `prompt`, whichever there is.
    pub conversation: Option<&'a RawValue>,
    pub tools: Option<&'a RawValue>,
    pub tool_choice: Option<&'a RawValue>,
    pub dimensions: Option<u32>,
    pub base64: bool,
    /// Gemini's `batchEmbedContents`.
    pub requests: Option<&'a RawValue>,
}

/// A call of a tool: its name, and its arguments as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub name: String,
    pub arguments: String,
}

impl ToolCall {
    /// As `usage` counts it.
    pub fn tokens(&self) -> u32 {
        (self.name.len() + self.arguments.len()).div_ceil(4) as u32
    }
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generation {
    #[serde(alias = "num_predict")]
    max_output_tokens: Option<i64>,
    output_dimensionality: Option<u32>,
}

impl<'a> Ask<'a> {
    /// The error is a sentence for the caller.
    pub fn read(body: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|e| format!("The body could not be read: {e}"))
    }

    fn set<M: MapAccess<'a>>(&mut self, key: &str, map: &mut M) -> Result<(), M::Error> {
        match key {
            "model" => self.model = map.next_value::<Option<Text<'a>>>()?.map(|text| text.0),
            "stream" => self.stream = map.next_value()?,
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                self.bound(map.next_value()?);
            }
            "stream_options" => {
                let options: Option<StreamOptions> = map.next_value()?;
                self.include_usage = options.and_then(|o| o.include_usage).unwrap_or_default();
            }
            "messages" | "input" | "contents" | "content" | "prompt" => {
                self.conversation = Some(map.next_value()?);
            }
            "tools" => self.tools = map.next_value()?,
            "tool_choice" | "toolConfig" => self.tool_choice = map.next_value()?,
            "dimensions" | "outputDimensionality" => self.dimensions = map.next_value()?,
            "encoding_format" => {
                self.base64 =
                    map.next_value::<Option<Text<'a>>>()?.is_some_and(|t| t.0 == "base64");
            }
            "requests" => self.requests = Some(map.next_value()?),
            "options" | "generationConfig" => {
                if let Some(options) = map.next_value::<Option<Generation>>()? {
                    self.bound(options.max_output_tokens);
                    self.dimensions = options.output_dimensionality.or(self.dimensions);
                }
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    /// Ollama's −1 is no bound.
    fn bound(&mut self, tokens: Option<i64>) {
        self.max_tokens = tokens.and_then(|n| u32::try_from(n).ok()).or(self.max_tokens);
    }

    /// Whether the answer is to call a tool: when `tool_choice` forces one, or when the
    /// conversation says "use a tool" and no tool has answered since.
    pub fn wants_tool(&self) -> bool {
        if self.tools.is_none() {
            return false;
        }
        if let Some(choice) = self.tool_choice.map(RawValue::get) {
            let forced = ["\"required\"", "\"any\"", "\"ANY\"", "\"tool\"", "\"function\""];
            if forced.iter().any(|mode| choice.contains(mode)) {
                return true;
            }
        }
        let Some(conversation) = self.conversation.map(|raw| raw.get().as_bytes()) else {
            return false;
        };
        let Some(asked) = memmem::rfind(conversation, b"use a tool") else { return false };
        let results = [
            "tool_call_id",
            "tool_result",
            "function_call_output",
            "functionResponse",
            "tool_name",
        ];
        let after = &conversation[asked..];
        results.iter().all(|result| memmem::find(after, result.as_bytes()).is_none())
    }

    /// A call of the tool that `tool_choice` names, or of the first. `None`: no usable tool.
    pub fn tool_call(&self, dialect: Dialect, seed: u64) -> Option<ToolCall> {
        let tools: Vec<Value> = serde_json::from_str(self.tools?.get()).ok()?;
        let choice = self.tool_choice.map_or("", RawValue::get);
        let functions = tools.iter().flat_map(|tool| match dialect {
            Dialect::Gemini => {
                tool["functionDeclarations"].as_array().map_or(&[][..], Vec::as_slice)
            }
            _ if tool["function"].is_object() => std::slice::from_ref(&tool["function"]),
            _ => std::slice::from_ref(tool),
        });
        let named = functions.filter_map(|f| f["name"].as_str().map(|name| (name, f)));
        let chosen = |name: &str| choice.contains(&format!("\"{name}\""));
        let mut first = None;
        for (name, function) in named {
            if chosen(name) {
                first = Some((name, function));
                break;
            }
            first = first.or(Some((name, function)));
        }
        let (name, function) = first?;
        let schema = ["parameters", "input_schema", "parametersJsonSchema"];
        let schema = schema.iter().find_map(|key| function.get(key)).unwrap_or(&Value::Null);
        let arguments = match fitting(schema, seed, 0) {
            Value::Object(map) => Value::Object(map),
            _ => Value::Object(serde_json::Map::new()),
        };
        Some(ToolCall { name: name.to_owned(), arguments: arguments.to_string() })
    }
}

/// A value that fits a JSON schema, as far as types, enums and properties go.
fn fitting(schema: &Value, seed: u64, depth: u8) -> Value {
    if let Some(value) = schema["enum"].as_array().and_then(|values| values.first()) {
        return value.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    let kind = kind.map(str::to_ascii_lowercase);
    match kind.as_deref() {
        Some("object") | None if schema["properties"].is_object() && depth < 8 => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let fill = |(i, (name, schema)): (usize, (&String, &Value))| {
                (name.clone(), fitting(schema, mix(seed.wrapping_add(i as u64)), depth + 1))
            };
            Value::Object(properties.enumerate().map(fill).collect())
        }
        Some("object") => Value::Object(serde_json::Map::new()),
        Some("array") => Value::Array(Vec::new()),
        Some("integer") => (seed % 100).into(),
        Some("number") => ((seed % 1000) as f64 / 8.0).into(),
        Some("boolean") => (seed & 1 == 0).into(),
        Some("null") => Value::Null,
        _ => word(seed, 0).into(),
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Ask<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<'a>(std::marker::PhantomData<Ask<'a>>);
        impl<'de> Visitor<'de> for Fields<'de> {
            type Value = Ask<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Ask<'de>, M::Error> {
                let mut ask = Ask::default();
                while let Some(Text(key)) = map.next_key()? {
                    ask.set(&key, &mut map)?;
                }
                Ok(ask)
            }
        }
        from.deserialize_map(Fields(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_keys_counts_and_the_rest_is_ignored() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = format!(r#"{{"model":"a","x":{deep},"model":"b\n","stream":null}}"#);
        let ask = Ask::read(body.as_bytes()).unwrap();
        assert_eq!(ask.model.as_deref(), Some("b\n"));
        assert_eq!(ask.stream, None);
        assert!(Ask::read(b"[]").is_err());
        assert!(Ask::read(b"{\"model\":5}").is_err());
    }

    #[test]
    fn bounds_are_found_under_each_name() {
        let bodies = [
            r#"{"max_tokens":5}"#,
            r#"{"max_output_tokens":5}"#,
            r#"{"max_completion_tokens":5,"max_tokens":null}"#,
            r#"{"options":{"num_predict":5}}"#,
            r#"{"generationConfig":{"maxOutputTokens":5}}"#,
        ];
        for body in bodies {
            assert_eq!(Ask::read(body.as_bytes()).unwrap().max_tokens, Some(5), "{body}");
        }
        let unbounded = Ask::read(br#"{"options":{"num_predict":-1}}"#).unwrap();
        assert_eq!(unbounded.max_tokens, None);
    }

    #[test]
    fn a_tool_is_called_once_for_each_time_it_is_asked_for() {
        let asks = |conversation: &str| {
            let body = format!(r#"{{"tools":[],"messages":[{conversation}]}}"#);
            Ask::read(body.as_bytes()).unwrap().wants_tool()
        };
        let user = r#"{"role":"user","content":"please use a tool"}"#;
        let result = r#"{"role":"tool","tool_call_id":"1","content":"5"}"#;
        assert!(asks(user));
        assert!(!asks(&format!("{user},{result}")));
        assert!(asks(&format!("{user},{result},{user}")));
        assert!(!asks(r#"{"role":"user","content":"hello"}"#));
    }

    #[test]
    fn arguments_fit_the_schema() {
        let body = br#"{"tool_choice":{"type":"function","function":{"name":"b"}},"tools":[
            {"type":"function","function":{"name":"a"}},
            {"type":"function","function":{"name":"b","parameters":{"type":"object","properties":{
                "city":{"type":"string"},"days":{"type":"integer"},"unit":{"enum":["c","f"]},
                "at":{"type":"object","properties":{"ok":{"type":["boolean","null"]}}}}}}}]}"#;
        let ask = Ask::read(body).unwrap();
        assert!(ask.wants_tool());
        let call = ask.tool_call(Dialect::OpenAi, 1).unwrap();
        assert_eq!(call.name, "b");
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        assert!(arguments["city"].is_string() && arguments["days"].is_u64());
        assert_eq!(arguments["unit"], "c");
        assert!(arguments["at"]["ok"].is_boolean());
    }
}
