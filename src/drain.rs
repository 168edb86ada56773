//! The end of the program, in stages that only go forward.
//!
//! One `Trigger` moves the stage; any number of `Drain`s, on any runtime or none, read it (one
//! atomic load), wait for it, and hold the end back while they have work. Nothing here knows
//! time or signals: who moves the stage, and when, is the caller's affair.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    Serving,
    /// Readiness fails so that others stop sending; whatever comes is still served.
    Leaving,
    /// No new work; running work may finish.
    Draining,
    /// Running work is cut.
    Ending,
}

/// Moves the stage. There is one.
#[derive(Debug)]
pub struct Trigger(Arc<Shared>);

/// Sees the stage. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Shared>);

/// Work that is running; drop it when the work is done.
#[derive(Debug)]
pub struct Hold(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    moved: Notify,
    held: AtomicUsize,
    /// Whether anybody has ever waited for `held` to be zero.
    awaited: AtomicBool,
    idle: Notify,
}

/// The two ends, at `Stage::Serving`. Needs no runtime.
pub fn pair() -> (Trigger, Drain) {
    let shared = Arc::new(Shared::default());
    (Trigger(Arc::clone(&shared)), Drain(shared))
}

impl Trigger {
    /// Goes to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.stage.fetch_max(stage as u8, Ordering::SeqCst);
        self.0.moved.notify_waiters();
    }

    /// Another view of the stage.
    pub fn drain(&self) -> Drain {
        Drain(Arc::clone(&self.0))
    }

    /// How many holds there are.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::SeqCst)
    }

    /// Resolves at a moment when nothing is held.
    pub async fn idle(&self) {
        self.0.awaited.store(true, Ordering::SeqCst);
        loop {
            // made before the look: it then sees every wake-up after the look
            let idle = self.0.idle.notified();
            if self.held() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drain {
    pub fn stage(&self) -> Stage {
        self.0.stage()
    }

    /// Resolves once the stage is `stage` or later.
    pub async fn reached(&self, stage: Stage) {
        loop {
            let moved = self.0.moved.notified();
            if self.stage() >= stage {
                return;
            }
            moved.await;
        }
    }

    /// Holds the end back until the answer is dropped, or the stage is `Ending`.
    pub fn hold(&self) -> Hold {
        self.0.held.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(&self.0))
    }
}

impl Shared {
    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Leaving,
            2 => Stage::Draining,
            _ => Stage::Ending,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let last = self.0.held.fetch_sub(1, Ordering::SeqCst) == 1;
        // the flag keeps the lock inside Notify off the path of every request
        if last && self.0.awaited.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn resolves(future: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_millis(20), future).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn stages_only_go_forward() {
        let (trigger, drain) = pair();
        assert_eq!(drain.stage(), Stage::Serving);
        trigger.advance(Stage::Draining);
        trigger.advance(Stage::Leaving);
        assert_eq!(drain.stage(), Stage::Draining);
        assert!(resolves(drain.reached(Stage::Leaving)).await);
        assert!(resolves(drain.reached(Stage::Draining)).await);
        assert!(!resolves(drain.reached(Stage::Ending)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_waits_for_the_last_hold() {
        let (trigger, drain) = pair();
        assert!(resolves(trigger.idle()).await);
        let (first, second) = (drain.hold(), drain.hold());
        assert_eq!(trigger.held(), 2);
        drop(first);
        assert!(!resolves(trigger.idle()).await);
        let later = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(9)).await;
            drop(second);
        });
        trigger.idle().await;
        assert_eq!(trigger.held(), 0);
        assert!(later.await.is_ok());
    }

    /// Holds come and go on other threads without a runtime; a waiter on a runtime misses none.
    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for _ in 0..200 {
            let (trigger, drain) = pair();
            let holds: Vec<_> = (0..4).map(|_| drain.hold()).collect();
            let threads: Vec<_> = holds
                .into_iter()
                .map(|hold| {
                    let drain = drain.clone();
                    std::thread::spawn(move || {
                        drop(drain.hold());
                        drop(hold);
                    })
                })
                .collect();
            let waiter = std::thread::spawn({
                let drain = trigger.drain();
                move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build();
                    runtime.unwrap().block_on(async {
                        tokio::time::timeout(Duration::from_secs(10), drain.reached(Stage::Ending))
                            .await
                            .unwrap();
                    });
                }
            });
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(10), trigger.idle()).await.unwrap();
            });
            trigger.advance(Stage::Ending);
            waiter.join().unwrap();
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }
}
