//! What a request's body says of its session, where no header did.
use super::names::{NameKind, spelled};
use super::{Identity, Shared};

/// Fields of a body that agents put a session into; the most telling first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'b> {
    /// OpenAI `prompt_cache_key`; Codex puts the conversation's id there.
    pub prompt_cache_key: Option<&'b str>,
    /// Anthropic `metadata.user_id`
    pub user_id: Option<&'b str>,
    /// OpenAI `safety_identifier`
    pub safety_identifier: Option<&'b str>,
    /// OpenAI `user`
    pub user: Option<&'b str>,
}

impl Identity {
    /// With the session that the body tells, if no header did. The agent stays.
    #[must_use]
    pub fn with_hints(mut self, hints: &Hints<'_>, shared: &Shared) -> Self {
        if self.session.is_none() {
            let of_user = hints.user_id.map(session_of);
            let named = [hints.prompt_cache_key, of_user, hints.safety_identifier, hints.user];
            self.session = named.into_iter().flatten().find_map(|text| {
                spelled(&shared.hash_key, text.as_bytes(), |name| {
                    shared.names.share(NameKind::Session, name)
                })
            });
        }
        self
    }
}

/// Claude Code writes user, account and session into one text, of two forms:
/// `user_…_account_…_session_ID`, and JSON with a `session_id`.
fn session_of(user_id: &str) -> &str {
    #[derive(serde::Deserialize)]
    struct Parts<'t> {
        #[serde(borrow)]
        session_id: &'t str,
    }
    if user_id.starts_with('{') {
        return serde_json::from_str(user_id).map_or(user_id, |parts: Parts<'_>| parts.session_id);
    }
    match user_id.rsplit_once("_session_") {
        Some((_, session)) if !session.is_empty() => session,
        _ => user_id,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::{Class, Name, Rung};

    fn anybody() -> Identity {
        Identity {
            agent: Name::from("a"),
            rung: Rung::Address,
            parent: None,
            session: None,
            team: None,
            team_proven: false,
            class: Class::Default,
            credential: None,
            grant: None,
            unlisted: None,
        }
    }

    #[test]
    fn a_body_tells_the_session_where_no_header_did() {
        let shared = Shared::default();
        let session = |hints: Hints<'_>| anybody().with_hints(&hints, &shared).session;
        assert_eq!(session(Hints::default()), None);
        let all = Hints {
            prompt_cache_key: Some("conversation-1"),
            user_id: Some("user_0f_account__session_11-22"),
            safety_identifier: Some("safe"),
            user: Some("me"),
        };
        assert_eq!(session(all).as_deref(), Some("conversation-1"));
        let all = Hints { prompt_cache_key: Some(" "), ..all };
        assert_eq!(session(all).as_deref(), Some("11-22"));
        let all = Hints { user_id: None, ..all };
        assert_eq!(session(all).as_deref(), Some("safe"));
        let all = Hints { safety_identifier: None, ..all };
        assert_eq!(session(all).as_deref(), Some("me"));
        let said = Identity { session: Some(Arc::from("said")), ..anybody() };
        assert_eq!(said.with_hints(&all, &shared).session.as_deref(), Some("said"));
    }

    #[test]
    fn the_session_is_found_in_the_user() {
        for (user_id, want) in [
            ("user_0f_account_a_session_11-22", "11-22"),
            (r#"{"device_id":"d","account_uuid":"","session_id":"11-22"}"#, "11-22"),
            ("{not json", "{not json"),
            ("user_0f_session_", "user_0f_session_"),
            ("somebody", "somebody"),
        ] {
            assert_eq!(session_of(user_id), want);
        }
    }
}
