//! A call, and then its reply's body, that keep the connection marked as busy until dropped, and
//! an HTTP/2 stream informed about whether the client takes it.
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::connection::Active;
use super::streams::Taking;

/// A call being answered. Boxed, so that an open stream does not keep the room that its call needed
/// before; and a type of its own, because an `async` block around it would copy it once more.
///
/// A call that panics is over, and has let go of all that it held; it is answered with what `broken`
/// gives, and the other calls of its connection go on.
pub struct Serving<F, B> {
    answer: Pin<Box<F>>,
    call: Option<Active>,
    taking: Option<Taking>,
    broken: fn() -> Response<B>,
}

impl<F, B> Serving<F, B> {
    #[inline]
    pub fn new(
        answer: F,
        call: Active,
        taking: Option<Taking>,
        broken: fn() -> Response<B>,
    ) -> Self {
        Self { answer: Box::pin(answer), call: Some(call), taking, broken }
    }
}

impl<F, B> Future for Serving<F, B>
where
    F: Future<Output = Response<B>>,
{
    type Output = Result<Response<Held<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.answer.as_mut();
        // what it shares with others is changed in single steps, each of which leaves it whole
        let polled = catch_unwind(AssertUnwindSafe(|| answer.poll(cx)));
        let response = match polled {
            Ok(polled) => ready!(polled),
            // the panic hook has said what happened
            Err(_) => (self.broken)(),
        };
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

#[cfg(test)]
mod faults {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;

    use http_body_util::Full;

    use super::super::connection::Watch;
    use super::*;
    use crate::clock::Clock;

    /// Counts down when it is dropped, as a lease or a flight would.
    struct Guard(Rc<Cell<u32>>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    fn broken() -> Response<Full<bytes::Bytes>> {
        let mut response = Response::new(Full::from("sorry"));
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    }

    /// A call that meets a fault of ours, before it waits for anything and behind that.
    #[tokio::test]
    async fn a104_a_call_that_panics() {
        let watch = Arc::new(Watch::new(Arc::new(Clock::new())));
        for waits in [0, 3] {
            let held = Rc::new(Cell::new(1));
            let guard = Guard(Rc::clone(&held));
            let faulty = async move {
                let guard = guard;
                for _ in 0..waits {
                    tokio::task::yield_now().await;
                }
                assert!(guard.0.get() > 1, "a fault");
                Response::new(Full::from("never"))
            };
            let answer = Serving::new(faulty, watch.begin_call(), None, broken).await;
            let answer = answer.unwrap_or_else(|never| match never {});
            assert_eq!((answer.status().as_u16(), held.get()), (500, 0), "all is given back");
            assert!(watch.is_busy(), "until its answer has been sent");
            drop(answer);
            assert!(!watch.is_busy(), "and the connection takes the next call");
        }
        let fine = async { Response::new(Full::from("fine")) };
        let answer = Serving::new(fine, watch.begin_call(), None, broken).await;
        assert_eq!(answer.map(|answer| answer.status().as_u16()), Ok(200));
    }
}
