//! What a request's headers say of its caller, in one pass over them.
//!
//! All of it is the client's own word, but for the credentials. The names are those that agents
//! send as they are: Claude Code, Codex, `OpenCode`, and the generic ones.
use http::{HeaderMap, HeaderName, HeaderValue};

use super::presented::{Place, Presented};
use crate::identity::Class;

/// Header values as they came; the first, if there are several.
#[derive(Debug, Default)]
pub(super) struct Said<'r> {
    /// Of the two headers that the policy names.
    pub agent: Option<&'r [u8]>,
    pub team: Option<&'r [u8]>,
    /// One of the agents of a session.
    pub sub_agent: Option<&'r [u8]>,
    pub parent: Option<&'r [u8]>,
    pub presented: Presented<'r>,
    session: Option<(u8, &'r [u8])>,
    priority: Option<Class>,
    class: Option<Class>,
}

impl<'r> Said<'r> {
    /// `agent` and `team` are the headers that the policy names.
    pub fn read(
        headers: &'r HeaderMap,
        query: Option<&'r str>,
        agent: &HeaderName,
        team: Option<&HeaderName>,
    ) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            // not instead of their usual meaning
            if name == agent {
                said.agent = said.agent.or(Some(value.as_bytes()));
            }
            if team == Some(name) {
                said.team = said.team.or(Some(value.as_bytes()));
            }
            said.header(name.as_str(), value);
        }
        if let Some(query) = query {
            said.presented.query(query);
        }
        said
    }

    fn header(&mut self, name: &str, value: &'r HeaderValue) {
        let first = |known: &mut Option<&'r [u8]>| *known = known.or(Some(value.as_bytes()));
        match name {
            "x-tidegate-key" => self.presented.header(Place::TidegateKey, value),
            "authorization" => self.presented.header(Place::Authorization, value),
            "x-api-key" => self.presented.header(Place::XApiKey, value),
            "x-goog-api-key" => self.presented.header(Place::XGoogApiKey, value),
            "api-key" => self.presented.header(Place::ApiKey, value),
            "sec-websocket-protocol" => self.presented.header(Place::Protocol, value),
            "x-claude-code-agent-id" => first(&mut self.sub_agent),
            "x-claude-code-parent-agent-id" => first(&mut self.parent),
            "x-claude-code-session-id" => self.session(0, value),
            "session-id" => self.session(1, value),
            "session_id" => self.session(2, value),
            "thread-id" => self.session(3, value),
            "x-session-affinity" => self.session(4, value),
            "x-session-id" => self.session(5, value),
            "agent-session-id" => self.session(6, value),
            "x-tidegate-priority" => self.priority = self.priority.or(priority(value.as_bytes())),
            "x-claude-code-request-class" => {
                self.class = self.class.or(request_class(value.as_bytes()));
            }
            _ => {}
        }
    }

    /// The lowest rank wins.
    fn session(&mut self, rank: u8, value: &'r HeaderValue) {
        let value = value.as_bytes();
        if !value.is_empty() && self.session.is_none_or(|(known, _)| rank < known) {
            self.session = Some((rank, value));
        }
    }

    pub fn session_id(&self) -> Option<&'r [u8]> {
        self.session.map(|(_, value)| value)
    }

    /// Our own header says more than the agent's.
    pub fn urgency(&self) -> Class {
        self.priority.or(self.class).unwrap_or_default()
    }
}

fn priority(value: &[u8]) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.as_str().as_bytes() == value)
}

/// A person waits for `main`; nobody for `auxiliary` (titles, summaries).
fn request_class(value: &[u8]) -> Option<Class> {
    match value {
        b"main" => Some(Class::Interactive),
        b"subagent" | b"workflow" | b"compaction" => Some(Class::Default),
        b"auxiliary" => Some(Class::Batch),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn read<R>(lines: &[(&str, &str)], look: impl FnOnce(Said<'_>) -> R) -> R {
        let headers = headers(lines);
        let agent = HeaderName::from_static("x-agent-id");
        look(Said::read(&headers, None, &agent, Some(&HeaderName::from_static("x-team"))))
    }

    #[test]
    fn sessions_are_taken_in_their_order() {
        let ranked = [
            "x-claude-code-session-id",
            "session-id",
            "session_id",
            "thread-id",
            "x-session-affinity",
            "x-session-id",
            "agent-session-id",
        ];
        for from in 0..ranked.len() {
            // the worst first: their order in the request does not matter
            let lines: Vec<_> = ranked[from..].iter().rev().map(|name| (*name, *name)).collect();
            let got = read(&lines, |said| said.session_id().map(<[u8]>::to_vec));
            assert_eq!(got.as_deref(), Some(ranked[from].as_bytes()));
        }
        assert_eq!(read(&[("session-id", "")], |said| said.session_id().map(<[u8]>::len)), None);
    }

    #[test]
    fn the_class_is_ours_then_the_agents() {
        let claude = |word| [("x-claude-code-request-class", word)];
        for (word, want) in [
            ("main", Class::Interactive),
            ("subagent", Class::Default),
            ("workflow", Class::Default),
            ("compaction", Class::Default),
            ("auxiliary", Class::Batch),
            ("else", Class::Default),
        ] {
            assert_eq!(read(&claude(word), |said| said.urgency()), want, "{word}");
        }
        let both = [("x-claude-code-request-class", "main"), ("x-tidegate-priority", "batch")];
        assert_eq!(read(&both, |said| said.urgency()), Class::Batch);
        let strange = [("x-tidegate-priority", "now"), ("x-claude-code-request-class", "main")];
        assert_eq!(read(&strange, |said| said.urgency()), Class::Interactive);
    }

    #[test]
    fn the_first_of_several_counts() {
        let twice = [("x-agent-id", "a"), ("x-agent-id", "b"), ("x-team", "t"), ("x-team", "u")];
        read(&twice, |said| {
            assert_eq!((said.agent, said.team), (Some(&b"a"[..]), Some(&b"t"[..])));
        });
    }
}
