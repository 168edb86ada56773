//! Telling of the ends of tasks: signed messages to the targets that the policy names.
//!
//! A message is a row in the store before anybody is told that there will be one; it leaves the store
//! when it was taken, given up, or sent away for good (410). It is sent at least once: a crash between
//! the receiver's answer and the row's end sends it again, under the same id. What it carries and how
//! it is signed is Standard Webhooks (<https://www.standardwebhooks.com>, 1.0.0), and so is the
//! schedule: ten attempts over three days.
//!
//! Invariants: no redirect is followed; no answer is read beyond its head; only targets marked
//! `private` are reached at addresses that are not public, and it is the resolved address that is
//! judged. Eight messages are on their way at once, two of them to one target, one where the last
//! did not arrive; and where many wait for such a target, more for it are given up: who hangs delays
//! himself alone. No proxy is used: it would resolve the name anew.
mod book;
mod ends;
mod plan;
mod send;
mod sign;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use self::book::{Book, Delivery, Next, Offer};
use self::plan::{Outcome, Terms};
use self::send::{Hook, Sender};
use crate::config;
use crate::drain::{Drain, Stage};
use crate::store::{Failed, Op, Store, StoreError, Table};
use crate::upstream::connect;

/// Messages on their way at once.
const SLOTS: usize = 8;
/// What begins the name of an event of a task.
const EVENT: &str = "task.";

/// All messages that are to be sent, and where to.
pub struct Webhooks {
    store: Arc<Store>,
    hooks: ArcSwap<HashMap<Arc<str>, Arc<Hook>>>,
    sender: Sender,
    terms: Terms,
    shared: Arc<Shared>,
}

/// What the store's writer reaches, too.
#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    /// Something may be due that was not.
    changed: Notify,
    delivered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
}

/// Why the room cannot be opened.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("webhooks: {0}")]
    Connector(#[from] connect::SetupError),
}

/// Why nobody will be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotifyError {
    #[error("the policy has no such webhook")]
    Unknown,
    #[error("too many messages wait for their receivers")]
    Full,
    #[error("its target takes no messages, and too many wait for it")]
    Hopeless,
    #[error(transparent)]
    Store(#[from] Failed),
}

/// Messages, now and since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub waiting: usize,
    pub delivered: u64,
    /// Attempts that did not arrive, or were not wanted.
    pub failed: u64,
    /// Messages that nobody took: after the last attempt, or a 410.
    pub given_up: u64,
}

impl Webhooks {
    /// Goes on with what the store holds. Blocks: for the start.
    pub fn new(store: Arc<Store>, hooks: &[config::Webhook]) -> Result<Self, SetupError> {
        Self::with(store, hooks, Terms::default(), Sender::new()?)
    }

    fn with(
        store: Arc<Store>,
        hooks: &[config::Webhook],
        terms: Terms,
        sender: Sender,
    ) -> Result<Self, SetupError> {
        let mut book = Book::default();
        for (key, value) in store.scan(Table::Webhooks)? {
            let Some(delivery) = Delivery::read(&key, &value) else {
                tracing::warn!("a webhook's row in the store cannot be read; it is dropped");
                store.delete(Table::Webhooks, &key);
                continue;
            };
            book.load(delivery);
        }
        let shared = Arc::new(Shared { book: Mutex::new(book), ..Shared::default() });
        let webhooks = Self { store, hooks: ArcSwap::default(), sender, terms, shared };
        webhooks.set(hooks);
        Ok(webhooks)
    }

    /// Follows a new policy. Messages for a target that is gone keep to their schedule, in case it
    /// comes back.
    pub fn set(&self, hooks: &[config::Webhook]) {
        let prepared = |hook: &config::Webhook| (Arc::clone(&hook.name), Arc::new(Hook::new(hook)));
        self.hooks.store(Arc::new(hooks.iter().map(prepared).collect()));
        self.shared.changed.notify_waiters();
    }

    /// Whether there is a target of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.hooks.load().contains_key(name)
    }

    /// Has the target told that `event` (`task.succeeded`) came over `id` at a time, in seconds
    /// since 1970; the receipt resolves when that is kept, not when it is sent. Nothing is kept
    /// where the target does not want such events. The same event of the same id is one message,
    /// also when it is told of twice. Data past 20 kB are left out, but for the id.
    fn post(
        &self,
        name: &str,
        id: &str,
        (event, at): (&str, i64),
        data: &Value,
    ) -> Result<Receipt, NotifyError> {
        let hook = self.hooks.load().get(name).cloned().ok_or(NotifyError::Unknown)?;
        if !event.strip_prefix(EVENT).is_some_and(|end| hook.wants(end)) {
            return Ok(Receipt(None));
        }
        let delivery = Delivery {
            id: sign::message_id(name, id, event),
            to: Arc::clone(&hook.name),
            body: sign::payload(event, at, id, data),
            attempts: 0,
            due: millis(),
        };
        let op = Op::put(Table::Webhooks, delivery.id.as_bytes(), delivery.line());
        let key = Arc::clone(&delivery.id);
        match self.shared.book.lock().announce(delivery) {
            Offer::Taken => {}
            Offer::Known => return Ok(Receipt(None)),
            Offer::Full => return Err(NotifyError::Full),
            Offer::Hopeless => {
                self.shared.given_up.fetch_add(1, Relaxed);
                return Err(NotifyError::Hopeless);
            }
        }
        let (kept, is_kept) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        // also when nobody waits for the answer any more
        self.store.write(vec![op], move |done| {
            shared.book.lock().kept(&key, done.is_ok());
            shared.changed.notify_waiters();
            let _ = kept.send(done);
        });
        Ok(Receipt(Some(is_kept)))
    }

    /// Sends what is due until the sidecar drains, and holds its end back while something is on its
    /// way; what is left is sent after the next start. May be dropped at any time and run again.
    pub async fn run(&self, drain: &Drain) {
        let mut slots: Vec<_> = (0..SLOTS).map(|_| Some(Box::pin(self.slot(drain)))).collect();
        poll_fn(|cx| {
            for slot in &mut slots {
                slot.take_if(|slot| slot.as_mut().poll(cx).is_ready());
            }
            if slots.iter().any(Option::is_some) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        Figures {
            waiting: shared.book.lock().len(),
            delivered: shared.delivered.load(Relaxed),
            failed: shared.failed.load(Relaxed),
            given_up: shared.given_up.load(Relaxed),
        }
    }

    async fn slot(&self, drain: &Drain) {
        loop {
            let taken = tokio::select! {
                biased;
                () = drain.reached(Stage::Draining) => return,
                taken = self.next() => taken,
            };
            let _held = drain.hold();
            let hook = self.hooks.load().get(&*taken.delivery.to).cloned();
            let outcome = match hook {
                Some(hook) => self.sender.send(&hook, &taken.delivery, self.terms.timeout).await,
                None => Outcome::failed("no webhook of this name in the policy"),
            };
            self.settle(taken, &outcome).await;
        }
    }

    /// Waits until something is due that may be sent now.
    async fn next(&self) -> Taken<'_> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // from here on nothing is missed
            changed.as_mut().enable();
            let next = self.shared.book.lock().take(millis(), Instant::now(), self.terms.spacing);
            match next {
                Next::Send(delivery) => {
                    return Taken { shared: &self.shared, delivery, settled: None };
                }
                Next::Wait(time) => {
                    // either way there is a reason to look
                    let _ = timeout(time, changed).await;
                }
            }
        }
    }

    /// Writes down how it went: the row is gone, or has its next attempt.
    async fn settle(&self, mut taken: Taken<'_>, outcome: &Outcome) {
        let now = millis();
        let delivery = &mut taken.delivery;
        delivery.attempts += 1;
        let (webhook, id, attempt) = (&*delivery.to, &*delivery.id, delivery.attempts);
        let pause = plan::pause(&self.terms, attempt, outcome, plan::draw());
        match (outcome, pause) {
            (Outcome::Delivered, _) => {}
            (_, None) => {
                tracing::warn!(webhook, id, attempt, why = %outcome, "a webhook is given up");
                self.shared.given_up.fetch_add(1, Relaxed);
            }
            (_, Some(pause)) => {
                let pause = pause.as_secs();
                tracing::info!(webhook, id, attempt, why = %outcome, pause, "a webhook did not arrive");
            }
        }
        let op = match pause {
            None => Op::delete(Table::Webhooks, delivery.id.as_bytes()),
            Some(pause) => {
                delivery.due = now.saturating_add(pause.as_millis() as i64);
                Op::put(Table::Webhooks, delivery.id.as_bytes(), delivery.line())
            }
        };
        let well = *outcome == Outcome::Delivered;
        let counter = if well { &self.shared.delivered } else { &self.shared.failed };
        counter.fetch_add(1, Relaxed);
        taken.settled = Some(Settled { again: pause.is_some(), well });
        // without the store it goes on from memory
        let _ = self.store.durably(vec![op]).await;
    }
}

/// Of a message that is being written down; of none that need be.
struct Receipt(Option<oneshot::Receiver<Result<(), Failed>>>);

impl Receipt {
    async fn kept(self) -> Result<(), NotifyError> {
        let Some(kept) = self.0 else { return Ok(()) };
        kept.await.unwrap_or(Err(Failed::Broken)).map_err(NotifyError::Store)
    }
}

/// A message on its way. One that is dropped without an outcome is due as it was.
struct Taken<'w> {
    shared: &'w Shared,
    delivery: Delivery,
    settled: Option<Settled>,
}

struct Settled {
    again: bool,
    well: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let well = self.settled.as_ref().map(|settled| settled.well);
        let again = self.settled.as_ref().is_none_or(|settled| settled.again);
        self.shared.book.lock().put_back(&self.delivery, again, well);
        self.shared.changed.notify_waiters();
    }
}

/// Since 1970. A clock before that counts as then.
fn millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
