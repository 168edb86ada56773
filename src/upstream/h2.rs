//! The client side of HTTP/2: connections of hyper's that many calls share.
mod sending;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use h2::Reason;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};

pub use self::sending::{Sending, Upload};
use crate::clock::Tick;
use crate::io::Stream;

/// From this many calls on, another connection is opened; what servers commonly allow.
pub const STREAMS: u32 = 100;

/// Spawns hyper's parts of a connection on this thread.
#[derive(Clone)]
pub struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, part: F) {
        tokio::task::spawn_local(part);
    }
}

/// Whether the backend says that it did nothing for a call: it refused the stream, or went away
/// naming an earlier one as its last (RFC 9113 section 8.7).
pub fn is_undone(error: &hyper::Error) -> bool {
    cause(error).is_some_and(|cause| {
        let refused = cause.is_reset() && cause.reason() == Some(Reason::REFUSED_STREAM);
        let went_away = cause.is_go_away() && cause.reason() == Some(Reason::NO_ERROR);
        cause.is_remote() && (refused || went_away)
    })
}

/// Whether one stream alone has ended; the connection is as good as before.
pub fn is_of_stream(error: &hyper::Error) -> bool {
    cause(error).is_some_and(h2::Error::is_reset)
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// One shared connection.
pub struct Shared {
    sender: RefCell<SendRequest<Sending>>,
    active: Cell<u32>,
    pub born: Tick,
    pub idle_since: Cell<Tick>,
    /// No more calls are begun on it: too old, or closed by the backend.
    pub retired: Cell<bool>,
}

impl Shared {
    /// Shakes hands; `on_close` runs when the connection has ended.
    pub async fn open(
        stream: Stream,
        now: Tick,
        on_close: impl FnOnce() + 'static,
    ) -> Result<Rc<Self>, hyper::Error> {
        let (sender, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(256 * 1024)
            // half of it is also the budget for small frames that wait for slow readers; when that
            // is spent the whole connection ends
            .initial_connection_window_size(16 * 1024 * 1024)
            .max_frame_size(64 * 1024)
            .max_header_list_size(64 * 1024)
            .max_send_buf_size(256 * 1024)
            .max_concurrent_reset_streams(128)
            .handshake(TokioIo::new(stream))
            .await?;
        let shared = Rc::new(Self {
            sender: RefCell::new(sender),
            active: Cell::new(0),
            born: now,
            idle_since: Cell::new(now),
            retired: Cell::new(false),
        });
        let weak = Rc::downgrade(&shared);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to a backend ended");
            }
            if let Some(shared) = weak.upgrade() {
                shared.retired.set(true);
            }
            on_close();
        });
        Ok(shared)
    }

    pub fn has_room(&self) -> bool {
        !self.retired.get() && self.active.get() < STREAMS && !self.sender.borrow().is_closed()
    }

    pub fn is_idle(&self) -> bool {
        self.active.get() == 0
    }

    pub fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
    }

    pub fn sender(&self) -> SendRequest<Sending> {
        self.sender.borrow().clone()
    }

    pub fn enter(self: &Rc<Self>) -> Share {
        self.active.set(self.active.get() + 1);
        Share { of: Rc::clone(self) }
    }
}

/// One call's part of a shared connection.
pub struct Share {
    of: Rc<Shared>,
}

impl Share {
    pub fn of(&self) -> &Rc<Shared> {
        &self.of
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.active.set(self.of.active.get() - 1);
    }
}
