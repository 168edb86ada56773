//! Writing a request: its head, then its body in pieces, each as soon as there is room for it.
//!
//! While the client is waited for, its clock runs until [`WORTH`] bytes have come: a body that drips
//! is never silent, and would hold a call and a backend for ever. The bound is far below what any
//! line carries, for a stream may be made as it is sent (speech).
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::H1Error;
use crate::flight::Stage;
use crate::io::Stream;
use crate::upstream::outgoing::{Outgoing, WORTH};

/// A request on its way out.
pub struct Sending {
    head: Vec<u8>,
    /// So much of the head has gone.
    gone: usize,
    /// The piece of the body that is being written, after the head.
    piece: Bytes,
    pub state: State,
    /// Some of it has been taken from us, and may have come through.
    pub begun: bool,
    /// The client is waited for: how many bytes it has sent meanwhile.
    waiting: Option<usize>,
}

#[derive(PartialEq)]
pub enum State {
    Writing,
    Flushing,
    Done,
    Failed,
}

impl Sending {
    pub fn new(head: Vec<u8>) -> Self {
        let (piece, state) = (Bytes::new(), State::Writing);
        Self { head, gone: 0, piece, state, begun: false, waiting: None }
    }

    pub fn poll_send(
        &mut self,
        io: &mut Stream,
        body: &mut Outgoing,
        progress: &dyn Fn(Stage),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), H1Error>> {
        let result = ready!(self.poll_all(io, body, progress, cx));
        self.state = if result.is_ok() { State::Done } else { State::Failed };
        Poll::Ready(result)
    }

    fn poll_all(
        &mut self,
        io: &mut Stream,
        body: &mut Outgoing,
        progress: &dyn Fn(Stage),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), H1Error>> {
        match self.state {
            State::Done => return Poll::Ready(Ok(())),
            State::Failed => return Poll::Ready(Err(H1Error::Closed)),
            State::Writing | State::Flushing => {}
        }
        while self.state == State::Writing {
            if self.piece.is_empty() {
                match body.poll_piece(cx) {
                    Poll::Ready(Some(Ok(piece))) => {
                        self.waiting = self.waiting.map(|come| come + piece.len());
                        self.piece = piece;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(H1Error::RequestBody(error)));
                    }
                    Poll::Ready(None) if self.head_is_gone() => {
                        self.state = State::Flushing;
                        progress(Stage::FirstByte);
                        break;
                    }
                    // the head need not wait for a body that is slow to come, nor what was written
                    Poll::Pending if self.head_is_gone() => {
                        if self.waiting.is_none() {
                            self.waiting = Some(0);
                            progress(Stage::Reading);
                        }
                        return match Pin::new(io).poll_flush(cx) {
                            Poll::Ready(Err(error)) => Poll::Ready(Err(H1Error::Io(error))),
                            _ => Poll::Pending,
                        };
                    }
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            let Poll::Ready(written) = self.poll_write_some(io, cx) else {
                // the backend is waited for, whatever the client was worth
                if self.waiting.take().is_some() {
                    progress(Stage::FirstByte);
                }
                return Poll::Pending;
            };
            written.map_err(H1Error::Io)?;
            if self.waiting.is_none_or(|come| come >= WORTH) {
                self.waiting = None;
                progress(Stage::FirstByte);
            }
        }
        // TLS holds back what it has encrypted until it is flushed
        Pin::new(io).poll_flush(cx).map_err(H1Error::Io)
    }

    fn head_is_gone(&self) -> bool {
        self.gone == self.head.len()
    }

    fn poll_write_some(&mut self, io: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let head = &self.head[self.gone..];
        let slices = [IoSlice::new(head), IoSlice::new(&self.piece)];
        let written = ready!(io.poll_write_joined(cx, &slices))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.begun = true;
        let of_head = written.min(head.len());
        self.gone += of_head;
        bytes::Buf::advance(&mut self.piece, written - of_head);
        Poll::Ready(Ok(()))
    }
}
