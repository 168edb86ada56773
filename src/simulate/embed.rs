//! Embeddings: a unit vector made from a hash of each input, so that equal inputs have equal
//! vectors and others are nearly orthogonal. There is no meaning in them.
use serde_json::value::RawValue;

use super::ask::Ask;
use super::text::{Put, hash, mix};

/// Components where the request asks for no number of its own.
const DIMENSIONS: u32 = 256;
/// The most a request may ask for.
const MOST_DIMENSIONS: u32 = 8192;

/// The shape of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    OpenAi,
    /// `embedContent`
    Gemini,
    /// `batchEmbedContents`
    GeminiBatch,
    /// `/api/embed`
    Ollama,
    /// `/api/embeddings`, the older one
    OllamaSingle,
}

/// Appends the answer. The error is a sentence for the caller.
pub(super) fn put(
    form: Form,
    ask: &Ask<'_>,
    seed: u64,
    input_tokens: u32,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let dimensions = ask.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(format!("dimensions must be between 1 and {MOST_DIMENSIONS}"));
    }
    let inputs = match form {
        Form::GeminiBatch => ask.requests.map(|raw| elements(raw.get())),
        Form::Gemini => ask.conversation.map(|raw| Ok(vec![raw])),
        _ => ask.conversation.map(inputs),
    };
    let inputs = inputs.ok_or("The request has no input.")??;
    let vectors = inputs.iter().map(|raw| unit_vector(key(raw.get(), seed), dimensions));
    let model = ask.model.as_deref().unwrap_or("sim-small");
    match form {
        Form::OpenAi => {
            out.put(r#"{"object":"list","data":["#);
            for (i, vector) in vectors.enumerate() {
                out.put(if i == 0 { "" } else { "," });
                out.put(r#"{"object":"embedding","index":"#).num(i as u64);
                out.put(r#","embedding":"#);
                if ask.base64 {
                    put_base64(&vector, out);
                } else {
                    put_floats(&vector, out);
                }
                out.put("}");
            }
            out.put(r#"],"model":"#).quoted(model);
            out.put(r#","usage":{"prompt_tokens":"#).num(input_tokens.into());
            out.put(r#","total_tokens":"#).num(input_tokens.into()).put("}}");
        }
        Form::Gemini => {
            out.put(r#"{"embedding":"#);
            put_list(vectors, r#"{"values":"#, "}", out);
            out.put("}");
        }
        Form::GeminiBatch => {
            out.put(r#"{"embeddings":["#);
            put_list(vectors, r#"{"values":"#, "}", out);
            out.put("]}");
        }
        Form::Ollama => {
            out.put(r#"{"model":"#).quoted(model).put(r#","embeddings":["#);
            put_list(vectors, "", "", out);
            out.put(r#"],"total_duration":1000000,"load_duration":0,"prompt_eval_count":"#);
            out.num(input_tokens.into()).put("}");
        }
        Form::OllamaSingle => {
            out.put(r#"{"embedding":"#);
            put_list(vectors.take(1), "", "", out);
            out.put("}");
        }
    }
    Ok(())
}

/// The inputs of a request: one string, one array of tokens, or an array of either.
fn inputs(raw: &RawValue) -> Result<Vec<&RawValue>, String> {
    if !raw.get().starts_with('[') {
        return Ok(vec![raw]);
    }
    let inputs = elements(raw.get())?;
    match inputs.first() {
        None => Err("The input is empty.".to_owned()),
        Some(first) if first.get().starts_with(['"', '[']) => Ok(inputs),
        Some(_) => Ok(vec![raw]),
    }
}

fn elements(raw: &str) -> Result<Vec<&RawValue>, String> {
    serde_json::from_str(raw).map_err(|e| format!("The input could not be read: {e}"))
}

/// A hash of the input; blanks between tokens do not count.
fn key(raw: &str, seed: u64) -> u64 {
    if raw.starts_with('[') {
        let tokens: String = raw.split_ascii_whitespace().collect();
        return hash(tokens.as_bytes(), seed);
    }
    hash(raw.as_bytes(), seed)
}

fn unit_vector(key: u64, dimensions: u32) -> Vec<f32> {
    let component =
        |i: u32| (mix(key.wrapping_add(i.into())) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let mut vector: Vec<f32> = (0..dimensions).map(component).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    for x in &mut vector {
        *x /= norm;
    }
    vector
}

fn put_list(vectors: impl Iterator<Item = Vec<f32>>, before: &str, after: &str, out: &mut Vec<u8>) {
    for (i, vector) in vectors.enumerate() {
        out.put(if i == 0 { "" } else { "," }).put(before);
        put_floats(&vector, out);
        out.put(after);
    }
}

fn put_floats(vector: &[f32], out: &mut Vec<u8>) {
    use std::io::Write as _;
    out.put("[");
    for (i, x) in vector.iter().enumerate() {
        // writing to a Vec cannot fail
        _ = write!(out.put(if i == 0 { "" } else { "," }), "{x}");
    }
    out.put("]");
}

/// The components as little-endian `f32`, in base64, as a JSON string.
fn put_base64(vector: &[f32], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    out.put("\"");
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            out.push(if digit <= three.len() {
                DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]
            } else {
                b'='
            });
        }
    }
    out.put("\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn embed(form: Form, body: &str) -> Result<Value, String> {
        let mut out = Vec::new();
        put(form, &Ask::read(body.as_bytes()).unwrap(), 0, 1, &mut out)?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn base64_pads_as_the_standard_wants() {
        // 4 bytes leave 1 over, 8 leave 2, 12 none
        for (n, end) in [(1, "AACAPw=="), (2, "AACAPwAAgD8="), (3, "AACAPwAAgD8AAIA/")] {
            let mut out = Vec::new();
            put_base64(&vec![1.0; n], &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{end}\""));
        }
    }

    #[test]
    fn inputs_are_told_apart_by_their_shape() {
        let count = |input: &str| {
            let body = format!(r#"{{"input":{input},"dimensions":3}}"#);
            embed(Form::OpenAi, &body).map(|v| v["data"].as_array().map_or(0, Vec::len))
        };
        assert_eq!(count(r#""a""#), Ok(1));
        assert_eq!(count(r#"["a","b"]"#), Ok(2));
        assert_eq!(count("[1,2,3]"), Ok(1));
        assert_eq!(count("[[1,2],[3]]"), Ok(2));
        assert!(count("[]").is_err());
        assert!(embed(Form::OpenAi, r#"{"input":"a","dimensions":0}"#).is_err());
    }

    #[test]
    fn vectors_have_length_one_and_depend_on_the_input_alone() {
        let one = embed(Form::Ollama, r#"{"input":["a","b","a"]}"#).unwrap();
        let vectors = one["embeddings"].as_array().unwrap();
        assert_eq!(vectors[0], vectors[2]);
        assert_ne!(vectors[0], vectors[1]);
        let xs: Vec<f64> =
            vectors[0].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert_eq!(xs.len(), 256);
        assert!((xs.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
        let tokens = embed(Form::OpenAi, r#"{"input":[1, 2],"dimensions":4}"#).unwrap();
        let spaced = embed(Form::OpenAi, r#"{"input":[1,2],"dimensions":4}"#).unwrap();
        assert_eq!(tokens["data"], spaced["data"]);
    }
}
