//! The threads that read answers: two at most, started when there is something to read and gone
//! when there has been nothing for a while. They never wait for the owner's writes.
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::Shared;
use crate::cache::{Entry, Key};

const THREADS: usize = 2;
const STACK: usize = 256 * 1024;
const IDLE: Duration = Duration::from_secs(10);
/// Reads that may wait; more are not worth it, the answer is asked for upstream.
const MOST: usize = 256;

type Answer = oneshot::Sender<Option<Arc<Entry>>>;

#[derive(Default)]
pub(super) struct Readers {
    asks: Mutex<Asks>,
    asked: Condvar,
}

#[derive(Default)]
struct Asks {
    waiting: VecDeque<(Key, Answer)>,
    running: usize,
    idle: usize,
    closed: bool,
}

/// Resolves to the answer; with an error when it is not to be had.
pub(super) fn ask(shared: &Arc<Shared>, key: &Key) -> oneshot::Receiver<Option<Arc<Entry>>> {
    let (answer, is_answered) = oneshot::channel();
    let mut asks = shared.readers.asks.lock();
    if asks.closed || asks.waiting.len() >= MOST {
        return is_answered;
    }
    asks.waiting.push_back((*key, answer));
    if asks.idle < asks.waiting.len() && asks.running < THREADS {
        asks.running += 1;
        start(shared, &mut asks);
    }
    drop(asks);
    shared.readers.asked.notify_one();
    is_answered
}

/// Takes no more; what waits is answered with nothing.
pub(super) fn close(shared: &Shared) {
    let mut asks = shared.readers.asks.lock();
    asks.closed = true;
    asks.waiting.clear();
    drop(asks);
    shared.readers.asked.notify_all();
}

fn start(shared: &Arc<Shared>, asks: &mut Asks) {
    let mine = Arc::clone(shared);
    let run = move || {
        while let Some((key, answer)) = next(&mine.readers) {
            // who asked may have gone
            if !answer.is_closed() {
                let _ = answer.send(mine.read(&key).map(Arc::new));
            }
        }
    };
    let started = thread::Builder::new().name("cache-read".to_owned()).stack_size(STACK).spawn(run);
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to read the cache with");
        asks.running -= 1;
        if asks.running == 0 {
            asks.waiting.clear();
        }
    }
}

/// `None`: the thread is not needed any more, and counted out.
fn next(readers: &Readers) -> Option<(Key, Answer)> {
    let mut asks = readers.asks.lock();
    let mut patient = true;
    loop {
        if let Some(next) = asks.waiting.pop_front() {
            return Some(next);
        }
        if asks.closed || !patient {
            asks.running -= 1;
            return None;
        }
        asks.idle += 1;
        patient = !readers.asked.wait_for(&mut asks, IDLE).timed_out();
        asks.idle -= 1;
    }
}
