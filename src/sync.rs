//! The locks and counters of what threads decide together (the limiter's door, the health of
//! backends): those of the program, or those that a test schedules.
#[cfg(not(feature = "shuttle"))]
mod real {
    pub use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    pub use parking_lot::Mutex;
}

#[cfg(feature = "shuttle")]
mod real {
    pub use shuttle::sync::MutexGuard;
    pub use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    /// As `parking_lot` has it: a thread that panics ends the test anyway.
    #[derive(Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

pub use real::{AtomicU64, AtomicUsize, Mutex, Ordering};
