//! What the sidecar answers by itself: the cheap probes that SDKs and agent tools send to a base URL,
//! and its own paths: `/-/tasks` and what is below it, and what is below `/-/streams/`.
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::record::Record;
use super::refusal::Refusal;
use super::reply::Reply;
use super::worker::Worker;
use super::{offload, resume};
use crate::identity::Identity;

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

/// A request for one of our own paths, of a caller who is known.
pub struct Local<'c> {
    pub worker: &'c Rc<Worker>,
    pub who: &'c Rc<Identity>,
    pub method: &'c Method,
    pub query: Option<&'c str>,
    pub headers: &'c HeaderMap,
}

impl Local<'_> {
    /// By the path alone: whether it is worth asking.
    pub fn may_answer(path: &str) -> bool {
        path.starts_with("/-/") || path.contains("/responses/")
    }

    /// `None`: it is not ours, and goes where routes send it.
    pub async fn answer(&self, path: &str, record: &mut Record) -> Option<Result<Reply, Refusal>> {
        let Some(rest) = path.strip_prefix("/-/") else {
            return offload::answer_response(self, path).await;
        };
        if let Some(rest) = rest.strip_prefix("streams/") {
            return Some(resume::answer(self, rest, record));
        }
        let rest =
            rest.strip_prefix("tasks").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        Some(offload::answer(self, rest).await)
    }
}
