//! The tables themselves.
use super::super::fields::fields;
use super::*;
use crate::wire::view;

const KINDS: [Kind; 10] = [
    Kind::Chat,
    Kind::Completions,
    Kind::Responses,
    Kind::Messages,
    Kind::CountTokens,
    Kind::Generate,
    Kind::StreamGenerate,
    Kind::GeminiCount,
    Kind::OllamaChat,
    Kind::OllamaGenerate,
];

/// What is not simply said. Whoever leaves a field out, or lets one in, says so here, too.
#[rustfmt::skip]
#[test]
fn every_field_that_is_not_said_is_a_decision() {
    const OPENAI: &str = "Form stream, But stream_options";
    for (kind, said, decided) in [
        (Kind::Chat, 30, format!("{OPENAI}, Label user, Label safety_identifier, Label metadata, \
            Cost prompt_cache_key, Cost prompt_cache_retention, Cost prompt_cache_options, \
            Reaches web_search_options, Reaches plugins, Reaches search_parameters, \
            Reaches enable_search, Recalls deferred")),
        (Kind::Completions, 15, format!(
            "{OPENAI}, Label user, Label safety_identifier, Cost prompt_cache_key")),
        (Kind::Responses, 27, format!("{OPENAI}, Recalls previous_response_id, \
            Recalls conversation, Recalls background, Recalls background_options, Recalls prompt")),
        (Kind::Messages, 28, "But metadata, Form stream, Recalls container, Recalls thread, \
            Reaches mcp_servers".to_owned()),
        (Kind::Generate, 11, "Label labels".to_owned()),
        (Kind::GeminiCount, 7, String::new()),
        (Kind::OllamaChat, 11, "Form stream, Cost keep_alive".to_owned()),
        (Kind::OllamaGenerate, 19, "Form stream, Cost keep_alive".to_owned()),
    ] {
        let word = |does| match does {
            Does::Changes => None,
            Does::ChangesBut(_) => Some("But"),
            Does::Form => Some("Form"),
            Does::Label => Some("Label"),
            Does::Cost => Some("Cost"),
            Does::Recalls => Some("Recalls"),
            Does::Reaches => Some("Reaches"),
        };
        let fields = fields(kind).unwrap();
        let not_said: Vec<_> = fields.iter()
            .filter_map(|field| Some(format!("{} {}", word(field.does)?, field.name))).collect();
        assert_eq!(not_said.join(", "), decided, "{kind:?}");
        assert_eq!(fields.len() - not_said.len(), said, "{kind:?}");
    }
}

#[test]
fn tables_are_sound() {
    for kind in KINDS {
        let fields = fields(kind).unwrap();
        assert!(fields.len() <= 64, "one bit each");
        for (index, field) in fields.iter().enumerate() {
            let names = |other: &Field| is(kind.dialect(), other.name, field.name.as_bytes());
            assert_eq!(fields.iter().position(names), Some(index), "{}", field.name);
        }
        let turns = fields.iter().filter(|field| field.tells == Tells::Turns).count();
        assert_eq!(turns, 1, "{kind:?}");
    }
    assert!(fields(Kind::Embeddings).is_none() && fields(Kind::Other).is_none());
}

/// What is read of a body elsewhere is decided on here.
#[test]
fn what_a_view_reads_is_named() {
    for kind in KINDS {
        for read in view::fields::fields(kind) {
            let named = fields(kind).unwrap().iter().any(|field| field.name == read.name);
            assert!(named, "{kind:?} {}", read.name);
        }
    }
}
