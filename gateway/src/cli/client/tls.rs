//! TLS to a gateway, and the certificate authorities that are trusted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::TcpStream;
use tokio_rustls::{
    Connect, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::cli::failure::Failure;

/// The certificate authorities that are trusted.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Those that this machine trusts.
    System,
    /// Only those in a file.
    File(PathBuf),
}

impl Trust {
    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                // Without any readable certificate, the handshake fails and reports it.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::File(path) => {
                for certificate in read(path)? {
                    roots.add(certificate).map_err(|error| unusable(path, &error))?;
                }
            }
        }
        Ok(roots)
    }

    /// Begins the handshake, which verifies that the certificate is for `host`.
    pub(crate) fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<Connect<TcpStream>, Failure> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Failure::usage(format!("`{host}` is not a host name that a certificate can have"))
        })?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::failed(format!("preparing TLS: {error}")))?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream))
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("reading {} (--ca-file): {error}", path.display()))
}
