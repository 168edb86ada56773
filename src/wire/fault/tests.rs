use serde_json::{Value, json};

use super::*;

const NASTY: &str = "a \"quote\", a \\, a \u{0}, a \r\n\n line, \u{2028} and é\u{1f600}";

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn limited(message: &str) -> Fault<'_> {
    Fault::new(FaultKind::RateLimited, message, "req_1")
}

#[test]
fn each_dialect_has_its_shape() {
    let fault = limited("slow down");
    assert_eq!(
        parsed(&error_body(Dialect::OpenAi, &fault)),
        json!({"error": {"message": "slow down", "type": "requests", "param": null,
                         "code": "rate_limit_exceeded"}})
    );
    assert_eq!(error_body(Dialect::Http, &fault), error_body(Dialect::OpenAi, &fault));
    assert_eq!(
        parsed(&error_body(Dialect::Anthropic, &fault)),
        json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"},
               "request_id": "req_1"})
    );
    assert_eq!(
        parsed(&error_body(Dialect::Gemini, &fault)),
        json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}})
    );
    assert_eq!(parsed(&error_body(Dialect::Ollama, &fault)), json!({"error": "slow down"}));
}

#[test]
fn types_follow_the_status() {
    for (kind, openai, anthropic, gemini) in [
        (
            FaultKind::BadRequest,
            "invalid_request_error",
            "invalid_request_error",
            "INVALID_ARGUMENT",
        ),
        (
            FaultKind::Unauthorized,
            "invalid_request_error",
            "authentication_error",
            "UNAUTHENTICATED",
        ),
        (FaultKind::PaymentRequired, "insufficient_quota", "billing_error", "RESOURCE_EXHAUSTED"),
        (FaultKind::Forbidden, "invalid_request_error", "permission_error", "PERMISSION_DENIED"),
        (FaultKind::NotFound, "invalid_request_error", "not_found_error", "NOT_FOUND"),
        (FaultKind::TooLarge, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT"),
        (FaultKind::Upstream, "server_error", "api_error", "UNAVAILABLE"),
        (FaultKind::Unavailable, "server_error", "overloaded_error", "UNAVAILABLE"),
        (FaultKind::GatewayTimeout, "server_error", "timeout_error", "DEADLINE_EXCEEDED"),
        (FaultKind::Internal, "server_error", "api_error", "INTERNAL"),
    ] {
        let fault = Fault::new(kind, "m", "r");
        assert_eq!(parsed(&error_body(Dialect::OpenAi, &fault))["error"]["type"], openai);
        assert_eq!(parsed(&error_body(Dialect::Anthropic, &fault))["error"]["type"], anthropic);
        assert_eq!(parsed(&error_body(Dialect::Gemini, &fault))["error"]["status"], gemini);
    }
}

/// What clients look for when a limit, a key or a wait refuses them: OpenAI's type and code,
/// Anthropic's type, Gemini's status.
const REFUSALS: [(FaultKind, u16, &str, &str, &str, &str); 6] = [
    (
        FaultKind::Unauthorized,
        401,
        "invalid_request_error",
        "invalid_api_key",
        "authentication_error",
        "UNAUTHENTICATED",
    ),
    (
        FaultKind::PaymentRequired,
        402,
        "insufficient_quota",
        "insufficient_quota",
        "billing_error",
        "RESOURCE_EXHAUSTED",
    ),
    (
        FaultKind::Forbidden,
        403,
        "invalid_request_error",
        "permission_denied",
        "permission_error",
        "PERMISSION_DENIED",
    ),
    (
        FaultKind::Timeout,
        408,
        "invalid_request_error",
        "request_timeout",
        "timeout_error",
        "DEADLINE_EXCEEDED",
    ),
    (
        FaultKind::RateLimited,
        429,
        "requests",
        "rate_limit_exceeded",
        "rate_limit_error",
        "RESOURCE_EXHAUSTED",
    ),
    (FaultKind::Unavailable, 503, "server_error", "unavailable", "overloaded_error", "UNAVAILABLE"),
];

#[test]
fn refusals_have_the_words_that_clients_look_for() {
    for (kind, status, openai, code, anthropic, gemini) in REFUSALS {
        let fault = Fault::new(kind, "spent", "r");
        assert_eq!(fault.status, status);
        let shape = json!({"message": "spent", "type": openai, "param": null, "code": code});
        assert_eq!(parsed(&error_body(Dialect::OpenAi, &fault)), json!({ "error": shape }));
        assert_eq!(
            parsed(&error_body(Dialect::Anthropic, &fault)),
            json!({"type": "error", "error": {"type": anthropic, "message": "spent"}, "request_id": "r"})
        );
        assert_eq!(
            parsed(&error_body(Dialect::Gemini, &fault)),
            json!({"error": {"code": status, "message": "spent", "status": gemini}})
        );
        assert_eq!(parsed(&error_body(Dialect::Ollama, &fault)), json!({"error": "spent"}));
    }
    // a code of our own takes the place of the usual one
    let expired = Fault { code: "key_expired", ..Fault::new(FaultKind::Unauthorized, "m", "r") };
    let error = parsed(&error_body(Dialect::OpenAi, &expired));
    assert_eq!(error["error"]["code"], "key_expired");
}

/// The data of the only event in there.
fn data(event: &[u8]) -> Value {
    let text = std::str::from_utf8(event).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let value = parsed(lines.next().unwrap().as_bytes());
    assert_eq!(lines.next(), None);
    value
}

#[test]
fn a_spent_budget_ends_a_stream_with_the_same_words() {
    for (kind, status, openai, code, anthropic, gemini) in REFUSALS {
        let fault = Fault::new(kind, "spent", "r");
        let event = |dialect, kind| error_event(dialect, Form::Sse, kind, &fault).unwrap();
        for chat in [Kind::Chat, Kind::Completions] {
            let error = &data(&event(Dialect::OpenAi, chat))["error"];
            assert_eq!((&error["type"], &error["code"]), (&json!(openai), &json!(code)));
        }
        let response = data(&event(Dialect::OpenAi, Kind::Responses));
        assert_eq!((&response["type"], &response["code"]), (&json!("error"), &json!(code)));
        assert_eq!(response["error"]["type"], openai);
        let message = event(Dialect::Anthropic, Kind::Messages);
        assert!(message.starts_with(b"event: error\n"));
        assert_eq!(data(&message)["error"]["type"], anthropic);
        let chunk = data(&event(Dialect::Gemini, Kind::StreamGenerate));
        assert_eq!(chunk["error"]["status"], gemini);
        assert_eq!(chunk["error"]["code"], status);
        let line = error_event(Dialect::Ollama, Form::NdJson, Kind::OllamaChat, &fault).unwrap();
        assert_eq!(parsed(line.trim_ascii()), json!({"error": "spent"}));
    }
}

#[test]
fn every_kind_has_its_own_status_and_comes_back_from_it() {
    for kind in FaultKind::ALL {
        assert_eq!(FaultKind::of(kind.status()), kind);
    }
    assert!(FaultKind::ALL.is_sorted_by_key(|kind| kind.status()));
    assert_eq!(FaultKind::of(529), FaultKind::Unavailable);
    assert_eq!(FaultKind::of(418), FaultKind::BadRequest);
    assert_eq!(FaultKind::of(599), FaultKind::Internal);
}

#[test]
fn any_message_makes_valid_json_on_one_line() {
    let fault = limited(NASTY);
    for dialect in
        [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama, Dialect::Http]
    {
        let body = error_body(dialect, &fault);
        let value = parsed(&body);
        let error = &value["error"];
        let message = if error.is_string() { error } else { &error["message"] };
        assert_eq!(message, NASTY);
        assert!(!body.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    }
}

#[test]
fn events_are_whole_and_read_as_failures() {
    let fault = limited(NASTY);
    for (dialect, kind, form) in [
        (Dialect::OpenAi, Kind::Chat, Form::Sse),
        (Dialect::OpenAi, Kind::Responses, Form::Sse),
        (Dialect::Anthropic, Kind::Messages, Form::Sse),
        (Dialect::Gemini, Kind::StreamGenerate, Form::Sse),
        (Dialect::Ollama, Kind::OllamaChat, Form::NdJson),
    ] {
        let event = error_event(dialect, form, kind, &fault).unwrap();
        let mut meter = crate::wire::Meter::new(kind, form);
        meter.push(&event);
        assert_eq!(meter.ending(), crate::wire::Ending::Failed, "{kind:?}");
        assert!(meter.between_events(), "{kind:?}");
        assert!(std::str::from_utf8(&event).unwrap().ends_with('\n'));
    }
    assert_eq!(error_event(Dialect::OpenAi, Form::Json, Kind::Chat, &fault), None);
    assert_eq!(error_event(Dialect::OpenAi, Form::Opaque, Kind::Chat, &fault), None);
}

#[test]
fn the_events_as_they_are_sent() {
    let fault = Fault::new(FaultKind::Upstream, "it broke", "req_1");
    let event = |dialect, kind| error_event(dialect, Form::Sse, kind, &fault).unwrap();
    assert_eq!(
        event(Dialect::OpenAi, Kind::Chat),
        "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\"param\":null,\
         \"code\":\"upstream_error\"}}\n\n"
    );
    assert_eq!(
        event(Dialect::OpenAi, Kind::Responses),
        "event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,\"code\":\"upstream_error\",\
         \"message\":\"it broke\",\"param\":null,\"error\":{\"message\":\"it broke\",\
         \"type\":\"server_error\",\"param\":null,\"code\":\"upstream_error\"}}\n\n"
    );
    assert_eq!(
        event(Dialect::Anthropic, Kind::Messages),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\
         \"message\":\"it broke\"},\"request_id\":\"req_1\"}\n\n"
    );
}
