//! TLS of the listening side: one certificate, renewable while it serves.
//!
//! The whole `rustls::ServerConfig` sits behind one atomic pointer. `reload` makes a new one from
//! the same files and swaps it in; a handshake that is under way keeps the one it began with. A
//! new configuration starts with an empty session store, so that nobody resumes past a changed
//! client CA. Files that cannot be used change nothing.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::config::ListenTls;
use crate::io::Stream;
use crate::io::pem::{self, TlsSetupError};

pub mod validity;

/// From the connection's first byte to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The server's side of TLS for one listener. Share it behind an `Arc`.
pub struct ServerTls {
    settings: ListenTls,
    protocols: Vec<Vec<u8>>,
    current: ArcSwap<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    not_after: Option<SystemTime>,
}

impl ServerTls {
    /// Reads the files that `settings` names. Blocks.
    pub fn new(settings: &ListenTls) -> Result<Self, TlsSetupError> {
        Self::speaking(settings, &[b"h2", b"http/1.1"])
    }

    /// The same for a door that speaks no HTTP/2.
    pub fn without_http2(settings: &ListenTls) -> Result<Self, TlsSetupError> {
        Self::speaking(settings, &[b"http/1.1"])
    }

    fn speaking(settings: &ListenTls, protocols: &[&[u8]]) -> Result<Self, TlsSetupError> {
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        let current = ArcSwap::from_pointee(Current::read(settings, &protocols)?);
        Ok(Self { settings: settings.clone(), protocols, current })
    }

    /// Reads the files again; an error leaves everything as it was. Blocks.
    pub fn reload(&self) -> Result<(), TlsSetupError> {
        self.current.store(Arc::new(Current::read(&self.settings, &self.protocols)?));
        Ok(())
    }

    /// When the leaf certificate in use ends. `None` if its dates cannot be read.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.current.load().not_after
    }

    /// The files whose change asks for a `reload`.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let ListenTls { cert, key, client_ca, .. } = &self.settings;
        [Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Shakes hands. `TimedOut` after 10 s: a client that sends nothing holds no place for long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().config));
        let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
        Ok(Stream::ServerTls(Box::new(stream)))
    }
}

impl Current {
    fn read(settings: &ListenTls, protocols: &[Vec<u8>]) -> Result<Self, TlsSetupError> {
        let identity = pem::identity(&settings.cert, &settings.key)?;
        let not_after = identity.cert.first().and_then(|leaf| validity::not_after(leaf));
        let builder = ServerConfig::builder_with_provider(pem::provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = pem::authorities(ca)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, pem::provider());
                let verifier = if settings.client_required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                let verifier = verifier
                    .build()
                    .map_err(|source| TlsSetupError::Verifier { path: ca.clone(), source })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = protocols.to_vec();
        Ok(Self { config: Arc::new(config), not_after })
    }
}
