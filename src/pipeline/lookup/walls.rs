//! What goes into the name of an answer beside the question: everything that it may not cross.
use http::HeaderMap;

use crate::cache::{self, Key, Purpose, Vectors, Walls};
use crate::config::{self, Scope};
use crate::identity::Identity;
use crate::pipeline::worker::Worker;
use crate::wire::{self, Kind};

use super::Facts;
use super::form::formless;

/// The name of what a call asks, and of the inputs that it asks about, if that is what it does. Or
/// why it has none, in a word.
pub fn name(
    kind: Kind,
    body: &[u8],
    rule: &config::Cache,
    within: impl FnOnce(Purpose) -> cache::Naming,
) -> Result<(Key, Option<Vectors>), &'static str> {
    if kind.embeds() {
        if !rule.embeddings {
            return Err("embeddings");
        }
        let batch = wire::embed::batch(kind, body).ok_or("inputs")?;
        let (vectors, question) = Vectors::new(kind, &batch, within(Purpose::Vector));
        return Ok((question, Some(vectors)));
    }
    let question = wire::question(kind, body).map_err(wire::Unasked::as_str)?;
    // who does not say gets the vendor's default, and that is high
    if rule.temperature.is_some_and(|most| question.temperature.unwrap_or(1.0) > most) {
        return Err("temperature");
    }
    let mut naming = within(Purpose::Exact);
    question.say(&mut |bytes| naming.raw(bytes));
    Ok((naming.key(), None))
}

/// Begins a name with everything that an answer may not cross.
pub fn walls(
    worker: &Worker,
    scope: Scope,
    policy: &str,
    facts: &Facts<'_>,
    namespace: Option<&[u8]>,
    purpose: Purpose,
) -> cache::Naming {
    let Facts { who, route, target, head, call } = facts;
    let tenant = tenant(scope, who, &head.headers, namespace);
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .filter(|(name, value)| {
            wire::header_changes_answer(name.as_str())
                || wire::header_is_a_condition(name.as_str(), value.as_bytes())
        })
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // several of one name stay in their order
    headers.sort_by_key(|(name, _)| *name);
    let (kind, target) = formless(call.kind, target);
    worker.cache.keyer.within(
        purpose,
        &Walls {
            policy,
            scope,
            tenant: &tenant,
            upstream: &route.primary().upstream.config.name,
            origin: &route.wall,
            route: &route.name,
            target: &target,
            kind: kind as u8,
            headers: &headers,
        },
    )
}

/// Who alone may come back to what it has begun: the wall of one agent, whatever it asks.
pub fn owner(worker: &Worker, who: &Identity, headers: &HeaderMap) -> [u8; 16] {
    let tenant = tenant(Scope::Agent, who, headers, None);
    let walls = Walls {
        policy: "",
        scope: Scope::Agent,
        tenant: &tenant,
        upstream: "",
        origin: &[],
        route: "",
        target: "",
        kind: 0,
        headers: &[],
    };
    let key = worker.cache.keyer.within(Purpose::Owner, &walls).key();
    std::array::from_fn(|at| key.0[at])
}

/// Who is inside a scope. A name that only the client says is worth no more than its credential:
/// who could say another's name would get another's answers. Names are whole: those that are
/// shown as `other` share limits, and nothing else.
fn tenant(scope: Scope, who: &Identity, headers: &HeaderMap, namespace: Option<&[u8]>) -> Vec<u8> {
    let mut tenant = Vec::with_capacity(96);
    let mut part = |name: u8, text: &[u8]| {
        tenant.push(name);
        cache::length(&mut tenant, text.len());
        tenant.extend_from_slice(text);
    };
    // a team that is only said joins those alone whom a credential joins already
    let said = !who.team_proven && (who.rung.authorizes() || who.credential.is_none());
    let scope = match scope {
        Scope::Team if who.team.is_none() || said => Scope::Agent,
        scope => scope,
    };
    let proven = if scope == Scope::Team { who.team_proven } else { who.rung.authorizes() };
    if scope <= Scope::Team
        && let Some(team) = who.whole_team()
    {
        part(b't', team.as_bytes());
    }
    if scope <= Scope::Agent {
        part(b'a', who.whole_agent().as_bytes());
        part(b'r', who.rung.as_str().as_bytes());
    }
    if scope != Scope::Shared && (scope == Scope::Credential || !proven) {
        credentials(who, headers, &mut part);
    }
    if scope == Scope::Credential
        && let Some(grant) = &who.grant
    {
        part(b'k', grant.id.as_bytes());
    }
    if let Some(namespace) = namespace {
        part(b'n', namespace);
    }
    tenant
}

/// All that may be a credential, hashed: walls can be shown, and a secret may not.
fn credentials(who: &Identity, headers: &HeaderMap, part: &mut impl FnMut(u8, &[u8])) {
    part(b'c', who.credential.as_ref().map_or(&[], |print| &print.0));
    // of several the identity knows one, and it does not know them all
    let mut all: Vec<_> =
        headers.iter().filter(|(name, _)| wire::header_may_authorize(name.as_str())).collect();
    all.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in all {
        part(b'h', name.as_str().as_bytes());
        part(b'v', blake3::hash(value.as_bytes()).as_bytes());
    }
}

/// Whose call in flight may be joined, where the backend judges the callers' own credentials: what
/// it says to one that is wrong or spent is no answer for the others.
pub fn own_credentials(who: &Identity, headers: &HeaderMap) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    credentials(who, headers, &mut |name, text| {
        hash.update(&[name]).update(&(text.len() as u64).to_le_bytes()).update(text);
    });
    *hash.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
