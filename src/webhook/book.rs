//! Messages that wait: a line for each target, by when they are due.
//!
//! Not more than 50,000, nor more than 64 MiB of them; of one target that does not take them, half of
//! that. All in memory; the rows in the store are their
//! copies, for the next start. Whoever has the lock decides; nothing here waits or reads a clock.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const MOST: usize = 50_000;
const MOST_BYTES: usize = 64 << 20;
/// One target in doubt may have one part in so many of either.
const SHARE: usize = 2;
/// On their way to one target at once, and to one where the last did not arrive.
const AT_ONCE: usize = 2;
const AT_ONCE_DOUBTED: usize = 1;
/// To all such targets together: half of the slots stay for the others.
const DOUBTED: usize = 4;
/// The longest wait without another look: the wall clock may be set.
const LOOK: Duration = Duration::from_secs(30);
/// No message waits longer, in milliseconds: the last pause and its fifth, and some. One that seems
/// to was planned by a clock that has been set back since.
const LONGEST: i64 = 30 * 60 * 60 * 1000;

/// A message for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub id: Arc<str>,
    pub to: Arc<str>,
    pub body: Arc<str>,
    /// Made so far.
    pub attempts: u32,
    /// Milliseconds since 1970.
    pub due: i64,
}

/// How it stands in the store, under its id.
#[derive(Serialize, Deserialize)]
struct Line<'r> {
    to: &'r str,
    #[serde(borrow)]
    body: std::borrow::Cow<'r, str>,
    attempts: u32,
    due: i64,
}

impl Delivery {
    pub fn line(&self) -> Vec<u8> {
        let body = (&*self.body).into();
        let line = Line { to: &self.to, body, attempts: self.attempts, due: self.due };
        serde_json::to_vec(&line).unwrap_or_default()
    }

    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let line: Line<'_> = serde_json::from_slice(value).ok()?;
        Some(Self {
            id: Arc::from(std::str::from_utf8(key).ok()?),
            to: Arc::from(line.to),
            body: Arc::from(line.body),
            attempts: line.attempts,
            due: line.due,
        })
    }
}

/// What a free slot does next.
pub(super) enum Next {
    Send(Delivery),
    /// At most so long, for anything may change before.
    Wait(Duration),
}

#[derive(Default)]
pub(super) struct Book {
    /// All of them, those on their way too.
    all: HashMap<Arc<str>, Delivery>,
    bytes: usize,
    queues: BTreeMap<Arc<str>, Queue>,
    /// No attempt begins before.
    begin: Option<Instant>,
}

/// What becomes of a message that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Taken,
    /// It is here already.
    Known,
    /// There is no room for any.
    Full,
    /// Its target takes none, and has many waiting: nobody else waits for that.
    Hopeless,
}

/// Of one target.
#[derive(Default)]
struct Queue {
    /// All of its messages, and their bytes.
    count: usize,
    bytes: usize,
    due: BTreeSet<(i64, Arc<str>)>,
    busy: usize,
    /// The last one did not arrive.
    doubted: bool,
}

impl Book {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// One from the store.
    pub fn load(&mut self, delivery: Delivery) {
        self.queue(&delivery.to).due.insert((delivery.due, Arc::clone(&delivery.id)));
        self.add(delivery);
    }

    /// One that is to be written down.
    pub fn announce(&mut self, delivery: Delivery) -> Offer {
        if self.all.contains_key(&delivery.id) {
            return Offer::Known;
        }
        let bytes = delivery.body.len();
        let doubted = self.queues.get(&delivery.to).filter(|queue| queue.doubted);
        if doubted.is_some_and(|queue| queue.is_crowded(bytes)) {
            return Offer::Hopeless;
        }
        if self.all.len() >= MOST || self.bytes + bytes > MOST_BYTES {
            return Offer::Full;
        }
        self.add(delivery);
        Offer::Taken
    }

    fn add(&mut self, delivery: Delivery) {
        let bytes = delivery.body.len();
        self.bytes += bytes;
        let queue = self.queue(&delivery.to);
        (queue.count, queue.bytes) = (queue.count + 1, queue.bytes + bytes);
        self.all.insert(Arc::clone(&delivery.id), delivery);
    }

    /// It has been written down, and may be sent; or it has not, and will not be.
    pub fn kept(&mut self, id: &str, well: bool) {
        let Some(delivery) = self.all.get(id) else { return };
        let (to, due, id) = (Arc::clone(&delivery.to), delivery.due, Arc::clone(&delivery.id));
        if well {
            self.queue(&to).due.insert((due, id));
        } else {
            self.remove(&id);
        }
    }

    /// Of those that are due and may be sent, one of the target that is sent least. `now`:
    /// milliseconds since 1970.
    pub fn take(&mut self, now: i64, clock: Instant, spacing: Duration) -> Next {
        if let Some(begin) = self.begin.filter(|begin| *begin > clock) {
            return Next::Wait(begin - clock);
        }
        let doubted = self.queues.values().filter(|queue| queue.doubted).map(|queue| queue.busy);
        let room = doubted.sum::<usize>() < DOUBTED;
        let free = self.queues.iter_mut().filter(|(_, queue)| queue.may_send(room));
        let first = free.filter_map(|(_, queue)| {
            let (due, _) = queue.due.first()?;
            Some((*due, queue))
        });
        let (mut soonest, mut best) = (LOOK, None);
        for (due, queue) in first {
            let wait = due.saturating_sub(now).max(0);
            let wait = if wait > LONGEST { 0 } else { wait };
            soonest = soonest.min(Duration::from_millis(wait as u64));
            let rank = (queue.busy, due);
            if wait == 0 && best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, queue));
            }
        }
        let Some((_, queue)) = best else { return Next::Wait(soonest) };
        let taken = queue.due.pop_first().and_then(|(_, id)| self.all.get(&id));
        let Some(delivery) = taken else { return Next::Wait(Duration::ZERO) };
        queue.busy += 1;
        self.begin = Some(clock + spacing);
        Next::Send(delivery.clone())
    }

    /// One that was taken is over, or due `again`. `well`: whether it arrived; `None`: nobody knows.
    pub fn put_back(&mut self, delivery: &Delivery, again: bool, well: Option<bool>) {
        let queue = self.queue(&delivery.to);
        queue.busy = queue.busy.saturating_sub(1);
        queue.doubted = well.map_or(queue.doubted, |well| !well);
        if again {
            queue.due.insert((delivery.due, Arc::clone(&delivery.id)));
            self.all.insert(Arc::clone(&delivery.id), delivery.clone());
        } else {
            self.remove(&delivery.id);
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(delivery) = self.all.remove(id) else { return };
        let bytes = delivery.body.len();
        self.bytes = self.bytes.saturating_sub(bytes);
        let queue = self.queue(&delivery.to);
        queue.count = queue.count.saturating_sub(1);
        queue.bytes = queue.bytes.saturating_sub(bytes);
        self.queues.retain(|_, queue| queue.doubted || queue.count > 0);
    }

    fn queue(&mut self, to: &Arc<str>) -> &mut Queue {
        self.queues.entry(Arc::clone(to)).or_default()
    }
}

impl Queue {
    /// Whether one more of so many bytes is more than one target in doubt may have.
    fn is_crowded(&self, bytes: usize) -> bool {
        self.count >= MOST / SHARE || self.bytes + bytes > MOST_BYTES / SHARE
    }

    /// `room`: for one more to a target that is doubted.
    fn may_send(&self, room: bool) -> bool {
        if self.doubted { room && self.busy < AT_ONCE_DOUBTED } else { self.busy < AT_ONCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, to: &str, due: i64) -> Delivery {
        Delivery { id: id.into(), to: to.into(), body: "{}".into(), attempts: 0, due }
    }

    fn book(all: &[(&str, &str, i64)]) -> Book {
        let mut book = Book::default();
        for (id, to, due) in all {
            book.load(message(id, to, *due));
        }
        book
    }

    /// The id, or the wait in milliseconds.
    fn take(book: &mut Book, now: i64) -> Result<String, u128> {
        match book.take(now, Instant::now(), Duration::ZERO) {
            Next::Send(delivery) => Ok(delivery.id.to_string()),
            Next::Wait(time) => Err(time.as_millis()),
        }
    }

    #[test]
    fn a_row_reads_as_it_was_written() {
        let row =
            Delivery { attempts: 3, body: "{\"a\":\"é\\n\"}".into(), ..message("m", "ops", 7) };
        assert_eq!(Delivery::read(b"m", &row.line()), Some(row.clone()));
        assert_eq!(Delivery::read(b"m", b"{}"), None);
        assert_eq!(Delivery::read(&[0xff], &row.line()), None);
    }

    #[test]
    fn who_is_sent_least_goes_first_and_two_go_at_once() {
        let mut book = book(&[("a1", "a", 1), ("a2", "a", 2), ("a3", "a", 3), ("b1", "b", 9)]);
        assert_eq!(take(&mut book, 10).as_deref(), Ok("a1"));
        assert_eq!(take(&mut book, 10).as_deref(), Ok("b1"));
        assert_eq!(take(&mut book, 10).as_deref(), Ok("a2"));
        assert_eq!(take(&mut book, 10), Err(30_000), "a third would be one too many");
        book.put_back(&message("a1", "a", 1), false, Some(true));
        assert_eq!(take(&mut book, 10).as_deref(), Ok("a3"));
    }

    #[test]
    fn nothing_is_sent_before_it_is_due() {
        let mut book = book(&[("a1", "a", 5000), ("b1", "b", 1500)]);
        assert_eq!(take(&mut book, 1000), Err(500));
        assert_eq!(take(&mut book, 1500).as_deref(), Ok("b1"));
        assert_eq!(take(&mut book, 1500), Err(3500));
    }

    #[test]
    fn doubted_targets_get_one_each_and_four_together() {
        let names: Vec<String> = (0..6).map(|at| format!("t{at}")).collect();
        let mut book = Book::default();
        for name in &names {
            book.load(message(&format!("{name}-1"), name, 1));
            book.load(message(&format!("{name}-2"), name, 2));
            let first = message(&format!("{name}-0"), name, 0);
            book.load(first.clone());
            assert_eq!(take(&mut book, 0), Ok(first.id.to_string()));
            book.put_back(&first, false, Some(false));
        }
        for _ in 0..4 {
            assert!(take(&mut book, 10).is_ok());
        }
        assert!(take(&mut book, 10).is_err());
        book.load(message("well", "w", 3));
        assert_eq!(take(&mut book, 10).as_deref(), Ok("well"));
        // one that arrives is trusted again
        book.put_back(&message("t0-1", "t0", 1), false, Some(true));
        assert_eq!(take(&mut book, 10).as_deref(), Ok("t4-1"));
        assert_eq!(take(&mut book, 10).as_deref(), Ok("t0-2"));
        assert!(take(&mut book, 10).is_err(), "t5 would be a fifth in doubt");
    }

    #[test]
    fn attempts_begin_one_after_the_other() {
        let mut book = book(&[("a", "a", 0), ("b", "b", 0)]);
        let (now, gap) = (Instant::now(), Duration::from_millis(16));
        assert!(matches!(book.take(0, now, gap), Next::Send(_)));
        assert!(matches!(book.take(0, now, gap), Next::Wait(time) if time == gap));
        assert!(matches!(book.take(0, now + gap, gap), Next::Send(_)));
    }

    #[test]
    fn only_what_was_kept_is_sent_and_bounds_hold() {
        let mut book = Book::default();
        assert_eq!(book.announce(message("a", "a", 0)), Offer::Taken);
        assert_eq!(book.announce(message("a", "a", 0)), Offer::Known);
        assert!(take(&mut book, 1).is_err());
        book.kept("a", true);
        assert_eq!(take(&mut book, 1).as_deref(), Ok("a"));
        assert_eq!(book.announce(message("b", "a", 0)), Offer::Taken);
        book.kept("b", false);
        assert_eq!((book.len(), book.bytes), (1, 2));
        book.put_back(&message("a", "a", 0), false, Some(true));
        assert_eq!((book.len(), book.bytes, book.queues.len()), (0, 0, 0));

        let half: Arc<str> = "x".repeat(MOST_BYTES / 2).into();
        let large = |id: &str| Delivery { body: Arc::clone(&half), ..message(id, "a", 0) };
        assert_eq!(book.announce(large("1")), Offer::Taken);
        assert_eq!(book.announce(large("2")), Offer::Taken);
        assert_eq!(book.announce(message("3", "a", 0)), Offer::Full);
        let mut many = Book::default();
        let mut one = |at: usize| many.announce(message(&at.to_string(), "a", 0));
        assert!((0..MOST).all(|at| one(at) == Offer::Taken));
        assert_eq!(one(MOST), Offer::Full);
    }

    #[test]
    fn who_takes_nothing_leaves_room_for_the_others() {
        let mut book = book(&[("0", "a", 0)]);
        assert_eq!(take(&mut book, 1).as_deref(), Ok("0"));
        book.put_back(&message("0", "a", i64::MAX), true, Some(false));
        let one = |book: &mut Book, at: usize, to| book.announce(message(&at.to_string(), to, 0));
        assert!((1..MOST / 2).all(|at| one(&mut book, at, "a") == Offer::Taken));
        assert_eq!(one(&mut book, MOST, "a"), Offer::Hopeless);
        assert!((MOST..MOST + MOST / 2).all(|at| one(&mut book, at, "b") == Offer::Taken));
        assert_eq!(one(&mut book, 2 * MOST, "b"), Offer::Full, "it is not in doubt");
        // one that goes makes room
        book.kept("1", false);
        assert_eq!(one(&mut book, MOST - 1, "a"), Offer::Taken);
        // and bytes count as well
        let half: Arc<str> = "x".repeat(MOST_BYTES / 2).into();
        book.kept("2", false);
        let large = Delivery { body: half, ..message("large", "a", 0) };
        assert_eq!(book.announce(large), Offer::Hopeless);
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_message_for_days() {
        let mut book = book(&[("a1", "a", LONGEST + 5000), ("b1", "b", LONGEST + 5000)]);
        assert_eq!(take(&mut book, 5000), Err(30_000), "a day's pause is kept");
        assert_eq!(take(&mut book, 4999).as_deref(), Ok("a1"));
    }
}
