//! The admin door: health, metrics and state, on a listener, thread and runtime of its own, so
//! that it answers while the workers are busy.
//!
//! What strangers can reach asks for a proof, and so does what changes something (`admin/proof.rs`):
//! `/keys` (`admin/keys.rs`), `/tasks` (`admin/tasks.rs`), what is below `/cache/` (`admin/cache.rs`).
//! It takes few connections, short heads and no other bodies. A browser that was tricked into naming us
//! (DNS rebinding) is refused by `Host`, or by our certificate; there is no CORS. It knows the rest of the program only
//! through [`Doors`].
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::cache::Cache;
use crate::io::Stream;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::view::CacheView;

mod body;
mod cache;
mod calls;
mod keys;
mod live;
mod page;
mod proof;
mod respond;
mod script;
mod serve;
mod tasks;
#[cfg(test)]
mod tests;

pub use self::proof::Guard;
pub use self::tasks::rows as task_rows;

/// A boxed future, as trait objects need it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Makes a connection that was accepted a safe one.
pub type Handshake = Box<dyn Fn(TcpStream) -> BoxFuture<io::Result<Stream>> + Send>;

/// A bound listener, not yet of any runtime.
pub enum Listener {
    Tcp(std::net::TcpListener),
    Tls(std::net::TcpListener, Handshake),
    Unix(std::os::unix::net::UnixListener),
}

/// What the admin door can see. The functions are called on its thread and must not block.
pub struct Doors {
    pub metrics: Arc<Metrics>,
    pub ready: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Whether the workers turn.
    pub live: Box<dyn Fn() -> bool + Send + Sync>,
    pub state: Box<dyn Fn() -> BoxFuture<serde_json::Value> + Send + Sync>,
    /// `None`: nothing is cached, and there is no such path.
    pub cache: Option<CacheDoor>,
    /// `None`: no keys are kept, and there is no such path.
    pub keys: Option<KeysDoor>,
    /// `None`: there are no tasks, and there is no such path.
    pub tasks: Option<TasksDoor>,
    /// `None`: the page is served, and has nothing to show.
    pub page: Option<PageDoor>,
    pub guard: Guard,
}

/// What is cached: to look at for everybody, to take out for who proves who they are.
pub struct CacheDoor {
    /// Called on the door's thread; must not block.
    pub view: Box<dyn Fn() -> CacheView + Send + Sync>,
    pub cache: Arc<Cache>,
}

/// Ends the call of an id; whether it was there.
pub type Cancel = Box<dyn Fn(&str) -> BoxFuture<bool> + Send + Sync>;

/// What the page shows, and what it may do.
pub struct PageDoor {
    /// How often `tick` is called.
    pub every: Duration,
    pub tick: Box<dyn Fn() + Send + Sync>,
    /// The points of the last minutes.
    pub history: Box<dyn Fn() -> Frame + Send + Sync>,
    /// Everything now.
    pub now: Box<dyn Fn() -> BoxFuture<Frame> + Send + Sync>,
    /// The policy in force, without its secrets.
    pub policy: Box<dyn Fn() -> String + Send + Sync>,
    pub cancel: Cancel,
}

/// One event for the page: JSON in one line, and the number of the last point in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub text: String,
    pub point: u64,
}

/// Stored keys, for who shows a token.
pub struct KeysDoor {
    pub store: Arc<Store>,
}

/// Everybody's tasks, for who shows a token.
pub struct TasksDoor {
    pub tasks: Arc<Tasks>,
}

/// Whether new calls should come here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    /// Why not; or, when ready, what a person should know (a failed reload).
    pub why: Vec<String>,
}

/// The running admin door. Dropping it stops it.
pub struct AdminHandle {
    addrs: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts serving on its own thread. Fails when a listener cannot be used.
pub fn spawn(listeners: Vec<Listener>, doors: Doors) -> io::Result<AdminHandle> {
    let mut addrs = Vec::new();
    for listener in &listeners {
        match listener {
            Listener::Tcp(tcp) | Listener::Tls(tcp, _) => {
                tcp.set_nonblocking(true)?;
                addrs.push(tcp.local_addr()?);
            }
            Listener::Unix(unix) => unix.set_nonblocking(true)?,
        }
    }
    let (stop, stopped) = oneshot::channel();
    let (started, is_started) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || serve::run(listeners, doors, stopped, &started))?;
    // The channel closes without a word only if the thread panicked.
    is_started.recv().map_err(|_| io::Error::other("the admin thread died"))??;
    Ok(AdminHandle { addrs, stop: Some(stop), thread: Some(thread) })
}

impl AdminHandle {
    /// The TCP addresses served, in the order given.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Stops at once, cutting open connections, and waits for the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for AdminHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminHandle").field("addrs", &self.addrs).finish_non_exhaustive()
    }
}
