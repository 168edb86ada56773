//! Against a backend whose vectors follow from the request alone: whatever part of a batch is kept,
//! what is put together is what the backend says to the whole.
use std::collections::HashMap;

use serde_json::json;
use serde_json::value::RawValue;

use super::*;

/// A request, as one of the clients writes it.
#[derive(Debug, Clone)]
struct Wanted {
    api: Api,
    inputs: Vec<Input>,
    /// As the only input that it is, and not as a list of one.
    bare: bool,
    dimensions: u8,
    base64: bool,
    model: u8,
    style: Style,
}

#[derive(Debug, Clone, PartialEq)]
enum Input {
    Text(String),
    Tokens(Vec<u16>),
}

#[derive(Debug, Clone, Copy)]
struct Style {
    pretty: bool,
    /// Members in the other order.
    reversed: bool,
    /// Every letter of a text escaped.
    escaped: bool,
}

impl Wanted {
    fn kind(&self) -> Kind {
        match self.api {
            Api::OpenAi => OPENAI,
            Api::Gemini | Api::GeminiBatch => GEMINI,
            Api::Ollama | Api::OllamaSingle => OLLAMA,
        }
    }

    /// Members, and the values that they have as they were written.
    fn members(&self) -> Vec<(&'static str, String)> {
        let inputs: Vec<_> = self.inputs.iter().map(|input| self.value(input)).collect();
        let space = if self.style.pretty { "\n  " } else { "" };
        let list = format!("[{space}{}{space}]", inputs.join(&format!("{space},{space}")));
        let list = if self.bare && inputs.len() == 1 { inputs[0].clone() } else { list };
        let first = inputs[0].clone();
        let model = format!("\"m{}\"", self.model);
        let dimensions = self.dimensions.to_string();
        match self.api {
            Api::OpenAi => vec![
                ("model", model),
                ("input", list),
                ("dimensions", dimensions),
                (
                    "encoding_format",
                    if self.base64 { "\"base64\"" } else { "\"float\"" }.to_owned(),
                ),
                ("user", "\"somebody\"".to_owned()),
            ],
            Api::Gemini => vec![("content", first), ("outputDimensionality", dimensions)],
            Api::GeminiBatch => {
                let content = |content| {
                    format!(r#"{{"content":{content},"outputDimensionality":{dimensions}}}"#)
                };
                let requests: Vec<_> = inputs.into_iter().map(content).collect();
                vec![("requests", format!("[{}]", requests.join(",")))]
            }
            Api::Ollama => vec![("model", model), ("input", list), ("dimensions", dimensions)],
            Api::OllamaSingle => vec![("model", model), ("prompt", first)],
        }
    }

    fn value(&self, input: &Input) -> String {
        let text = match input {
            Input::Text(text) if self.style.escaped => {
                let units: Vec<_> =
                    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                format!("\"{}\"", units.concat())
            }
            Input::Text(text) => serde_json::to_string(text).unwrap(),
            Input::Tokens(tokens) if self.style.pretty => {
                format!("{tokens:#?}").replace(",\n]", "]")
            }
            Input::Tokens(tokens) => format!("{tokens:?}"),
        };
        match self.api {
            Api::Gemini | Api::GeminiBatch => format!(r#"{{"parts": [{{"text":{text}}}]}}"#),
            _ => text,
        }
    }

    fn body(&self) -> String {
        let mut members = self.members();
        if self.style.reversed {
            members.reverse();
        }
        let space = if self.style.pretty { "\n\t" } else { "" };
        let members: Vec<_> = members
            .iter()
            .map(|(name, value)| format!("{space}\"{name}\":{space}{value}"))
            .collect();
        format!("{{{}{space}}}", members.join(","))
    }
}

/// The backend. Reads a request with another parser than ours.
fn answer(api: Api, body: &[u8], pretty: bool) -> Vec<u8> {
    let body: HashMap<&str, &RawValue> = serde_json::from_slice(body).unwrap();
    let elements = |raw: &RawValue| -> Vec<String> {
        let values: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap();
        values.iter().map(|value| value.get().to_owned()).collect()
    };
    let of = |name: &str| body.get(name).map_or("", |raw| raw.get()).trim_matches('"').to_owned();
    let inputs = match api {
        Api::Gemini => vec![body["content"].get().to_owned()],
        Api::OllamaSingle => vec![body["prompt"].get().to_owned()],
        Api::GeminiBatch => elements(body["requests"]),
        Api::OpenAi | Api::Ollama => match json(body["input"].get().as_bytes()) {
            Value::Array(values) if !values[0].is_number() => elements(body["input"]),
            _ => vec![body["input"].get().to_owned()],
        },
    };
    let dimensions = of("dimensions").parse().unwrap_or(4);
    let ground =
        [of("model"), of("encoding_format"), of("outputDimensionality"), dimensions.to_string()];
    let base64 = of("encoding_format") == "base64";
    let vectors: Vec<Value> = inputs
        .iter()
        .map(|input| {
            let hash = blake3::hash(format!("{ground:?}{}", json(input.as_bytes())).as_bytes());
            let bytes = hash.as_bytes().iter().take(dimensions);
            if base64 {
                let digits: Vec<_> = bytes.map(|byte| format!("{byte:04x}")).collect();
                return digits.concat().into();
            }
            bytes.map(|&byte| json!(f64::from(byte) / 7.0 - 18.0)).collect()
        })
        .collect();
    // as many as its bytes, without the space around tokens
    let bare = |text: &String| {
        serde_json::from_str::<Value>(text).map(|value| match value {
            Value::String(_) => text.len(),
            value => value.to_string().len(),
        })
    };
    let tokens: usize = inputs.iter().map(|input| bare(input).unwrap() + 1).sum();
    let model = of("model");
    let value = match api {
        Api::OpenAi => {
            let item = |(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector});
            let mut data: Vec<_> = vectors.into_iter().enumerate().map(item).collect();
            // the order is the index's, not the list's
            data.reverse();
            json!({"object": "list", "data": data, "model": model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
        }
        Api::Gemini => json!({"embedding": {"values": vectors[0]},
            "usageMetadata": {"promptTokenCount": tokens}}),
        Api::GeminiBatch => {
            let vectors: Vec<_> = vectors.iter().map(|vector| json!({"values": vector})).collect();
            json!({"embeddings": vectors})
        }
        Api::Ollama => json!({"model": model, "embeddings": vectors, "prompt_eval_count": tokens}),
        Api::OllamaSingle => json!({"embedding": vectors[0]}),
    };
    if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap()
}

/// Vectors under what was said of them, each with its share of the tokens.
type Cache = HashMap<Vec<u8>, (Bytes, u64)>;

/// Answers as a cache does. Says how many inputs were sent.
fn reuse(cache: &mut Cache, wanted: &Wanted, body: &[u8]) -> (Bytes, usize) {
    let batch = batch(wanted.kind(), body).unwrap();
    assert_eq!(batch.api(), wanted.api);
    let mut ground = Vec::new();
    batch.say_around(&mut |part| ground.extend_from_slice(part));
    let keys: Vec<_> = (0..batch.len())
        .map(|index| {
            let mut key = ground.clone();
            batch.say_input(index, &mut |part| key.extend_from_slice(part));
            key
        })
        .collect();
    let mut missing: Vec<usize> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let sent = missing.iter().any(|&other| keys[other] == *key);
        if !cache.contains_key(key) && !sent {
            missing.push(index);
        }
    }
    if !missing.is_empty() {
        let answer = answer(wanted.api, &batch.only(&missing), wanted.style.pretty);
        let apart = take_apart(wanted.api, &answer, missing.len()).unwrap();
        let weights: Vec<_> = missing.iter().map(|&index| weight(&batch, index)).collect();
        let shares = shares(apart.tokens.unwrap_or(0), &weights);
        for (nth, &index) in missing.iter().enumerate() {
            cache.insert(keys[index].clone(), (apart.kept(nth).unwrap(), shares[nth]));
        }
    }
    let parts: Vec<_> = keys.iter().map(|key| Kept::read(&cache[key].0).unwrap()).collect();
    let tokens = keys.iter().map(|key| cache[key].1).sum();
    (put_together(wanted.api, &parts, 0, tokens).unwrap(), missing.len())
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let word = prop_oneof![
        proptest::sample::select(vec!["a", "b", "", "[1,2]", "a\",\"b", "é\u{1f600}\\", "1 2"])
            .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    let text = word.prop_map(Input::Text);
    let tokens = proptest::collection::vec(0..3_u16, 1..3).prop_map(Input::Tokens);
    prop_oneof![proptest::collection::vec(text, 1..7), proptest::collection::vec(tokens, 1..7)]
}

fn wanted(api: Api) -> impl Strategy<Value = Wanted> {
    let style = any::<(bool, bool, bool)>();
    (inputs(), any::<bool>(), 1..3_u8, any::<bool>(), 0..2_u8, style).prop_map(
        move |(mut inputs, bare, dimensions, base64, model, (pretty, reversed, escaped))| {
            if api != Api::OpenAi {
                // the others take texts alone
                for input in &mut inputs {
                    if let Input::Tokens(tokens) = input {
                        *input = Input::Text(format!("{tokens:?}"));
                    }
                }
            }
            if matches!(api, Api::Gemini | Api::OllamaSingle) {
                inputs.truncate(1);
            }
            let style = Style { pretty, reversed, escaped };
            Wanted { api, inputs, bare, dimensions, base64, model, style }
        },
    )
}

fn apis() -> impl Strategy<Value = Api> {
    use Api::{Gemini, GeminiBatch, Ollama, OllamaSingle, OpenAi};
    prop_oneof![4 => Just(OpenAi), 1 => Just(Gemini), 2 => Just(GeminiBatch), 2 => Just(Ollama), 1 => Just(OllamaSingle)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_batch_from_the_cache_is_what_the_backend_says_to_all_of_it(
        calls in apis().prop_flat_map(|api| proptest::collection::vec(wanted(api), 1..6)),
    ) {
        let mut cache = Cache::new();
        for wanted in calls {
            let body = wanted.body();
            let whole = answer(wanted.api, body.as_bytes(), wanted.style.pretty);
            let (reused, _) = reuse(&mut cache, &wanted, body.as_bytes());
            prop_assert_eq!(json(&reused), in_order(json(&whole)), "{}", body);
            let (again, sent) = reuse(&mut cache, &wanted, body.as_bytes());
            prop_assert_eq!((again, sent), (reused, 0), "{}", body);
        }
    }

    /// What is sent is the request without the inputs that are left out, to another reader too.
    #[test]
    fn only_is_the_same_request_with_fewer_inputs(
        wanted in apis().prop_flat_map(wanted), picks in any::<u8>(),
    ) {
        let body = wanted.body();
        let batch = batch(wanted.kind(), body.as_bytes()).unwrap();
        let picked: Vec<_> = (0..batch.len()).filter(|index| picks >> index & 1 == 1).collect();
        prop_assume!(!picked.is_empty());
        let fewer = Wanted {
            inputs: picked.iter().map(|&index| wanted.inputs[index].clone()).collect(),
            bare: wanted.bare && wanted.inputs.len() == 1,
            ..wanted.clone()
        };
        let only = batch.only(&picked);
        prop_assert_eq!(json(&only), json(fewer.body().as_bytes()));
    }
}

/// OpenAI's list by index.
fn in_order(mut answer: Value) -> Value {
    if let Some(data) = answer.get_mut("data").and_then(Value::as_array_mut) {
        data.sort_by_key(|item| item["index"].as_u64());
    }
    answer
}
