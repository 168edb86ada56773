use super::*;

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
