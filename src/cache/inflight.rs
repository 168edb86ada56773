//! Calls in flight that others may join: one upstream call, any number of readers.
//!
//! A [`Hub`] is a log of the answer's pieces with one writer, the [`Lead`], and seats for those who
//! read it. Nobody who reads has special rights: each [`Seat`] gets everything from the first piece
//! on at its own pace; when the last one is gone the writer is told, and a hub that was deserted or
//! has grown past its bound takes nobody in any more. Up to that bound the whole answer is kept, so
//! a slow reader costs nothing and holds up no one. Past it the writer waits for the fastest reader,
//! and who falls behind by [`state::WINDOW`] while others are ahead is given up. Under pressure every
//! answer is past its bound.
//!
//! Generic over the answer's head and over what went wrong, for neither is the cache's affair. One
//! short lock a hub; readers and writer may be on different threads.
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use parking_lot::Mutex;
use slab::Slab;

use super::key::{Key, KeyBits};
use crate::pressure::Pressure;

mod log;
mod state;
#[cfg(test)]
mod tests;

pub use log::Log;
use state::State;
pub use state::{Had, Recorded, Unresumed};

/// All calls in flight that may be joined.
pub struct Hubs<H, F> {
    all: DashMap<Key, Arc<Hub<H, F>>, BuildHasherDefault<KeyBits>>,
    /// What is held counts there.
    pressure: Arc<Pressure>,
}

/// One call in flight.
struct Hub<H, F> {
    state: Mutex<State<H, F>>,
}

/// What becomes of a call whose answer is not kept yet.
pub enum Claim<H, F> {
    /// Nobody asks for it: ask, and write what comes.
    Lead(Lead<H, F>, Seat<H, F>),
    Join(Seat<H, F>),
}

/// The writer's end. Dropped before it has said how it ended, it ends as [`Gone::Lost`].
pub struct Lead<H, F> {
    key: Key,
    hub: Arc<Hub<H, F>>,
    hubs: Arc<Hubs<H, F>>,
}

/// A reader's end.
pub struct Seat<H, F> {
    hub: Arc<Hub<H, F>>,
    at: usize,
}

/// Why a reader gets no more.
#[derive(Debug)]
pub enum Gone<F> {
    /// As the writer said.
    Failed(Arc<F>),
    /// The writer has vanished, or the reader was too slow.
    Lost,
}

impl<F> Clone for Gone<F> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(Arc::clone(why)),
            Self::Lost => Self::Lost,
        }
    }
}

impl<H, F> Default for Hubs<H, F> {
    /// With a budget of their own that nothing exhausts.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl<H, F> Hubs<H, F> {
    pub fn new(pressure: Arc<Pressure>) -> Self {
        let all = DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), 16);
        Self { all, pressure }
    }

    fn hub(&self, keep: usize) -> Arc<Hub<H, F>> {
        Arc::new(Hub { state: Mutex::new(State::new(keep, self.pressure.hold(0))) })
    }

    /// Joins the call of that name, or begins it. `keep`: most bytes of the answer that are kept,
    /// and so the longest that it can be joined.
    pub fn claim(self: &Arc<Self>, key: Key, keep: usize) -> Claim<H, F> {
        let lead = |hub: Arc<Hub<H, F>>, at| {
            let seat = Seat { hub: Arc::clone(&hub), at };
            Claim::Lead(Lead { key, hub, hubs: Arc::clone(self) }, seat)
        };
        match self.all.entry(key) {
            Place::Occupied(mut place) => {
                if let Some(seat) = place.get().join() {
                    return Claim::Join(seat);
                }
                let hub = self.hub(keep);
                let at = hub.state.lock().seat(false);
                place.insert(Arc::clone(&hub));
                lead(hub, at)
            }
            Place::Vacant(place) => {
                let hub = self.hub(keep);
                let at = hub.state.lock().seat(false);
                place.insert(Arc::clone(&hub));
                lead(hub, at)
            }
        }
    }

    /// Begins a call that nobody may join.
    pub fn alone(self: &Arc<Self>, key: Key, keep: usize) -> (Lead<H, F>, Seat<H, F>) {
        let hub = self.hub(keep);
        let at = hub.state.lock().seat(false);
        let seat = Seat { hub: Arc::clone(&hub), at };
        (Lead { key, hub, hubs: Arc::clone(self) }, seat)
    }

    /// Joins the call of that name, if there is one to join.
    pub fn join(&self, key: &Key) -> Option<Seat<H, F>> {
        self.all.get(key)?.join()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<H, F> Hub<H, F> {
    fn join(self: &Arc<Self>) -> Option<Seat<H, F>> {
        let mut state = self.state.lock();
        state.joinable().then(|| Seat { hub: Arc::clone(self), at: state.seat(true) })
    }

    /// Edits the state, then wakes those whom that concerns, outside the lock.
    fn edit<T>(&self, edit: impl FnOnce(&mut State<H, F>) -> T) -> T {
        let mut state = self.state.lock();
        let out = edit(&mut state);
        let woken = state.take_woken();
        drop(state);
        woken.wake();
        out
    }
}

impl<H, F> Lead<H, F> {
    /// The answer has begun.
    pub fn head(&self, head: Arc<H>) {
        self.hub.edit(|state| state.head(head));
    }

    /// A piece of it, so many milliseconds after the call was sent. Gives how many bytes are held.
    pub fn push(&self, piece: Bytes, at_ms: u32) -> usize {
        self.hub.edit(|state| {
            state.push(piece, at_ms);
            state.held()
        })
    }

    /// Ready when more may be read of the answer.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.edit(|state| state.poll_room(cx))
    }

    /// Ready when nobody reads any more.
    pub fn poll_deserted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.edit(|state| state.poll_deserted(cx))
    }

    /// Whether the end is near: then others may join though nobody is left, until
    /// [`Self::poll_deserted`] is asked when it no longer is.
    pub fn ending(&self, near: bool) {
        self.hub.edit(|state| state.ending(near));
    }

    /// No others may join from now on.
    pub fn close(&self) {
        self.hub.edit(State::close);
    }

    /// All that has come, if none of it was let go of.
    pub fn recorded(&self) -> Option<Recorded> {
        self.hub.state.lock().recorded()
    }

    /// The answer is whole.
    pub fn complete(&self) {
        self.hub.edit(|state| state.end(None));
    }

    /// There is no (more) answer.
    pub fn fail(&self, why: F) {
        self.hub.edit(|state| state.end(Some(Gone::Failed(Arc::new(why)))));
    }

    /// The same, and nothing is held any more: who has not read all that came is [`Gone::Lost`].
    pub fn discard(&self, why: F) {
        self.hub.edit(|state| {
            state.discard();
            state.end(Some(Gone::Failed(Arc::new(why))));
        });
    }
}

impl<H, F> Drop for Lead<H, F> {
    fn drop(&mut self) {
        self.hubs.all.remove_if(&self.key, |_, hub| Arc::ptr_eq(hub, &self.hub));
        self.hub.edit(|state| {
            // unless it has said so before
            state.end(Some(Gone::Lost));
            state.close();
        });
    }
}

impl<H, F> Seat<H, F> {
    /// The answer's head, once. Who reads alone when all has come, and nobody can join any more, has
    /// it alone.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Arc<H>, Gone<F>>> {
        self.hub.edit(|state| state.poll_head(self.at, cx))
    }

    /// Its next piece; `None` at its end.
    pub fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone<F>>>> {
        self.hub.edit(|state| state.poll_piece(self.at, cx))
    }

    /// The whole rest, if it is all there.
    pub fn rest(&self) -> Option<Bytes> {
        self.hub.edit(|state| state.rest(self.at))
    }

    /// Whether it has read all that has come so far.
    pub fn caught_up(&self) -> bool {
        self.hub.state.lock().caught_up(self.at)
    }

    /// Whether it has read the answer to its end.
    pub fn ended(&self) -> bool {
        self.hub.state.lock().ended(self.at)
    }
}

impl<H, F> Drop for Seat<H, F> {
    fn drop(&mut self) {
        self.hub.edit(|state| state.leave(self.at));
    }
}

/// Readers of one hub.
type Seats = Slab<Reader>;

struct Reader {
    /// The next piece, counted from the first of the answer.
    next: usize,
    /// So many bytes of that piece it has had.
    cut: usize,
    waker: Option<Waker>,
    lost: bool,
    /// Of a call that did not begin this one.
    joined: bool,
}
