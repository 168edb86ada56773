//! A caller who was known when it asked, and whose call is made now.
use std::sync::Arc;

use super::names::{Called, NameKind};
use super::{Ladder, Unknown};
use crate::config::Access;
use crate::identity::{Class, Fingerprint, Identity, Rung};

/// What was known of a caller then.
#[derive(Debug, Clone, Copy)]
pub struct Known<'k> {
    /// Agent and team as walls know them.
    pub agent: &'k str,
    pub rung: Rung,
    pub parent: Option<&'k str>,
    pub session: Option<&'k str>,
    pub team: Option<&'k str>,
    pub team_proven: bool,
    pub class: Class,
    pub credential: Option<[u8; 16]>,
    /// The id of its tidegate key.
    pub key: Option<&'k str>,
}

impl Ladder {
    /// The same caller under this policy. Its key must still be good, and where the policy wants
    /// proof there must have been some. `now` is in Unix seconds.
    pub fn again(&self, known: &Known<'_>, now: i64) -> Result<Identity, Unknown> {
        let grant = known.key.map(|id| self.keyring.by_id(id, now)).transpose()?;
        if self.access == Access::Known && grant.is_none() && !known.rung.authorizes() {
            return Err(Unknown::NoKey);
        }
        let names = &self.shared.names;
        let name = |kind, text: &str| names.share(kind, text);
        let (agent, team, unlisted) = Called::apart(
            names.call(NameKind::Agent, known.agent),
            known.team.map(|team| names.call(NameKind::Team, team)),
        );
        Ok(Identity {
            agent,
            rung: known.rung,
            parent: known.parent.map(|parent| name(NameKind::Parent, parent)),
            session: known.session.map(|session| name(NameKind::Session, session)),
            team,
            team_proven: known.team_proven,
            class: known.class,
            credential: known.credential.map(Fingerprint),
            grant: grant.map(|key| Arc::clone(&key.grant)),
            unlisted,
        })
    }
}
