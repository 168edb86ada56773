//! An upstream's answer: its head, and a body to be read to its end or dropped.
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use super::call::CallError;
use super::h2;
use super::pool::Pooled;
use super::visit::Visit;
use crate::io::Stream;

/// How an attempt has gone, as far as the backend is to be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    Well,
    Badly,
    /// The client left, or a limit of ours ended it.
    Unjudged,
}

/// An upstream's answer: its head, and a body to be read.
pub struct Answer {
    pub status: StatusCode,
    /// Without hop-by-hop fields.
    pub headers: HeaderMap,
    pub body: AnswerBody,
    /// How often the call was sent until it came.
    pub tries: u32,
    pub reused: bool,
    /// When its head had been read.
    pub arrived: Instant,
}

/// The rest of an answer. Dropping it ends the call at the upstream.
pub struct AnswerBody {
    from: From,
    /// Read already, and handed out before the rest.
    ahead: VecDeque<Bytes>,
    /// This call at its address; it is told how it goes. `None`: it has been told all.
    pub(super) visit: Option<Visit>,
}

pub(super) enum From {
    H1(Pooled),
    H2 { body: Incoming, upload: Option<Rc<h2::Upload>>, _share: h2::Share },
    Done,
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: HeaderMap, body: AnswerBody) -> Self {
        Self { status, headers, body, tries: 1, reused: false, arrived: Instant::now() }
    }
}

impl AnswerBody {
    pub(super) fn new(from: From) -> Self {
        Self { from, ahead: VecDeque::new(), visit: None }
    }

    /// Nothing of it is to come.
    #[cfg(test)]
    pub fn ended_already() -> Self {
        Self::new(From::Done)
    }

    /// Puts back what was read, in order; [`Self::poll_data`] hands it out first.
    pub fn put_back(&mut self, mut pieces: VecDeque<Bytes>) {
        pieces.append(&mut self.ahead);
        self.ahead = pieces;
    }

    /// The answer has begun well, see [`Visit::began`].
    pub fn began(&mut self, now: Instant) {
        if let Some(visit) = &mut self.visit {
            visit.began(now);
        }
    }

    /// At which of its upstream's addresses. `None`: all has been told of it.
    pub fn at(&self) -> Option<usize> {
        self.visit.as_ref().map(|visit| visit.at)
    }

    /// How it has gone, once; who says nothing leaves it open.
    pub fn told(&mut self, went: Went) {
        match (self.visit.take(), went) {
            (Some(visit), Went::Well) => visit.worked(),
            (Some(visit), Went::Badly) => visit.failed(Instant::now()),
            (None, _) | (_, Went::Unjudged) => {}
        }
    }

    /// The next piece as it arrived; `None` after the end. The connection goes back to its pool
    /// with the last piece, not with the `None` behind it.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match &mut self.from {
            From::Done => Poll::Ready(None),
            From::H1(pooled) => {
                let Some(connection) = pooled.connection() else { return Poll::Ready(None) };
                let data = ready!(connection.poll_data(cx));
                let failed = matches!(data, Some(Err(_)));
                if failed || data.is_none() || connection.body_ended() {
                    let from = std::mem::replace(&mut self.from, From::Done);
                    if let (From::H1(pooled), false) = (from, failed) {
                        pooled.finish();
                    }
                }
                Poll::Ready(data.map(|data| data.map_err(Into::into)))
            }
            From::H2 { body, upload, .. } => loop {
                match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Some(Err(error)) => {
                        // an upload may go on behind the answer's head
                        let fault = upload.as_ref().and_then(|upload| upload.take_fault());
                        self.from = From::Done;
                        let error = fault.map_or(CallError::H2(error), CallError::RequestBody);
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        self.from = From::Done;
                        return Poll::Ready(None);
                    }
                }
            },
        }
    }

    /// Ends the call at the upstream now; there is no more to be read.
    pub fn abandon(&mut self) {
        self.from = From::Done;
        self.ahead.clear();
    }

    /// All of it has been handed out.
    pub fn ended(&self) -> bool {
        match &self.from {
            _ if !self.ahead.is_empty() => false,
            From::Done => true,
            From::H1(_) => false,
            From::H2 { body, .. } => body.is_end_stream(),
        }
    }

    /// After 101: the bare stream, what was read beyond the head, and the visit that goes on.
    pub fn into_upgraded(self) -> Option<(Stream, BytesMut, Option<Visit>)> {
        match self.from {
            From::H1(pooled) => {
                let (stream, first) = pooled.into_connection()?.into_upgraded();
                Some((stream, first, self.visit))
            }
            From::H2 { .. } | From::Done => None,
        }
    }
}
