use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{Cache, Scope, Semantic, SemanticMode};

const HOUR: Duration = Duration::from_hours(1);

/// A policy and its author, to ask under.
struct Desk {
    alike: Alike,
    policy: Arc<str>,
    rule: Cache,
    author: Author,
}

fn desk(mode: SemanticMode) -> Desk {
    let semantic = Semantic { mode, ..Semantic::default() };
    Desk {
        alike: Alike::new(Alike::BYTES),
        policy: "support".into(),
        rule: Cache { canonical: true, semantic: Some(semantic), ..Cache::default() },
        author: author("ada"),
    }
}

fn author(agent: &str) -> Author {
    Author {
        agent: agent.into(),
        model: "m".into(),
        route: "r".into(),
        upstream: "u".into(),
        credential: 0,
    }
}

fn key(number: u64) -> Key {
    Key(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

impl Desk {
    fn asked<'a>(&'a self, partition: u64, text: &'a str) -> Asked<'a> {
        let Self { policy, rule, author, .. } = self;
        let partition = key(partition);
        Asked { policy, partition, text, rule, author, tighten: None, vector: None }
    }

    fn look(&self, text: &str) -> Look {
        self.alike.look(&self.asked(0, text), now())
    }

    fn add(&self, text: &str, entry: u64) {
        self.alike.add(&self.asked(0, text), key(entry), now() + HOUR, now());
    }
}

#[test]
fn the_same_question_in_other_letters_is_the_same() {
    let desk = desk(SemanticMode::Off);
    let asked = "How do I reset my password?";
    assert_eq!(desk.look(asked), Look::None { why: "new", nearest: None });
    desk.add(asked, 1);
    assert_eq!(desk.look("how do i reset my PASSWORD"), Look::Canonical { entry: key(1) });
    assert_eq!(desk.look("How do I change my username?"), Look::None { why: "new", nearest: None });
}
