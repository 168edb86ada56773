//! The bytes of one client connection, on their way to and from hyper.
//!
//! Watches, and steps in twice: where hyper answers a malformed head by itself, with no body, the
//! answer is replaced by one in the dialect of the path; and where a connection ends before its
//! request body has been read, it lingers, so that the client can read the answer before its own
//! bytes are met with a reset.
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Method;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connection::Watch;
use super::head::{BareError, replace_bare_error};
use crate::io::Stream;
use crate::wire::{self, Dialect, Fault};

/// How long, and for how many bytes, a closing connection reads on.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

pub struct WatchedIo {
    stream: Stream,
    watch: Arc<Watch>,
    /// Our answer in place of hyper's, and the length of what it replaces.
    instead: Option<(Bytes, usize)>,
    lingering: Option<Lingering>,
}

struct Lingering {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl WatchedIo {
    pub fn new(stream: Stream, watch: Arc<Watch>) -> Self {
        Self { stream, watch, instead: None, lingering: None }
    }

    /// Hyper's own answer to a head that is no HTTP: only then has nobody named the call.
    fn replaces(&mut self, written: &[u8]) -> bool {
        if self.watch.is_busy()
            || !written.starts_with(b"HTTP/1.1 4")
            || memmem::find(written, b"x-tidegate-request-id").is_some()
        {
            return false;
        }
        let replaced = self.watch.trail(|trail| replace_bare_error(written, trail.last(), body));
        self.instead = replaced.map(|answer| (Bytes::from(answer), written.len()));
        self.instead.is_some()
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((answer, length)) = &mut self.instead {
            if answer.is_empty() {
                let length = *length;
                self.instead = None;
                return Poll::Ready(Ok(length));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, answer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            answer.advance(written);
        }
        Poll::Ready(Ok(0))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lingering) = &mut self.lingering else { return Poll::Ready(()) };
        let mut scratch = [0; 4096];
        loop {
            if lingering.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() && lingering.left > 0 => {
                    lingering.left = lingering.left.saturating_sub(buf.filled().len());
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

fn body(error: &BareError<'_>) -> Bytes {
    let dialect = wire::endpoint(&Method::POST, error.path).dialect.unwrap_or(Dialect::Http);
    wire::error_body(dialect, &Fault::new(error.kind, error.message, ""))
}

impl AsyncRead for WatchedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            this.watch.read(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.instead.is_some() || this.replaces(buf) {
            return this.poll_instead(cx);
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.first().map_or(&[][..], |first| first);
        if this.instead.is_some() || this.replaces(first) {
            return this.poll_instead(cx);
        }
        let written = this.stream.poll_write_joined(cx, bufs);
        this.watch.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        // TLS takes what it cannot send yet: then it is the flush that waits
        this.watch.wrote(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.watch.trail(super::head::HeadTrail::is_inside_body) {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(tokio::time::sleep_until(Instant::now() + LINGER));
            this.lingering = Some(Lingering { until, left: LINGER_BYTES });
        }
        this.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests;
