//! Who may use how much, and who goes next.
//!
//! [`book`] holds every bucket and queue; [`rules`] are the policies, prepared; [`bucket`] is the
//! arithmetic of one limit, `queue` that of fairness. [`price`] knows what tokens cost, [`predict`]
//! how many there will be, [`pace`] how fast a backend lets us go; [`runaway`] tells an agent that goes
//! round in circles.
//!
//! [`Limits`] is the book under its one lock, with a clock: what the rest of the program holds. Nothing
//! here knows HTTP statuses or sockets.
pub mod book;
pub mod bucket;
mod calendar;
mod clock;
pub mod pace;
pub mod predict;
mod prehashed;
pub mod price;
mod queue;
mod recent;
pub mod rules;
pub mod runaway;

use std::sync::Arc;
use std::sync::OnceLock;

use self::book::{Book, Unsaved};
use self::bucket::Moment;
use self::clock::SteadyClock;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Takes what is to be written down; it calls [`Limits::saved`] or [`Limits::lose_store`] later.
pub type Keeper = Box<dyn Fn(Vec<Unsaved>) + Send + Sync>;

/// The book of the process.
///
/// One lock, held for well under a microsecond a call: a call needs several buckets at once, or none.
/// *Not* a lock a bucket: taking several in order costs more than the work done under them, and the
/// buckets that everybody shares would be the same one lock.
pub struct Limits {
    book: Mutex<Book>,
    clock: SteadyClock,
    /// When [`Self::turn`] has something to do; `u64::MAX` for never.
    wake_at: AtomicU64,
    keeper: OnceLock<Keeper>,
    swept: AtomicU64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            book: Mutex::new(Book::new()),
            clock: SteadyClock::new(),
            wake_at: AtomicU64::new(u64::MAX),
            keeper: OnceLock::new(),
            swept: AtomicU64::new(0),
        }
    }
}

impl Limits {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Runs `work` on the book; whoever it lets go is woken once the lock is free.
    pub fn with<T>(&self, work: impl FnOnce(&mut Book, Moment) -> T) -> T {
        let now = self.now();
        let mut book = self.book.lock();
        let result = work(&mut book, now);
        let woken = book.take_woken();
        let unsaved = book.take_unsaved(false, now);
        self.wake_at.store(book.wake_at().unwrap_or(u64::MAX), Ordering::Relaxed);
        drop(book);
        woken.into_iter().for_each(std::task::Waker::wake);
        self.keep(unsaved);
        result
    }

    /// What is asked of all buckets, page by page: calls go on in between.
    pub fn by_pages(&self, mut page: impl FnMut(&mut Book, usize, Moment) -> Option<usize>) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.with(|book, now| page(book, from, now));
        }
    }

    fn keep(&self, unsaved: Vec<Unsaved>) {
        if let Some(keeper) = self.keeper.get().filter(|_| !unsaved.is_empty()) {
            keeper(unsaved);
        }
    }

    /// Lets those go whose time has come. Cheap where there is nobody; ask often.
    pub fn turn(&self) {
        if self.wake_at.load(Ordering::Relaxed) <= self.now().at {
            self.with(Book::advance);
        }
    }

    /// The same as [`Self::sweep`], for whoever of several threads comes first in each half second.
    pub fn sweep_if_due(&self) -> bool {
        let now = self.now().at;
        let last = self.swept.load(Ordering::Relaxed);
        // with the time of a write, a crash loses no more than a second
        let due = now.saturating_sub(last) >= bucket::SECOND / 2;
        let mine = due
            && self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.sweep();
        }
        mine
    }

    /// Every half second: forgets, corrects the clock, and writes down what has changed.
    pub fn sweep(&self) {
        self.clock.correct();
        let unsaved = self.with(|book, now| {
            book.sweep(now);
            book.take_unsaved(true, now)
        });
        // without any as well: what a full store gave back is tried again
        if let Some(keeper) = self.keeper.get() {
            keeper(unsaved);
        }
    }

    /// Budgets are written down from now on.
    pub fn keep_with(&self, keeper: Keeper) {
        // a second keeper would be a mistake of the start-up; the first one stays
        let _ = self.keeper.set(keeper);
    }

    pub fn saved(&self, all: &[Unsaved]) {
        self.with(|book, now| book.saved(all, now));
    }

    pub fn lose_store(&self) {
        self.with(Book::lose_store);
    }
}
