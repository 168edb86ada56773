//! A call that is made twice at once has two requests on its way, and one flight: the one that is
//! polled sees its own progress in it, and so its own deadlines.
use super::{Awaited, Expired, Flight, Stage};
use crate::clock::Tick;

/// How far one request of a call is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    stage: Stage,
    moved: Tick,
    awaited: Awaited,
    awaits: Tick,
}

impl Progress {
    /// Nobody has it yet.
    pub fn none(now: Tick) -> Self {
        Self { stage: Stage::Connecting, moved: now, awaited: Awaited::Nothing, awaits: now }
    }

    /// There is nobody yet to do work for it.
    pub fn is_unsent(&self) -> bool {
        self.stage == Stage::Connecting
    }
}

impl Flight {
    pub fn progress(&self) -> Progress {
        Progress {
            stage: self.stage.get(),
            moved: self.moved.get(),
            awaited: self.awaited.get(),
            awaits: self.awaits.get(),
        }
    }

    /// A stream that was kept back while another was tried is the answer. To be asked for behind
    /// [`Stage::Answering`].
    pub fn streams_again(&self, now: Tick) {
        self.streaming.set(true);
        self.awaits.set(now);
        self.forgive(|fate| !matches!(fate, Expired::Overrun | Expired::Cancelled));
    }

    /// The call is as far as this request of it. What had ended another one does not end this one.
    pub fn show(&self, progress: Progress) {
        self.stage.set(progress.stage);
        self.moved.set(progress.moved);
        self.awaited.set(progress.awaited);
        self.awaits.set(progress.awaits);
        self.forgive(|fate| {
            !matches!(fate, Expired::Total | Expired::Overrun | Expired::Cancelled)
        });
    }
}
