use super::*;
use crate::wire::view;
use Repeat::{Freely, WhenFailed, WhenUnbegun};

fn posted(kind: Kind, body: &str) -> Repeat {
    repeat(&Method::POST, kind, Some(&view(kind, body.as_bytes()).unwrap()), false)
}

#[test]
fn reads_may_be_sent_again_whatever_happened() {
    for kind in [
        Kind::Models,
        Kind::CountTokens,
        Kind::GeminiCount,
        Kind::Embeddings,
        Kind::GeminiEmbed,
        Kind::OllamaEmbed,
    ] {
        assert_eq!(posted(kind, r#"{"model":"m"}"#), Freely, "{kind:?}");
        assert_eq!(repeat(&Method::POST, kind, None, false), Freely, "{kind:?}");
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for kind in [Kind::Models, Kind::Other] {
            assert_eq!(repeat(&method, kind, None, false), Freely, "{method} {kind:?}");
        }
    }
}

#[test]
fn an_answer_in_words_may_be_asked_for_again() {
    for (kind, body) in [
        (Kind::Chat, r#"{"messages":[]}"#),
        (Kind::Chat, r#"{"tools":[{"type":"function","function":{"name":"web_search"}}]}"#),
        (Kind::Chat, r#"{"tools":[{"function":{}},{"type":"custom"}],"store":true}"#),
        (Kind::Chat, r#"{"background":true,"mcp_servers":[1]}"#),
        (Kind::Completions, r#"{"prompt":"x"}"#),
        (Kind::Responses, r#"{"input":"x"}"#),
        (
            Kind::Responses,
            r#"{"input":"x","background":false,"conversation":null,"prompt":null,"tools":[]}"#,
        ),
        (Kind::Responses, r#"{"tools":[{"type":"function","name":"f"},{"type":"custom"}]}"#),
        (Kind::Responses, r#"{"previous_response_id":"resp_1","tools":null}"#),
        (Kind::Messages, r#"{"messages":[]}"#),
        (
            Kind::Messages,
            r#"{"tools":[{"name":"f","input_schema":{"type":"web_search_20250305"}},{"type":"custom"}]}"#,
        ),
        (
            Kind::Messages,
            r#"{"tools":[{"type":"bash_20250124"},{"type":"text_editor_20250728"}],"mcp_servers":[]}"#,
        ),
        (
            Kind::Messages,
            r#"{"tools":[{"type":"tool_search_tool_regex_20251119"},{"type":"memory_20250818"}]}"#,
        ),
        (
            Kind::Generate,
            r#"{"contents":[],"tools":[{"functionDeclarations":[{"name":"googleSearch"}]}]}"#,
        ),
        (Kind::StreamGenerate, r#"{"tools":[{"function_declarations":[],"googleSearch":null}]}"#),
        (Kind::OllamaChat, r#"{"tools":[{"type":"function"}]}"#),
        (Kind::OllamaGenerate, r#"{"prompt":"x"}"#),
    ] {
        assert_eq!(posted(kind, body), WhenFailed, "{kind:?} {body}");
    }
}

#[test]
fn work_that_may_have_been_done_is_not_done_again() {
    for (kind, body) in [
        (Kind::Chat, r#"{"tools":[{"type":"function"},{"type":"web_search"}]}"#),
        (Kind::Chat, r#"{"tools":{"type":"function"}}"#),
        (Kind::Responses, r#"{"background":true}"#),
        (Kind::Responses, r#"{"b\u0061ckground":true,"tools":[]}"#),
        (Kind::Responses, r#"{"conversation":"conv_1"}"#),
        (Kind::Responses, r#"{"conversation":{"id":"conv_1"}}"#),
        (Kind::Responses, r#"{"prompt":{"id":"pmpt_1"}}"#),
        (
            Kind::Responses,
            r#"{"tools":[{"type":"function"},{"type":"mcp","server_url":"https://x"}]}"#,
        ),
        (Kind::Responses, r#"{"tools":[{"type":"code_interpreter"}]}"#),
        (Kind::Responses, r#"{"tools":[{"type":"image_generation"}]}"#),
        (Kind::Messages, r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#),
        (Kind::Messages, r#"{"tools":[{"name":"f"},{"type":"code_execution_20250825"}]}"#),
        (Kind::Messages, r#"{"tools":[{"type":"mcp_toolset","mcp_server_name":"x"}]}"#),
        (Kind::Messages, r#"{"mcp_servers":[{"type":"url"}]}"#),
        (Kind::Messages, r#"{"container":"container_1"}"#),
        (Kind::Generate, r#"{"tools":[{"functionDeclarations":[]},{"googleSearch":{}}]}"#),
        (Kind::StreamGenerate, r#"{"tools":[{"code_execution":{}}]}"#),
        (Kind::Other, "a file"),
    ] {
        assert_eq!(posted(kind, body), WhenUnbegun, "{kind:?} {body}");
        let seen = view(kind, body.as_bytes()).unwrap();
        assert_eq!(repeat(&Method::POST, kind, Some(&seen), true), WhenFailed, "keyed: {body}");
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(repeat(&method, Kind::Other, None, false), WhenUnbegun, "{method}");
        assert_eq!(repeat(&method, Kind::Other, None, true), WhenFailed, "{method}");
    }
    // nobody knows what was asked for
    assert_eq!(repeat(&Method::POST, Kind::Chat, None, false), WhenUnbegun);
}

#[test]
fn a_key_frees_nothing_that_is_free_already() {
    assert_eq!(repeat(&Method::GET, Kind::Other, None, true), Freely);
    assert_eq!(repeat(&Method::POST, Kind::Embeddings, None, true), Freely);
}
