//! A bulkhead: at most so many calls at once to one upstream, over all workers; the rest wait in
//! order of arrival.
//!
//! Its size may change while calls hold places. Growing lets waiters in at once; shrinking takes
//! places away as they become free, so nobody who has one loses it.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Without a limit, `enter` never waits and takes no lock.
pub struct Bulkhead {
    places: Arc<Semaphore>,
    limit: Mutex<Option<usize>>,
    /// Places to take out of use as they come back.
    owed: AtomicUsize,
}

impl Default for Bulkhead {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(0)),
            limit: Mutex::new(None),
            owed: AtomicUsize::new(0),
        }
    }
}

impl Bulkhead {
    /// Sets the number of places.
    pub fn resize(&self, limit: Option<usize>) {
        let mut current = self.limit.lock();
        let limit = limit.map(|places| places.min(Semaphore::MAX_PERMITS));
        let (was, now) = (current.unwrap_or(0), limit.unwrap_or(0));
        if now > was {
            self.give(now - was);
        } else {
            let taken = self.places.forget_permits(was - now);
            self.owed.fetch_add(was - now - taken, Ordering::AcqRel);
        }
        *current = limit;
    }

    /// Adds places, first against what is owed.
    fn give(&self, places: usize) {
        let mut left = places;
        let _ = self.owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| {
            left = places.saturating_sub(owed);
            Some(owed.saturating_sub(places))
        });
        self.places.add_permits(left);
    }

    /// A place if one is free now.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { permit: Some(permit), of: Arc::clone(self) })
    }

    /// Waits for a place; dropping the future gives up the turn.
    pub async fn enter(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(Place { permit: Some(permit), of: Arc::clone(self) })
    }
}

/// A place in a bulkhead, given back when dropped.
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    of: Arc<Bulkhead>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let owes = |owed: usize| owed.checked_sub(1);
        if self.of.owed.load(Ordering::Acquire) > 0
            && self.of.owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, owes).is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(places: usize) -> Arc<Bulkhead> {
        let bulkhead = Arc::new(Bulkhead::default());
        bulkhead.resize(Some(places));
        bulkhead
    }

    #[test]
    fn holds_its_number_and_gives_places_back() {
        let bulkhead = sized(2);
        let first = bulkhead.try_enter();
        let second = bulkhead.try_enter();
        assert!(first.is_some() && second.is_some() && bulkhead.try_enter().is_none());
        drop(first);
        assert!(bulkhead.try_enter().is_some());
    }

    #[test]
    fn shrinking_takes_places_as_they_come_back() {
        let bulkhead = sized(3);
        let held: Vec<_> = (0..3).map(|_| bulkhead.try_enter()).collect();
        bulkhead.resize(Some(1));
        drop(held);
        let one = bulkhead.try_enter();
        assert!(one.is_some() && bulkhead.try_enter().is_none());
    }

    #[test]
    fn growing_pays_what_is_owed_first() {
        let bulkhead = sized(3);
        let held: Vec<_> = (0..3).map(|_| bulkhead.try_enter()).collect();
        bulkhead.resize(Some(1));
        bulkhead.resize(Some(2));
        assert!(bulkhead.try_enter().is_none());
        drop(held);
        let now: Vec<_> = (0..2).map(|_| bulkhead.try_enter()).collect();
        assert!(now.iter().all(Option::is_some) && bulkhead.try_enter().is_none());
    }
}
