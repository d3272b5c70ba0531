//! TLS of a listener: a certificate and a key from files, replaced while connections go on.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::config::TlsFiles;

/// What is spoken, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// HTTP/2 in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Shows handshakes the certificate that is in the files.
pub(crate) struct Tls {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
    /// How the files were when they were last looked at.
    seen: Mutex<Stamps>,
}

/// What tells a file from the one that was there before, or nothing if there is none.
type Stamp = Option<(SystemTime, u64)>;
type Stamps = [Stamp; 2];

impl TlsFiles {
    fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        [stamp(&self.cert), stamp(&self.key)]
    }

    fn read(&self) -> anyhow::Result<ServerConfig> {
        let name = |path: &Path| path.display().to_string();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect)
            .with_context(|| format!("reading the certificate {}", name(&self.cert)))?;
        ensure!(!chain.is_empty(), "there is no certificate in {}", name(&self.cert));
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("reading the private key {}", name(&self.key)))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| {
                format!("using {} with the key {}", name(&self.cert), name(&self.key))
            })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

impl Tls {
    pub(crate) fn load(files: TlsFiles) -> anyhow::Result<Self> {
        // Looked at before they are read: what changes in between is read once more.
        let seen = Mutex::new(files.stamps());
        let current = ArcSwap::from_pointee(files.read()?);
        Ok(Self { files, current, seen })
    }

    /// What the next handshake is made with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.load_full().into()
    }

    /// Whether the files have changed since the last time that this was asked.
    pub(crate) fn has_changed(&self) -> bool {
        let now = self.files.stamps();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seen, now) != now
    }

    /// Reads the files again. If something is wrong with them, all stays as it was.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.current.store(Arc::new(self.files.read()?));
        Ok(())
    }
}

/// How often files are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(2);
