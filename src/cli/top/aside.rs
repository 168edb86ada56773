//! What goes on beside drawing: looking at the instance, which may hang, and waiting for signals.
//!
//! Both threads hold nothing that must be put away, and end with the process.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{SignalKind, signal};

use super::look::{Look, LookError};
use crate::cli::instance::Instance;

/// What the thread that looks tells.
pub(super) type Seen = Result<Look, LookError>;

/// A thread that looks again and again; it ends with the process.
pub(super) fn looks(instance: Instance, interval: Duration) -> io::Result<Receiver<Seen>> {
    let (to, from) = sync_channel(1);
    let look = move || {
        while to.send(Look::at(&instance)).is_ok() {
            thread::park_timeout(interval);
        }
    };
    thread::Builder::new().name("look".to_owned()).spawn(look)?;
    Ok(from)
}

/// Set when a signal wants the end, so that the terminal is left in order.
pub(super) fn told_to_end() -> io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&told);
    let wait = move || {
        let Ok(runtime) = LocalRuntime::new() else { return };
        let any = async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut quit = signal(SignalKind::quit())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
            io::Result::Ok(())
        };
        // without signals there are still keys
        if runtime.block_on(any).is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(told)
}
