mod folding;
mod round;
mod unfolding;

use super::*;

/// A sample answer of a vendor.
fn sample(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/wire/");
    #[expect(clippy::disallowed_methods, reason = "a test may block")]
    std::fs::read(format!("{path}{name}")).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of what it is compared with")]
const fn worth(finish: Finish, calls_tools: bool, empty: bool) -> Option<Facts> {
    Some(Facts { finish, calls_tools, empty })
}

#[test]
fn samples_of_all_dialects_tell_their_facts() {
    use Finish::{Filtered, Length, Stop, Tools};
    use Form::{Json, NdJson, Sse};
    let said = worth(Stop, false, false);
    let calls = worth(Tools, true, false);
    for (kind, form, name, want, words) in [
        (
            Kind::Chat,
            Json,
            "openai/chat.json",
            said,
            "The tide turns at \"six\": {\"usage\": 9, \"error\": 1}.",
        ),
        (Kind::Chat, Sse, "openai/chat_stream.sse", said, "The tide turns at six."),
        (Kind::Chat, Sse, "openai/chat_stream_no_usage.sse", said, "The tide turns at six."),
        (Kind::Chat, Sse, "openai/chat_reasoning_stream.sse", said, "At six."),
        (Kind::Chat, Sse, "openai/chat_tools_stream.sse", calls, ""),
        (Kind::Completions, Sse, "openai/completions_stream.sse", said, " high tide"),
        (Kind::Responses, Json, "openai/responses.json", said, "At six."),
        (Kind::Responses, Sse, "openai/responses_stream.sse", said, "At six."),
        (Kind::Responses, Sse, "openai/responses_tools_stream.sse", calls, ""),
        (
            Kind::Responses,
            Sse,
            "openai/responses_incomplete_stream.sse",
            worth(Length, false, false),
            "At six.",
        ),
        (Kind::Messages, Json, "anthropic/message.json", said, "The tide turns at six."),
        (Kind::Messages, Sse, "anthropic/stream.sse", said, "Hello! \"message_stop\""),
        (Kind::Messages, Sse, "anthropic/thinking_stream.sse", said, "At six."),
        (Kind::Messages, Sse, "anthropic/tools_stream.sse", calls, "Okay"),
        (Kind::Generate, Json, "gemini/generate.json", said, "The tide turns at six."),
        (Kind::StreamGenerate, Sse, "gemini/stream.sse", said, "The tide turns at six."),
        (Kind::StreamGenerate, Json, "gemini/stream_array.json", said, "The tide turns at six."),
        (Kind::StreamGenerate, Sse, "gemini/thinking_stream.sse", said, "At six."),
        (Kind::StreamGenerate, Sse, "gemini/tools_stream.sse", calls, ""),
        (Kind::StreamGenerate, Sse, "gemini/blocked_stream.sse", worth(Filtered, false, true), ""),
        (Kind::OllamaChat, Json, "ollama/chat.json", said, "The tide turns at six."),
        (Kind::OllamaChat, NdJson, "ollama/chat_stream.ndjson", said, "The \"done\":true tide"),
        (Kind::OllamaChat, NdJson, "ollama/chat_thinking_stream.ndjson", said, "Six."),
        (Kind::OllamaChat, NdJson, "ollama/chat_tools_stream.ndjson", calls, ""),
        (Kind::OllamaGenerate, Json, "ollama/generate.json", said, "At six."),
        (Kind::OllamaGenerate, NdJson, "ollama/generate_stream.ndjson", said, "At six."),
    ] {
        let body = sample(name);
        assert_eq!(facts(kind, form, &body), want, "{name}");
        assert_eq!(text(kind, form, &body).as_deref(), Some(words), "{name}");
    }
}

#[test]
fn what_an_answer_of_openai_is_worth() {
    use Finish::{Filtered, Length, Other, Refused, Stop, Tools};
    use Form::{Json, Sse};
    let chat = |message: &str, reason: &str| {
        format!(r#"{{"choices":[{{"message":{message},"finish_reason":"{reason}"}}]}}"#)
    };
    let chunk = |delta: &str, reason: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{delta},\"finish_reason\": {reason}}}]}}\n\n")
    };
    let thought = chunk(r#"{"reasoning":"r","content":null,"tool_calls":[]}"#, "null")
        + &chunk(r#"{"content":""}"#, "\"stop\"");
    let refused = chunk(r#"{"content":null,"refusal":"No."}"#, "null") + &chunk("{}", "\"stop\"");
    let parts = chunk(r#"{"content":[{"type":"text","text":"a"}]}"#, "\"length\"");
    let two =
        r#"{"choices":[{"text":"","finish_reason":"stop"},{"text":"a","finish_reason":"length"}]}"#;
    let response = |status: &str, why: &str, item: &str| {
        format!(r#"{{"status":"{status}","incomplete_details":{why},"output":[{item}]}}"#)
    };
    let refusal = r#"{"type":"message","content":[{"type":"refusal","refusal":"No."}]}"#;
    let call = r#"{"type":"custom_tool_call","input":"x"}"#;
    let bare = format!(
        "data: {{\"type\":\"response.output_item.done\",\"item\":{call}}}\n\n\
         data: {{\"type\":\"response.completed\",\"response\":{}}}\n\ndata: [DONE]\n\n",
        response("completed", "null", "")
    );
    let (said, empty) = (|finish| worth(finish, false, false), |finish| worth(finish, false, true));
    for (kind, form, body, want) in [
        (Kind::Chat, Json, chat(r#"{"content":"","refusal":null}"#, "stop"), empty(Stop)),
        (Kind::Chat, Json, chat(r#"{"content":"a"}"#, "content_filter"), said(Filtered)),
        (Kind::Chat, Json, chat(r#"{"content":null,"refusal":"No."}"#, "stop"), said(Refused)),
        (Kind::Chat, Json, chat(r#"{"tool_calls":[{}]}"#, "stop"), worth(Tools, true, false)),
        (Kind::Chat, Json, chat(r#"{"content":"a"}"#, "eos"), said(Other)),
        (Kind::Chat, Json, r#"{"choices":[]}"#.into(), None),
        (Kind::Chat, Sse, thought, empty(Stop)),
        (Kind::Chat, Sse, refused, said(Refused)),
        (Kind::Chat, Sse, parts, said(Length)),
        (Kind::Chat, Sse, chunk(r#"{"content":"a"}"#, "null"), None),
        (Kind::Completions, Json, two.into(), said(Length)),
        (Kind::Responses, Json, response("completed", "null", refusal), said(Refused)),
        (
            Kind::Responses,
            Json,
            response("incomplete", r#"{"reason":"content_filter"}"#, ""),
            empty(Filtered),
        ),
        (Kind::Responses, Json, response("completed", "null", call), worth(Tools, true, false)),
        (Kind::Responses, Json, response("failed", "null", ""), empty(Other)),
        (Kind::Responses, Sse, bare, worth(Tools, true, false)),
        (Kind::Embeddings, Json, r#"{"data":[]}"#.into(), None),
        (Kind::Chat, Form::Opaque, "x".into(), None),
        (Kind::Chat, Json, String::new(), None),
    ] {
        assert_eq!(facts(kind, form, body.as_bytes()), want, "{body}");
    }
}

#[test]
fn what_an_answer_of_the_others_is_worth() {
    use Finish::{Filtered, Length, Other, Refused, Stop};
    use Form::{Json, NdJson};
    let gemini = |reason: &str, parts: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},"finishReason":"{reason}"}}]}}"#
        )
    };
    let claude = |reason: &str, blocks: &str| {
        format!(r#"{{"content":[{blocks}],"stop_reason":"{reason}"}}"#)
    };
    let lines = "{\"response\":\"\",\"done\":false}\n{\"done\":true,\"done_reason\":\"length\"}\n";
    let (said, empty) = (|finish| worth(finish, false, false), |finish| worth(finish, false, true));
    for (kind, form, body, want) in [
        (
            Kind::Messages,
            Json,
            claude("pause_turn", r#"{"type":"server_tool_use"}"#),
            worth(Other, true, false),
        ),
        (
            Kind::Messages,
            Json,
            claude("stop_sequence", r#"{"type":"text","text":"a"}"#),
            said(Stop),
        ),
        (
            Kind::Messages,
            Json,
            claude("end_turn", r#"{"type":"thinking","thinking":"a"}"#),
            empty(Stop),
        ),
        (Kind::Generate, Json, gemini("SAFETY", ""), empty(Filtered)),
        (Kind::Generate, Json, gemini("STOP", r#"{"text":"a","thought":true}"#), empty(Stop)),
        (Kind::Generate, Json, gemini("STOP", r#"{"inlineData":{"data":"aa"}}"#), said(Stop)),
        (Kind::Generate, Json, gemini("MAX_TOKENS", r#"{"text":"a"}"#), said(Length)),
        (Kind::OllamaGenerate, NdJson, lines.into(), empty(Length)),
        (Kind::Messages, Json, claude("refusal", ""), empty(Refused)),
    ] {
        assert_eq!(facts(kind, form, body.as_bytes()), want, "{body}");
    }
}
