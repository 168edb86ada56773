//! A request body on its way to a backend: whole in memory, or streaming through.
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How many bytes of a client's are progress.
pub const WORTH: usize = 1024;

/// How the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sized {
    Known(u64),
    Chunked,
}

/// The body of one attempt.
pub enum Outgoing {
    /// Held whole, so that it can be sent again.
    Whole { body: Bytes, sent: bool },
    /// Passed through as it arrives, once. `framed`: chunk lines are put around each piece.
    Streaming { body: Incoming, size: Sized, begun: bool, ended: bool, framed: bool },
}

impl Outgoing {
    pub fn whole(body: Bytes) -> Self {
        Self::Whole { body, sent: false }
    }

    /// `length`: what the client announced; without it the body is chunked.
    pub fn streaming(body: Incoming, length: Option<u64>) -> Self {
        let size = length.map_or(Sized::Chunked, Sized::Known);
        Self::Streaming { body, size, begun: false, ended: false, framed: true }
    }

    pub fn size(&self) -> Sized {
        match self {
            Self::Whole { body, .. } => Sized::Known(body.len() as u64),
            Self::Streaming { size, .. } => *size,
        }
    }

    /// Makes the body ready for another attempt; `false` when part of it is gone.
    pub fn rewind(&mut self) -> bool {
        match self {
            Self::Whole { sent, .. } => {
                *sent = false;
                true
            }
            Self::Streaming { begun, .. } => !*begun,
        }
    }

    /// HTTP/2 has framing of its own.
    #[must_use]
    pub fn unframed(mut self) -> Self {
        if let Self::Streaming { framed, .. } = &mut self {
            *framed = false;
        }
        self
    }

    /// The next bytes to write, chunk framing included.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match self {
            Self::Whole { body, sent } => {
                let first = !std::mem::replace(sent, true) && !body.is_empty();
                Poll::Ready(first.then(|| Ok(body.clone())))
            }
            Self::Streaming { ended: true, .. } => Poll::Ready(None),
            Self::Streaming { body, size, begun, ended, framed } => loop {
                let chunked = *framed && *size == Sized::Chunked;
                match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        *begun = true;
                        let Ok(data) = frame.into_data() else { continue };
                        if data.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(if chunked { chunk(&data) } else { data })));
                    }
                    Some(Err(error)) => {
                        *begun = true;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    None => {
                        *ended = true;
                        let last = Bytes::from_static(b"0\r\n\r\n");
                        return Poll::Ready(chunked.then_some(Ok(last)));
                    }
                }
            },
        }
    }
}

fn chunk(data: &Bytes) -> Bytes {
    let size = format!("{:x}\r\n", data.len());
    let mut out = BytesMut::with_capacity(size.len() + data.len() + 2);
    out.put_slice(size.as_bytes());
    out.put_slice(data);
    out.put_slice(b"\r\n");
    out.freeze()
}

/// For hyper's HTTP/2 client.
impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { body, sent } => *sent || body.is_empty(),
            Self::Streaming { ended, body, .. } => *ended || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.size() {
            Sized::Known(length) => SizeHint::with_exact(length),
            Sized::Chunked => SizeHint::new(),
        }
    }
}
