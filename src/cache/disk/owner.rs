//! The thread that owns the files: it alone writes, cuts and deletes them.
//!
//! It takes one thing after another from the queue; between them it looks through what an earlier
//! process left, and when nothing is to be done it deletes what is out of date. A disk that refuses
//! is left alone for a pause that grows; until then nothing is written, and what is there is still
//! read.
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::files::Files;
use super::queue::{End, Next, Purge};
use super::record::millis;
use super::{Ended, Shared};
use crate::cache::{Entry, Key};

const STACK: usize = 512 * 1024;
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

struct Owner {
    shared: Arc<Shared>,
    files: Files,
    /// How long the next trouble makes it rest.
    pause: Duration,
    /// When to try again; `None` while all is well.
    again: Option<Instant>,
}

/// Starts it; it waits for `after` to be disconnected before it touches anything. The receiver is
/// disconnected when it has ended.
pub(super) fn start(shared: Arc<Shared>, after: Option<Ended>) -> io::Result<Ended> {
    let (running, ended) = sync_channel(0);
    let run = move || {
        let _running: SyncSender<()> = running;
        if let Some(after) = after {
            // nothing is ever sent
            let _ = after.recv();
        }
        let files = Files::new(Arc::clone(&shared));
        Owner { shared, files, pause: PAUSE, again: None }.run();
    };
    thread::Builder::new().name("cache-disk".to_owned()).stack_size(STACK).spawn(run)?;
    Ok(ended)
}

impl Drop for Owner {
    /// At its end, and after a panic.
    fn drop(&mut self) {
        self.shared.queue.end(End::Keep);
        // open files take room on the disk even when somebody deletes them
        self.shared.segments.write().clear();
    }
}

impl Owner {
    fn run(&mut self) {
        if let Err(error) = self.files.list() {
            self.ill(&error);
        }
        loop {
            self.files.scan();
            match self.shared.queue.take(self.patience()) {
                Next::Put(key, entry) => self.put(&key, &entry),
                Next::Purge(purge) => self.purge(purge),
                Next::Budget => self.files.make_room(0),
                Next::Nothing => self.files.drop_expired(),
                Next::End(End::Keep) => return,
                Next::End(End::Delete) => return self.delete(),
            }
            self.files.show();
        }
    }

    /// How long there is nothing to do if nobody asks; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        if !self.files.are_scanned() {
            return Some(Duration::ZERO);
        }
        let left = self.files.until()?.saturating_sub(millis(SystemTime::now()));
        Some(Duration::from_millis(left).max(PAUSE))
    }

    fn put(&mut self, key: &Key, entry: &Entry) {
        let resting = self.again.is_some_and(|again| Instant::now() < again);
        match if resting { Ok(false) } else { self.files.write(key, entry) } {
            Ok(true) => {
                self.shared.stores.fetch_add(1, Relaxed);
                return self.well();
            }
            Ok(false) => {}
            Err(error) => self.ill(&error),
        }
        self.shared.dropped.fetch_add(1, Relaxed);
    }

    fn purge(&mut self, purge: Purge) {
        let Purge { filter, now, mut purged, done } = purge;
        purged += self.files.purge(&filter, now);
        self.files.show();
        // nobody may be waiting any more
        let _ = done.send(purged);
    }

    fn delete(&mut self) {
        if let Err(error) = self.files.delete_all() {
            let directory = self.shared.directory.display();
            tracing::warn!(%directory, %error, "a cache that is not used any more stays");
        }
    }

    /// The disk has refused something.
    fn ill(&mut self, error: &io::Error) {
        self.shared.failures.fetch_add(1, Relaxed);
        self.again = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.shared.healthy.swap(false, Relaxed) {
            let directory = self.shared.directory.display();
            tracing::warn!(%directory, %error, "the cache cannot write; it is tried again");
        }
    }

    fn well(&mut self) {
        self.pause = PAUSE;
        self.again = None;
        if !self.shared.healthy.swap(true, Relaxed) {
            let directory = self.shared.directory.display();
            tracing::info!(%directory, "the cache can write again");
        }
    }
}
