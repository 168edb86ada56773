use proptest::prelude::*;
use serde_json::Value;

use super::*;

const CASES: &str = include_str!("../../../tests/fixtures/verdicts/cases.jsonl");

fn dialect(name: &str) -> Dialect {
    match name {
        "openai" => Dialect::OpenAi,
        "anthropic" => Dialect::Anthropic,
        "gemini" => Dialect::Gemini,
        "ollama" => Dialect::Ollama,
        "http" => Dialect::Http,
        other => panic!("{other} is no dialect"),
    }
}

fn bytes(body: &Value) -> String {
    body.as_str().map_or_else(|| body.to_string(), str::to_owned)
}

#[test]
fn what_vendors_say_when_something_is_wrong() {
    let mut seen = std::collections::HashSet::new();
    for (line, case) in CASES.lines().enumerate() {
        let case: Value = serde_json::from_str(case).unwrap();
        let dialect = dialect(case["dialect"].as_str().unwrap());
        let body = bytes(&case["body"]);
        let found = match case["status"].as_u64() {
            Some(status) => verdict(dialect, u16::try_from(status).unwrap(), body.as_bytes()),
            None => event_verdict(dialect, body.as_bytes()),
        };
        assert_eq!(
            format!("{found:?}"),
            case["verdict"].as_str().unwrap(),
            "line {}: {case}",
            line + 1
        );
        // how it is written says nothing
        if let (Some(status), false) = (case["status"].as_u64(), case["body"].is_string()) {
            let pretty = format!("\u{feff}\n{:#}\r\n", case["body"]);
            assert_eq!(
                verdict(dialect, status as u16, pretty.as_bytes()),
                found,
                "line {}",
                line + 1
            );
        }
        seen.insert(found);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_body_that_was_not_read_to_its_end_says_what_stands_before() {
    let body = br#"{"error":{"type":"insufficient_quota","message":"x"},"more":"cut o"#;
    assert_eq!(verdict(Dialect::OpenAi, 429, body), Verdict::KeySpent);
    // where the error itself is cut, the status is what is left
    assert_eq!(verdict(Dialect::OpenAi, 429, &body[..30]), Verdict::Limited);
    assert_eq!(verdict(Dialect::OpenAi, 503, &body[..30]), Verdict::Overloaded);
}

#[test]
fn every_status_has_a_verdict_that_fits_it() {
    for status in 100..1000 {
        let found = verdict(Dialect::OpenAi, status, b"");
        let want = match status {
            100..400 => Verdict::Fine,
            401 | 403 => Verdict::KeyRefused,
            402 => Verdict::KeySpent,
            429 => Verdict::Limited,
            408 | 503 | 529 => Verdict::Overloaded,
            400..=499 | 501 => Verdict::TheirFault,
            _ => Verdict::Failed,
        };
        assert_eq!(found, want, "{status}");
    }
}

proptest! {
    /// A text of the caller's, wherever a vendor repeats it behind words of its own, sets no key aside.
    #[test]
    fn no_caller_can_have_a_key_set_aside(
        text in prop_oneof![
            Just("Your credit balance is too low".to_owned()), Just("Incorrect API key provided".to_owned()),
            Just("insufficient_quota".to_owned()), Just("API_KEY_INVALID".to_owned()), "\\PC{0,20}",
        ],
        status in prop_oneof![Just(400_u16), Just(404), Just(413), Just(422), Just(500)],
    ) {
        let body = serde_json::json!({
            "error": {"type": "invalid_request_error", "message": format!("Invalid value: '{text}'"), "param": text},
            "metadata": {"code": text}, "input": [{"code": text, "type": text}],
        });
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama] {
            let found = verdict(dialect, status, body.to_string().as_bytes());
            prop_assert!(matches!(found, Verdict::TheirFault | Verdict::Failed), "{:?}", found);
        }
    }

    /// No bytes make it panic.
    #[test]
    fn any_bytes_have_a_verdict(
        parts in proptest::collection::vec(prop_oneof![
            Just("{"), Just("}"), Just("["), Just("]"), Just("\"error\":"), Just("\"code\":"), Just("\"type\":"),
            Just("\"details\":"), Just("\"reason\":"), Just("\"tokens\""), Just(","), Just("429"), Just("\""),
            Just("null"), Just("\"response\":"), Just("\\"),
        ], 0..30),
        status in 100_u16..600,
    ) {
        let body = parts.concat();
        for dialect in [Dialect::OpenAi, Dialect::Gemini, Dialect::Http] {
            let found = verdict(dialect, status, body.as_bytes());
            prop_assert!(status < 400 || found != Verdict::Fine);
            prop_assert_ne!(event_verdict(dialect, body.as_bytes()), Verdict::Fine);
        }
    }
}

#[test]
fn an_error_for_an_answer_is_told_by_its_first_member() {
    for (body, want) in [
        (r#"{"error":{"message":"no","code":503}}"#, true),
        ("\u{feff} {\n  \"error\" : { \"message\": \"no\" }, \"id\": 1 }\n", true),
        (r#"{"error":"model runner has unexpectedly stopped"}"#, true),
        (r#"{"error":null,"choices":[]}"#, false),
        (r#"{"error":false,"choices":[]}"#, false),
        (r#"{"error":{},"choices":[]}"#, false),
        (r#"{"error":"","choices":[]}"#, false),
        (r#"{"id":"a","error":{"message":"no"}}"#, false),
        (r#"{"choices":[{"message":{"content":"{\"error\":{}}"}}]}"#, false),
        (r#"[{"error":{"message":"no"}}]"#, false),
        (r#"{"error":{"message":"#, false),
        (r#""error""#, false),
        ("", false),
    ] {
        assert_eq!(opens_with_error(body.as_bytes()), want, "{body}");
    }
}
