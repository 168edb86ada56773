//! `/keys`: the stored keys, for those who can read the directory of the store.
//!
//! Without a token (`admin/proof.rs`) there is nothing to learn here, for a page neither. A key itself
//! never comes this way: who makes one sends its keyed hash. A change is answered when it is on the disk; times are Unix seconds.
//!
//! - `GET /keys`: `{"keys": [...]}`
//! - `POST /keys` with a [`NewRecord`]: 201, 409 when there is such an id
//! - `DELETE /keys/ID`: revokes it
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::proof::Guard;
use super::respond::{Body, JSON, answer, error, line};
use super::{KeysDoor, body};
use crate::store::{KeyBook, KeyError, KeyRecord, KeyView, NewRecord};

const PATH: &str = "/keys";

pub(super) fn is_path(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) async fn respond(
    door: &KeysDoor,
    guard: &Guard,
    request: Request<Incoming>,
) -> Response<Body> {
    if let Err(unproven) = guard.proven(&request) {
        return unproven.answer();
    }
    let book = door.store.keys();
    let id = request.uri().path()[PATH.len()..].strip_prefix('/').map(str::to_owned);
    match (request.method().clone(), id) {
        (Method::GET | Method::HEAD, None) => list(book),
        (Method::POST, None) => add(book, request).await,
        (Method::DELETE, Some(id)) => revoke(book, &id).await,
        (_, id) => {
            let allowed = if id.is_none() { "GET, HEAD, POST" } else { "DELETE" };
            let message = format!("only {allowed}");
            let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            refused
        }
    }
}

fn list(book: &KeyBook) -> Response<Body> {
    let keys: Vec<KeyView> = book.list().iter().map(KeyRecord::view).collect();
    answer(StatusCode::OK, JSON, line(&json!({ "keys": keys })))
}

async fn add(book: &KeyBook, request: Request<Incoming>) -> Response<Body> {
    let Some(body) = body::whole(request.into_body()).await else {
        return error(StatusCode::BAD_REQUEST, "bad_body", "no whole record of 64 KiB at most");
    };
    let record: NewRecord = match serde_json::from_slice(&body) {
        Ok(record) => record,
        Err(fault) => return error(StatusCode::BAD_REQUEST, "bad_record", &fault.to_string()),
    };
    let id = record.id.clone();
    let kept = match book.add(record, now()) {
        Ok(ack) => ack.await.map_err(KeyError::from),
        Err(fault) => return refused(&fault),
    };
    if let Err(fault) = kept {
        book.forget(&id);
        return refused(&fault);
    }
    tracing::info!(%id, "a key was added");
    answer(StatusCode::CREATED, JSON, line(&json!({ "id": id })))
}

async fn revoke(book: &KeyBook, id: &str) -> Response<Body> {
    let (view, ack) = match book.revoke(id, now()) {
        Ok(revoked) => revoked,
        Err(fault) => return refused(&fault),
    };
    tracing::info!(%id, "a key was revoked");
    match ack.await {
        Ok(()) => answer(StatusCode::OK, JSON, line(&json!(view))),
        Err(fault) => {
            let message = format!("revoked until the next start only: {fault}");
            error(StatusCode::SERVICE_UNAVAILABLE, "not_kept", &message)
        }
    }
}

fn refused(fault: &KeyError) -> Response<Body> {
    let (status, code) = match fault {
        KeyError::Invalid { .. } => (StatusCode::BAD_REQUEST, "bad_record"),
        KeyError::Exists { .. } => (StatusCode::CONFLICT, "exists"),
        KeyError::TooMany => (StatusCode::CONFLICT, "too_many"),
        KeyError::Unknown { .. } => (StatusCode::NOT_FOUND, "not_found"),
        KeyError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_kept"),
    };
    error(status, code, &fault.to_string())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests;
