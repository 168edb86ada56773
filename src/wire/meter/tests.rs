use proptest::prelude::*;

use super::*;

struct Case {
    file: &'static str,
    body: &'static [u8],
    kind: Kind,
    form: Form,
    usage: Option<Usage>,
    ending: Ending,
    /// Content events.
    events: u64,
    model: Option<&'static str>,
}

/// `case!("dialect/file", Kind, Form, ending, events, model, [input, output, cached, written, thought])`
macro_rules! case {
    ($file:literal, $kind:ident, $form:ident, $end:ident, $events:expr, $model:expr, $usage:expr) => {
        Case {
            file: $file,
            body: include_bytes!(concat!("../../../tests/fixtures/wire/", $file)),
            kind: Kind::$kind,
            form: Form::$form,
            usage: usage($usage),
            ending: Ending::$end,
            events: $events,
            model: $model,
        }
    };
}

const NONE: [u64; 0] = [];

fn usage<const N: usize>(counts: [u64; N]) -> Option<Usage> {
    let at = |index| counts.get(index).copied().unwrap_or(0);
    let (input, output, cached_input) = (at(0), at(1), at(2));
    (N > 0).then_some(Usage { input, output, cached_input, cache_write: at(3), reasoning: at(4) })
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let (gpt, mini, seek) = (Some("gpt-5-2025-08-07"), Some("gpt-4o-mini-2024-07-18"), Some("deepseek-reasoner"));
    let (claude, gemini, llama) = (Some("claude-sonnet-4-5-20250929"), Some("gemini-2.5-flash"), Some("llama3.2"));
    vec![
        case!("openai/chat.json", Chat, Json, Complete, 0, gpt, [2006, 300, 1920, 0, 256]),
        case!("openai/chat_stream.sse", Chat, Sse, Complete, 6, mini, [14, 6]),
        case!("openai/chat_stream_no_usage.sse", Chat, Sse, Complete, 6, mini, NONE),
        case!("openai/chat_tools_stream.sse", Chat, Sse, Complete, 6, mini, [80, 31]),
        case!("openai/chat_reasoning_stream.sse", Chat, Sse, Complete, 4, seek, [30, 12, 16, 0, 8]),
        case!("openai/chat_error.json", Chat, Json, Failed, 0, None, NONE),
        case!("openai/chat_error_stream.sse", Chat, Sse, Failed, 1, mini, NONE),
        case!("openai/completions_stream.sse", Completions, Sse, Complete, 2, Some("gpt-3.5-turbo-instruct"), [5, 2]),
        case!("openai/embeddings.json", Embeddings, Json, Complete, 0, Some("text-embedding-3-small"), [8]),
        case!("openai/responses.json", Responses, Json, Complete, 0, gpt, [36, 87, 32, 0, 64]),
        case!("openai/responses_stream.sse", Responses, Sse, Complete, 3, gpt, [36, 87, 32, 0, 64]),
        case!("openai/responses_tools_stream.sse", Responses, Sse, Complete, 3, gpt, [36, 87, 32, 0, 64]),
        case!("openai/responses_incomplete_stream.sse", Responses, Sse, Complete, 3, gpt, [36, 16, 32]),
        case!("openai/responses_failed_stream.sse", Responses, Sse, Failed, 3, gpt, NONE),
        case!("openai/responses_error_stream.sse", Responses, Sse, Failed, 0, gpt, NONE),
        case!("anthropic/message.json", Messages, Json, Complete, 0, claude, [25, 15]),
        case!("anthropic/message_cached.json", Messages, Json, Complete, 0, claude, [18295, 393, 18086, 188]),
        case!("anthropic/stream.sse", Messages, Sse, Complete, 3, claude, [25, 15]),
        case!("anthropic/stream_cached.sse", Messages, Sse, Complete, 1, claude, [18295, 393, 18086, 188]),
        case!("anthropic/tools_stream.sse", Messages, Sse, Complete, 3, claude, [472, 89]),
        case!("anthropic/thinking_stream.sse", Messages, Sse, Complete, 4, claude, [25, 60, 0, 0, 48]),
        case!("anthropic/error.json", Messages, Json, Failed, 0, None, NONE),
        case!("anthropic/error_stream.sse", Messages, Sse, Failed, 1, claude, [25, 1]),
        case!("anthropic/count_tokens.json", CountTokens, Json, Complete, 0, None, NONE),
        case!("gemini/generate.json", Generate, Json, Complete, 0, gemini, [1200, 37, 1024, 0, 30]),
        case!("gemini/stream.sse", StreamGenerate, Sse, Complete, 3, gemini, [11, 7]),
        case!("gemini/stream_array.json", StreamGenerate, Json, Complete, 0, gemini, [11, 7]),
        case!("gemini/stream_vertex.sse", StreamGenerate, Sse, Complete, 2, gemini, [1, 9]),
        case!("gemini/tools_stream.sse", StreamGenerate, Sse, Complete, 1, gemini, [70, 16]),
        case!("gemini/thinking_stream.sse", StreamGenerate, Sse, Complete, 2, gemini, [20, 16, 0, 0, 12]),
        case!("gemini/blocked_stream.sse", StreamGenerate, Sse, Complete, 0, gemini, [9]),
        case!("gemini/error.json", Generate, Json, Failed, 0, None, NONE),
        case!("gemini/error_array.json", StreamGenerate, Json, Failed, 0, None, NONE),
        case!("gemini/error_stream.sse", StreamGenerate, Sse, Failed, 1, gemini, [11]),
        case!("gemini/embed.json", GeminiEmbed, Json, Complete, 0, None, [6]),
        case!("gemini/count.json", GeminiCount, Json, Complete, 0, None, NONE),
        case!("ollama/chat.json", OllamaChat, Json, Complete, 0, llama, [26, 298]),
        case!("ollama/chat_stream.ndjson", OllamaChat, NdJson, Complete, 3, llama, [26, 282]),
        case!("ollama/chat_tools_stream.ndjson", OllamaChat, NdJson, Complete, 1, llama, [169, 15]),
        case!("ollama/chat_thinking_stream.ndjson", OllamaChat, NdJson, Complete, 3, llama, [12, 9]),
        case!("ollama/generate.json", OllamaGenerate, Json, Complete, 0, llama, [26, 290]),
        case!("ollama/generate_stream.ndjson", OllamaGenerate, NdJson, Complete, 2, llama, [26, 259]),
        case!("ollama/error.json", OllamaChat, Json, Failed, 0, None, NONE),
        case!("ollama/error_stream.ndjson", OllamaChat, NdJson, Failed, 1, llama, NONE),
        case!("ollama/embed.json", OllamaEmbed, Json, Complete, 0, Some("all-minilm"), [8]),
    ]
}

fn metered<'a>(kind: Kind, form: Form, chunks: impl IntoIterator<Item = &'a [u8]>) -> Meter {
    let mut meter = Meter::new(kind, form);
    for chunk in chunks {
        meter.push(chunk);
    }
    meter.finish();
    meter
}

fn sse(kind: Kind, text: &str) -> Meter {
    metered(kind, Form::Sse, [text.as_bytes()])
}

#[test]
fn every_fixture_in_any_chunking() {
    for case in cases() {
        for size in [case.body.len(), 1, 7, 64] {
            let meter = metered(case.kind, case.form, case.body.chunks(size));
            let name = format!("{} in chunks of {size}", case.file);
            assert_eq!(meter.usage(), case.usage, "{name}");
            assert_eq!(meter.ending(), case.ending, "{name}");
            assert_eq!(meter.content_events(), case.events, "{name}");
            assert_eq!(
                meter.content_started(),
                case.events > 0 || case.form == Form::Json,
                "{name}"
            );
            assert_eq!(meter.model(), case.model, "{name}");
            assert_eq!(meter.skipped(), 0, "{name}");
        }
    }
}

#[test]
fn every_fixture_is_tried() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wire");
    let tried = cases();
    for dialect in std::fs::read_dir(root).unwrap().flatten().filter(|entry| entry.path().is_dir())
    {
        for file in std::fs::read_dir(dialect.path()).unwrap().flatten() {
            let name = file.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let known = name.ends_with("README.md") || tried.iter().any(|case| case.file == name);
            assert!(known, "{name} is in no case");
        }
    }
}

/// Events that begin an answer and say nothing of it, for each dialect; then each kind of event that
/// is its content.
#[rustfmt::skip]
const BEGINNINGS: [(Kind, &[&str], &[&str]); 7] = [
    (Kind::Chat, &[
        ": OPENROUTER PROCESSING\n\n:\n\n",
        r#"data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
        r#"data: {"choices":[{"delta":{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}}]}"#,
        r#"data: {"choices":[{"delta":{"content":"","reasoning_content":""}}],"obfuscation":"x"}"#,
        r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":0}}"#,
    ], &[
        r#"data: {"choices":[{"delta":{"role":"assistant","content":" "}}]}"#,
        r#"data: {"choices":[{"delta":{"content":null,"reasoning_content":"so"}}]}"#,
        r#"data: {"choices":[{"delta":{"content":"","reasoning":"so"}}]}"#,
        r#"data: {"choices":[{"delta":{"refusal":"I"}}]}"#,
        r#"data: {"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"c","function":{"name":"tide","arguments":""}}]}}]}"#,
        r#"data: {"choices":[{"delta":{"function_call":{"name":"tide"}}}]}"#,
        r#"data: {"choices":[{"delta":{"audio":{"id":"a"}}}]}"#,
    ]),
    (Kind::Completions, &[r#"data: {"choices":[{"text":"","index":0}]}"#], &[r#"data: {"choices":[{"text":"a"}]}"#]),
    (Kind::Responses, &[
        "event: response.created\ndata: {\"response\":{\"status\":\"in_progress\",\"output\":[]}}",
        "event: response.queued\ndata: {}",
        "event: response.in_progress\ndata: {\"response\":{}}",
        "event: response.output_item.added\ndata: {\"item\":{\"type\":\"reasoning\",\"summary\":[]}}",
        "event: response.output_item.added\ndata: {\"item\":{\"type\":\"message\",\"content\":[]}}",
        "event: response.content_part.added\ndata: {\"part\":{\"type\":\"output_text\",\"text\":\"\"}}",
        "event: response.reasoning_summary_part.added\ndata: {\"part\":{\"text\":\"\"}}",
        "event: response.output_text.delta\ndata: {\"delta\":\"\"}",
        "event: keepalive\ndata: {\"type\":\"keepalive\"}",
    ], &[
        "event: response.output_text.delta\ndata: {\"delta\":\"a\"}",
        "event: response.refusal.delta\ndata: {\"delta\":\"I\"}",
        "event: response.reasoning_summary_text.delta\ndata: {\"delta\":\"so\"}",
        "event: response.reasoning_text.delta\ndata: {\"delta\":\"so\"}",
        "event: response.function_call_arguments.delta\ndata: {\"delta\":\"{\"}",
        "event: response.output_item.added\ndata: {\"item\":{\"type\":\"function_call\",\"name\":\"tide\",\"arguments\":\"\"}}",
        "event: response.output_item.added\ndata: {\"item\":{\"type\":\"web_search_call\"}}",
        "event: response.image_generation_call.partial_image\ndata: {\"partial_image_b64\":\"AA\"}",
        "event: response.output_audio.delta\ndata: {\"delta\":\"AA\"}",
    ]),
    (Kind::Messages, &[
        ": ping",
        "event: message_start\ndata: {\"message\":{\"content\":[],\"usage\":{\"output_tokens\":1}}}",
        "event: ping\ndata: {\"type\": \"ping\"}",
        "event: content_block_start\ndata: {\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
        "event: content_block_start\ndata: {\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}",
        "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"\"}}",
        "event: content_block_delta\ndata: {\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}",
        "event: content_block_stop\ndata: {\"index\":0}",
        "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}",
    ], &[
        "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}",
        "event: content_block_delta\ndata: {\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"so\"}}",
        "event: content_block_delta\ndata: {\"delta\":{\"type\":\"signature_delta\",\"signature\":\"AA\"}}",
        "event: content_block_delta\ndata: {\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}}",
        "event: content_block_start\ndata: {\"content_block\":{\"type\":\"tool_use\",\"name\":\"tide\",\"input\":{}}}",
        "event: content_block_start\ndata: {\"content_block\":{\"type\":\"server_tool_use\",\"name\":\"web_search\"}}",
        "event: content_block_start\ndata: {\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"AA\"}}",
        "event: content_block_start\ndata: {\"content_block\":{\"type\":\"text\",\"text\":\"a\"}}",
    ]),
    (Kind::StreamGenerate, &[
        r#"data: {"usageMetadata":{"promptTokenCount":1},"modelVersion":"m"}"#,
        r#"data: {"candidates":[{"content":{"role":"model"}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[],"role":"model"}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[{"text":""}]}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"AA"}]},"finishReason":"STOP"}]}"#,
    ], &[
        r#"data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[{"text":"so","thought":true}]}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"tide"}}]}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[{"text":""},{"inlineData":{"data":"AA"}}]}}]}"#,
        r#"data: {"candidates":[{"content":{"parts":[{"executableCode":{"code":"1"}}]}}]}"#,
    ]),
    (Kind::OllamaChat, &[
        r#"{"model":"m","message":{"role":"assistant","content":""},"done":false}"#,
        r#"{"model":"m","message":{"role":"assistant","content":""},"done_reason":"load","done":true}"#,
    ], &[
        r#"{"message":{"role":"assistant","content":"a"},"done":false}"#,
        r#"{"message":{"role":"assistant","content":"","thinking":"so"},"done":false}"#,
        r#"{"message":{"content":"","tool_calls":[{"function":{"name":"tide","arguments":{}}}]},"done":false}"#,
        r#"{"message":{"content":"all at once"},"done":true}"#,
    ]),
    (Kind::OllamaGenerate, &[r#"{"response":"","done":false}"#], &[
        r#"{"response":"a","done":false}"#, r#"{"response":"","thinking":"so","done":false}"#,
    ]),
];

#[test]
fn content_begins_with_the_first_thing_that_is_said() {
    for (kind, silent, said) in BEGINNINGS {
        let form = if kind.dialect() == Dialect::Ollama { Form::NdJson } else { Form::Sse };
        for content in said {
            let mut meter = Meter::new(kind, form);
            // a line that ends the answer may stand alone
            for event in silent.iter().filter(|event| !event.contains("\"done\":true")) {
                meter.push(format!("{event}\n\n").as_bytes());
                assert!(!meter.content_started() && meter.produced() <= 1, "{kind:?} {event}");
            }
            for chunk in format!("{content}\n\n").as_bytes().chunks(3) {
                meter.push(chunk);
            }
            assert!(meter.content_started(), "{kind:?} {content}");
        }
        for event in silent {
            let meter = metered(kind, form, [format!("{event}\n\n").as_bytes()]);
            assert!(!meter.content_started(), "{kind:?} {event}");
        }
    }
}

#[test]
fn what_an_error_says_is_known_without_reading_it_again() {
    use Verdict::{Failed, KeySpent, Limited, Overloaded, TheirFault};
    for case in cases() {
        let meter = metered(case.kind, case.form, case.body.chunks(7));
        assert_eq!(meter.fault().is_some(), case.ending == Ending::Failed, "{}", case.file);
    }
    let huge = "x".repeat(2 << 20);
    for (kind, form, text, want) in [
        (Kind::Chat, Form::Sse, r#"data: {"error":{"code":"insufficient_quota"}}"#.to_owned(), KeySpent),
        (Kind::Chat, Form::Sse, "event: error\ndata: {\"code\":503,\"message\":\"?\"}".to_owned(), Overloaded),
        (Kind::Chat, Form::Sse, "data: {\"error\":\"?\"}".to_owned(), Failed),
        (Kind::Chat, Form::Sse, format!(r#"data: {{ "error":{{"code":"insufficient_quota","x":"{huge}"}}}}"#), Failed),
        (Kind::Chat, Form::Sse, format!("event: error\ndata: {{\"x\":\"{huge}\"}}"), Failed),
        (
            Kind::Responses,
            Form::Sse,
            r#"data: {"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}"#.to_owned(),
            Limited,
        ),
        (Kind::Responses, Form::Sse, format!("event: error\ndata: {{\"code\":\"tokens\",\"x\":\"{huge}\"}}"), Failed),
        (
            Kind::Messages,
            Form::Sse,
            r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#.to_owned(),
            Overloaded,
        ),
        (Kind::Messages, Form::Sse, format!("event: error\ndata: {{\"x\":\"{huge}\"}}"), Failed),
        (Kind::StreamGenerate, Form::Sse, r#"data: {"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#.to_owned(), Limited),
        (Kind::StreamGenerate, Form::Sse, format!(r#"data: {{"error":{{"x":"{huge}"}}}}"#), Failed),
        (Kind::StreamGenerate, Form::Json, r#"[{"error":{"status":"UNAVAILABLE"}}]"#.to_owned(), Overloaded),
        (Kind::OllamaChat, Form::NdJson, r#"{"error":"server busy, please try again"}"#.to_owned(), Overloaded),
        (Kind::OllamaChat, Form::NdJson, format!(r#"{{"error":"{huge}"}}"#), Failed),
        (Kind::Chat, Form::Json, r#"{"error":{"type":"invalid_request_error"}}"#.to_owned(), TheirFault),
        (Kind::Responses, Form::Json, r#"{"status":"failed","error":{"code":"server_error"}}"#.to_owned(), Failed),
        (Kind::Chat, Form::Json, format!(r#"{{"error":{{"code":"insufficient_quota","x":"{huge}"}}}}"#), KeySpent),
    ] {
        for size in [text.len(), 64 << 10] {
            let meter = metered(kind, form, text.as_bytes().chunks(size));
            let shown = &text[..text.len().min(90)];
            assert_eq!((meter.fault(), meter.ending()), (Some(want), Ending::Failed), "{kind:?} {shown}");
            assert!(!meter.content_started() || form == Form::Json, "{kind:?} {shown}");
        }
    }
    // behind the end of an answer nothing counts
    let late = "data: [DONE]\n\ndata: {\"error\":{\"code\":\"server_error\"}}\n\n";
    assert_eq!(sse(Kind::Chat, late).fault(), None);
}

#[test]
fn a_stream_that_is_cut_stays_open() {
    for case in cases().into_iter().filter(|case| case.ending == Ending::Complete) {
        // Without its last event, or its last byte, none of them is complete.
        let text = case.body.trim_ascii_end();
        let end = if case.form == Form::Json {
            text.len() - 1
        } else {
            text.iter().rposition(|&byte| byte == b'\n').unwrap_or(0)
        };
        let meter = metered(case.kind, case.form, [&case.body[..end]]);
        assert_eq!(meter.ending(), Ending::Open, "{}", case.file);
    }
}

#[test]
fn only_the_first_terminal_event_counts() {
    let tail = "data: [DONE]\n\ndata: [DONE]\n\ndata: {\"error\":{\"message\":\"x\"}}\n\n";
    let meter = sse(Kind::Chat, &format!("data: {{\"choices\":[]}}\n\n{tail}"));
    assert_eq!(meter.ending(), Ending::Complete);
    let error = "event: error\ndata: {\"type\":\"error\"}\n\nevent: message_stop\ndata: {}\n\n";
    assert_eq!(sse(Kind::Messages, error).ending(), Ending::Failed);
    let done = "{\"done\":true,\"eval_count\":3}\n{\"error\":\"late\"}\n{\"eval_count\":9,\"done\":true}\n";
    let meter = metered(Kind::OllamaChat, Form::NdJson, [done.as_bytes()]);
    assert_eq!((meter.ending(), meter.usage().unwrap().output), (Ending::Complete, 3));
}

#[test]
fn the_end_is_seen_between_what_only_looks_like_it() {
    let deep = r#"{"done":false,"eval_count":9}"#;
    let last = format!(r#"{{"before":{deep},"done":true,"eval_count":3,"behind":{deep}}}"#);
    let meter = metered(Kind::OllamaChat, Form::NdJson, [last.as_bytes()]);
    assert_eq!((meter.ending(), meter.usage()), (Ending::Complete, usage([0, 3])));
    let deeper = r#"{"message":{"tool_calls":[{"done":true}]},"done":false}"#;
    let meter = metered(Kind::OllamaChat, Form::NdJson, [deeper.as_bytes()]);
    assert_eq!(meter.ending(), Ending::Open);
}

#[test]
fn the_last_event_may_lack_its_blank_line() {
    assert_eq!(sse(Kind::Chat, "data: [DONE]").ending(), Ending::Complete);
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}";
    assert_eq!(sse(Kind::Messages, stop).ending(), Ending::Complete);
}

#[test]
fn event_names_may_be_missing_where_the_data_has_the_type() {
    let text = "data: {\"type\":\"content_block_delta\"}\n\ndata: {\"type\": \"message_stop\"}\n\n";
    let meter = sse(Kind::Messages, text);
    assert_eq!((meter.content_events(), meter.ending()), (1, Ending::Complete));
    let text = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n\
                data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n";
    let meter = sse(Kind::Responses, text);
    assert_eq!((meter.content_events(), meter.ending()), (1, Ending::Complete));
    assert_eq!(meter.usage(), usage([1, 2]));
}

#[test]
fn words_of_ours_inside_content_are_content() {
    let text = r#"data: {"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":9} \"error\":1 [DONE]"}}],"error":null,"usage":null}"#;
    let meter = sse(Kind::Chat, &format!("{text}\n\n"));
    assert_eq!((meter.usage(), meter.ending(), meter.content_events()), (None, Ending::Open, 1));
    // a deeper member of that name
    let text = r#"data: {"choices":[{"delta":{"annotations":[{"error":{"code":1},"usage":{"prompt_tokens":9}}]}}]}"#;
    let meter = sse(Kind::Chat, &format!("{text}\n\n"));
    assert_eq!((meter.usage(), meter.ending()), (None, Ending::Open));
}

#[test]
fn absurd_counts_are_ignored() {
    for (prompt, completion, want) in [
        ("-1", "1e15", None),
        ("1000000000000000", "5", usage([0, 5])),
        ("\"7\"", "null", None),
        ("1.5", "3.0", usage([0, 3])),
    ] {
        let body =
            format!(r#"{{"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion}}}}}"#);
        let meter = metered(Kind::Chat, Form::Json, [body.as_bytes()]);
        assert_eq!((meter.usage(), meter.ending()), (want, Ending::Complete), "{body}");
    }
}

#[test]
fn an_error_in_a_good_body_is_a_failure_and_null_is_none() {
    let of = |body: &str| metered(Kind::Chat, Form::Json, [body.as_bytes()]).ending();
    assert_eq!(of(r#"{"error":{"message":"no"}}"#), Ending::Failed);
    assert_eq!(of(r#"{"choices":[],"error":null}"#), Ending::Complete);
    assert_eq!(of(r#"{"choices":[{"error":"deeper"}]}"#), Ending::Complete);
    assert_eq!(of(r#"{"choices":["#), Ending::Open);
    assert_eq!(of(""), Ending::Open);
}

#[test]
fn large_parts_are_passed_over_but_their_ends_are_read() {
    let image = "A".repeat(3 << 20);
    let gemini = format!(
        r#"data: {{"candidates":[{{"content":{{"parts":[{{"inlineData":{{"data":"{image}"}}}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":7,"candidatesTokenCount":1290}}}}"#
    );
    let responses = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"model\":\"m\",\"output\":\"{image}\",\"usage\":{{\"input_tokens\":3,\"output_tokens\":4}},\"user\":null}}}}"
    );
    for (kind, text, want) in
        [(Kind::StreamGenerate, gemini, [7, 1290]), (Kind::Responses, responses, [3, 4])]
    {
        for size in [16_384, text.len()] {
            let meter = metered(kind, Form::Sse, text.as_bytes().chunks(size));
            assert_eq!(
                (meter.usage(), meter.ending()),
                (usage(want), Ending::Complete),
                "{kind:?}"
            );
            assert_eq!(meter.skipped(), 1);
        }
    }
    let context = "1,".repeat(1 << 20);
    let line = format!(
        r#"{{"model":"m","response":"","done":true,"context":[{context}1],"prompt_eval_count":5,"eval_count":6,"eval_duration":7}}"#
    );
    let meter = metered(Kind::OllamaGenerate, Form::NdJson, line.as_bytes().chunks(9999));
    assert_eq!((meter.usage(), meter.ending()), (usage([5, 6]), Ending::Complete));
    // what is not a last event goes on
    let text = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{image}\"}}}}]}}\n\ndata: [DONE]\n\n"
    );
    let meter = sse(Kind::Chat, &text);
    assert_eq!((meter.content_events(), meter.ending()), (1, Ending::Complete));
    // and a JSON body of any size is read to its end
    let body = format!(r#"{{"data":"{image}","usage":{{"prompt_tokens":2}}}}"#);
    let meter = metered(Kind::Embeddings, Form::Json, body.as_bytes().chunks(5000));
    assert_eq!((meter.usage(), meter.ending()), (usage([2]), Ending::Complete));
}

#[test]
fn opaque_answers_are_complete_when_they_finish() {
    for (kind, form) in [
        (Kind::Chat, Form::Opaque),
        (Kind::Chat, Form::NdJson),
        (Kind::OllamaChat, Form::Sse),
        (Kind::Models, Form::Sse),
        (Kind::Other, Form::Sse),
        (Kind::Other, Form::Json),
    ] {
        let mut meter = Meter::new(kind, form);
        meter.push(b"data: {\"error\":1}\n\n");
        assert_eq!((meter.ending(), meter.content_started()), (Ending::Open, false));
        assert!(!meter.between_events());
        meter.finish();
        assert_eq!((meter.ending(), meter.usage()), (Ending::Complete, None));
    }
}

#[test]
fn a_stream_knows_when_it_is_between_events() {
    let mut meter = Meter::new(Kind::Chat, Form::Sse);
    meter.push(b"data: {\"choices\":[]}\n\n");
    assert!(meter.between_events());
    meter.push(b"data: {\"cho");
    assert!(!meter.between_events());
}

#[test]
fn forms_by_their_headers() {
    for (content_type, encoding, want) in [
        (Some("text/event-stream"), None, Form::Sse),
        (Some("Text/Event-Stream; charset=utf-8"), Some("identity"), Form::Sse),
        (Some("application/json; charset=UTF-8"), None, Form::Json),
        (Some("application/problem+json"), None, Form::Json),
        (Some("application/x-ndjson"), Some(""), Form::NdJson),
        (Some("application/json"), Some("gzip"), Form::Opaque),
        (Some("text/plain"), None, Form::Opaque),
        (Some("json"), None, Form::Opaque),
        (None, None, Form::Opaque),
    ] {
        let found = form(content_type.map(str::as_bytes), encoding.map(str::as_bytes));
        assert_eq!(found, want, "{content_type:?} {encoding:?}");
    }
}

#[test]
fn what_is_produced_never_falls_and_ends_with_what_was_told() {
    for case in cases() {
        let mut ends = Vec::new();
        for size in [case.body.len(), 1, 64] {
            let mut meter = Meter::new(case.kind, case.form);
            let mut before = 0;
            for chunk in case.body.chunks(size) {
                meter.push(chunk);
                assert!(meter.produced() >= before, "{} falls", case.file);
                before = meter.produced();
            }
            meter.finish();
            ends.push(meter.produced());
        }
        let told = case.usage.map_or(0, |usage| usage.output);
        assert!(ends.iter().all(|&end| end == ends[0] && end >= told), "{}: {ends:?}", case.file);
        assert_eq!(ends[0] > 0, told > 0 || case.events > 0, "{}", case.file);
    }
}

#[test]
fn what_was_told_takes_the_place_of_the_estimate() {
    let chunk = |text: &str, told: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":{told}}}\n\n"
        )
    };
    let mut meter = Meter::new(Kind::Chat, Form::Sse);
    let mut seen = Vec::new();
    for event in [
        chunk("eight by", "null"),
        chunk("tes more", "null"),
        chunk("!", r#"{"completion_tokens":9}"#),
        chunk("twelve bytes", "null"),
        chunk("!", r#"{"completion_tokens":10}"#),
        chunk("!", r#"{"completion_tokens":30}"#),
        chunk("!", r#"{"completion_tokens":5}"#),
    ] {
        meter.push(event.as_bytes());
        seen.push(meter.produced());
    }
    assert_eq!(seen, [2, 4, 9, 12, 12, 30, 31]);
    let image = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"audio\":{{\"data\":\"{}\"}}}}}}]}}\n\n",
        "A".repeat(9000)
    );
    meter.push(image.as_bytes());
    assert_eq!(meter.produced(), 32, "sound is no text");
    let mut signed = Meter::new(Kind::Messages, Form::Sse);
    let signature = format!(
        "event: content_block_delta\ndata: {{\"delta\":{{\"type\":\"signature_delta\",\"signature\":\"{}\"}}}}\n\n",
        "A".repeat(900)
    );
    signed.push(signature.as_bytes());
    assert_eq!(signed.produced(), 1, "a signature is no text");
}

/// Texts, and how many bytes each of their tokens has by the `o200k_base` encoding.
const TOKENS: [(&str, &[u8]); 4] = [
    (
        "The tide at Brest turns at a quarter past six this evening, and the water will be high enough \
         for the ferry by half past four. If you want to walk out to the island, leave no later than \
         noon: the causeway is dry for about three hours, and the current comes in faster than most \
         visitors expect. Bring a jacket; the wind from the west picks up in the afternoon.",
        &[
            3, 5, 3, 6, 6, 3, 2, 8, 5, 4, 5, 8, 1, 4, 4, 6, 5, 3, 5, 7, 4, 4, 6, 3, 5, 5, 5, 1, 3,
            4, 5, 3, 5, 4, 3, 4, 7, 1, 6, 3, 6, 5, 5, 1, 4, 6, 3, 3, 4, 4, 6, 6, 6, 1, 4, 4, 8, 6,
            3, 7, 5, 5, 9, 7, 1, 6, 2, 7, 1, 4, 5, 5, 4, 5, 6, 3, 3, 4, 10, 1,
        ],
    ),
    (
        "fn settle(&mut self, used: Usage) -> Result<(), Fault> {\n    let price = self.rate.cost(&used);\n    \
         if price > self.reserved {\n        self.debt += price - self.reserved;\n    }\n    self.reserved = 0;\n    \
         for (name, window) in &mut self.windows {\n        window.take(used.output, name)?;\n    }\n    Ok(())\n}\n",
        &[
            2, 7, 2, 3, 5, 1, 5, 1, 6, 1, 3, 7, 4, 6, 1, 3, 3, 4, 6, 2, 5, 5, 5, 2, 4, 3, 3, 3, 6,
            2, 5, 4, 5, 3, 7, 5, 3, 2, 3, 6, 2, 5, 4, 5, 2, 3, 3, 3, 5, 4, 5, 2, 1, 1, 2, 3, 4, 2,
            4, 1, 7, 1, 3, 2, 3, 5, 8, 3, 7, 7, 5, 1, 4, 7, 1, 5, 4, 3, 3, 3, 3, 5, 2,
        ],
    ),
    (
        "今天晚上布雷斯特的潮水将在六点一刻转向，下午四点半水位就足够渡轮通行。如果你想步行去岛上，请不要晚于中午出发：\
         堤道大约有三个小时是干的，潮水来得比大多数游客预想的要快。",
        &[
            6, 6, 3, 3, 3, 3, 3, 3, 3, 6, 3, 3, 3, 3, 3, 3, 3, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
            3, 9, 3, 3, 3, 3, 3, 3, 3, 6, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 6, 6, 3, 3, 3, 3,
            3, 3, 3, 3, 3, 3, 6, 6, 3, 3, 3, 3, 3, 3,
        ],
    ),
    (
        "{\"path\":\"src/limits/bucket.rs\",\"from\":120,\"to\":180,\"pattern\":\"fn refill\",\
         \"ignore_case\":false,\"context\":3}",
        &[
            2, 4, 3, 3, 1, 6, 2, 5, 3, 3, 4, 2, 3, 2, 2, 2, 3, 2, 7, 3, 2, 7, 3, 6, 5, 2, 5, 2, 7,
            2, 1, 1,
        ],
    ),
];

/// An event that brings a text, for each dialect and part of an answer.
const EVENTS: [(Kind, Form, &str); 9] = [
    (
        Kind::Chat,
        Form::Sse,
        r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":@}}],"usage":null}"#,
    ),
    (
        Kind::Chat,
        Form::Sse,
        r#"data: {"choices":[{"delta":{"content":"","reasoning":@,"reasoning_content":@,"reasoning_details":[{"text":@}]}}]}"#,
    ),
    (
        Kind::Chat,
        Form::Sse,
        r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":@}}]}}]}"#,
    ),
    (Kind::Completions, Form::Sse, r#"data: {"choices":[{"index":0,"text":@}]}"#),
    (
        Kind::Responses,
        Form::Sse,
        "event: response.output_text.delta\ndata: {\"item_id\":\"m\",\"delta\":@,\"obfuscation\":\"aZ0123456789\"}",
    ),
    (
        Kind::Messages,
        Form::Sse,
        "event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":@}}",
    ),
    (
        Kind::StreamGenerate,
        Form::Sse,
        r#"data: {"candidates":[{"content":{"parts":[{"text":@}],"role":"model"}}]}"#,
    ),
    (
        Kind::OllamaChat,
        Form::NdJson,
        r#"{"model":"m","message":{"role":"assistant","content":@},"done":false}"#,
    ),
    (Kind::OllamaGenerate, Form::NdJson, r#"{"model":"m","response":@,"done":false}"#),
];

/// `\uXXXX` for all that is not ASCII, as some backends write it.
fn ascii(json: &str) -> String {
    let mut units = [0; 2];
    let escaped = |c: char| {
        if c.is_ascii() {
            c.to_string()
        } else {
            format!("\\u{:04x}", c.encode_utf16(&mut units)[0])
        }
    };
    json.chars().map(escaped).collect()
}

#[test]
fn the_estimate_is_near_to_the_tokens() {
    for (text, lens) in TOKENS {
        let ends = lens.iter().scan(0, |end, &len| {
            *end += usize::from(len);
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        assert_eq!(ends.last(), Some(&text.len()));
        for (kind, form, event) in EVENTS {
            for (an_event, plain) in [(1, true), (5, true), (5, false), (lens.len(), true)] {
                let mut meter = Meter::new(kind, form);
                let mut from = 0;
                for (index, part) in ends.chunks(an_event).enumerate() {
                    let to = part[part.len() - 1];
                    let mut piece = serde_json::to_string(&text[from..to]).unwrap();
                    if !plain {
                        piece = ascii(&piece);
                    }
                    meter.push(format!("{}\n\n", event.replace('@', &piece)).as_bytes());
                    from = to;
                    let real = ((index + 1) * an_event).min(ends.len()) as f64;
                    let off = (meter.produced() as f64 - real) / real;
                    // a few tokens are too few to be judged
                    assert!(
                        real < 25.0 || off.abs() <= 0.5,
                        "{off:.2} at {real}: {kind:?}, {an_event} an event: {text}"
                    );
                }
                assert_eq!(
                    meter.content_events(),
                    ends.len().div_ceil(an_event) as u64,
                    "{kind:?}"
                );
            }
        }
    }
}

#[test]
fn a_meter_is_small() {
    assert!(size_of::<Meter>() <= 300, "{} bytes sit in each open stream", size_of::<Meter>());
}

proptest! {
    /// Hostile bytes neither panic nor make the chunking matter.
    #[test]
    fn any_bytes_in_any_chunking_tell_the_same(
        parts in proptest::collection::vec(prop_oneof![
            Just("data: "), Just("\n\n"), Just("\n"), Just("event: error"), Just("{"), Just("}"), Just("["),
            Just("]"), Just("\"usage\":"), Just("\"error\":"), Just("\"delta\":"), Just("\"done\":true"),
            Just("\"type\":\"message_delta\""), Just("\"prompt_tokens\":5"), Just(","), Just("\""), Just("\\"),
            Just("null"), Just("\"finishReason\":"), Just("\"candidates\":["), Just("\"model\":\"m\""),
        ], 0..40),
        size in 1_usize..9,
    ) {
        let text = parts.concat();
        for kind in [Kind::Chat, Kind::Completions, Kind::Responses, Kind::Messages, Kind::StreamGenerate, Kind::OllamaChat] {
            for form in [Form::Sse, Form::NdJson, Form::Json] {
                let whole = metered(kind, form, [text.as_bytes()]);
                let parts = metered(kind, form, text.as_bytes().chunks(size));
                prop_assert_eq!(whole.usage(), parts.usage());
                prop_assert_eq!(whole.ending(), parts.ending());
                prop_assert_eq!(whole.content_events(), parts.content_events());
                prop_assert_eq!(whole.model(), parts.model());
                prop_assert_eq!(whole.produced(), parts.produced());
            }
        }
    }
}
