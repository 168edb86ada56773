//! TLS towards backends: whom to trust, what to show, which protocols to offer.
//!
//! Roots: a private CA replaces all others; without one the system's store, read once for the
//! whole process and only when a first TLS connection needs it, and Mozilla's list where the
//! system has none (an image from scratch). Nothing turns verification off.
use std::sync::{Arc, OnceLock};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;
use tokio::sync::OnceCell;

use crate::config::{Http2, UpstreamTls};
use crate::io::pem::{self, TlsSetupError};

/// The client's side of TLS for one upstream.
pub struct ClientTls {
    /// `None`: the system's roots.
    authorities: Option<Arc<RootCertStore>>,
    identity: Option<Arc<SingleCertAndKey>>,
    alpn: Vec<Vec<u8>>,
    /// Made at the first use: most roots are never needed, and they cost start time and memory.
    ready: OnceCell<Arc<ClientConfig>>,
}

impl ClientTls {
    /// Reads the files that `settings` names, and checks all that can be checked. Blocks.
    pub fn new(settings: &UpstreamTls, http2: Http2) -> Result<Self, TlsSetupError> {
        let authorities = settings.ca.as_deref().map(pem::authorities).transpose()?;
        let identity = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => Some(pem::identity(cert, key)?),
            (None, None) => None,
            _ => return Err(TlsSetupError::HalfPair),
        };
        let alpn: &[&[u8]] = match http2 {
            Http2::Auto => &[b"h2", b"http/1.1"],
            Http2::Never => &[b"http/1.1"],
            Http2::Always => &[b"h2"],
        };
        Ok(Self {
            authorities,
            identity: identity.map(|pair| Arc::new(pair.into())),
            alpn: alpn.iter().map(|name| name.to_vec()).collect(),
            ready: OnceCell::new(),
        })
    }

    /// The configuration for a connection. Only the first call can wait: for the system's roots.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let make = || async {
            let roots = match &self.authorities {
                Some(roots) => Arc::clone(roots),
                None => tokio::task::spawn_blocking(system_roots)
                    .await
                    .map_err(|_| rustls::Error::General("the runtime is ending".into()))?,
            };
            self.build(roots).map(Arc::new)
        };
        self.ready.get_or_try_init(make).await.cloned()
    }

    fn build(&self, roots: Arc<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
        let provider = pem::provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let wants_identity = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_webpki_verifier(verifier);
        let mut config = match &self.identity {
            Some(pair) => wants_identity.with_client_cert_resolver(Arc::clone(pair) as _),
            None => wants_identity.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(64);
        Ok(config)
    }
}

/// The roots of this machine, or Mozilla's. Blocks at its first call, for some ten milliseconds.
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| Arc::new(usable(rustls_native_certs::load_native_certs()))))
}

fn usable(found: CertificateResult) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for error in &found.errors {
        tracing::warn!(%error, "a part of the system's certificate store cannot be read");
    }
    // stores of systems carry a few certificates that no verifier takes; they are passed over
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        tracing::info!("no certificate store on this system: Mozilla's roots are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_comes_first_and_mozilla_fills_in() {
        let mut found = CertificateResult::default();
        assert_eq!(usable(found).len(), webpki_roots::TLS_SERVER_ROOTS.len());

        let own = rcgen::generate_simple_self_signed(vec!["ca.test".into()]).unwrap();
        found = CertificateResult::default();
        found.certs = vec![own.cert.der().clone(), b"not a certificate".to_vec().into()];
        assert_eq!(usable(found).len(), 1);
    }
}
