use proptest::prelude::*;
use serde_json::Value;

use super::*;

mod answers;
mod backend;

fn read(kind: Kind, body: &str) -> Batch<'_> {
    batch(kind, body.as_bytes()).unwrap_or_else(|| panic!("{body}"))
}

/// Bytes of an input without insignificant space.
fn weight(batch: &Batch<'_>, index: usize) -> u64 {
    let mut bytes = 0;
    batch.say_input(index, &mut |part| bytes += part.len() as u64);
    bytes
}

fn around(kind: Kind, body: &str) -> Vec<u8> {
    let mut said = Vec::new();
    read(kind, body).say_around(&mut |part| said.extend_from_slice(part));
    said
}

fn said(kind: Kind, body: &str) -> Vec<u8> {
    let mut said = around(kind, body);
    let batch = read(kind, body);
    for index in 0..batch.len() {
        batch.say_input(index, &mut |part| said.extend_from_slice(part));
    }
    said
}

const OPENAI: Kind = Kind::Embeddings;
const GEMINI: Kind = Kind::GeminiEmbed;
const OLLAMA: Kind = Kind::OllamaEmbed;

#[test]
fn inputs_are_told_apart_by_their_shape() {
    for (kind, body, api, inputs) in [
        (OPENAI, r#"{"input":"a b"}"#, Api::OpenAi, &[r#""a b""#][..]),
        (OPENAI, r#"{"input":["a", "]\"," ]}"#, Api::OpenAi, &[r#""a""#, r#""]\",""#]),
        (OPENAI, r#"{"input":[1, 2]}"#, Api::OpenAi, &["[1, 2]"]),
        (OPENAI, r#"{"input":[ [1,2] ,[ 3 ]]}"#, Api::OpenAi, &["[1,2]", "[ 3 ]"]),
        (GEMINI, r#"{"content":{"parts":[]}}"#, Api::Gemini, &[r#"{"parts":[]}"#]),
        (GEMINI, r#"{"requests":[{"a":[1]},{}]}"#, Api::GeminiBatch, &[r#"{"a":[1]}"#, "{}"]),
        (OLLAMA, r#"{"input":"a"}"#, Api::Ollama, &[r#""a""#]),
        (OLLAMA, r#"{"Input":["a"]}"#, Api::Ollama, &[r#""a""#]),
        (OLLAMA, r#"{"prompt":"a"}"#, Api::OllamaSingle, &[r#""a""#]),
    ] {
        let batch = read(kind, body);
        assert_eq!(batch.api(), api, "{body}");
        let read: Vec<_> =
            (0..batch.len()).map(|index| str::from_utf8(batch.input(index)).unwrap()).collect();
        assert_eq!(read, inputs, "{body}");
    }
}

#[test]
fn what_is_not_understood_is_not_taken_apart() {
    for (kind, body) in [
        (OPENAI, r#"{"model":"m"}"#),
        (OPENAI, r#"{"input":null}"#),
        (OPENAI, r#"{"input":[]}"#),
        (OPENAI, r#"{"input":[[]]}"#),
        (OPENAI, r#"{"input":7}"#),
        (OPENAI, r#"{"input":[1,"a"]}"#),
        (OPENAI, r#"{"input":["a",1]}"#),
        (OPENAI, r#"{"input":["a",[1]]}"#),
        (OPENAI, r#"{"input":[1.5]}"#),
        (OPENAI, r#"{"input":[1,]}"#),
        (OPENAI, r#"{"input":[1 2]}"#),
        (OPENAI, r#"{"input":["a" "b"]}"#),
        (OPENAI, r#"{"input":["a",]}"#),
        (OPENAI, r#"{"input":[["a"]]}"#),
        (OPENAI, r#"{"input":[{"text":"a"}]}"#),
        (OPENAI, r#"{"input":"a","input":"b"}"#),
        (OPENAI, r#"{"input":"a","Input":"b"}"#),
        (OPENAI, r#"{"input":"a","model":"m","\u006dodel":"n"}"#),
        (OPENAI, r#"{"input":"a","encoding_format":"float","encodingFormat":"base64"}"#),
        (OPENAI, r#"{"input":"a","\u017f":1}"#),
        (OPENAI, r#"{"input":"a","late_chunking":true}"#),
        (OPENAI, r#"{"input":"a"} {"#),
        (OPENAI, r#"{"input":"a""#),
        (OPENAI, r#"{"input":["a"}"#),
        (OPENAI, r#"["a"]"#),
        (OPENAI, ""),
        (GEMINI, r#"{"content":"a"}"#),
        (GEMINI, r#"{"requests":["a"]}"#),
        (GEMINI, r#"{"requests":[]}"#),
        (GEMINI, r#"{"content":{},"requests":[{}]}"#),
        (OLLAMA, r#"{"input":[1,2]}"#),
        (OLLAMA, r#"{"prompt":["a"]}"#),
        (OLLAMA, r#"{"input":"a","prompt":"a"}"#),
        (OLLAMA, r#"{"input":"a","INPUT":"b"}"#),
        (Kind::Chat, r#"{"input":"a"}"#),
    ] {
        assert!(batch(kind, body.as_bytes()).is_none(), "{body}");
    }
    let many = |count: usize| format!(r#"{{"input":[{}"a"]}}"#, r#""a","#.repeat(count - 1));
    assert_eq!(read(OPENAI, &many(MOST_INPUTS)).len(), MOST_INPUTS);
    assert!(batch(OPENAI, many(MOST_INPUTS + 1).as_bytes()).is_none());
    let long = format!(r#"{{"input":[{}1]}}"#, "1,".repeat(2 * MOST_INPUTS));
    assert_eq!(read(OPENAI, &long).len(), 1);
}

#[test]
fn order_space_and_labels_do_not_matter() {
    for (kind, one, other) in [
        (
            OPENAI,
            r#"{"input":"a","model":"m"}"#,
            "\u{feff} {\n \"model\" : \"m\",\"input\":\"a\"} ",
        ),
        (OPENAI, r#"{"input":"a","x":{"a":[1,2]}}"#, r#"{"x":{ "a" : [ 1 , 2 ] },"input":"a"}"#),
        (OPENAI, r#"{"input":"a","user":"u"}"#, r#"{"input":"a"}"#),
        (OPENAI, r#"{"input":"a"}"#, r#"{"input":["a"]}"#),
        (OPENAI, r#"{"input":[1,2]}"#, r#"{"input":[[ 1 , 2 ]]}"#),
        (OPENAI, r#"{"input":"a","model":"m"}"#, r#"{"input":"a","\u006dodel":"m"}"#),
        (OLLAMA, r#"{"input":"a","keep_alive":"5m"}"#, r#"{"input":"a","Keep_Alive":0}"#),
        (
            GEMINI,
            r#"{"content":{"parts":[{"text":"a"}]}}"#,
            r#"{"content": {"parts": [{"text": "a"}]}}"#,
        ),
    ] {
        assert_eq!(said(kind, one), said(kind, other), "{one} {other}");
    }
}

#[test]
fn whatever_changes_a_vector_is_said() {
    let all = [
        r#"{"input":"a"}"#,
        r#"{"input":"A"}"#,
        r#"{"input":"a "}"#,
        r#"{"input":"[1,2]"}"#,
        r#"{"input":[1,2]}"#,
        r#"{"input":[12]}"#,
        r#"{"input":[[1],[2]]}"#,
        r#"{"input":["a","b"]}"#,
        r#"{"input":["b","a"]}"#,
        r#"{"input":"a\",\"b"}"#,
        r#"{"input":"a","model":"m"}"#,
        r#"{"input":"a","model":"n"}"#,
        r#"{"input":"a","Model":"m"}"#,
        r#"{"input":"a","model":"m","dimensions":3}"#,
        r#"{"input":"a","model":"m","dimensions":33}"#,
        r#"{"input":"a","model":"m","dimensions":"3"}"#,
        r#"{"input":"a","model":"m","encoding_format":"float"}"#,
        r#"{"input":"a","model":"m","encoding_format":"base64"}"#,
        r#"{"input":"a","model":"m","input_type":"query"}"#,
        r#"{"input":"a","model":"m","task_type":"query"}"#,
        r#"{"input":"a","x":{"a":"b c"}}"#,
        r#"{"input":"a","x":{"a":"bc"}}"#,
        r#"{"input":"a","x":[1,2]}"#,
        r#"{"input":"a","x":[1 2]}"#,
        r#"{"input":"a","x":[12]}"#,
        r#"{"input":"a","x":1,"y":2}"#,
        r#"{"input":"a","x":2,"y":1}"#,
        r#"{"input":"a","x":"1,\"y\":2"}"#,
    ];
    let all: Vec<_> = all.iter().map(|body| (body, said(OPENAI, body))).collect();
    for (at, (one, says)) in all.iter().enumerate() {
        for (other, says_too) in &all[at + 1..] {
            assert_ne!(says, says_too, "{one} {other}");
        }
    }
    let gemini = r#"{"content":{},"taskType":"RETRIEVAL_QUERY"}"#;
    assert_ne!(said(GEMINI, gemini), said(GEMINI, r#"{"content":{},"taskType":"CLUSTERING"}"#));
    assert_ne!(said(GEMINI, gemini), said(GEMINI, r#"{"content":{},"title":"RETRIEVAL_QUERY"}"#));
    assert_ne!(said(OLLAMA, r#"{"input":"a"}"#), said(OLLAMA, r#"{"prompt":"a"}"#));
    assert_ne!(
        said(OLLAMA, r#"{"input":"a","truncate":true}"#),
        said(OLLAMA, r#"{"input":"a","truncate":false}"#)
    );
}

#[test]
fn only_cuts_inputs_out_and_nothing_else() {
    let body =
        "{ \"a\\u0062\": 1.50,\n\"input\" : [ \"x,\" ,\n\t\"]\" , \"\\\"z\" ] , \"user\":\"u\" }\n";
    let batch = read(OPENAI, body);
    let only = |wanted: &[usize]| String::from_utf8(batch.only(wanted).to_vec()).unwrap();
    let with = |inputs: &str| {
        format!("{{ \"a\\u0062\": 1.50,\n\"input\" : [ {inputs} ] , \"user\":\"u\" }}\n")
    };
    assert_eq!(only(&[0]), with(r#""x,""#));
    assert_eq!(only(&[1]), with(r#""]""#));
    assert_eq!(only(&[2]), with(r#""\"z""#));
    assert_eq!(only(&[0, 2]), with(r#""x,","\"z""#));
    assert_eq!(only(&[0, 1, 2]), body);
    for single in [r#"{"input": "a" }"#, r#"{"input": [1, 2] }"#, r#"{"input": [ "a" ] }"#] {
        assert_eq!(read(OPENAI, single).only(&[0]), single);
    }
    let requests = r#"{"requests":[{"content":1}, {"content":2}],"x":[0]}"#;
    let second = r#"{"requests":[{"content":2}],"x":[0]}"#;
    assert_eq!(read(GEMINI, requests).only(&[1]), second);
    let tokens = r#"{"input":[[1],[2,3],[4]]}"#;
    assert_eq!(read(OPENAI, tokens).only(&[1, 2]), r#"{"input":[[2,3],[4]]}"#);
}

#[test]
fn shares_go_by_weight() {
    assert_eq!(shares(10, &[1, 1, 1]), [4, 3, 3]);
    assert_eq!(shares(10, &[1, 2, 7]), [1, 2, 7]);
    assert_eq!(shares(1, &[1, 9]), [0, 1]);
    assert_eq!(shares(5, &[0, 0]), [3, 2]);
    assert_eq!(shares(0, &[3, 4]), [0, 0]);
    assert_eq!(shares(u64::MAX, &[u64::MAX, u64::MAX]), [u64::MAX / 2 + 1, u64::MAX / 2]);
    assert!(shares(3, &[]).is_empty());
}

proptest! {
    #[test]
    fn shares_are_the_sum(
        total in any::<u64>(), weights in proptest::collection::vec(any::<u64>(), 1..40),
    ) {
        let shares = shares(total, &weights);
        let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
        prop_assert_eq!(shares.iter().map(|&share| u128::from(share)).sum::<u128>(), u128::from(total));
        for (&share, &weight) in shares.iter().zip(&weights).filter(|_| sum > 0) {
            let floor = u128::from(total) * u128::from(weight) / sum;
            prop_assert!((floor..=floor + 1).contains(&u128::from(share)));
        }
    }

    /// Values written one after the other are the same only if each is.
    #[test]
    fn what_is_said_says_where_it_ends(
        one in proptest::collection::vec(bytes_of_json(), 1..4),
        other in proptest::collection::vec(bytes_of_json(), 1..4),
    ) {
        let said = |values: &[Vec<u8>]| {
            let (mut all, mut each) = (Vec::new(), Vec::new());
            for value in values {
                let begin = all.len();
                say(value, &mut |part| all.extend_from_slice(part));
                each.push(all[begin..].to_vec());
            }
            (all, each)
        };
        let ((all, each), (all_too, each_too)) = (said(&one), said(&other));
        prop_assert_eq!(all == all_too, each == each_too);
    }

    /// No bytes make it panic, and what is read is read whole.
    #[test]
    fn takes_or_refuses_anything(tail in anything(), kind in kinds()) {
        for head in ["{\"input\":", "{\"requests\":[{", "{\"prompt\":", "{\"input\":[", ""] {
            let body = [head.as_bytes(), &tail].concat();
            if let Some(batch) = batch(kind, &body) {
                batch.say_around(&mut |_| {});
                prop_assert!(!batch.only(&[0]).is_empty());
                prop_assert!((0..batch.len()).all(|index| weight(&batch, index) > 1));
            }
        }
        for head in ["{\"data\":[{\"index\":0,\"embedding\":[", "{\"embeddings\":[[", "{\"embedding\":{\"values\":", ""] {
            let answer = [head.as_bytes(), &tail].concat();
            for api in [Api::OpenAi, Api::Gemini, Api::GeminiBatch, Api::Ollama, Api::OllamaSingle] {
                let _ = take_apart(api, &answer, 1);
                let kept = Kept::read(&answer);
                let _ = kept.map(|kept| put_together(api, &[kept, kept], 0, 1));
            }
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(OPENAI), Just(GEMINI), Just(OLLAMA)]
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    let mark = proptest::sample::select(b"{}[]\"\\:,1a .-".as_slice());
    proptest::collection::vec(prop_oneof![9 => mark, 1 => any::<u8>()], 0..60)
}

/// A value as the walker finds it, which may be no JSON to anybody else.
fn bytes_of_json() -> impl Strategy<Value = Vec<u8>> {
    anything().prop_filter_map("no value begins there", |bytes| {
        let start = skip_space(&bytes, 0);
        let end = skip_value(&bytes, start).ok()?;
        Some(bytes[start..end].to_vec())
    })
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(text)))
}
