//! A vector for a text, from an upstream that speaks OpenAI's `/v1/embeddings`.
//!
//! Under the policy's own credential for that upstream, never the caller's. Whoever cannot tell in
//! [`PATIENCE`] is done without.
use std::borrow::Cow;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;

use super::worker::Worker;
use crate::flight::{About, Limits};
use crate::snapshot::Snapshot;
use crate::upstream::call::{Outbound, send};
use crate::upstream::keys;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::Spread;

const PATIENCE: Duration = Duration::from_millis(500);
/// A vector of 4,096 numbers as text takes a tenth of that.
const MOST: usize = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    data: [Row; 1],
}

#[derive(Deserialize)]
struct Row {
    embedding: Vec<f32>,
}

/// `None`: none in time, or none that makes sense.
pub async fn vector(
    worker: &Worker,
    snapshot: &Snapshot,
    upstream: &str,
    model: &str,
    text: &str,
) -> Option<Vec<f32>> {
    let upstream = snapshot.upstreams.iter().find(|one| &*one.config.name == upstream)?;
    let body = serde_json::json!({ "model": model, "input": text, "encoding_format": "float" });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = keys::pick(&upstream.keys, &[], Instant::now()) {
        headers.insert(key.name.clone(), key.value.clone());
    }
    for (name, value) in &upstream.config.headers {
        headers.insert(name.clone(), value.clone());
    }
    let target: Cow<'_, str> = format!("{}/embeddings", upstream.config.api_prefix).into();
    let limits = Limits {
        reading: PATIENCE,
        queued: PATIENCE,
        first_byte: PATIENCE,
        idle: PATIENCE,
        total: PATIENCE,
        ..Limits::UNBOUNDED
    };
    let about = About::new(worker.ids.next(), "embeddings", Instant::now());
    let ticket = worker.flights.begin(&worker.clock, limits, about);
    let visit = upstream.choose(Spread::default(), &[], Instant::now()).ok()?;
    let mut outbound = Outbound {
        method: &Method::POST,
        target: &target,
        headers: &mut headers,
        body: Outgoing::whole(Bytes::from(body.to_string())),
        repeats: &|_| true,
    };
    let answer = send(&worker.pools, &ticket, upstream, visit, &mut outbound).await.ok()?;
    if !answer.status.is_success() {
        return None;
    }
    let mut body = answer.body;
    let mut whole = BytesMut::new();
    while !body.ended() {
        match ticket.guard(poll_fn(|cx| body.poll_data(cx))).await.ok()? {
            Some(data) => whole.extend_from_slice(&data.ok()?),
            None => break,
        }
        if whole.len() > MOST {
            return None;
        }
    }
    let Answer { data: [row] } = serde_json::from_slice(&whole).ok()?;
    let sound = !row.embedding.is_empty() && row.embedding.iter().all(|part| part.is_finite());
    sound.then_some(row.embedding)
}
