//! Certificates and keys from PEM files, for both sides of TLS, and the one crypto provider.
//!
//! Errors name the file and what was looked for in it; key bytes never reach them. The provider
//! is always passed on by hand: the process default of rustls panics when two crates of a build
//! bring one each. Reading blocks: call it at start, or on the blocking pool.
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Why a certificate, a key or a CA cannot be used.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    #[error("{}: the {what} cannot be read: {source}", path.display())]
    Read { path: PathBuf, what: &'static str, source: pem::Error },
    #[error("{}: no {what} in this file (expected PEM)", path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error(
        "{}: no private key in this file (expected PKCS#8, PKCS#1 or SEC1 in PEM, not encrypted)",
        path.display()
    )]
    NoKey { path: PathBuf },
    #[error("{} does not belong to the certificate {}", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("{}: the {what} cannot be used: {source}", path.display())]
    Unusable { path: PathBuf, what: &'static str, source: rustls::Error },
    #[error("{}: client certificates cannot be verified with it: {source}", path.display())]
    Verifier { path: PathBuf, source: rustls::server::VerifierBuilderError },
    #[error("a client certificate needs both `cert` and `key`")]
    HalfPair,
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The crypto provider of this program: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// All certificates of a file, in its order; at least one.
pub fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsSetupError::Read { path: path.to_owned(), what, source })?;
    if found.is_empty() {
        return Err(TlsSetupError::Empty { path: path.to_owned(), what });
    }
    Ok(found)
}

/// A certificate chain, leaf first, with its key; they are checked to belong together.
pub fn identity(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsSetupError> {
    let chain = certificates(cert, "certificate")?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsSetupError::NoKey { path: key.to_owned() },
        source => TlsSetupError::Read { path: key.to_owned(), what: "private key", source },
    })?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|source| match source {
        rustls::Error::InconsistentKeys(_) => {
            TlsSetupError::Mismatch { cert: cert.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(_) => {
            TlsSetupError::Unusable { path: cert.to_owned(), what: "certificate", source }
        }
        source => TlsSetupError::Unusable { path: key.to_owned(), what: "private key", source },
    })
}

/// The CAs of a file. One that cannot be used is an error here, unlike in the system's store:
/// somebody chose this file.
pub fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path, "CA certificate")? {
        roots.add(cert).map_err(|source| TlsSetupError::Unusable {
            path: path.to_owned(),
            what: "CA certificate",
            source,
        })?;
    }
    Ok(Arc::new(roots))
}
