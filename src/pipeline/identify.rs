//! Who calls: the ladder of the policy, asked once, before the body is read.
//!
//! What a body may add (a session) comes later and changes neither agent nor rights. A tidegate key
//! goes no further than here.
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, request};

use super::Caller;
use super::call::Call;
use super::refusal::Refusal;
use super::worker::Worker;
use crate::agents::{Identified, Place, Places};
use crate::identity::Identity;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::wire::Kind;

/// Who makes this call, and where keys of ours stand in it.
pub fn identify(
    worker: &Worker,
    snapshot: &Snapshot,
    caller: &Caller,
    head: &request::Parts,
    query: Option<&str>,
) -> Result<(Rc<Identity>, Places), Refusal> {
    // a clock that jumps expires no key
    let now = || worker.limits.now().wall;
    let found = snapshot.agents.identify(&caller.seen, &head.headers, query, now);
    let Identified { identity, ours } = found.map_err(|unknown| Refusal::unknown(&unknown))?;
    Ok((Rc::new(identity), ours))
}

/// What the key allows, now that route and model are known; with the session that the body tells.
pub fn allow(
    snapshot: &Snapshot,
    identity: Rc<Identity>,
    route: &Route,
    call: &Call,
) -> Result<Rc<Identity>, Refusal> {
    if let Some(grant) = &identity.grant {
        if !grant.allows_route(&route.name) {
            return Err(Refusal::not_allowed("route"));
        }
        let asks_for_one = call.kind != Kind::Models && !call.names_later;
        if asks_for_one && !grant.allows_model(call.model()) {
            return Err(Refusal::not_allowed("model"));
        }
    }
    let Some(hints) = call.hints.as_ref().filter(|_| identity.session.is_none()) else {
        return Ok(identity);
    };
    let hints = hints.borrowed(call.kind.dialect());
    Ok(Rc::new(Identity::clone(&identity).with_hints(&hints, snapshot.agents.shared())))
}

/// The query without a key of ours, and without the caller's own where the upstream gets another.
pub fn without_keys(mut ours: Places, query: Option<&str>, replaced: bool) -> Option<Cow<'_, str>> {
    if replaced {
        ours.add(Place::Query);
    }
    if ours.is_empty() { query.map(Cow::Borrowed) } else { ours.strip_query(query?) }
}

/// The longest that the caller says it will wait: the SDKs send their own deadline along.
pub fn patience(headers: &HeaderMap) -> Option<Duration> {
    let says = |name: &HeaderName| {
        let name = name.as_str();
        // three look-ups in the map cost more than one look at all names
        name.starts_with("x-")
            && matches!(
                name,
                "x-stainless-timeout" | "x-stainless-read-timeout" | "x-request-timeout"
            )
    };
    let seconds = |value: &HeaderValue| {
        let seconds: f64 = value.to_str().ok()?.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero())
    };
    headers.iter().filter(|(name, _)| says(name)).filter_map(|(_, value)| seconds(value)).min()
}
