//! Sending the call: the request as the backend is to see it, and one call to the upstream.
//!
//! The caller's headers go on as they are, but for what belongs to the connection, what is ours,
//! and the credential where the policy holds one. `Accept-Encoding` becomes `identity` for calls
//! whose answers are metered: a compressed stream cannot be watched without being rebuilt.
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue, header, request};

use super::admit::Lease;
use super::call::Call;
use super::gate;
use super::record::Record;
use super::refusal::Refusal;
use super::reply::Sent;
use super::worker::Worker;
use crate::flight::Flight;
use crate::route::Route;
use crate::upstream::Upstream;
use crate::upstream::call::{Outbound, send};
use crate::wire::Endpoint;

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

/// Makes the call. The lease is asked for as the proof that the call was admitted.
pub async fn dispatch(
    worker: &Rc<Worker>,
    flight: &Flight,
    _lease: &Lease,
    to: Prepared<'_>,
    head: &mut request::Parts,
    call: Call,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    to.rewrite(head, None);
    let outbound = Outbound {
        method: &head.method,
        target: &to.target,
        headers: &mut head.headers,
        body: call.body,
    };
    record.sent(Instant::now());
    match send(&worker.pools, flight, &to.upstream, outbound).await {
        Ok(answer) => {
            record.answered(&answer);
            Ok(Sent {
                answer,
                kind: call.kind,
                metered: to.metered,
                clock: Arc::clone(&worker.clock),
            })
        }
        Err(error) => Err(Refusal::call(error, &to.upstream.config)),
    }
}
