//! What the book of limits is asked.
use std::sync::atomic::Ordering::Relaxed;

use crate::identity::{Fingerprint, Identity};
use crate::limits::book::Ask;
use crate::limits::rules::Subject;
use crate::pipeline::call::Call;
use crate::route::Aim;
use crate::snapshot::Snapshot;
use crate::upstream::keys::Key;
use crate::wire::Kind;

/// Something must be asked before a call goes there.
pub fn is_limited(snapshot: &Snapshot, aim: &Aim) -> bool {
    let upstream = aim.upstream();
    let bounded = upstream.config.concurrency.is_some() || aim.route.lane.is_some();
    !snapshot.rules.is_empty() || bounded || upstream.shared.paced.load(Relaxed)
}

/// Whose limits at the backend a call uses: a key's of the upstream, which all callers share, or
/// their own.
pub fn credential(who: &Identity, key: Option<&Key>) -> u64 {
    match key {
        Some(key) => key.id,
        None => who.credential.map_or(0, Fingerprint::short),
    }
}

/// What the book is asked for a call.
pub fn ask<'a>(
    snapshot: &'a Snapshot,
    who: &'a Identity,
    aim: &'a Aim,
    call: &'a Call,
    credential: u64,
) -> Ask<'a> {
    let (model, upstream) = (call.model().unwrap_or(""), aim.upstream());
    let route = &aim.route;
    // the messages of a session cannot be rewritten: its backend is asked for what they name
    let priced =
        if call.kind == Kind::Session { model } else { aim.model(Some(model)).unwrap_or("") };
    let subject = Subject { who, model, route: &route.name, upstream: &upstream.config.name };
    Ask {
        subject,
        pool: upstream.pool,
        lane: route.lane,
        kind: call.kind as u8,
        reasoning: call.asks.reasoning,
        counted: call.asks.counted,
        generates: call.kind.generates(),
        prompt_bytes: call.asks.prompt_bytes,
        max_tokens: call.asks.max_tokens,
        least: call.asks.least,
        answers: call.asks.answers,
        rate: call.asks.counted.then(|| snapshot.prices.of(priced)),
        credential,
        patience: call.asks.patience,
        here: false,
        paid: false,
        conversation: if snapshot.rules.guards(&subject) { call.conversation() } else { None },
    }
}
