//! The admin door: health, metrics and state, on a listener, thread and runtime of its own, so
//! that it answers while the workers are busy.
//!
//! Only safe methods, and nothing here changes anything, but for `/keys` (`admin/keys.rs`) and what is
//! below `/cache/` (`admin/cache.rs`), which ask for a proof (`admin/proof.rs`). It takes few
//! connections, short heads and no other bodies. A browser that was tricked into naming us (DNS
//! rebinding) is refused by `Host`; there is no CORS. It knows the rest of the program only through
//! [`Doors`].
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use crate::cache::Cache;
use crate::store::{Store, Token};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::view::CacheView;

mod body;
mod cache;
mod keys;
mod proof;
mod respond;
mod serve;
#[cfg(test)]
mod tests;

/// A boxed future, as trait objects need it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A bound listener, not yet of any runtime.
#[derive(Debug)]
pub enum Listener {
    Tcp(std::net::TcpListener),
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
    /// Names by which `Host` may call us, besides `localhost` and addresses.
    pub hosts: Vec<String>,
}

/// What is cached: to look at for everybody, to take out for who proves who they are.
pub struct CacheDoor {
    /// Called on the door's thread; must not block.
    pub view: Box<dyn Fn() -> CacheView + Send + Sync>,
    pub cache: Arc<Cache>,
}

/// Stored keys, for who shows the token.
pub struct KeysDoor {
    pub token: Token,
    pub store: Arc<Store>,
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
            Listener::Tcp(tcp) => {
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
