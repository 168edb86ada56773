//! Binding and accepting: TCP, Unix sockets, and sockets handed over by systemd.
//!
//! `bind` makes sockets that listen already; a `Bound` is turned into one `Listener` for each
//! runtime that accepts (they share the kernel's queue, so that an idle worker takes the next
//! connection). `accept` does not fail because of a peer or because descriptors ran out: it
//! counts, waits where waiting helps, and goes on.
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use thiserror::Error;

use crate::config::Address;
use crate::drain::{self, Stage, Trigger};
use crate::io::Stream;

pub use super::inherited::Inherited;
use super::inherited::Names;

/// The kernel clamps it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Owner and group may connect.
const UNIX_MODE: u32 = 0o660;
/// How long to wait for descriptors or memory to come back.
const BACK_OFF: Duration = Duration::from_millis(100);
/// An agent's machine that is gone is noticed after 60 s, even while it only waits.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Why there is no listening socket.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("{at}: the address is in use by another program")]
    InUse { at: String },
    #[error("{at}: not allowed (a port below 1024 needs CAP_NET_BIND_SERVICE or a socket unit)")]
    Denied { at: String, source: io::Error },
    #[error("{at}: the address is none of this machine's")]
    NoSuchAddress { at: String, source: io::Error },
    #[error("{}: there is a file of another kind in the place of the socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("{}: the directory of the socket does not exist", path.display())]
    NoDirectory { path: PathBuf },
    #[error("no inherited socket {}; handed over and free: {have}", wanted.as_deref().unwrap_or("is left"))]
    NotInherited { wanted: Option<String>, have: Names },
    #[error("{at}: {source}")]
    Io { at: String, source: io::Error },
}

/// A listening socket. A Unix socket's file is removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    /// As people write it: `127.0.0.1:8080`, `unix:/run/x.sock`, `systemd:http`.
    pub at: String,
    /// The address with its real port. `None` for a Unix socket.
    pub addr: Option<SocketAddr>,
    faults: Arc<Faults>,
    /// Made here; another program owns one that was handed over.
    ours: bool,
    /// Moves when others are to have it.
    left: Trigger,
    _file: Option<SocketFile>,
}

/// What kept connections from being accepted, since the start.
#[derive(Debug, Default)]
pub struct Faults {
    aborted: AtomicU64,
    exhausted: AtomicU64,
}

impl Faults {
    /// Connections that were gone before they were accepted.
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Times that descriptors or kernel memory had run out.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }
}

/// Binds and listens; several sockets only for `Address::Inherited`.
pub fn bind(at: &Address, inherited: &mut Inherited) -> Result<Vec<Bound>, BindError> {
    match at {
        Address::Tcp(address) => Ok(vec![bind_tcp(*address)?]),
        Address::Unix(path) => Ok(vec![bind_unix(path)?]),
        Address::Inherited(name) => {
            let taken = inherited.take(name.as_deref());
            if taken.is_empty() {
                return Err(BindError::NotInherited {
                    wanted: name.clone(),
                    have: inherited.names(),
                });
            }
            taken.into_iter().map(|(name, socket)| adopt(&name, socket)).collect()
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<Bound, BindError> {
    let at = address.to_string();
    let open = || {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` takes IPv4 too, whatever net.ipv6.bindv6only says; others are not concerned
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.bind(&address.into())?;
        finish(&socket)?;
        Ok(socket)
    };
    let socket = open().map_err(|error| explain(error, &at))?;
    let addr = socket.local_addr().ok().and_then(|address| address.as_socket());
    let at = addr.map_or(at, |address| address.to_string());
    Ok(Bound {
        socket,
        at,
        addr,
        faults: Arc::default(),
        ours: true,
        left: drain::pair().0,
        _file: None,
    })
}

fn bind_unix(path: &Path) -> Result<Bound, BindError> {
    let at = format!("unix:{}", path.display());
    clear_stale(path, &at)?;
    let open = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::of(path)?;
        // before `listen`: nobody can connect while the mode is still the umask's
        std::fs::set_permissions(path, PermissionsExt::from_mode(UNIX_MODE))?;
        finish(&socket)?;
        Ok((socket, file))
    };
    let (socket, file) = open().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => BindError::NoDirectory { path: path.to_owned() },
        _ => explain(error, &at),
    })?;
    Ok(Bound {
        socket,
        at,
        addr: None,
        faults: Arc::default(),
        ours: true,
        left: drain::pair().0,
        _file: Some(file),
    })
}

/// Removes what a killed process left behind, and nothing that anybody still listens on.
fn clear_stale(path: &Path, at: &str) -> Result<(), BindError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    let io = |source| BindError::Io { at: at.to_owned(), source };
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(io)?;
    // a listener with a full queue answers "would block": somebody is there
    probe.set_nonblocking(true).map_err(io)?;
    match probe.connect(&SockAddr::unix(path).map_err(io)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(BindError::Denied { at: at.to_owned(), source: error })
        }
        _ => Err(BindError::InUse { at: at.to_owned() }),
    }
}

fn adopt(name: &str, socket: Socket) -> Result<Bound, BindError> {
    let at = format!("systemd:{name}");
    let fitted = socket.set_nonblocking(true).and_then(|()| socket.local_addr());
    let addr = fitted.map_err(|error| explain(error, &at))?.as_socket();
    Ok(Bound {
        socket,
        at,
        addr,
        faults: Arc::default(),
        ours: false,
        left: drain::pair().0,
        _file: None,
    })
}

fn finish(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)
}

fn explain(source: io::Error, at: &str) -> BindError {
    let at = at.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { at },
        io::ErrorKind::PermissionDenied => BindError::Denied { at, source },
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { at, source },
        _ => BindError::Io { at, source },
    }
}

/// The file of a Unix socket that we made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: a successor may have put its own socket there.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let made = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (made.dev(), made.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    /// A listener for the runtime that calls; as many times as there are runtimes.
    pub fn listener(&self) -> io::Result<Listener> {
        let socket = self.socket.try_clone()?;
        let kind = if socket.domain()? == Domain::UNIX {
            Kind::Unix(tokio::net::UnixListener::from_std(socket.into())?)
        } else {
            Kind::Tcp(tokio::net::TcpListener::from_std(socket.into())?)
        };
        Ok(Listener { kind, faults: Arc::clone(&self.faults) })
    }

    /// The socket itself, once more: for a listener that is not ours.
    pub fn duplicate(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }

    /// From now on who connects is refused at once, instead of waiting in a queue that nobody
    /// empties. A socket that was handed over keeps its queue, for whoever is started next.
    pub fn refuse(&self) {
        // it fails only if the socket does not listen
        if self.ours {
            let _ = self.socket.shutdown(std::net::Shutdown::Read);
        }
    }

    /// From now on a socket that was handed over is left to whoever is started next: who connects
    /// waits in its queue. Whether it was handed over.
    pub fn let_go(&self) -> bool {
        if !self.ours {
            self.left.advance(Stage::Draining);
        }
        !self.ours
    }

    /// Waits until it is left to others.
    pub async fn is_let_go(&self) {
        self.left.drain().reached(Stage::Draining).await;
    }

    /// What kept connections out, over all listeners of this socket.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }
}

/// Accepts connections on one runtime.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    faults: Arc<Faults>,
}

#[derive(Debug)]
enum Kind {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// By the kernel's word (`SO_PEERCRED`), so it may authorize.
    Unix {
        uid: u32,
        gid: u32,
        pid: Option<i32>,
    },
}

impl Listener {
    /// The next connection, with `TCP_NODELAY` set. Fails only if the socket listens no more.
    /// May be dropped at any time without losing a connection.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let mut short = false;
        loop {
            let error = match self.accept_once().await {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::InvalidInput => return Err(error),
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NotConnected
                | io::ErrorKind::Interrupted => {
                    self.faults.aborted.fetch_add(1, Ordering::Relaxed);
                }
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: closing connections will heal it
                _ => {
                    self.faults.exhausted.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut short, true) {
                        tracing::warn!(%error, "connections wait: none can be accepted");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    async fn accept_once(&self) -> io::Result<(Stream, Peer)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true).map_err(gone)?;
                SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE).map_err(gone)?;
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let who = stream.peer_cred().map_err(gone)?;
                let peer = Peer::Unix { uid: who.uid(), gid: who.gid(), pid: who.pid() };
                Ok((Stream::Unix(stream), peer))
            }
        }
    }
}

/// An option that cannot be set says that the peer has left, not that the listener is broken.
fn gone(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

#[cfg(test)]
mod tests;
