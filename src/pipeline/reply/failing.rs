//! The steps of an abnormal end: the error event goes out, is flushed, and the connection breaks off.
use std::task::{Context, Poll};

use bytes::Bytes;

use super::BrokenOff;
use crate::wire::Form;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    No,
    /// One turn is given to hyper, which flushes before it asks again.
    Flush,
    BreakOff,
}

impl Failing {
    /// What stands in the place of the next piece. `None`: nothing has failed.
    pub fn poll_step<T>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Option<Result<T, BrokenOff>>>> {
        match self {
            Self::No => None,
            Self::Flush => {
                *self = Self::BreakOff;
                cx.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            Self::BreakOff => Some(Poll::Ready(Some(Err(BrokenOff)))),
        }
    }
}
/// The event that was being sent when the answer died is ended first.
pub fn after_a_torn_event(form: Form, event: &Bytes) -> Bytes {
    let gap: &[u8] = if form == Form::Sse { b"\n\n" } else { b"\n" };
    [gap, event].concat().into()
}
