//! What is held back of an answer before it is the client's: an error's body, to see what it says of
//! the backend, and a stream's head until its first content, so that an error in it can still be
//! answered by somebody else. Bounded in bytes and in time; the pieces are handed on as they came.
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::Clock;
use crate::flight::{Expired, Flight};
use crate::upstream::answer::AnswerBody;
use crate::upstream::call::CallError;
use crate::wire::{Ending, Meter, Verdict};

/// Most bytes held back.
pub const MOST: usize = 64 * 1024;
/// Longest time for an error's body to come.
const ERROR_BODY: Duration = Duration::from_secs(2);

/// The body of an error, as far as it is held; all of it goes on being there to be read.
pub async fn error_body(flight: &Flight, body: &mut AnswerBody) -> Result<Bytes, CallError> {
    let (mut pieces, mut whole) = (VecDeque::new(), BytesMut::new());
    let until = Instant::now() + ERROR_BODY;
    while !body.ended() && whole.len() < MOST {
        let next = flight.guard(poll_fn(|cx| body.poll_data(cx)));
        match timeout_at(until, next).await {
            Ok(Ok(Some(Ok(piece)))) => {
                whole.extend_from_slice(&piece);
                pieces.push_back(piece);
                flight.keeps(2 * whole.len());
            }
            Ok(Ok(Some(Err(error)))) => return Err(error),
            // late: what has come must do
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    body.put_back(pieces);
    Ok(whole.freeze())
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
