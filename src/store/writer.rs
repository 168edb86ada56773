//! The thread that writes, and the only one that does.
//!
//! A commit is two-phase and records what is free ("quick repair"): a second sync for each, and in
//! return a crash costs no walk over the whole file at the next start. Those who wait are told
//! after the sync, never before. A write that finds no room costs what is new its admission; all
//! else is tried again, with the ballast's room and for as long as it takes. What expires later leaves
//! room in the file that the disk does not get back: enough of it is as good. Any other error ends
//! it: what a failed sync left on the disk is unknown, and to try again could report as kept what
//! is not.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::ballast::Ballast;
use super::base::{Base, Fault};
use super::queue::{Batch, Queue, Turn};
use super::{Failed, StoreError};

const STACK: usize = 512 * 1024;
/// Between two tries on a full disk, and two looks whether it still is.
const AGAIN: Duration = Duration::from_secs(1);
/// The room on the disk is looked at so often, with nothing to write.
const LOOK: Duration = Duration::from_mins(1);
/// So many times its size must be free in the file before that stands in for the ballast,
const ENOUGH: u64 = 4;
/// and so many times must stay free as long as it does.
const LEAST: u64 = 2;
const FULL: &str = "the disk is full: no new tasks until there is room";
const FAILED: &str = "the store has failed: budgets, keys and tasks are no longer kept";

pub(super) struct Writer {
    directory: PathBuf,
    base: Arc<Base>,
    queue: Arc<Queue>,
    ballast: Ballast,
    /// What is being written, and who is to be told.
    batch: Batch,
    /// When it looked for room last.
    looked: Option<Instant>,
    /// Room in the file stands in for the ballast.
    within: bool,
    /// Whether it came to its end; until then its end is a failure.
    ended: bool,
}

impl Writer {
    /// The receiver is disconnected when the writer has ended and let go of the database.
    pub(super) fn start(
        directory: &Path,
        base: Arc<Base>,
        queue: Arc<Queue>,
        ballast: Ballast,
    ) -> Result<Receiver<()>, StoreError> {
        let (running, ended) = sync_channel(0);
        queue.short.store(!ballast.is_ready(), Relaxed);
        let directory = directory.to_owned();
        let at = directory.clone();
        let (batch, looked) = (Batch::default(), None);
        let (within, ended_well) = (false, false);
        let writer =
            Self { directory, base, queue, ballast, batch, looked, within, ended: ended_well };
        let run = move || {
            // the first is dropped last, also after a panic
            let _running: SyncSender<()> = running;
            let mut writer = writer;
            let base = Arc::clone(&writer.base);
            writer.run();
            drop(writer);
            base.close();
        };
        thread::Builder::new()
            .name("store".to_owned())
            .stack_size(STACK)
            .spawn(run)
            .map_err(StoreError::io(&at))?;
        Ok(ended)
    }

    fn run(&mut self) {
        loop {
            self.look_for_room();
            let idle = if self.queue.short.load(Relaxed) { AGAIN } else { LOOK };
            match self.queue.take(&mut self.batch, Some(idle)) {
                Turn::End => break,
                Turn::Idle => {}
                Turn::Write => {
                    if let Err(error) = self.write() {
                        let directory = self.directory.display();
                        tracing::error!(%directory, %error, "{FAILED}");
                        return;
                    }
                    self.tell(Ok(()));
                    self.batch.clear();
                }
            }
        }
        self.ended = true;
    }

    /// Until it is written, without what is new where there is no room for it.
    fn write(&mut self) -> Result<(), String> {
        loop {
            match self.base.commit(&self.batch) {
                Ok(synced) => {
                    self.queue.commits.fetch_add(u64::from(synced), Relaxed);
                    return Ok(());
                }
                Err(Fault::Broken(error)) => return Err(error),
                Err(Fault::NoSpace) => {}
            }
            let first = !self.queue.short.swap(true, Relaxed);
            self.within = false;
            if first {
                let directory = self.directory.display();
                tracing::error!(%directory, "{FULL}");
            }
            for refused in self.batch.admissions.drain(..) {
                (refused.told)(Err(Failed::NoSpace));
            }
            self.ballast.release();
            if !first {
                self.queue.pause(AGAIN);
                if self.queue.is_shut() {
                    return Err("the disk is full".to_owned());
                }
            }
        }
    }

    /// Once in a while, how much is free. As long as there is no ballast, also whether there is the room
    /// that it needs, or as much in the file, which keeps to itself what expired there.
    fn look_for_room(&mut self) {
        if self.looked.is_some_and(|last| last.elapsed() < AGAIN) {
            return;
        }
        self.looked = Some(Instant::now());
        self.queue.free.store(self.ballast.free().unwrap_or(0), Relaxed);
        let short = self.queue.short.load(Relaxed);
        if !short && !self.within {
            return;
        }
        let restored = self.ballast.restore();
        let wanted = self.ballast.size() * if short { ENOUGH } else { LEAST };
        self.within = !restored && self.base.spare() >= wanted;
        let still_short = !restored && !self.within;
        self.queue.short.store(still_short, Relaxed);
        let directory = self.directory.display();
        match (short, still_short) {
            (true, false) => tracing::info!(%directory, "there is room for new tasks again"),
            (false, true) => tracing::error!(%directory, "{FULL}"),
            _ => {}
        }
    }

    /// In order, and one at a time: when one panics, the others are still there to be told.
    fn tell(&mut self, result: Result<(), Failed>) {
        self.batch.told.reverse();
        while let Some(told) = self.batch.told.pop() {
            told(result);
        }
        while let Some(admitted) = self.batch.admissions.pop() {
            (admitted.told)(result);
        }
    }
}

impl Drop for Writer {
    /// After an error, and after a panic.
    fn drop(&mut self) {
        if !self.ended {
            self.queue.fail();
            self.tell(Err(Failed::Broken));
        }
    }
}
