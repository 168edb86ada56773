//! What hyper sends: one of our kinds of answers.
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{BrokenOff, Streamed};
use crate::pipeline::follow::Following;
use crate::pipeline::offload::Live;
use crate::pipeline::replay::Replaying;

/// What hyper sends.
pub enum ReplyBody {
    Whole(Bytes),
    Streamed(Box<Streamed>),
    Shared(Box<Following>),
    Replayed(Box<Replaying>),
    Live(Box<Live>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(body) if body.is_empty() => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Self::Streamed(streamed) => {
                let next = ready!(streamed.poll_next(cx));
                Poll::Ready(next.map(|data| data.map(Frame::data)))
            }
            Self::Shared(following) => {
                let next = ready!(following.poll_next(cx));
                Poll::Ready(next.map(|data| data.map(Frame::data)))
            }
            Self::Replayed(replaying) => {
                let next = ready!(replaying.poll_next(cx));
                Poll::Ready(next.map(|data| Ok(Frame::data(data))))
            }
            Self::Live(live) => {
                let next = ready!(live.poll_next(cx));
                Poll::Ready(next.map(|data| Ok(Frame::data(data))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_empty(),
            Self::Streamed(streamed) => streamed.has_ended(),
            Self::Shared(following) => following.has_ended(),
            Self::Replayed(replaying) => replaying.has_ended(),
            Self::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Self::Streamed(_) | Self::Shared(_) | Self::Replayed(_) | Self::Live(_) => {
                SizeHint::new()
            }
        }
    }
}
