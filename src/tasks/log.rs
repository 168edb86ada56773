//! The answer of a running attempt: its pieces in memory, for those who follow, and on their way
//! to the disk.
//!
//! All of it stays in memory while the attempt runs (`max_result` bounds it, the budget of memory
//! counts it) and as long as somebody still reads it there. It is written in rows of 64 KiB, or
//! what half a second has brought; a row that the store has no room for is offered again, at the
//! latest with the end. No lock is held while anything waits.
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use super::TaskId;
use super::record::Data;
use crate::pressure::{Held, Pressure};
use crate::store::{Op, Store, Table};

/// Enough for a row of its own.
const ROW: usize = 64 * 1024;
/// What waits so long is written, however little it is.
const PATIENCE: Duration = Duration::from_millis(500);

/// The answer is larger than any that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the answer is larger than {most} bytes")]
pub struct TooLarge {
    pub most: u64,
}

pub(super) struct Log {
    pub(super) run: u32,
    /// Events that were told of attempts before this one.
    pub(super) before: u64,
    most: u64,
    pieces: Mutex<Pieces>,
    bytes: AtomicU64,
    tokens: AtomicU64,
    /// Counts what a follower may want to hear of.
    grown: watch::Sender<u64>,
}

struct Pieces {
    all: Vec<Bytes>,
    /// How many of them are in rows.
    saved: usize,
    rows: u32,
    /// Bytes that are in no row.
    unsaved: usize,
    saved_at: Instant,
    held: Held,
    over: bool,
}

/// What a follower gets.
pub(super) enum Next {
    Piece(Bytes),
    /// Not yet.
    Wait,
    /// The attempt is over.
    Over,
}

impl Log {
    /// `kept`: bytes of it that are on the disk, until [`Self::restore`] brings them here.
    pub(super) fn new(
        run: u32,
        before: u64,
        most: u64,
        kept: u64,
        pressure: &Arc<Pressure>,
    ) -> Self {
        let pieces = Pieces {
            all: Vec::new(),
            saved: 0,
            rows: 0,
            unsaved: 0,
            saved_at: Instant::now(),
            held: pressure.hold(0),
            over: false,
        };
        Self {
            run,
            before,
            most,
            pieces: Mutex::new(pieces),
            bytes: AtomicU64::new(kept),
            tokens: AtomicU64::new(0),
            grown: watch::Sender::new(0),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Relaxed)
    }

    pub(super) fn progress(&self, tokens: u64) {
        self.tokens.store(tokens, Relaxed);
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    pub(super) fn push(&self, id: TaskId, piece: Bytes, store: &Store) -> Result<(), TooLarge> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut pieces = self.pieces.lock();
        let bytes = self.bytes.load(Relaxed) + piece.len() as u64;
        if bytes > self.most {
            return Err(TooLarge { most: self.most });
        }
        self.bytes.store(bytes, Relaxed);
        pieces.unsaved += piece.len();
        pieces.all.push(piece);
        // many pieces are small
        let handles = pieces.all.len() * size_of::<Bytes>();
        pieces.held.set(bytes + handles as u64);
        if pieces.unsaved >= ROW || pieces.saved_at.elapsed() >= PATIENCE {
            pieces.save(id, self.run, store);
        }
        drop(pieces);
        self.grown.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The whole answer, in place of what may have been kept of it: it was written and its end was not,
    /// when the process died. One row as well, which is written with the end.
    pub(super) fn replace(&self, whole: Bytes) -> Result<(), TooLarge> {
        let bytes = whole.len() as u64;
        if bytes > self.most {
            return Err(TooLarge { most: self.most });
        }
        let mut pieces = self.pieces.lock();
        (pieces.saved, pieces.rows, pieces.unsaved) = (0, 0, whole.len());
        pieces.held.set(bytes);
        pieces.all.clear();
        pieces.all.extend(Some(whole).filter(|whole| !whole.is_empty()));
        drop(pieces);
        self.bytes.store(bytes, Relaxed);
        self.grown.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Writes what waits for more.
    pub(super) fn save(&self, id: TaskId, store: &Store) {
        self.pieces.lock().save(id, self.run, store);
    }

    /// What is in no row yet, as one. The attempt must be over: it is the last.
    pub(super) fn last_row(&self, id: TaskId) -> Option<Op> {
        let pieces = self.pieces.lock();
        let value = pieces.row()?;
        let key = Data::Answer { run: self.run }.key(id, pieces.rows);
        Some(Op::put(Table::TaskData, key, value))
    }

    /// What was kept of the answer before: its rows, in order. To be called before any other piece.
    pub(super) fn restore(&self, rows: Vec<Bytes>) {
        let bytes = rows.iter().map(|row| row.len() as u64).sum();
        let mut pieces = self.pieces.lock();
        pieces.held.set(bytes);
        (pieces.saved, pieces.rows) = (rows.len(), rows.len() as u32);
        pieces.all = rows;
        drop(pieces);
        self.bytes.store(bytes, Relaxed);
        self.grown.send_modify(|count| *count += 1);
    }

    pub(super) fn is_over(&self) -> bool {
        self.pieces.lock().over
    }

    pub(super) fn close(&self) {
        self.pieces.lock().over = true;
        self.grown.send_modify(|count| *count += 1);
    }

    pub(super) fn all(&self) -> Vec<Bytes> {
        self.pieces.lock().all.clone()
    }

    pub(super) fn piece(&self, at: usize) -> Next {
        let pieces = self.pieces.lock();
        match pieces.all.get(at) {
            Some(piece) => Next::Piece(piece.clone()),
            None if pieces.over => Next::Over,
            None => Next::Wait,
        }
    }
}

impl Pieces {
    fn row(&self) -> Option<Vec<u8>> {
        let unsaved = &self.all[self.saved..];
        (!unsaved.is_empty()).then(|| unsaved.concat())
    }

    fn is_saved(&mut self) {
        self.saved = self.all.len();
        self.unsaved = 0;
        self.rows += 1;
        self.saved_at = Instant::now();
    }

    fn save(&mut self, id: TaskId, run: u32, store: &Store) {
        // what comes late might be written behind a purge
        let Some(row) = self.row().filter(|_| !self.over) else { return };
        let key = Data::Answer { run }.key(id, self.rows);
        if store.keep(Table::TaskData, key, row).is_ok() {
            self.is_saved();
        } else {
            // not with every piece
            self.saved_at = Instant::now();
        }
    }
}
