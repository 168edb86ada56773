//! What is held back of an answer before it is the client's: an error's body, to see what it says of
//! the backend, a small answer's, which may be an error under a good status, and a stream's head
//! until its first content, so that an error in it can still be answered by somebody else. Bounded in
//! bytes and in time; the pieces are handed on as they came.
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::Clock;
use crate::flight::{Expired, Flight};
use crate::upstream::answer::AnswerBody;
use crate::upstream::call::CallError;
use crate::wire::{Ending, Meter, Verdict};

/// Most bytes held back.
pub const MOST: usize = 64 * 1024;
/// Longest time for it to come.
const SHORT_BODY: Duration = Duration::from_secs(2);
/// Longer answers are no errors.
const SMALL: u64 = 4 * 1024;

/// The body of an error, or of a small answer, as far as it is held; all of it goes on being there to
/// be read. What came in one piece is not copied.
pub async fn short_body(flight: &Flight, body: &mut AnswerBody) -> Result<Bytes, CallError> {
    let (mut pieces, mut held) = (VecDeque::<Bytes>::new(), 0);
    let until = Instant::now() + SHORT_BODY;
    while !body.ended() && held < MOST {
        let next = flight.guard(poll_fn(|cx| body.poll_data(cx)));
        match timeout_at(until, next).await {
            Ok(Ok(Some(Ok(piece)))) => {
                held += piece.len();
                pieces.push_back(piece);
                flight.keeps(2 * held);
            }
            Ok(Ok(Some(Err(error)))) => return Err(error),
            // late: what has come must do
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    let whole = match pieces.make_contiguous() {
        [one] => one.clone(),
        several => several.concat().into(),
    };
    body.put_back(pieces);
    Ok(whole)
}

/// Whether all of an answer can be held back unnoticed: it says that it is small.
pub fn is_small(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length <= SMALL)
}

/// How holding a stream back has ended.
pub enum Held {
    /// Its content has begun, or it is to be waited for no longer.
    Goes,
    /// With an error in it, before any content.
    Failed(Verdict),
    Broken(CallError),
    Expired(Expired),
    /// Without content for longer than the policy waits for it.
    Slow,
}

/// How long a stream is held.
pub struct Patience<'p> {
    pub until: Instant,
    /// It is given up then.
    pub slow: bool,
    /// Another request of the call runs beside it, or may still come: until one of them has content
    /// there is no end to it. Whoever changes this polls the call afterwards.
    pub racing: Option<&'p Cell<bool>>,
}

impl Patience<'_> {
    async fn ends(&self) {
        sleep_until(self.until).await;
        poll_fn(|_| match self.racing {
            Some(racing) if racing.get() => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
}

/// Holds a stream back until its content begins. What was read is put back.
pub async fn until_content(
    flight: &Flight,
    clock: &Clock,
    body: &mut AnswerBody,
    mut meter: Meter,
    patience: &Patience<'_>,
) -> Held {
    if meter.sees_events() {
        flight.await_content();
    }
    let (mut pieces, mut held) = (VecDeque::new(), 0);
    let mut late = pin!(patience.ends());
    let ended = loop {
        if body.ended() {
            meter.finish();
            // what says nothing, and not even that it is over, was cut
            break judged(&meter).unwrap_or(Held::Failed(Verdict::Failed));
        }
        let next = flight.guard(poll_fn(|cx| body.poll_data(cx)));
        let next = tokio::select! {
            biased;
            next = next => next,
            () = &mut late => break if patience.slow { Held::Slow } else { Held::Goes },
        };
        let piece = match next {
            Err(expired) => break Held::Expired(expired),
            Ok(Some(Err(error))) => break Held::Broken(error),
            Ok(None) => continue,
            Ok(Some(Ok(piece))) => piece,
        };
        flight.moved(0, clock.now());
        meter.push(&piece);
        held += piece.len();
        flight.keeps(held + meter.carried());
        pieces.push_back(piece);
        if let Some(ended) = judged(&meter) {
            break ended;
        }
        if held >= MOST {
            break Held::Goes;
        }
    };
    body.put_back(pieces);
    ended
}

/// What is known of a stream by what was seen of it.
fn judged(meter: &Meter) -> Option<Held> {
    match meter.ending() {
        _ if meter.content_started() => Some(Held::Goes),
        Ending::Failed => Some(Held::Failed(meter.fault().unwrap_or(Verdict::Failed))),
        Ending::Complete => Some(Held::Goes),
        Ending::Open => None,
    }
}

#[cfg(test)]
mod tests;
