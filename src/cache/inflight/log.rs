//! What has come of a call, for readers who come back to it; it outlives the writer.
use std::sync::Arc;
use std::time::Instant;

use super::state::{Had, State, Unresumed};
use super::{Hub, Lead, Seat};

/// The pieces of one call, for as long as somebody has this.
pub struct Log<H, F>(Arc<Hub<H, F>>);

impl<H, F> Log<H, F> {
    /// A seat behind what a reader has had. `most`: so many may read beside those who joined.
    pub fn resume(&self, most: usize, had: &mut impl Had) -> Result<Seat<H, F>, Unresumed> {
        let at = self.0.edit(|state| state.resume(most, had))?;
        Ok(Seat { hub: Arc::clone(&self.0), at })
    }

    /// Tells the writer that it is no longer wanted.
    pub fn cancel(&self) {
        self.0.edit(State::cancel);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.state.lock().cancelled().is_some()
    }

    /// When the last reader went. `None`: somebody reads.
    pub fn left(&self) -> Option<Instant> {
        self.0.state.lock().left()
    }
}

impl<H, F> Lead<H, F> {
    /// For readers who come back.
    pub fn log(&self) -> Log<H, F> {
        Log(Arc::clone(&self.hub))
    }

    /// Nothing of what came has been let go of.
    pub fn is_whole(&self) -> bool {
        self.hub.state.lock().is_whole()
    }

    /// Whether it was cancelled; and then, whether nobody else reads it.
    pub fn cancelled(&self) -> Option<bool> {
        self.hub.state.lock().cancelled()
    }
}
