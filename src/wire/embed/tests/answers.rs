//! Answers: which are taken apart, and how they look when they are put together again.
use super::*;

const TWO: &[u8] = br#"{"object":"list","data":[
  {"object":"embedding","index":1,"embedding":[0.20, -2e-3]},
  {"embedding":[1, 1.0],"object":"embedding","index":0}
],"model":"m-1","id":"e-7","usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0,
"details":null,"cost":0.25}}"#;

fn kept(api: Api, answer: &[u8], inputs: usize) -> Vec<Bytes> {
    let apart = take_apart(api, answer, inputs).unwrap();
    (0..inputs).map(|index| apart.kept(index).unwrap()).collect()
}

fn put(api: Api, kept: &[&Bytes], tokens: u64) -> Option<String> {
    let parts: Vec<_> = kept.iter().map(|kept| Kept::read(kept).unwrap()).collect();
    put_together(api, &parts, 0, tokens).map(|answer| String::from_utf8(answer.to_vec()).unwrap())
}

#[test]
fn an_answer_keeps_its_numbers_its_members_and_the_order_of_its_inputs() {
    assert_eq!(take_apart(Api::OpenAi, TWO, 2).unwrap().tokens, Some(9));
    let two = kept(Api::OpenAi, TWO, 2);
    let [zero, one] = [&two[0], &two[1]];
    assert_eq!(
        put(Api::OpenAi, &[one, zero, one], 5).unwrap(),
        concat!(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.20, -2e-3]},"#,
            r#"{"object":"embedding","index":1,"embedding":[1, 1.0]},"#,
            r#"{"object":"embedding","index":2,"embedding":[0.20, -2e-3]}],"model":"m-1","id":"e-7","#,
            r#""usage":{"prompt_tokens":5,"total_tokens":5,"completion_tokens":0,"details":null}}"#,
        )
    );
    // a price was that call's; nothing of it is kept
    assert!(!String::from_utf8_lossy(zero).contains("cost"));
}

#[test]
fn each_api_has_its_form() {
    for (api, answer, tokens) in [
        (Api::Gemini, r#"{"embedding":{"values":[0.1]}}"#, None),
        (
            Api::Gemini,
            r#"{"embedding":{"values":[0.1],"shape":[1]},"usageMetadata":{"promptTokenCount":4}}"#,
            Some(4),
        ),
        (Api::GeminiBatch, r#"{"embeddings":[{"values":[0.1]},{"values":[-3]}]}"#, None),
        (
            Api::Ollama,
            r#"{"model":"m","embeddings":[[0.1],[2]],"total_duration":14143917,"prompt_eval_count":8}"#,
            Some(8),
        ),
        (Api::OllamaSingle, r#"{"embedding":[0.1,2]}"#, None),
        (
            Api::OpenAi,
            r#"{"data":[{"object":"embedding","index":0,"embedding":"AACAPw=="}],"model":"m","usage":{"total_tokens":2}}"#,
            Some(2),
        ),
        (
            Api::OpenAi,
            r#"{"data":[{"object":"embedding","index":0,"embedding":[1]}],"model":"m","usage":null}"#,
            None,
        ),
    ] {
        let inputs = if answer.contains("},{") || answer.contains("],[") { 2 } else { 1 };
        assert_eq!(take_apart(api, answer.as_bytes(), inputs).unwrap().tokens, tokens, "{answer}");
        let kept = kept(api, answer.as_bytes(), inputs);
        let parts: Vec<_> = kept.iter().collect();
        let again = put(api, &parts, tokens.unwrap_or(7)).unwrap();
        assert_eq!(again, answer);
    }
}

#[test]
fn an_answer_that_is_not_one_vector_for_each_input_is_not_taken_apart() {
    let item = |index: &str, vector: &str| {
        format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)
    };
    let list = |items: &[String]| format!(r#"{{"data":[{}],"model":"m"}}"#, items.join(","));
    let good = list(&[item("0", "[1,2]"), item("1", "[3,4]")]);
    assert!(take_apart(Api::OpenAi, good.as_bytes(), 2).is_some());
    for (index, vector) in [
        ("0", "[3,4]"),
        ("2", "[3,4]"),
        ("-1", "[3,4]"),
        ("null", "[3,4]"),
        ("\"1\"", "[3,4]"),
        ("1", "[3]"),
        ("1", "[3,4,5]"),
        ("1", "[3,null]"),
        ("1", "[3,NaN]"),
        ("1", "[]"),
        ("1", "null"),
        ("1", "\"AAAA\""),
        ("1", "\"\""),
        ("1", "\"no digits of base64\""),
        ("1", "[[3],[4]]"),
        ("1", "{}"),
        ("1", "[3,4],\"more\":1"),
        ("1", "[3,4],\"embedding\":[5,6]"),
        ("1", "[3,4],\"index\":0"),
        ("1", "[3,4],\"object\":\"sparse\""),
    ] {
        let answer = list(&[item("0", "[1,2]"), item(index, vector)]);
        assert_eq!(take_apart(Api::OpenAi, answer.as_bytes(), 2), None, "{answer}");
    }
    for answer in [
        r#"{"error":{"message":"no"}}"#.to_owned(),
        good.replace(r#""model""#, r#""error":"no","model""#),
        good.replace(r#""model""#, r#""data":[],"model""#),
        good.replace(r#""model":"m""#, &format!(r#""model":"{}""#, "m".repeat(2000))),
        good[..good.len() - 1].to_owned(),
        good.clone() + "x",
        list(&[item("0", "[1,2]")]),
        list(&[item("0", "[1,2]"), item("1", "[1,2]"), item("2", "[1,2]")]),
        list(&[item("0", "[1,2]"), r#"{"index":1}"#.to_owned()]),
        r#"{"data":{}}"#.to_owned(),
        "[]".to_owned(),
        String::new(),
        "<html>".to_owned(),
    ] {
        assert_eq!(take_apart(Api::OpenAi, answer.as_bytes(), 2), None, "{answer}");
    }
    for (api, answer, inputs) in [
        (Api::Gemini, r#"{"embedding":[1]}"#, 1),
        (Api::Gemini, r#"{"embedding":{"values":[1]}}"#, 2),
        (Api::GeminiBatch, r#"{"embeddings":[{"values":[1]},{"values":[1,2]}]}"#, 2),
        (Api::GeminiBatch, r#"{"embeddings":[{"values":[1]},{}]}"#, 2),
        (Api::Ollama, r#"{"embeddings":[]}"#, 1),
        (Api::Ollama, r#"{"embeddings":["AAAA"]}"#, 1),
        (Api::Ollama, r#"{"embedding":[1]}"#, 1),
        (Api::OllamaSingle, r#"{"embedding":[]}"#, 1),
        (Api::OllamaSingle, r#"{"embeddings":[[1]]}"#, 1),
    ] {
        assert_eq!(take_apart(api, answer.as_bytes(), inputs), None, "{answer}");
    }
}

#[test]
fn vectors_of_different_models_or_shapes_are_not_put_together() {
    let answer = |model: &str, id: u8, vector: &str| {
        let item = format!(r#"{{"object":"embedding","index":0,"embedding":{vector}}}"#);
        let answer = format!(r#"{{"data":[{item}],"model":"{model}","id":{id}}}"#);
        kept(Api::OpenAi, answer.as_bytes(), 1).remove(0)
    };
    let one = answer("m", 1, "[1,2]");
    assert!(put(Api::OpenAi, &[&one, &answer("m", 2, "[3,4]")], 2).is_some());
    for other in [
        answer("n", 1, "[3,4]"),
        answer("m", 1, "[3]"),
        answer("m", 1, "[3,4,5]"),
        answer("m", 1, "\"AAAA\""),
    ] {
        assert_eq!(put(Api::OpenAi, &[&one, &other], 2), None);
        assert_eq!(put(Api::OpenAi, &[&other, &one], 2), None);
        assert!(put(Api::OpenAi, &[&other, &other], 2).is_some());
    }
    let single = kept(Api::OllamaSingle, br#"{"embedding":[1]}"#, 1);
    assert_eq!(put(Api::OllamaSingle, &[&single[0], &single[0]], 2), None);
    assert_eq!(put_together(Api::OpenAi, &[], 0, 1), None);
    assert_eq!(Kept::read(b"[1]"), None);
    assert_eq!(Kept::read(b"{\"data\":[]}"), None);
    assert_eq!(Kept::read(b""), None);
}
