//! The client side of HTTP/1.1 (RFC 9112), for a proxy: one connection, one call at a time.
//!
//! What a general client needs and this does not: a task of its own, channels to it, and two 8 KiB
//! buffers a connection. Here the call's own task drives the socket, reads land in a scratch buffer
//! of the thread and only what belongs to the answer is copied out of it, so that an open stream
//! costs a few hundred bytes on this side. `httparse` reads heads, as it does in hyper.
//!
//! Invariants: a connection is reusable only after an answer that ended by its own framing, with
//! nothing left over and the whole request sent; a head is at most 64 KiB and 200 lines; an answer
//! whose framing is in doubt is an error, never a guess.
mod framing;
mod head;
mod sending;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use thiserror::Error;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::coop::unconstrained;

use self::framing::{Decoded, Framing};
pub use self::head::Head;
use self::sending::{Sending, State};
use super::outgoing::{BoxError, Outgoing};
use crate::flight::Stage;
use crate::io::Stream;

/// Size of the scratch buffer a thread reads into; the largest frame that is passed on at once.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static SCRATCH_BUF: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What went wrong on the connection. [`Failure`] says what had gone out, and come back, by then.
#[derive(Debug, Error)]
pub enum H1Error {
    #[error("the backend closed the connection")]
    Closed,
    #[error("the backend's connection broke")]
    Io(#[source] io::Error),
    #[error("the backend's answer is not valid HTTP: {0}")]
    Malformed(&'static str),
    #[error("the client's request body ended early")]
    RequestBody(#[source] BoxError),
}

/// A failed exchange.
#[derive(Debug)]
pub struct Failure {
    pub error: H1Error,
    /// A byte of an answer had arrived: the backend has worked on this call.
    pub answered: bool,
    /// Nothing of the request had gone out: no backend can have begun it.
    pub unsent: bool,
}

impl Failure {
    fn new(error: H1Error, answered: bool) -> Self {
        Self { error, answered, unsent: false }
    }
}

/// A connection to a backend.
pub struct Connection {
    io: Stream,
    /// Read from the socket and not consumed; empty, and without memory, between reads.
    left: BytesMut,
    framing: Framing,
    /// Whether the connection can carry another call once this answer has ended.
    reusable: bool,
    /// The rest of a request whose answer began before it was whole.
    upload: Option<Box<(Sending, Outgoing)>>,
}

impl Connection {
    pub fn new(io: Stream) -> Self {
        Self { io, left: BytesMut::new(), framing: Framing::None, reusable: true, upload: None }
    }

    /// Sends one request and waits for the head of its answer; 1xx heads are passed over (101 is
    /// an answer). A request body that streams goes on being sent while the head is awaited, and
    /// behind it unless the backend has said no. `progress` hears who is waited for: the client
    /// ([`Stage::Reading`]) or the backend ([`Stage::FirstByte`]). The answer's headers come in the
    /// map that held the request's: one allocation less a call.
    pub async fn exchange(
        &mut self,
        method: &Method,
        target: &str,
        headers: &mut HeaderMap,
        body: &mut Outgoing,
        progress: &dyn Fn(Stage),
    ) -> Result<Head, Failure> {
        let mut sending = Sending::new(head::render(method, target, headers, body));
        let head_only = *method == Method::HEAD;
        // until an answer says so: a call that fails or is dropped leaves nothing to build on
        self.reusable = false;
        std::future::poll_fn(|cx| {
            let sent = sending.poll_send(&mut self.io, body, progress, cx);
            let polled = match self.poll_head(head_only, headers, cx) {
                Poll::Ready(Ok(head)) => {
                    self.keep_sending(&mut sending, body, head.status);
                    Poll::Ready(Ok(head))
                }
                Poll::Ready(Err(failure)) => Poll::Ready(Err(match sent {
                    // what stopped the sending is the cause; the closed socket its echo
                    Poll::Ready(Err(error)) if !failure.answered => Failure::new(error, false),
                    _ => failure,
                })),
                // a backend that stops reading may still answer, so a failed send waits for that;
                // a client whose body failed has nothing to wait for
                Poll::Pending => match sent {
                    Poll::Ready(Err(error @ H1Error::RequestBody(_))) => {
                        Poll::Ready(Err(Failure::new(error, false)))
                    }
                    _ => Poll::Pending,
                },
            };
            polled.map_err(|failure| Failure { unsent: !sending.begun, ..failure })
        })
        .await
    }

    /// The answer's head has come. A backend that takes the call may still want all of it.
    fn keep_sending(&mut self, sending: &mut Sending, body: &mut Outgoing, status: StatusCode) {
        match sending.state {
            State::Done => {}
            State::Writing | State::Flushing if status.is_success() => {
                let sending = std::mem::replace(sending, Sending::new(Vec::new()));
                let body = std::mem::replace(body, Outgoing::whole(Bytes::new()));
                self.upload = Some(Box::new((sending, body)));
            }
            State::Writing | State::Flushing | State::Failed => self.reusable = false,
        }
    }

    /// Goes on with an upload; an error of the client's side ends the call, one of the backend's
    /// will show in its answer.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), H1Error> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let (sending, body) = &mut **upload;
        if let Poll::Ready(sent) = sending.poll_send(&mut self.io, body, &|_| {}, cx) {
            self.upload = None;
            self.reusable &= sent.is_ok();
            if let Err(error @ H1Error::RequestBody(_)) = sent {
                return Err(error);
            }
        }
        Ok(())
    }

    fn poll_head(
        &mut self,
        head_only: bool,
        map: &mut HeaderMap,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Failure>> {
        let io = &mut self.io;
        let (left, reusable) = (&mut self.left, &mut self.reusable);
        loop {
            let was = left.len();
            let result = with_scratch(io, cx, |read| match read {
                Err(error) => Err(Failure::new(H1Error::Io(error), was > 0)),
                Ok([]) => Err(Failure::new(H1Error::Closed, was > 0)),
                Ok(read) => {
                    // the usual case: the whole head in one read, parsed where it lies
                    let whole: &[u8] = if was == 0 {
                        read
                    } else {
                        left.extend_from_slice(read);
                        left
                    };
                    let parsed = head::parse(whole, head_only, map)
                        .map_err(|error| Failure::new(error, true))?;
                    match &parsed {
                        Some((_, used)) => *left = BytesMut::from(&whole[*used..]),
                        None if was == 0 => *left = BytesMut::from(whole),
                        None => {}
                    }
                    Ok(parsed)
                }
            });
            if let Some((head, _)) = ready!(result)? {
                self.framing = head.framing;
                *reusable = head.keep_alive && head.framing != Framing::UntilClose;
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// The next piece of the answer's body, as it arrived, without its chunk framing. `None` after
    /// its end; an early end of the connection is an error.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, H1Error>>> {
        if let Err(error) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let data = ready!(self.poll_framed(cx));
        self.reusable &= !matches!(data, Some(Err(_)));
        Poll::Ready(data)
    }

    fn poll_framed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, H1Error>>> {
        loop {
            if self.framing.ended() {
                self.reusable &= self.left.is_empty();
                return Poll::Ready(None);
            }
            if !self.left.is_empty() {
                let mut left = std::mem::take(&mut self.left);
                // the usual case: what came with the head is nothing but body
                if self.framing.passes(left.len()) {
                    return Poll::Ready(Some(Ok(left.freeze())));
                }
                let decoded = self.framing.decode(&mut left);
                match self.settle(decoded, &left) {
                    Some(done) => return Poll::Ready(Some(done)),
                    None => continue,
                }
            }
            let Self { io, framing, .. } = self;
            let (decoded, rest) = ready!(with_scratch(io, cx, |read| match read {
                Err(error) => (Err(H1Error::Io(error)), BytesMut::new()),
                Ok([]) => (framing.closed().map(|()| Decoded::default()), BytesMut::new()),
                Ok(read) => {
                    let decoded = framing.decode(read);
                    let used = decoded.as_ref().map_or(read.len(), |decoded| decoded.used);
                    (decoded, BytesMut::from(&read[used..]))
                }
            }));
            self.left = rest;
            match decoded {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Decoded { data, .. }) if data.is_empty() => {}
                Ok(Decoded { data, .. }) => return Poll::Ready(Some(Ok(data))),
            }
        }
    }

    fn settle(
        &mut self,
        decoded: Result<Decoded, H1Error>,
        buffer: &BytesMut,
    ) -> Option<Result<Bytes, H1Error>> {
        match decoded {
            Err(error) => Some(Err(error)),
            Ok(Decoded { data, used }) => {
                self.left = BytesMut::from(&buffer[used..]);
                (!data.is_empty()).then_some(Ok(data))
            }
        }
    }

    /// Whether the answer is over and the next call may use this connection.
    pub fn is_reusable(&self) -> bool {
        self.reusable && self.framing.ended() && self.left.is_empty() && self.upload.is_none()
    }

    pub fn body_ended(&self) -> bool {
        self.framing.ended()
    }

    /// Whether the backend has closed, or sent what nobody asked for, while nothing was going on.
    pub fn is_stale(&mut self, cx: &mut Context<'_>) -> bool {
        // of a plain socket the kernel knows all; TLS may have taken something from it, and takes what
        // is meant for itself, as a session's ticket, before the kernel is asked
        if !self.io.is_encrypted() {
            return self.io.has_news();
        }
        let look = std::future::poll_fn(|cx| with_scratch(&mut self.io, cx, |_| ()));
        // a task that has used up its budget would be told that there is nothing to read
        let told = std::pin::pin!(unconstrained(look)).poll(cx).is_ready();
        told || self.io.has_news()
    }

    /// After 101: the bare stream, and what was read beyond the head.
    pub fn into_upgraded(self) -> (Stream, BytesMut) {
        (self.io, self.left)
    }
}

/// One read into the thread's scratch buffer; `use_it` sees what arrived (nothing: end of stream).
fn with_scratch<T>(
    io: &mut Stream,
    cx: &mut Context<'_>,
    use_it: impl FnOnce(io::Result<&mut [u8]>) -> T,
) -> Poll<T> {
    SCRATCH_BUF.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        let result = ready!(Pin::new(io).poll_read(cx, &mut buf));
        Poll::Ready(use_it(result.map(|()| buf.filled_mut())))
    })
}

#[cfg(test)]
mod tests;
