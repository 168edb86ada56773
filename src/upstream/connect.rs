//! From an origin to a connected stream: resolve, dial, go through a proxy, shake hands.
//!
//! One `Connector` an upstream; it knows no pool, no retry and no HTTP beyond a proxy's CONNECT.
//! All phases together have `pool.connect_timeout`. Every failure says where it wanted to go, in
//! which phase it failed and why; no credential is ever part of it.
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use std::{fmt, io};

use rustls::CertificateError;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::config::{Host, Http2, Origin, Upstream};
use crate::io::pem::TlsSetupError;
use crate::io::{Stream, reach};

use super::dial::dial;
use super::dns::Dns;
use super::proxy::{Proxy, ProxySetupError, TunnelError};
use super::tls::ClientTls;

/// How much longer a turn is waited for: who came together with the one that connects is to hear how
/// that ended.
const GRACE: Duration = Duration::from_millis(100);

/// Opens connections for one upstream. Share it behind an `Arc`.
pub struct Connector {
    dns: Dns,
    tls: ClientTls,
    proxy: Proxy,
    http2: Http2,
    timeout: Duration,
    /// Other addresses are not dialled.
    only_public: bool,
}

/// A fresh connection.
pub struct Connected {
    pub stream: Stream,
    /// Whether to speak HTTP/2: by ALPN over TLS, by prior knowledge on cleartext.
    pub http2: bool,
    /// The address that answered: the backend's, or the proxy's. `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    pub timing: Timing,
}

/// How long each phase took; zero for one that was not needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    pub dns: Duration,
    /// The tunnel through a proxy included.
    pub tcp: Duration,
    pub tls: Duration,
}

/// Why an upstream's connections cannot be set up: a matter of configuration.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    #[error(transparent)]
    Proxy(#[from] ProxySetupError),
}

/// Why there is no connection. No byte of a call has been sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{at}: the name does not resolve: {source}")]
    Dns { at: String, source: io::Error },
    #[error("{at}: at no public address")]
    NotPublic { at: String },
    #[error("{at}: connection refused")]
    Refused { at: String, source: io::Error },
    #[error("{at}: no connection within {} ms, it was waiting for {phase}", after.as_millis())]
    TimedOut { at: String, after: Duration, phase: Phase },
    #[error("{at}: TLS: {fault}: {source}")]
    Tls { at: String, fault: TlsFault, source: io::Error },
    #[error("{at}: the proxy {proxy} gives no tunnel: {source}")]
    Proxy { at: String, proxy: String, source: TunnelError },
    #[error("{at}: {source}")]
    Io { at: String, source: io::Error },
}

/// What a connection was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Dns,
    Tcp,
    Proxy,
    Tls,
    /// Another's attempt, whose connection would have served both.
    Turn,
}

/// What is wrong on the TLS layer, as far as a person would act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    Expired,
    NotYetValid,
    WrongName,
    /// The chain ends at no root that we trust.
    Untrusted,
    /// HTTP/2 is demanded and the backend did not agree to it.
    NoHttp2,
    Other,
}

impl Connector {
    /// Reads the files and the proxy variables; blocks for that long. `env` gives the value of
    /// an environment variable.
    pub fn new(
        upstream: &Upstream,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            dns: Dns::system(),
            tls: ClientTls::new(&upstream.tls, upstream.http2)?,
            proxy: Proxy::new(&upstream.proxy, env)?,
            http2: upstream.http2,
            timeout: upstream.pool.connect_timeout,
            only_public: false,
        })
    }

    /// The same with another resolver.
    #[must_use]
    pub fn with_dns(mut self, dns: Dns) -> Self {
        self.dns = dns;
        self
    }

    /// The same, but that only public addresses are dialled: what a name resolves to is judged, not
    /// the name. Without a proxy, which would resolve it anew.
    #[must_use]
    pub fn only_public(mut self) -> Self {
        self.only_public = true;
        self
    }

    fn deadline(&self, grace: Duration) -> Deadline {
        Deadline { at: Instant::now() + self.timeout + grace, after: self.timeout }
    }

    /// Waits for a turn to connect to `origin`, hardly longer than connecting itself may take.
    pub async fn turn<T>(
        &self,
        origin: &Origin,
        turn: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        let at = || match &origin.host {
            Host::Unix(path) => format!("unix:{}", path.display()),
            Host::Name(host) => format!("{host}:{}", origin.port),
        };
        self.deadline(GRACE).bound(Phase::Turn, &at, turn).await
    }

    /// Opens a connection to `origin`. Dropping the future ends every attempt.
    pub async fn connect(&self, origin: &Origin) -> Result<Connected, ConnectError> {
        let deadline = self.deadline(Duration::ZERO);
        match &origin.host {
            Host::Unix(path) => self.connect_unix(path, &deadline).await,
            Host::Name(host) => self.connect_tcp(host, origin.port, origin.tls, &deadline).await,
        }
    }

    async fn connect_unix(
        &self,
        path: &Path,
        deadline: &Deadline,
    ) -> Result<Connected, ConnectError> {
        let at = || format!("unix:{}", path.display());
        let start = Instant::now();
        let stream = deadline
            .bound(Phase::Tcp, &at, UnixStream::connect(path))
            .await?
            .map_err(|source| no_connection(at(), source))?;
        Ok(Connected {
            stream: Stream::Unix(stream),
            http2: self.http2 == Http2::Always,
            peer: None,
            timing: Timing { tcp: start.elapsed(), ..Timing::default() },
        })
    }

    async fn connect_tcp(
        &self,
        host: &str,
        port: u16,
        tls: bool,
        deadline: &Deadline,
    ) -> Result<Connected, ConnectError> {
        let at = || format!("{host}:{port}");
        let via = if tls { self.proxy.for_origin(host, port) } else { None };
        let (next, next_port) = via.map_or((host, port), |via| (&via.host, via.port));

        let start = Instant::now();
        let addresses = deadline
            .bound(Phase::Dns, &at, self.dns.lookup(next))
            .await?
            .map_err(|source| ConnectError::Dns { at: format!("{next}:{next_port}"), source })?;
        let resolved = Instant::now();
        let allowed = |ip: &IpAddr| !self.only_public || reach::is_public(*ip);
        let addresses: Vec<_> = addresses
            .into_iter()
            .filter(allowed)
            .map(|ip| SocketAddr::new(ip, next_port))
            .collect();
        if self.only_public && addresses.is_empty() {
            return Err(ConnectError::NotPublic { at: at() });
        }
        let (mut stream, peer) = deadline
            .bound(Phase::Tcp, &at, dial(&addresses))
            .await?
            .map_err(|source| no_connection(format!("{next}:{next_port}"), source))?;
        if let Some(via) = via {
            let proxy = || format!("{next}:{next_port}");
            deadline
                .bound(Phase::Proxy, &at, via.tunnel(&mut stream, host, port))
                .await?
                .map_err(|source| ConnectError::Proxy { at: at(), proxy: proxy(), source })?;
        }
        let open = Instant::now();
        let mut timing =
            Timing { dns: resolved - start, tcp: open - resolved, tls: Duration::ZERO };
        if !tls {
            let http2 = self.http2 == Http2::Always;
            return Ok(Connected { stream: Stream::Tcp(stream), http2, peer: Some(peer), timing });
        }
        // boxed: the handshake's state is large, and every caller would carry it
        let (stream, http2) = deadline
            .bound(Phase::Tls, &at, Box::pin(self.handshake(host, stream)))
            .await?
            .map_err(|source| ConnectError::Tls { at: at(), fault: fault(&source), source })?;
        timing.tls = open.elapsed();
        Ok(Connected { stream, http2, peer: Some(peer), timing })
    }

    async fn handshake(&self, host: &str, stream: TcpStream) -> io::Result<(Stream, bool)> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let config = self.tls.config().await.map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.http2 == Http2::Always && !http2 {
            return Err(io::Error::other(rustls::Error::NoApplicationProtocol));
        }
        Ok((Stream::ClientTls(Box::new(stream)), http2))
    }
}

/// The moment by which all phases must be over.
struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    async fn bound<T>(
        &self,
        phase: Phase,
        at: &impl Fn() -> String,
        work: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        timeout_at(self.at, work).await.map_err(|_| ConnectError::TimedOut {
            at: at(),
            after: self.after,
            phase,
        })
    }
}

fn no_connection(at: String, source: io::Error) -> ConnectError {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { at, source },
        _ => ConnectError::Io { at, source },
    }
}

fn fault(error: &io::Error) -> TlsFault {
    use CertificateError as Bad;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(bad)) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => TlsFault::Expired,
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => TlsFault::NotYetValid,
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => TlsFault::WrongName,
            Bad::UnknownIssuer | Bad::BadSignature => TlsFault::Untrusted,
            _ => TlsFault::Other,
        },
        Some(
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol),
        ) => TlsFault::NoHttp2,
        _ => TlsFault::Other,
    }
}

impl ConnectError {
    /// The reason as a metric label: one of a small closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::NotPublic { .. } => "not_public",
            Self::Refused { .. } => "refused",
            Self::TimedOut { .. } => "connect_timeout",
            Self::Tls { fault, .. } => match fault {
                TlsFault::Expired => "tls_expired",
                TlsFault::NotYetValid => "tls_not_yet_valid",
                TlsFault::WrongName => "tls_wrong_name",
                TlsFault::Untrusted => "tls_untrusted",
                TlsFault::NoHttp2 => "tls_no_http2",
                TlsFault::Other => "tls",
            },
            Self::Proxy { .. } => "proxy",
            Self::Io { .. } => "io",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "the name's addresses",
            Self::Tcp => "the TCP connection",
            Self::Proxy => "the proxy's tunnel",
            Self::Tls => "the TLS handshake",
            Self::Turn => "another call's attempt to connect",
        })
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::WrongName => "the certificate is for another name",
            Self::Untrusted => "the certificate's issuer is not trusted",
            Self::NoHttp2 => "the backend does not agree to HTTP/2",
            Self::Other => "the handshake failed",
        })
    }
}
