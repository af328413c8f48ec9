//! TLS for listeners and for the way upstream: files in, rustls' settings out.
//!
//! Owns the reading of certificates, keys and certificate authorities, the words for what is wrong with them, and which
//! of a listener's are in force: they can be read anew while the hub serves. It never opens a socket, and never decides
//! who may do what.

pub mod certificate;
mod client;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};

use crate::clock::now_ms;
use crate::reload::{Reload, Reloaded};

pub use self::client::client;

/// Largest file that is read, bytes: a bundle of all public authorities has a fifth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The listener's certificate, and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of clients' certificates, PEM; where given, every client must show one.
    pub client_ca: Option<PathBuf>,
}

/// Which of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The hub's certificate, such as [`Files::certificate`].
    Certificate,
    /// Its key, such as [`Files::key`].
    Key,
    /// The authorities that the peer's certificate may come from, such as [`Files::client_ca`].
    Authorities,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// It is too large to be what it should be.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It does not hold what it should.
    #[error("{path} holds no {wanted} in PEM form")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// It holds something that cannot be used.
    #[error("{path} holds a {what} that cannot be used: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// Why it cannot be used.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "the system has no trusted certificate authorities ({reason}); install them (Debian: ca-certificates), or name \
         the file of the upstream's"
    )]
    NoneTrusted {
        /// What was found instead.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("{key} is not the key of the certificate in {certificate}")]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

/// Everything that is wrong, each with the file that it is about.
pub type Faults = Vec<(Role, TlsError)>;

/// The certificates of one listener, as last read.
pub struct Certificates {
    listener: String,
    files: Files,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files; returns warnings with it.
    ///
    /// # Errors
    /// [`Faults`].
    pub fn read(listener: &str, files: Files) -> Result<(Certificates, Vec<String>), Faults> {
        let (settings, warnings) = read(&files)?;
        Ok((Certificates { listener: listener.to_owned(), files, current: RwLock::new(settings) }, warnings))
    }

    /// Returns the files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Returns what new handshakes use.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reload for Certificates {
    fn reload(&self) -> Result<Reloaded, String> {
        match read(&self.files) {
            Ok((settings, warnings)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = settings;
                Ok(Reloaded { what: format!("the certificates of listener {:?}", self.listener), warnings })
            }
            Err(faults) => {
                let faults: Vec<String> = faults.iter().map(|(_, error)| error.to_string()).collect();
                Err(format!(
                    "the certificates of listener {:?} were not read anew: {}",
                    self.listener,
                    faults.join("; ")
                ))
            }
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("listener", &self.listener).field("files", &self.files).finish()
    }
}

/// Returns the common name of a peer's certificate, which rustls has verified.
pub fn identity(chain: Option<&[CertificateDer<'_>]>) -> Option<String> {
    certificate::read(chain?.first()?)?.common_name
}

fn read(files: &Files) -> Result<(Arc<ServerConfig>, Vec<String>), Faults> {
    let mut faults = Vec::new();
    let note = |role| move |error| (role, error);
    let chain = chain(&files.certificate).map_err(note(Role::Certificate)).map_err(|fault| faults.push(fault)).ok();
    let key = key(&files.key).map_err(note(Role::Key)).map_err(|fault| faults.push(fault)).ok();
    let authorities = match &files.client_ca {
        None => Some(None),
        Some(path) => {
            let read = authorities(path).map_err(note(Role::Authorities));
            read.map(Some).map_err(|fault| faults.push(fault)).ok()
        }
    };
    let (Some(chain), Some(key), Some(authorities)) = (chain, key, authorities) else {
        return Err(faults);
    };
    let warnings = out_of_time(&files.certificate, &chain);
    let settings = settings(files, chain, key, authorities).map_err(|fault| vec![fault])?;
    Ok((Arc::new(settings), warnings))
}

/// Brings the parts together for TLS 1.2 and 1.3.
fn settings(
    files: &Files,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Option<RootCertStore>,
) -> Result<ServerConfig, (Role, TlsError)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(Role::Key, &files.key, "private key", &error))?;
    let builder = match (authorities, &files.client_ca) {
        (Some(authorities), Some(path)) => {
            let verifier = verifier(authorities, provider)
                .map_err(|error| unusable(Role::Authorities, path, "certificate authority", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(|error| misfit(&error, &files.certificate, &files.key))
}

/// Says which file is at fault where a certificate and its key are not taken.
fn misfit(error: &rustls::Error, certificate: &Path, key: &Path) -> (Role, TlsError) {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            (Role::Key, TlsError::Mismatch { key: key.to_owned(), certificate: certificate.to_owned() })
        }
        rustls::Error::InvalidCertificate(_) => unusable(Role::Certificate, certificate, "certificate", error),
        _ => unusable(Role::Key, key, "private key", error),
    }
}

fn unusable(role: Role, path: &Path, what: &'static str, error: &dyn std::fmt::Display) -> (Role, TlsError) {
    (role, TlsError::Unusable { path: path.to_owned(), what, reason: error.to_string() })
}

fn verifier(
    authorities: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, rustls::server::VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider).build()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&file(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(path, "certificate", &error))?;
    match chain.first() {
        None => Err(TlsError::Empty { path: path.to_owned(), wanted: "certificate" }),
        Some(first) if certificate::read(first).is_none() => Err(TlsError::Unusable {
            path: path.to_owned(),
            what: "certificate",
            reason: "it is no X.509 certificate".to_owned(),
        }),
        Some(_) => Ok(chain),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&file(path)?).map_err(|error| not_pem(path, "private key without a password", &error))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in chain(path)? {
        store.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            what: "certificate authority",
            reason: error.to_string(),
        })?;
    }
    Ok(store)
}

/// Says that a file is no PEM; its bytes, which may be secret, are left out.
fn not_pem(path: &Path, wanted: &'static str, error: &pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::NoItemsFound => TlsError::Empty { path, wanted },
        _ => TlsError::Unusable { path, what: wanted, reason: "its PEM form is broken".to_owned() },
    }
}

fn file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => Err(TlsError::TooLarge { path: path.to_owned() }),
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(TlsError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Says where the certificates in a file are out of their time; nothing where it cannot be read.
pub fn warnings(path: &Path) -> Vec<String> {
    chain(path).map(|chain| out_of_time(path, &chain)).unwrap_or_default()
}

/// Says where a certificate's time is over, or not come: no error, as a machine without a battery wakes up with a clock
/// that is wrong.
fn out_of_time(path: &Path, chain: &[CertificateDer]) -> Vec<String> {
    let now_s = now_ms() / 1000;
    let path = path.display();
    let of = |der: &CertificateDer| {
        let facts = certificate::read(der)?;
        let day = |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
        if facts.not_after_s < now_s {
            return Some(format!("{path} holds a certificate that expired on {}", day(facts.not_after_s)));
        }
        (facts.not_before_s > now_s)
            .then(|| format!("{path} holds a certificate that is valid only from {} on", day(facts.not_before_s)))
    };
    chain.iter().filter_map(of).collect()
}
