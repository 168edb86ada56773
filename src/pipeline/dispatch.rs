//! Sending the call: the request as the backend is to see it, for the attempts to send.
//!
//! The caller's headers go on as they are, but for what belongs to the connection, what is ours,
//! and the credential where the policy holds one. `Accept-Encoding` becomes `identity` for calls
//! whose answers are metered: a compressed stream cannot be watched without being rebuilt.
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, request};

use super::admit::Lease;
use super::attempts::Run;
use super::call::{Call, Sending};
use super::gate;
use super::identify;
use super::lookup::Miss;
use super::record::Watch;
use super::refusal::Refusal;
use super::reply::Sent;
use super::worker::Worker;
use crate::agents::Places;
use crate::flight::{Flight, Stage};
use crate::identity::Identity;
use crate::route::Aim;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::upstream::keys::Key;
use crate::wire::{Edits, Endpoint, Wish, path_with_model, view};

pub const VIA: HeaderValue = HeaderValue::from_static("1.1 tidegate");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// Every header that vendors take a key in.
const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
];

/// Where a call goes.
#[derive(Clone)]
pub struct Prepared<'p> {
    pub aim: Aim,
    /// Path and query below the first target's own path, as the caller says them.
    pub target: Cow<'p, str>,
    /// The endpoint is one whose answers we understand.
    pub metered: bool,
    /// The parts of `target`, for other targets of the route. `None`: there is none, and no model
    /// in the path.
    parts: Option<Box<Parts>>,
}

/// What the path and query of a call are made of.
#[derive(Clone)]
struct Parts {
    rest: Box<str>,
    /// Whether the path wants the upstream's API prefix in front.
    bare: bool,
    /// Without keys of ours; and without the caller's own.
    query: Option<Box<str>>,
    keyless: Option<Box<str>>,
    /// The model, where the path names it.
    model: Option<Box<str>>,
}

impl<'p> Prepared<'p> {
    pub fn new(
        aim: Aim,
        endpoint: &Endpoint<'_>,
        rest: &'p str,
        ours: Places,
        query: Option<&str>,
    ) -> Self {
        let bare = endpoint.dialect.is_some() && !endpoint.versioned;
        let upstream = aim.upstream();
        let prefix = if bare { &*upstream.config.api_prefix } else { "" };
        let kept = identify::without_keys(ours, query, upstream.holds_key());
        let target = join(prefix, rest, kept.as_deref());
        let parts = (aim.route.targets.len() > 1 || endpoint.model.is_some()).then(|| {
            let query_of =
                |replaced| identify::without_keys(ours, query, replaced).map(|q| Box::from(&*q));
            Box::new(Parts {
                rest: rest.into(),
                bare,
                query: query_of(false),
                keyless: query_of(true),
                model: endpoint.model.map(Box::from),
            })
        });
        Self { target, metered: endpoint.kind.reads_body(), parts, aim }
    }

    /// For a task of its own.
    pub fn owned(self) -> Prepared<'static> {
        let Self { aim, target, metered, parts } = self;
        Prepared { aim, target: Cow::Owned(target.into_owned()), metered, parts }
    }

    /// Path and query for the target that the call goes to now.
    pub fn path(&self) -> Cow<'_, str> {
        let Some(parts) = &self.parts else { return Cow::Borrowed(&self.target) };
        let upstream = self.aim.upstream();
        let prefix = if parts.bare { &*upstream.config.api_prefix } else { "" };
        let query = if upstream.holds_key() { &parts.keyless } else { &parts.query };
        let model = parts.model.as_deref();
        let other = self.aim.model(model).filter(|to| Some(*to) != model);
        let renamed = match (model, other) {
            (Some(model), Some(to)) => path_with_model(&parts.rest, model, to),
            _ => None,
        };
        let rest = renamed.as_deref().unwrap_or(&parts.rest);
        Cow::Owned(join(prefix, rest, query.as_deref()).into_owned())
    }

    /// Takes from the caller's headers what is between the two of us.
    pub fn strip(head: &mut request::Parts, upgrade: Option<gate::Upgrade>) {
        gate::strip_request(&mut head.headers, upgrade);
        head.headers.append(header::VIA, VIA);
    }

    /// Makes the caller's headers, stripped, those of the target that the call goes to now.
    pub fn dress(&self, headers: &mut HeaderMap, key: Option<&Key>) {
        let upstream = self.aim.upstream();
        // where the policy has keys the caller's own never goes
        if upstream.holds_key() {
            for known in &CREDENTIALS {
                headers.remove(known);
            }
        }
        if let Some(key) = key {
            headers.insert(key.name.clone(), key.value.clone());
        }
        for (name, value) in &upstream.config.headers {
            headers.insert(name.clone(), value.clone());
        }
        if self.metered {
            headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        }
    }
}

fn join<'p>(prefix: &str, rest: &'p str, query: Option<&str>) -> Cow<'p, str> {
    match (prefix, query) {
        ("", None) => Cow::Borrowed(rest),
        (prefix, None) => Cow::Owned(format!("{prefix}{rest}")),
        (prefix, Some(query)) => Cow::Owned(format!("{prefix}{rest}?{query}")),
    }
}

/// The key of an upstream that a lease has picked. `None` also where the lease is another's.
pub fn key_of<'u>(upstream: &'u Arc<Upstream>, lease: &Lease) -> Option<&'u Key> {
    let id = lease.key.filter(|_| lease.is_for(upstream))?;
    upstream.keys.iter().find(|key| key.id == id)
}

/// What attempts need of the call's surroundings.
#[derive(Clone, Copy)]
pub struct Going<'c> {
    pub worker: &'c Rc<Worker>,
    pub snapshot: &'c Arc<Snapshot>,
    pub flight: &'c Flight,
    pub who: &'c Rc<Identity>,
}

/// Makes the call. The lease is the proof that the call was admitted, and hears how it goes; the
/// miss, that its answer is not known.
pub async fn dispatch(
    going: Going<'_>,
    (lease, _miss): (&mut Lease, Miss),
    to: &mut Prepared<'_>,
    head: &mut request::Parts,
    call: &mut Call,
    watch: &mut impl Watch,
) -> Result<Sent, Refusal> {
    Prepared::strip(head, None);
    let mut unanswered = Unanswered { lease, watch, flight: going.flight, answered: false };
    let Unanswered { lease, watch, .. } = &mut unanswered;
    let mut run = Run::new(going, lease, *watch, to, head, call);
    let mut sent = run.answer().await;
    drop(run);
    if going.flight.was_cancelled() {
        // it may have been between two attempts, with the answer of the last one in hand
        sent = Err(Refusal::cancelled());
    }
    unanswered.answered = sent.is_ok();
    sent
}

/// A call on its way to an answer: if none comes, or nobody waits for it any more, its watcher still
/// hears what the call came to.
struct Unanswered<'c, W: Watch> {
    lease: &'c mut Lease,
    watch: &'c mut W,
    flight: &'c Flight,
    answered: bool,
}

impl<W: Watch> Drop for Unanswered<'_, W> {
    fn drop(&mut self) {
        if !self.answered {
            if self.flight.stage() == Stage::Connecting {
                // left before there was anybody to do work for it
                self.lease.unanswered(true);
            }
            self.watch.billed(self.lease.abandon().as_ref());
        }
    }
}

/// The body as limits and the target want it, if it must change: a stream reports its usage, the
/// output is bounded by what is left of a hard limit, the model has another name. Says whether the
/// caller did not ask for that usage.
pub fn edited(aim: &Aim, lease: &Lease, call: &Call) -> Result<(Option<Bytes>, bool), Refusal> {
    let Sending::Whole(body) = &call.body else { return Ok((None, false)) };
    let upstream = aim.upstream();
    let wish = Wish {
        include_usage: call.stream && lease.counts_tokens() && !call.asks.usage,
        max_tokens: lease.clamp().map(|clamp| clamp.tokens),
        completion_tokens: &*upstream.config.provider == "openai",
        model: aim.model(call.model()).filter(|model| Some(*model) != call.model()),
    };
    if wish == (Wish { completion_tokens: wish.completion_tokens, ..Wish::default() }) {
        return Ok((None, false));
    }
    let Ok(view) = view(call.kind, body) else { return Ok((None, false)) };
    let edits = Edits::new(call.kind, &view, wish);
    if edits.unbounded() {
        return Err(Refusal::unboundable());
    }
    if edits.is_empty() {
        return Ok((None, false));
    }
    let hides = edits.asks_usage();
    Ok((Some(edits.apply(body)), hides))
}
