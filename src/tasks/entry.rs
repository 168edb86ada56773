//! A task as the index holds it: its record, and what only memory knows of it.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::log::Log;
use super::record::{Credential, Owner, Record};
use super::{Stop, View};
use crate::store::Failed;

/// How long an idempotency key names its task, from its making; and how long it is told of an
/// answer that it was there.
pub(super) const REMEMBERED: Duration = Duration::from_hours(24);
/// What a task takes besides, in bytes: its row, and its place in the index.
pub(super) const TASK: u64 = 1024;

pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    pub(super) version: u64,
    pub(super) stage: Stage,
    pub(super) credential: Option<Box<Credential>>,
    pub(super) run: Option<Box<Run>>,
    /// Tells of versions; made for the first who waits.
    pub(super) seen: Option<Box<watch::Sender<u64>>>,
}

/// What the disk still has to say to it.
pub(super) enum Stage {
    /// It is not durable yet, and nobody sees it.
    Admitting,
    Open,
    /// Its end is decided and on its way to the disk.
    Ending(Box<Ending>),
}

pub(super) struct Ending {
    /// What it becomes.
    pub(super) record: Record,
    pub(super) told: Vec<oneshot::Sender<Result<View, Failed>>>,
    /// The store has failed: it will never be told.
    pub(super) lost: bool,
}

/// The attempt that is under way.
pub(super) struct Run {
    pub(super) log: Arc<Log>,
    pub(super) stop: watch::Sender<Option<Stop>>,
}

impl Entry {
    /// Tells of its versions.
    pub(super) fn watch(&mut self) -> watch::Receiver<u64> {
        let version = self.version;
        self.seen.get_or_insert_with(|| Box::new(watch::Sender::new(version))).subscribe()
    }

    /// Wakes who waits, and forgets the means when nobody does.
    pub(super) fn tell(&mut self) {
        if let Some(seen) = self.seen.take_if(|seen| seen.receiver_count() == 0) {
            drop(seen);
        } else if let Some(seen) = &self.seen {
            seen.send_replace(self.version);
        }
    }

    /// Somebody else makes its answer, and can be told to stop.
    pub(super) fn is_held(&self) -> bool {
        let bare = self.record.request.needs_credential && self.credential.is_none();
        self.record.holder.is_some() && !bare
    }

    pub(super) fn is_shown_to(&self, owner: Option<&Owner>) -> bool {
        let admitting = matches!(self.stage, Stage::Admitting);
        let theirs = owner.is_none_or(|owner| *owner == self.record.owner);
        theirs && !admitting && !self.record.deleted
    }
}

impl Record {
    /// When age changes it next.
    pub(super) fn deadline(&self) -> u64 {
        if !self.state.is_terminal() {
            self.expires_ms
        } else if let Some(purged) = self.purged_ms {
            // it is needed until its end has been told
            if self.is_untold() { u64::MAX } else { self.forget_ms(purged) }
        } else {
            self.keep_until_ms.unwrap_or(self.expires_ms)
        }
    }

    /// What it takes of its owner's room, in bytes.
    pub(super) fn room(&self) -> u64 {
        let bulk = if !self.state.is_terminal() {
            self.request.body_bytes
        } else if self.has_result() {
            self.result.as_ref().map_or(0, |head| head.bytes)
        } else {
            0
        };
        TASK.saturating_add(bulk)
    }

    /// When its tombstone goes, if its answer went at `purged`.
    pub(super) fn forget_ms(&self, purged: u64) -> u64 {
        let remembered = REMEMBERED.as_millis() as u64;
        let by_key = self.idempotency.map_or(0, |_| self.created_ms.saturating_add(remembered));
        let by_age = if self.deleted { purged } else { purged.saturating_add(remembered) };
        by_key.max(by_age)
    }
}
