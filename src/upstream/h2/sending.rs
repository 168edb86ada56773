//! A request's body on its way to an HTTP/2 backend: hyper sends it in a task of its own.
//!
//! The call must hear all the same whom that task waits for, and that the client has failed, which is
//! no fault of the backend's. So a body that streams keeps an [`Upload`] in common with its call. As
//! over HTTP/1.1, the client's clock runs until [`WORTH`] bytes have come.
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};

use crate::flight::Stage;
use crate::upstream::outgoing::{BoxError, Outgoing, WORTH};

/// The body of a call, for hyper.
pub struct Sending {
    body: Outgoing,
    /// Of a body that is held whole there is nothing to hear.
    upload: Option<Rc<Upload>>,
}

/// How a body that streams gets on.
#[derive(Default)]
pub struct Upload {
    /// The client is waited for: how many bytes it has sent meanwhile.
    waiting: Cell<Option<usize>>,
    /// A new wait for the client, that the call has not heard of.
    waits: Cell<bool>,
    /// hyper holds a piece, or has all: the backend is waited for. The call has not heard of it.
    held: Cell<bool>,
    /// What was wrong with the client's body.
    fault: RefCell<Option<BoxError>>,
    call: RefCell<Option<Waker>>,
}

impl Sending {
    pub fn new(body: Outgoing) -> Self {
        let streams = matches!(body, Outgoing::Streaming { .. });
        let upload = streams.then(Rc::default);
        Self { body: body.unframed(), upload }
    }

    /// What the call may hear of a body that streams.
    pub fn upload(&self) -> Option<Rc<Upload>> {
        self.upload.clone()
    }
}

impl Upload {
    /// Whom the sending waits for now, if that is new: the client ([`Stage::Reading`]) or the backend
    /// ([`Stage::FirstByte`]). The task is woken when there is more to hear.
    pub fn news(&self, cx: &Context<'_>) -> Option<Stage> {
        *self.call.borrow_mut() = Some(cx.waker().clone());
        if self.held.take() {
            // whatever the client was worth
            self.waiting.set(None);
            self.waits.set(false);
            return Some(Stage::FirstByte);
        }
        self.waits.take().then_some(Stage::Reading)
    }

    /// The client's fault that has ended it, once.
    pub fn take_fault(&self) -> Option<BoxError> {
        self.fault.borrow_mut().take()
    }

    fn waits_for_client(&self) {
        // hyper asks for more: the backend has taken what there was
        self.held.set(false);
        if self.waiting.get().is_none_or(|come| come >= WORTH) {
            self.waiting.set(Some(0));
            self.waits.set(true);
            self.tell();
        }
    }

    fn hands_over(&self, bytes: usize) {
        self.waiting.set(self.waiting.get().map(|come| come + bytes));
        self.held.set(true);
        self.tell();
    }

    fn fails(&self, fault: BoxError) {
        *self.fault.borrow_mut() = Some(fault);
        self.tell();
    }

    fn tell(&self) {
        if let Some(call) = self.call.borrow_mut().take() {
            call.wake();
        }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(upload) = &this.upload else { return Pin::new(&mut this.body).poll_frame(cx) };
        match this.body.poll_piece(cx) {
            Poll::Pending => {
                upload.waits_for_client();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(piece))) => {
                upload.hands_over(piece.len());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(Some(Err(fault))) => {
                upload.fails(fault);
                // with it the stream is reset: half a body is not taken for a whole one
                Poll::Ready(Some(Err(h2::Error::from(Reason::CANCEL).into())))
            }
            Poll::Ready(None) => {
                upload.hands_over(0);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
