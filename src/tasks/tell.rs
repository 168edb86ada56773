//! Ends that somebody outside is to be told of: tasks whose record names webhooks.
//!
//! An end is here from the moment when it is durable until it has been told; a start finds those
//! that were not, however they ended. A crash between the telling and its row has an end told
//! again: whoever tells makes the same message of the same end. Until it is told its record stays,
//! also if its answer is purged or deleted.
use super::{TaskId, Tasks, View};

impl Tasks {
    /// Ends that are not told yet, the oldest first, `most` of them; waits until there is one. For
    /// one caller at a time: the next call has those again that were not [`Self::told`].
    pub async fn untold(&self, most: usize) -> Vec<View> {
        loop {
            let ended = self.book.lock().untold(most);
            if !ended.is_empty() {
                return ended;
            }
            // an end since the look has left its mark
            self.ends.notified().await;
        }
    }

    /// All who wanted to know of this end will. Kept within half a second.
    pub fn told(&self, id: TaskId) {
        let mut book = self.book.lock();
        if book.mark_told(id) {
            self.keep(&book, id);
        }
    }
}
