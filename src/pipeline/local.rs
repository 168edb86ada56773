//! What the sidecar answers by itself: the cheap probes that SDKs and agent tools send to a base URL.
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::reply::Reply;

/// `GET /` and `HEAD /` say that somebody is there; `OPTIONS *` asks about us, not about a backend.
pub fn answer(method: &Method, path: &str, asterisk: bool) -> Option<Reply> {
    if asterisk {
        let mut reply = Reply::ours(StatusCode::NO_CONTENT, Bytes::new());
        reply.headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
        return Some(reply);
    }
    if path != "/" || !(method == Method::GET || method == Method::HEAD) {
        return None;
    }
    let body = Bytes::from_static(b"{\"service\":\"tidegate\"}\n");
    let mut reply = Reply::ours(StatusCode::OK, body);
    reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(reply)
}
