//! Sending the call: the request as the backend is to see it, and one call to the upstream.
//!
//! The caller's headers go on as they are, but for what belongs to the connection, what is ours,
//! and the credential where the policy holds one. `Accept-Encoding` becomes `identity` for calls
//! whose answers are metered: a compressed stream cannot be watched without being rebuilt.
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header, request};

use super::admit::Lease;
use super::call::{Call, Sending};
use super::gate;
use super::lookup::Miss;
use super::record::Watch;
use super::refusal::Refusal;
use super::reply::Sent;
use super::worker::Worker;
use crate::flight::Flight;
use crate::route::Route;
use crate::upstream::Upstream;
use crate::upstream::call::{CallError, Outbound, send};
use crate::upstream::outgoing::Outgoing;
use crate::wire::{Edits, Endpoint, Wish, view};

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
    pub upstream: Arc<Upstream>,
    /// Path and query below the upstream's own path.
    pub target: Cow<'p, str>,
    /// The endpoint is one whose answers we understand.
    pub metered: bool,
}

impl<'p> Prepared<'p> {
    pub fn new(route: &Route, endpoint: &Endpoint<'_>, rest: &'p str, query: Option<&str>) -> Self {
        let upstream = Arc::clone(&route.upstream);
        let bare = endpoint.dialect.is_some() && !endpoint.versioned;
        let prefix = if bare { &*upstream.config.api_prefix } else { "" };
        let target = match (prefix, query) {
            ("", None) => Cow::Borrowed(rest),
            (prefix, None) => Cow::Owned(format!("{prefix}{rest}")),
            (prefix, Some(query)) => Cow::Owned(format!("{prefix}{rest}?{query}")),
        };
        Self { upstream, target, metered: endpoint.kind.reads_body() }
    }

    /// For a task of its own.
    pub fn owned(self) -> Prepared<'static> {
        let Self { upstream, target, metered } = self;
        Prepared { upstream, target: Cow::Owned(target.into_owned()), metered }
    }

    /// Makes the caller's headers the backend's.
    pub fn rewrite(&self, head: &mut request::Parts, upgrade: Option<gate::Upgrade>) {
        let headers = &mut head.headers;
        gate::strip_request(headers, upgrade);
        if let Some((name, value)) = &self.upstream.credential {
            for known in &CREDENTIALS {
                headers.remove(known);
            }
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.upstream.config.headers {
            headers.insert(name.clone(), value.clone());
        }
        if self.metered {
            headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        }
        headers.append(header::VIA, VIA);
    }
}

/// Makes the call. The lease is the proof that the call was admitted, and hears how it goes; the
/// miss, that its answer is not known.
pub async fn dispatch(
    worker: &Rc<Worker>,
    flight: &Flight,
    (lease, _miss): (&mut Lease, Miss),
    to: Prepared<'_>,
    head: &mut request::Parts,
    call: Call,
    watch: &mut impl Watch,
) -> Result<Sent, Refusal> {
    to.rewrite(head, None);
    let model = call.shared_model();
    let (body, hides_usage) = edited(&to, lease, &call)?;
    let body = match (body.map(|edited| worker.counted(edited)), call.body) {
        (Some(edited), _) | (None, Sending::Whole(edited)) => Outgoing::whole(edited),
        (None, Sending::Streaming(body)) => body,
    };
    let outbound =
        Outbound { method: &head.method, target: &to.target, headers: &mut head.headers, body };
    let now = Instant::now();
    watch.sent(now);
    lease.sent(now);
    let mut unanswered = Unanswered { lease, watch, answered: false };
    match send(&worker.pools, flight, &to.upstream, outbound).await {
        Ok(answer) => {
            unanswered.answered = true;
            let Unanswered { lease, watch, .. } = &mut unanswered;
            watch.answered(&answer);
            lease.answered(answer.status, &answer.headers, model.as_deref());
            Ok(Sent {
                answer,
                kind: call.kind,
                metered: to.metered,
                hides_usage,
                clock: Arc::clone(&worker.clock),
            })
        }
        Err(error) => {
            unanswered.lease.unanswered(matches!(error, CallError::Connect(_)));
            Err(Refusal::call(error))
        }
    }
}

/// A call on its way to an answer: if none comes, or nobody waits for it any more, its watcher still
/// hears what the call came to.
struct Unanswered<'c, W: Watch> {
    lease: &'c mut Lease,
    watch: &'c mut W,
    answered: bool,
}

impl<W: Watch> Drop for Unanswered<'_, W> {
    fn drop(&mut self) {
        if !self.answered {
            self.watch.billed(self.lease.abandon().as_ref());
        }
    }
}

/// The body as limits want it, if it must change: a stream reports its usage, and the output is
/// bounded by what is left of a hard limit. Says whether the caller did not ask for that usage.
fn edited(to: &Prepared<'_>, lease: &Lease, call: &Call) -> Result<(Option<Bytes>, bool), Refusal> {
    let Sending::Whole(body) = &call.body else { return Ok((None, false)) };
    let wish = Wish {
        include_usage: call.stream && lease.counts_tokens() && !call.asks.usage,
        max_tokens: lease.clamp().map(|clamp| clamp.tokens),
        completion_tokens: &*to.upstream.config.provider == "openai",
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
