//! Sockets handed over by systemd (`sd_listen_fds`): already bound and listening, so that no
//! connection is refused while the service starts or restarts.
//!
//! They are told apart by `LISTEN_FDNAMES` (`FileDescriptorName=` in the socket unit); several
//! may share a name. The crate `listenfd` holds the unsafe part: it checks `LISTEN_PID`, that
//! each descriptor is a listening TCP or Unix stream socket, and sets close-on-exec.
use std::fmt;

use listenfd::ListenFd;
use socket2::Socket;
use thiserror::Error;

/// What was handed over and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, Socket)>,
}

/// A descriptor that we were given and cannot serve.
#[derive(Debug, Error)]
#[error("the inherited socket {position} ({name}) is neither a TCP nor a Unix stream socket")]
pub struct InheritError {
    /// Counted from 0 in `LISTEN_FDS`.
    pub position: usize,
    pub name: String,
    source: std::io::Error,
}

impl Inherited {
    /// Takes over what the environment announces. Call it once, before any thread is started: it
    /// removes `LISTEN_PID` and `LISTEN_FDS` from the environment.
    pub fn from_env() -> Result<Self, InheritError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::with_capacity(given.len());
        for position in 0..given.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| "unknown".to_owned());
            let tcp = given.take_tcp_listener(position).ok().flatten().map(Socket::from);
            let socket = match tcp {
                Some(socket) => Some(socket),
                None => match given.take_unix_listener(position) {
                    Ok(unix) => unix.map(Socket::from),
                    Err(source) => return Err(InheritError { position, name, source }),
                },
            };
            sockets.extend(socket.map(|socket| (name, socket)));
        }
        Ok(Self { sockets })
    }

    /// Listening sockets with their names; for a program that was handed them in another way.
    pub fn from_sockets(sockets: Vec<(String, Socket)>) -> Self {
        Self { sockets }
    }

    /// Takes all sockets of a name, or with `None` all that are left; in the order given to us.
    pub fn take(&mut self, name: Option<&str>) -> Vec<(String, Socket)> {
        let wanted = |have: &str| name.is_none_or(|name| name == have);
        self.sockets.extract_if(.., |(have, _)| wanted(have)).collect()
    }

    /// The names of those that are left.
    pub fn names(&self) -> Names {
        Names(self.sockets.iter().map(|(name, _)| name.clone()).collect())
    }
}

/// A list for an error text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("none"),
            names => f.write_str(&names.join(", ")),
        }
    }
}
