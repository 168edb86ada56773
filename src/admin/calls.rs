//! `POST /calls/ID/cancel`: an operator ends a call that runs.
//!
//! Asks for a proof (`admin/proof.rs`). 202 when it is being ended, 404 when there is none of that id,
//! which is that of `x-tidegate-request-id` and of `/state`. The caller is told so in its own dialect,
//! or by the end of its stream; the record says `cancelled`.
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;

use super::PageDoor;
use super::proof::Guard;
use super::respond::{Body, JSON, answer, error, line};

/// Ids are shorter.
const LONGEST: usize = 64;

pub(super) fn is_path(path: &str) -> bool {
    id(path).is_some()
}

fn id(path: &str) -> Option<&str> {
    path.strip_prefix("/calls/")?.strip_suffix("/cancel")
}

pub(super) async fn respond<B>(
    door: &PageDoor,
    guard: &Guard,
    request: &Request<B>,
) -> Response<Body> {
    if request.method() != Method::POST {
        let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "only POST");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    if let Err(unproven) = guard.may_act(request) {
        return unproven.answer();
    }
    let id = id(request.uri().path()).filter(|id| id.len() <= LONGEST).unwrap_or_default();
    if !(door.cancel)(id).await {
        return error(StatusCode::NOT_FOUND, "unknown_call", "there is no such call, or no longer");
    }
    tracing::info!(request_id = id, "a call was ended by an operator");
    answer(StatusCode::ACCEPTED, JSON, line(&json!({ "request_id": id })))
}
