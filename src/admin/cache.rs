//! `/cache`: what is kept, and taking it out.
//!
//! Its figures are those of `/state` and `/metrics`, and as open; what changes something asks for a
//! proof (`admin/proof.rs`). A word that is not known is refused: a purge that overlooked one would
//! take out too much.
//!
//! - `GET /cache`: a [`CacheView`](crate::telemetry::view::CacheView)
//! - `POST /cache/purge` with any of `policy`, `agent`, `model`, `route` (globs), `older_than` (`1h`)
//!   and `prefix` (of a key), or `all`, as JSON or in the query: how much was taken out. Answered
//!   when it is complete; 503 where bytes could not be erased from the disk
//! - `POST /cache/feedback` with `{"entry": KEY, "wrong": true}`: how many answers are no longer given
//!   to questions in other words
use std::time::SystemTime;

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::CacheDoor;
use super::body;
use super::proof::Guard;
use super::respond::{Body, JSON, answer, error, line};
use crate::cache::{Alike, Filter};
use crate::units;

const PATH: &str = "/cache";
const PURGE: &str = "/cache/purge";
const FEEDBACK: &str = "/cache/feedback";
/// Digits of a whole key.
const DIGITS: usize = 64;

/// What to take out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Purge {
    all: bool,
    policy: Option<Box<str>>,
    agent: Option<Box<str>>,
    model: Option<Box<str>>,
    route: Option<Box<str>>,
    older_than: Option<Box<str>>,
    prefix: Option<Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    entry: String,
    wrong: bool,
}

pub(super) fn is_path(path: &str) -> bool {
    [PATH, PURGE, FEEDBACK].contains(&path)
}

pub(super) async fn respond(
    door: &CacheDoor,
    guard: &Guard,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path();
    let allowed = if path == PATH { "GET, HEAD" } else { "POST" };
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        let message = format!("only {allowed}");
        let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return refused;
    }
    if request.method() != Method::POST {
        return answer(StatusCode::OK, JSON, line(&json!((door.view)())));
    }
    if let Err(unproven) = guard.may_act_here(&request) {
        return unproven.answer();
    }
    let done = if path == PURGE { purge(door, request).await } else { wrong(door, request).await };
    done.unwrap_or_else(|fault| error(StatusCode::BAD_REQUEST, "bad_request", &fault))
}

async fn purge(door: &CacheDoor, request: Request<Incoming>) -> Result<Response<Body>, String> {
    let filter = read::<Purge>(request).await?.filter()?;
    let (purged, questions) = door.cache.purge(&filter, SystemTime::now()).await;
    tracing::info!(
        ?filter,
        memory = purged.memory,
        disk = purged.disk,
        questions,
        failed = purged.failed,
        "answers were taken out of the cache"
    );
    let mut said = json!({ "memory": purged.memory, "disk": purged.disk, "questions": questions });
    if purged.failed == 0 {
        return Ok(answer(StatusCode::OK, JSON, line(&said)));
    }
    let message = format!(
        "{} files could not be erased: what is in them is not given any more, and may be again \
         after a restart",
        purged.failed
    );
    said["error"] = json!({ "code": "not_erased", "message": message });
    Ok(answer(StatusCode::SERVICE_UNAVAILABLE, JSON, line(&said)))
}

async fn wrong(door: &CacheDoor, request: Request<Incoming>) -> Result<Response<Body>, String> {
    let Feedback { entry, wrong } = read(request).await?;
    if !wrong {
        return Err("only what is wrong can be said: \"wrong\": true".to_owned());
    }
    if !(Alike::LEAST_DIGITS..=DIGITS).contains(&entry.len()) || !is_hexadecimal(&entry) {
        return Err("entry: expected 8 to 64 digits of a key, as Cache-Status shows it".to_owned());
    }
    let entries = door.cache.alike.wrong(&entry);
    tracing::info!(%entry, entries, "an answer was said to be wrong");
    Ok(answer(StatusCode::OK, JSON, line(&json!({ "entries": entries }))))
}

impl Purge {
    fn filter(self) -> Result<Filter, String> {
        let Self { all, policy, agent, model, route, older_than, prefix } = self;
        let named = [&policy, &agent, &model, &route, &older_than, &prefix];
        if named.iter().any(|word| word.as_deref() == Some("")) {
            return Err("an empty word means nothing; leave it out".to_owned());
        }
        match (all, named.iter().any(|word| word.is_some())) {
            (false, false) => {
                return Err("nothing says what to take out: \"all\": true means all".to_owned());
            }
            (true, true) => return Err("it is either all or what the others say".to_owned()),
            _ => {}
        }
        if prefix.as_deref().is_some_and(|it| it.len() > DIGITS || !is_hexadecimal(it)) {
            return Err("prefix: expected hexadecimal digits, 64 at most".to_owned());
        }
        let older_than = older_than.as_deref().map(units::duration).transpose();
        let older_than = older_than.map_err(|fault| format!("older_than: expected {fault}"))?;
        Ok(Filter { policy, agent, model, route, older_than, prefix })
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// From the body, or from the query where there is no body. The error is a sentence.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = body::whole(request.into_body()).await.ok_or("no whole body of 64 KiB at most")?;
    let value = match (query.is_empty(), body.trim_ascii().is_empty()) {
        (true, true) => Value::Object(Map::new()),
        (true, false) => serde_json::from_slice(&body).map_err(|fault| fault.to_string())?,
        (false, true) => pairs(&query).ok_or("the query cannot be read")?,
        (false, false) => return Err("either a query or a body, not both".to_owned()),
    };
    serde_json::from_value(value).map_err(|fault| fault.to_string())
}

/// A query as an object of texts; `true` and `false` are what they say. `None`: it is none, or has
/// a name twice.
fn pairs(query: &str) -> Option<Value> {
    let mut all = Map::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=')?;
        let value = match &*decoded(value)? {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => Value::from(text),
        };
        if all.insert(decoded(name)?, value).is_some() {
            return None;
        }
    }
    Some(Value::Object(all))
}

/// Percent-encoding undone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(digits[0])? * 16 + digit(digits[1])?) as u8
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
