//! A reply's body that keeps its connection marked as busy until it is dropped, and its HTTP/2
//! stream informed about whether the client takes it.
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};

use super::connection::Active;
use super::streams::Taking;

pub struct Held<B> {
    body: B,
    call: Active,
    /// Over HTTP/1.1, a write that waits tells the same.
    taking: Option<Taking>,
}

impl<B> Held<B> {
    pub fn new(body: B, call: Active, taking: Option<Taking>) -> Self {
        Self { body, call, taking }
    }
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Self { body, call, taking } = self.get_mut();
        if let Some(taking) = taking {
            taking.asked();
        }
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(taking) = taking
            && frame.is_some()
        {
            taking.handed(call.now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
