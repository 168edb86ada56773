//! A call, and then its reply's body, that keep the connection marked as busy until dropped, and
//! an HTTP/2 stream informed about whether the client takes it.
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::connection::Active;
use super::streams::Taking;

/// A call being answered. Boxed, so that an open stream does not keep the room that its call needed
/// before; and a type of its own, because an `async` block around it would copy it once more.
pub struct Serving<F> {
    answer: Pin<Box<F>>,
    call: Option<Active>,
    taking: Option<Taking>,
}

impl<F> Serving<F> {
    pub fn new(answer: F, call: Active, taking: Option<Taking>) -> Self {
        Self { answer: Box::pin(answer), call: Some(call), taking }
    }
}

impl<F, B> Future for Serving<F>
where
    F: Future<Output = Response<B>>,
{
    type Output = Result<Response<Held<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.answer.as_mut().poll(cx));
        let (call, taking) = (self.call.take(), self.taking.take());
        Poll::Ready(Ok(response.map(|body| Held { body, call, taking })))
    }
}

/// A reply's body.
pub struct Held<B> {
    body: B,
    call: Option<Active>,
    /// Over HTTP/1.1, a write that waits tells the same.
    taking: Option<Taking>,
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
        if let (Some(taking), Some(call)) = (taking, call)
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
