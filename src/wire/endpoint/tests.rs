use super::*;

fn post(path: &str) -> (Option<Dialect>, Kind, bool, Option<&str>) {
    let found = endpoint(&Method::POST, path);
    (found.dialect, found.kind, found.versioned, found.model)
}

const OPENAI: Option<Dialect> = Some(Dialect::OpenAi);
const ANTHROPIC: Option<Dialect> = Some(Dialect::Anthropic);
const GEMINI: Option<Dialect> = Some(Dialect::Gemini);
const OLLAMA: Option<Dialect> = Some(Dialect::Ollama);

#[test]
fn calls_by_post() {
    for (path, dialect, kind, versioned, model) in [
        ("/v1/chat/completions", OPENAI, Kind::Chat, true, None),
        ("/chat/completions", OPENAI, Kind::Chat, false, None),
        ("/v1/completions", OPENAI, Kind::Completions, true, None),
        ("/completions", OPENAI, Kind::Completions, false, None),
        ("/v1/responses", OPENAI, Kind::Responses, true, None),
        ("/responses", OPENAI, Kind::Responses, false, None),
        ("/v1/responses/resp_1/cancel", OPENAI, Kind::Other, true, None),
        ("/responses/resp_1/cancel", OPENAI, Kind::Other, false, None),
        ("/v1/embeddings", OPENAI, Kind::Embeddings, true, None),
        ("/embeddings", OPENAI, Kind::Embeddings, false, None),
        // other vendors that speak the dialect
        ("/openai/v1/chat/completions", OPENAI, Kind::Chat, true, None),
        ("/api/v1/chat/completions", OPENAI, Kind::Chat, true, None),
        ("/api/paas/v4/chat/completions", OPENAI, Kind::Chat, true, None),
        ("/v1beta/openai/chat/completions", OPENAI, Kind::Chat, true, None),
        ("/openai/responses", OPENAI, Kind::Responses, true, None),
        ("/openai/deployments/mine/chat/completions", OPENAI, Kind::Chat, true, Some("mine")),
        ("/openai/deployments/mine/embeddings", OPENAI, Kind::Embeddings, true, Some("mine")),
        ("/openai/deployments/mine/images/edits", OPENAI, Kind::Other, true, Some("mine")),
        ("/v1/files", OPENAI, Kind::Other, true, None),
        ("/v1/threads/t/messages", OPENAI, Kind::Other, true, None),
        ("/v1/messages", ANTHROPIC, Kind::Messages, true, None),
        ("/messages", ANTHROPIC, Kind::Messages, false, None),
        ("/anthropic/v1/messages", ANTHROPIC, Kind::Messages, true, None),
        ("/v1/messages/count_tokens", ANTHROPIC, Kind::CountTokens, true, None),
        ("/messages/count_tokens", ANTHROPIC, Kind::CountTokens, false, None),
        ("/v1/messages/batches", ANTHROPIC, Kind::Other, true, None),
        (
            "/v1beta/models/gemini-2.5-pro:generateContent",
            GEMINI,
            Kind::Generate,
            true,
            Some("gemini-2.5-pro"),
        ),
        ("/v1/models/m:streamGenerateContent", GEMINI, Kind::StreamGenerate, true, Some("m")),
        ("/models/m:generateContent", GEMINI, Kind::Generate, false, Some("m")),
        ("/v1beta/models/m:embedContent", GEMINI, Kind::GeminiEmbed, true, Some("m")),
        ("/v1beta/models/m:batchEmbedContents", GEMINI, Kind::GeminiEmbed, true, Some("m")),
        ("/v1beta/models/m:countTokens", GEMINI, Kind::GeminiCount, true, Some("m")),
        ("/v1beta/tunedModels/t:generateContent", GEMINI, Kind::Generate, true, Some("t")),
        (
            "/v1/projects/p/locations/l/publishers/google/models/m:generateContent",
            GEMINI,
            Kind::Generate,
            true,
            Some("m"),
        ),
        ("/v1beta/cachedContents", GEMINI, Kind::Other, true, None),
        ("/upload/v1beta/files", GEMINI, Kind::Other, true, None),
        ("/api/chat", OLLAMA, Kind::OllamaChat, true, None),
        ("/api/generate", OLLAMA, Kind::OllamaGenerate, true, None),
        ("/api/embed", OLLAMA, Kind::OllamaEmbed, true, None),
        ("/api/embeddings", OLLAMA, Kind::OllamaEmbed, true, None),
        ("/api/pull", OLLAMA, Kind::Other, true, None),
        ("/api/blobs/sha256:00", OLLAMA, Kind::Other, true, None),
    ] {
        assert_eq!(post(path), (dialect, kind, versioned, model), "{path}");
    }
}

#[test]
fn paths_of_nobody() {
    for path in [
        "/",
        "",
        "/v1",
        "/v1/",
        "/v1//chat/completions",
        "/chat",
        "/files",
        "/version/chat/completions",
        "/api/unknown",
        "/openai/deployments/",
        "/openai/deployments/mine",
        "/v1/things/m:generateContent",
        "/v1/messagesx",
        "/é/v1x/ü",
    ] {
        let found = endpoint(&Method::POST, path);
        assert_eq!((found.dialect, found.kind), (None, Kind::Other), "{path}");
    }
}

#[test]
fn models_are_read() {
    for (path, dialect, model) in [
        ("/v1/models", OPENAI, None),
        ("/models", OPENAI, None),
        ("/v1/models/gpt-5", OPENAI, Some("gpt-5")),
        ("/v1/models/ft:gpt-4o:org::id", OPENAI, Some("ft:gpt-4o:org::id")),
        ("/v1beta/models", GEMINI, None),
        ("/v1beta/models/gemini-2.5-pro", GEMINI, Some("gemini-2.5-pro")),
        ("/api/tags", OLLAMA, None),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let found = endpoint(&method, path);
            assert_eq!((found.dialect, found.kind, found.model), (dialect, Kind::Models, model));
        }
        assert_eq!(endpoint(&Method::DELETE, path).kind, Kind::Other, "{path}");
    }
}

#[test]
fn another_method_is_no_call_but_keeps_the_dialect() {
    for (path, dialect) in
        [("/v1/responses/resp_1", OPENAI), ("/v1/messages", ANTHROPIC), ("/api/chat", OLLAMA)]
    {
        let found = endpoint(&Method::GET, path);
        assert_eq!((found.dialect, found.kind), (dialect, Kind::Other), "{path}");
    }
}

#[test]
fn kinds_say_what_they_are() {
    assert!(Kind::Chat.reads_body() && Kind::OllamaEmbed.reads_body());
    assert!(!Kind::Models.reads_body() && !Kind::Other.reads_body());
    assert!(Kind::OllamaChat.streams_by_default() && Kind::StreamGenerate.streams_by_default());
    assert!(!Kind::Chat.streams_by_default() && !Kind::OllamaEmbed.streams_by_default());
    assert_eq!(Kind::Messages.operation(), "chat");
    assert_eq!(Kind::Embeddings.operation(), "embeddings");
    assert_eq!(Kind::StreamGenerate.operation(), "generate_content");
}

#[test]
fn the_usual_paths_mean_what_the_dialects_say() {
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"] {
        assert!(usual(path).is_some());
        assert_eq!(endpoint(&Method::POST, path), found(&Method::POST, path), "{path}");
        assert_eq!(endpoint(&Method::GET, path), found(&Method::GET, path), "{path}");
    }
}
