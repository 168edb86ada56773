//! Places for sessions over WebSocket at an upstream, over all workers.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Shared, Upstream};

/// One open session; its place is free again when it is dropped.
pub struct Seat(Arc<Shared>);

impl Upstream {
    /// A place for one more session. `None`: there are as many as may be.
    pub fn open_session(&self) -> Option<Seat> {
        let most = self.config.websocket.sessions.unwrap_or(usize::MAX);
        let more = |open| (open < most).then_some(open + 1);
        let opened = self.shared.sessions.fetch_update(Relaxed, Relaxed, more);
        opened.is_ok().then(|| Seat(Arc::clone(&self.shared)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Relaxed);
    }
}
