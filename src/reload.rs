//! When to read the configuration again: on SIGHUP, and when a watched file has new content.
//!
//! Files are polled, not subscribed to: a Kubernetes `ConfigMap` changes by swapping a symlink
//! two directories up, which inotify on the file never sees. Every 2 s their metadata is looked
//! at; only when that differs is the content hashed, so a mere `touch` is no cause. After a
//! change the files must stand still for 200 ms: writers write in pieces, and a storm of changes
//! costs one reload. The looks run on the blocking pool.
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

mod print;

use print::Print;

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(2);
/// How long files must stand still before they are believed.
const QUIET: Duration = Duration::from_millis(200);
/// Files that never stand still are believed after so many looks.
const LOOKS: usize = 20;

/// Why to reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP: somebody wants it, changed or not.
    Signal,
    /// These files have new content, or have come or gone.
    Files(Vec<PathBuf>),
}

/// Watches for causes to reload.
pub struct Watch {
    hangup: Signal,
    ticks: Interval,
    quiet: Duration,
    /// With what each file held when it was last told of.
    files: Vec<(PathBuf, Print)>,
    /// A SIGHUP that came and was not told of yet.
    signalled: bool,
}

impl Watch {
    /// From now on SIGHUP no longer ends the process. Make it before the first read of the
    /// configuration, so that no change is missed in between. Blocks for a short read of each
    /// file; needs a runtime.
    pub fn new(files: Vec<PathBuf>) -> io::Result<Self> {
        Self::with_pace(files, EVERY, QUIET)
    }

    /// The same with another pace: for tests, and for file systems where a look is dear.
    pub fn with_pace(files: Vec<PathBuf>, every: Duration, quiet: Duration) -> io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self { hangup, ticks, quiet, files: Vec::new(), signalled: false };
        watch.set_files(files);
        Ok(watch)
    }

    /// Watches these files. A file that was watched before keeps its state: a change since then
    /// is still told of. Blocks for a short read of each new file.
    pub fn set_files(&mut self, files: Vec<PathBuf>) {
        let mut before = std::mem::take(&mut self.files);
        let watched = |path: PathBuf| {
            if let Some(at) = before.iter().position(|(known, _)| *known == path) {
                return before.swap_remove(at);
            }
            let print = Print::read(&path);
            (path, print)
        };
        self.files = files.into_iter().map(watched).collect();
    }

    /// Waits for the next cause. May be dropped and called again: no cause is lost by it.
    pub async fn next(&mut self) -> Cause {
        loop {
            if !self.signalled {
                tokio::select! {
                    _ = self.hangup.recv() => self.signalled = true,
                    _ = self.ticks.tick() => {}
                }
            }
            if !self.signalled && !self.differ().await {
                continue;
            }
            let changed = self.settle().await;
            if std::mem::take(&mut self.signalled) {
                return Cause::Signal;
            }
            if !changed.is_empty() {
                return Cause::Files(changed);
            }
        }
    }

    /// Whether any file has new content.
    async fn differ(&mut self) -> bool {
        let now = look(&self.files).await;
        let differ = now.iter().zip(&self.files).any(|((_, now), (_, then))| now.differs(then));
        if !differ {
            // keeps the metadata of now: what was only touched is not read at every look
            self.files = now;
        }
        differ
    }

    /// Waits until the files stand still, remembers what they hold, and says which are new.
    async fn settle(&mut self) -> Vec<PathBuf> {
        let mut now = look(&self.files).await;
        for _ in 0..LOOKS {
            tokio::select! {
                () = tokio::time::sleep(self.quiet) => {}
                // more of the same storm
                _ = self.hangup.recv() => self.signalled = true,
            }
            let later = look(&now).await;
            let still = later.iter().zip(&now).all(|((_, later), (_, now))| !later.differs(now));
            now = later;
            if still {
                break;
            }
        }
        let then = std::mem::replace(&mut self.files, now);
        let changed =
            self.files.iter().zip(&then).filter(|((_, now), (_, then))| now.differs(then));
        changed.map(|((path, _), _)| path.clone()).collect()
    }
}

/// The files as they are now; what has the same metadata as before is not read again.
async fn look(before: &[(PathBuf, Print)]) -> Vec<(PathBuf, Print)> {
    let files = before.to_vec();
    let again = move || {
        let again = |(path, then): (PathBuf, Print)| {
            let now = then.again(&path);
            (path, now)
        };
        files.into_iter().map(again).collect()
    };
    // it fails only while the runtime ends: then nothing has changed
    tokio::task::spawn_blocking(again).await.unwrap_or_else(|_| before.to_vec())
}

#[cfg(test)]
mod tests;
