use super::*;

fn used(input: u64, output: u64, cached_input: u64, reasoning: u64) -> Usage {
    Usage { input, output, cached_input, cache_write: 0, reasoning }
}

fn named(model: &str) -> Cow<'_, str> {
    Cow::Borrowed(model)
}

#[test]
fn what_is_metered_is_read() {
    let done = r#"{"type":"response.done","event_id":"event_31","response":{"object":"realtime.response","id":"resp_1",
        "status":"completed","output":[{"type":"message","content":[{"type":"audio","transcript":"\"usage\": 1"}]}],
        "usage":{"total_tokens":275,"input_tokens":127,"output_tokens":148,
            "input_token_details":{"cached_tokens":64,"text_tokens":119,"audio_tokens":8,
                "cached_tokens_details":{"text_tokens":64,"audio_tokens":0}},
            "output_token_details":{"text_tokens":36,"audio_tokens":112}}}}"#;
    let heard = r#"{"event_id":"e","type":"conversation.item.input_audio_transcription.completed","item_id":"i",
        "transcript":"hello","usage":{"type":"tokens","total_tokens":48,"input_tokens":38,
            "input_token_details":{"text_tokens":10,"audio_tokens":28},"output_tokens":10}}"#;
    let completed = r#"{"type":"response.completed","sequence_number":9,"response":{"model":"gpt-6","usage":{
        "input_tokens":36,"input_tokens_details":{"cached_tokens":32},"output_tokens":87,
        "output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}}}"#;
    for (data, want) in [
        (done, SessionEvent::Done(Some(used(127, 148, 64, 0)))),
        (completed, SessionEvent::Done(Some(used(36, 87, 32, 64)))),
        (heard, SessionEvent::Used(used(38, 10, 0, 0))),
        (r#"{"type":"response.created","response":{"status":"in_progress"}}"#, SessionEvent::Begun),
        (r#"{"response":{"type":"x.delta2"},"type":"response.created"}"#, SessionEvent::Begun),
        (
            r#"{"type":"response.done","response":{"status":"cancelled","usage":null}}"#,
            SessionEvent::Done(None),
        ),
        (
            r#"{"type":"response.done","response":{"status":"failed","usage":null}}"#,
            SessionEvent::Failed,
        ),
        (
            r#"{"type":"response.done","response":{"status":"failed","usage":{"input_tokens":5,"output_tokens":0}}}"#,
            SessionEvent::Done(Some(used(5, 0, 0, 0))),
        ),
        (
            r#"{"type":"response.incomplete","response":{"usage":{"input_tokens":5,"output_tokens":9}}}"#,
            SessionEvent::Done(Some(used(5, 9, 0, 0))),
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#,
            SessionEvent::Failed,
        ),
        (
            r#"{"type":"error","event_id":"e","error":{"type":"invalid_request_error"}}"#,
            SessionEvent::Refused,
        ),
        (
            r#"{"type":"session.created","session":{"type":"realtime","model":"gpt-realtime"}}"#,
            SessionEvent::Model(named("gpt-realtime")),
        ),
        (
            r#"{"event_id":"e","session":{"model":"gpt-realtime-mini","type":"realtime"},"type":"session.updated"}"#,
            SessionEvent::Model(named("gpt-realtime-mini")),
        ),
    ] {
        assert_eq!(session_event(data.as_bytes()), Some(want), "{data}");
    }
}

#[test]
fn all_else_is_passed_over() {
    for data in [
        r#"{"type":"response.output_audio.delta","delta":"AA","x":"\"type\":\"response.done\""}"#,
        r#"{"type":"response.output_text.delta","delta":"{\"type\":\"response.done\"}"}"#,
        r#"{"type":"input_audio_buffer.append","audio":"AA"}"#,
        r#"{"type":"session.update","session":{"model":"m"}}"#,
        r#"{"type":"response.create","model":"m"}"#,
        r#"{"type":"session.updated","session":{"type":"transcription"}}"#,
        r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"duration","seconds":3}}"#,
        r#"{"type":"conversation.item.added","item":{"type":"response.done"}}"#,
        r#"{"item":{"type":"response.done"}}"#,
        r#"{"type":7}"#,
        "{}",
        "",
        "[]",
        "response.done",
    ] {
        assert_eq!(session_event(data.as_bytes()), None, "{data}");
    }
}

#[test]
fn a_long_message_is_read_by_its_ends() {
    let text = "word ".repeat(20_000);
    let long = |data: &str| {
        long_session_event(&data.as_bytes()[..512], &data.as_bytes()[data.len() - 4096..])
    };
    let completed = format!(
        r#"{{"type":"response.completed","response":{{"output":"{text}","usage":{{"input_tokens":3,"output_tokens":20000}},"user":null}}}}"#
    );
    assert_eq!(long(&completed), Some(SessionEvent::Done(Some(used(3, 20_000, 0, 0)))));
    assert_eq!(session_event(completed.as_bytes()), long(&completed));
    let item = format!(r#"{{"type":"conversation.item.create","item":"{text}"}}"#);
    assert_eq!(long(&item), None);
    let cut = format!(
        r#"{{"type":"response.done","response":{{"usage":{{"input_tokens":3}},"output":"{text}"}}}}"#
    );
    assert_eq!(long(&cut), Some(SessionEvent::Done(None)));
}

#[test]
fn content_is_weighed() {
    let sound =
        format!(r#"{{"type":"response.output_audio.delta","delta":"{}"}}"#, "A".repeat(6400));
    for (data, tokens) in [
        (r#"{"type":"response.output_text.delta","delta":"hi"}"#, Some(1)),
        (r#"{"type":"response.output_audio_transcript.delta","delta":"twelve bytes"}"#, Some(3)),
        (r#"{"type":"response.function_call_arguments.delta","delta":"{\"a\":1}"}"#, Some(1)),
        (&sound, Some(2)),
        (r#"{"type":"response.output_text.done","text":"hi"}"#, None),
        (r#"{"type":"conversation.item.input_audio_transcription.delta","delta":"hi"}"#, None),
    ] {
        assert_eq!(session_content(data.as_bytes(), data.len() as u64), tokens, "{data}");
    }
}
