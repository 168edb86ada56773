//! An answer from the cache: the bytes that were recorded, in the pieces they came in, at once or
//! with the pauses they came with.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::{Instant, Sleep};

use super::lookup::{Hit, Tier};
use super::record::Record;
use super::reply::{Content, Reply, ReplyBody, SOURCE};
use super::status::{CACHE_STATUS, Saved};
use super::told;
use crate::cache::Entry;
use crate::config::Replay;
use crate::limits::book::Standing;
use crate::telemetry::metrics::Outcome;
use crate::wire::{Dialect, Form};

const SOURCE_CACHE: HeaderValue = HeaderValue::from_static("cache");

/// Cosine of the question asked and the one that was answered.
const SIMILARITY: HeaderName = HeaderName::from_static("x-tidegate-cache-similarity");

/// A recorded answer on its way.
pub struct Replaying {
    entry: Arc<Entry>,
    next: usize,
    pace: Option<Pace>,
    saved: Saved,
    record: Option<Record>,
}

struct Pace {
    begun: Instant,
    sleep: Pin<Box<Sleep>>,
}

/// The answer to a call that was found in the cache.
pub fn reply(
    hit: Hit,
    replay: Replay,
    dialect: Dialect,
    standing: &[Standing],
    saved: Saved,
) -> Reply {
    // these, and two that every reply gets
    let mut headers = HeaderMap::with_capacity(6);
    let status = super::status::hit(&hit);
    let Hit { entry, age, tier, .. } = hit;
    if let Tier::Semantic { similarity } = tier
        && let Ok(value) = HeaderValue::try_from(format!("{similarity:.3}"))
    {
        headers.insert(SIMILARITY, value);
    }
    let content_type = entry.content_type.as_deref();
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_bytes(value).ok()) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
    headers.insert(CACHE_STATUS, status);
    headers.insert(SOURCE, SOURCE_CACHE);
    if matches!(entry.form, Form::Sse | Form::NdJson) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    told::tell(&mut headers, dialect, standing);
    let paced = replay == Replay::Recorded && entry.frames.len() > 1;
    let pace = paced.then(|| {
        let begun = Instant::now();
        Pace { begun, sleep: Box::pin(tokio::time::sleep_until(begun)) }
    });
    let replaying = Replaying { entry, next: 0, pace, saved, record: None };
    Reply { status: StatusCode::OK, headers, content: Content::Replayed(Box::new(replaying)) }
}

impl Replaying {
    /// The body, with the record that it closes.
    pub fn open(mut self: Box<Self>, mut record: Record) -> ReplyBody {
        record.streaming(self.entry.stream);
        record.looked(self.saved.how);
        if self.entry.frames.is_empty() {
            record.passed(self.entry.body.len());
            record.saved(&self.saved, self.entry.usage);
            record.close(Outcome::Complete);
            return ReplyBody::Whole(self.entry.body.clone());
        }
        self.record = Some(record);
        ReplyBody::Replayed(self)
    }

    /// The next piece that is due.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(piece) = self.entry.frames.get(self.next) else { return Poll::Ready(None) };
        if let Some(Pace { begun, sleep }) = &mut self.pace {
            let due = *begun + Duration::from_millis(piece.at_ms.into());
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let from = self.next.checked_sub(1).map_or(0, |last| self.entry.frames[last].end);
        let data = self.entry.body.slice(from as usize..piece.end as usize);
        self.next += 1;
        if let Some(record) = &mut self.record {
            record.passed(data.len());
        }
        if self.has_ended()
            && let Some(mut record) = self.record.take()
        {
            record.saved(&self.saved, self.entry.usage);
            record.close(Outcome::Complete);
        }
        Poll::Ready(Some(data))
    }

    pub fn has_ended(&self) -> bool {
        self.next >= self.entry.frames.len()
    }
}
