//! TLS of a listener: its certificate and key come from files, and can be replaced at run time.

pub(crate) mod accept;
pub(crate) mod handshakes;
pub(crate) mod hosts;

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use rustix::process::geteuid;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        sign::CertifiedKey,
    },
};

use self::hosts::{ByName, CertificateId, HostCertificates};
use crate::config::TlsFiles;

/// The supported protocols, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// The name of HTTP/2 in a handshake.
const HTTP2: &[u8] = b"h2";

/// Makes handshakes with the certificate in the files.
pub(crate) struct Tls {
    files: TlsFiles,
    /// The certificates that owners have uploaded.
    hosts: HostCertificates,
    current: ArcSwap<ServerConfig>,
    /// The stamps of the files at the last check.
    checked: Mutex<[FileStamp; 2]>,
}

/// The modification time and the length of a file; `None` if there is no file. It changes when the
/// file is replaced.
type FileStamp = Option<(SystemTime, u64)>;

/// A private key that other users of the machine could read or change.
#[derive(Debug, thiserror::Error)]
#[error(
    "other users can read or change the private key {path} (owner {owner}, mode {mode:04o}): \
     chown {us} {path}; chmod u=rw,g=r,o= {path}",
    path = path.display()
)]
pub(crate) struct ExposedKey {
    path: PathBuf,
    owner: u32,
    mode: u32,
    us: u32,
}

impl ExposedKey {
    /// Members of its group may read a key: packages keep such a group, and an orchestrator gives
    /// a process its files through one.
    fn check(path: &Path) -> anyhow::Result<()> {
        let us = geteuid().as_raw();
        let exposed =
            |key: &Metadata| key.mode() & 0o027 != 0 || (key.uid() != 0 && key.uid() != us);
        match fs::metadata(path) {
            Ok(key) if exposed(&key) => {
                let (owner, mode) = (key.uid(), key.mode() & 0o7777);
                Err(Self { path: path.to_owned(), owner, mode, us }.into())
            }
            // A missing file is reported by its reader.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl TlsFiles {
    fn stamps(&self) -> [FileStamp; 2] {
        let stamp = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        [stamp(&self.cert), stamp(&self.key)]
    }

    fn read(&self, hosts: &HostCertificates) -> anyhow::Result<ServerConfig> {
        let name = |path: &Path| path.display().to_string();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect)
            .with_context(|| format!("reading the certificate {}", name(&self.cert)))?;
        ensure!(!chain.is_empty(), "there is no certificate in {}", name(&self.cert));
        ExposedKey::check(&self.key)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("reading the private key {}", name(&self.key)))?;
        let provider = ring::default_provider();
        let default = CertifiedKey::from_der(chain, key, &provider).with_context(|| {
            format!("using {} with the key {}", name(&self.cert), name(&self.key))
        })?;
        let by_name = ByName { default: Arc::new(default), hosts: hosts.clone() };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

impl Tls {
    /// Takes the certificate of `hosts` for the names that have one there.
    pub(crate) fn load(files: TlsFiles, hosts: HostCertificates) -> anyhow::Result<Self> {
        // Stamps first: files that change between the two lines are read again.
        let checked = Mutex::new(files.stamps());
        let current = ArcSwap::from_pointee(files.read(&hosts)?);
        Ok(Self { files, hosts, current, checked })
    }

    /// The acceptor for the next handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.load_full().into()
    }

    /// The owner's certificate of the host that a client has named in its handshake.
    pub(crate) fn certificate_of(&self, host: Option<&str>) -> Option<CertificateId> {
        self.hosts.of(host?)
    }

    /// Whether the files have changed since the last call.
    pub(crate) fn has_changed(&self) -> bool {
        let now = self.files.stamps();
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *checked, now) != now
    }

    /// Reads the files again. On an error the current certificate stays.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.current.store(Arc::new(self.files.read(&self.hosts)?));
        Ok(())
    }
}

/// How often the files are checked.
pub(crate) const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
