//! What the admin door answers.
use std::convert::Infallible;
use std::fmt::Write;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Frame, Incoming, SizeHint};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::live::Feed;
use super::proof::Peer;
use super::{Doors, cache, calls, keys, live, page, tasks};

/// A whole answer, or events for as long as somebody reads them.
pub(super) enum Body {
    Whole(Full<Bytes>),
    Live(live::Stream),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Live(stream) => stream.poll(cx).map(|event| event.map(|it| Ok(Frame::data(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Live(_) => SizeHint::default(),
        }
    }
}

pub(super) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PATHS: [&str; 8] =
    ["/", "/livez", "/readyz", "/healthz", "/metrics", "/state", "/live", "/config"];
/// Without a proof: they hold no data.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// For the state to be gathered.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// `Host` must name us where a browser could be tricked into coming by another name (DNS rebinding).
/// Not over a Unix socket, which browsers do not reach, and not over TLS: there a browser has found the
/// name in our certificate, and the operator says by that which names are ours.
pub(super) async fn respond(
    doors: &Doors,
    feed: &Feed,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<Body> {
    let guard = &doors.guard;
    // who shows a token was not tricked into coming
    if peer == Peer::Tcp && !guard.demanded && !names_us(&request) {
        let message = "the Host header must be an address or localhost";
        return error(StatusCode::FORBIDDEN, "host_not_allowed", message);
    }
    // they hold no data, and a browser sends no token when it opens a page
    if let Some(file) = page::find(request.uri().path()) {
        return safe(request.method()).unwrap_or_else(|| page::answer(file, request.headers()));
    }
    if guard.demanded
        && !OPEN.contains(&request.uri().path())
        && let Err(unproven) = guard.proven(&request)
    {
        return unproven.answer();
    }
    if let Some(door) = &doors.keys
        && keys::is_path(request.uri().path())
    {
        return keys::respond(door, guard, request).await;
    }
    if let Some(door) = &doors.tasks
        && tasks::is_path(request.uri().path())
    {
        return tasks::respond(door, guard, request).await;
    }
    if let Some(door) = &doors.cache
        && cache::is_path(request.uri().path())
    {
        return cache::respond(door, guard, request).await;
    }
    if let Some(door) = &doors.page
        && calls::is_path(request.uri().path())
    {
        return calls::respond(door, guard, &request).await;
    }
    let path = request.uri().path();
    if !PATHS.contains(&path) {
        let body =
            json!({"error": {"code": "not_found", "message": "no such path", "paths": PATHS}});
        return answer(StatusCode::NOT_FOUND, JSON, line(&body));
    }
    if let Some(refused) = safe(request.method()) {
        return refused;
    }
    match (path, &doors.page) {
        ("/metrics", _) => metrics(doors),
        ("/state", _) => state(doors).await,
        ("/readyz", _) => {
            let tells = !guard.demanded || guard.knows(&request);
            ready(doors, request.uri().query(), tells)
        }
        ("/live", Some(door)) => live::respond(feed, door, request.method()),
        ("/config", Some(door)) => answer(StatusCode::OK, TEXT, (door.policy)()),
        ("/live" | "/config", None) => {
            error(StatusCode::NOT_FOUND, "not_found", "there is no page here")
        }
        _ => alive(doors),
    }
}

/// `None`: the method only looks.
fn safe(method: &Method) -> Option<Response<Body>> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let message = "only GET and HEAD";
    let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(refused)
}

/// All places are taken.
pub(super) fn busy() -> Response<Body> {
    let mut refused = error(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests at once");
    refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refused
}

fn alive(doors: &Doors) -> Response<Body> {
    if (doors.live)() {
        answer(StatusCode::OK, TEXT, "ok\n")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the workers do not turn\n")
    }
}

/// One line, then one for each thing to know; `?verbose` gives JSON. `tells`: why, too, which may show
/// pieces of the policy.
fn ready(doors: &Doors, query: Option<&str>, tells: bool) -> Response<Body> {
    let mut readiness = (doors.ready)();
    if !tells {
        readiness.why.clear();
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut words = query.unwrap_or_default().split('&');
    if words.any(|word| word.split('=').next() == Some("verbose")) {
        let live = (doors.live)();
        let body = json!({"ready": readiness.ready, "live": live, "why": readiness.why});
        return answer(status, JSON, line(&body));
    }
    let mut text = String::from(if readiness.ready { "ready\n" } else { "not ready\n" });
    for why in &readiness.why {
        let _ = writeln!(text, "- {why}");
    }
    answer(status, TEXT, text)
}

fn metrics(doors: &Doors) -> Response<Body> {
    let mut text = String::new();
    doors.metrics.encode(&mut text);
    answer(StatusCode::OK, OPEN_METRICS, text)
}

async fn state(doors: &Doors) -> Response<Body> {
    match timeout(STATE_TIMEOUT, (doors.state)()).await {
        Ok(state) => answer(StatusCode::OK, JSON, line(&state)),
        Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "timeout", "the workers did not answer"),
    }
}

pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    answer(status, JSON, line(&json!({"error": {"code": code, "message": message}})))
}

pub(super) fn line(value: &Value) -> String {
    format!("{value:#}\n")
}

pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Every name the request calls us by must be ours. None at all is HTTP/1.0 and no browser.
fn names_us<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority().map(Authority::as_str);
    let headers = request.headers().get_all(HOST).iter().map(|value| value.to_str().ok());
    authority.map(Some).into_iter().chain(headers).all(|name| {
        name.and_then(|name| name.parse::<Authority>().ok())
            .is_some_and(|authority| is_ours(authority.host()))
    })
}

fn is_ours(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names() {
        for host in ["127.0.0.1", "[::1]", "10.1.2.3", "LocalHost", "localhost."] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1"] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
