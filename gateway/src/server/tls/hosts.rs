//! Certificates of owners, by the names of the hosts that they are for.
//!
//! A handshake takes the certificate of the name that the client asks for (SNI): that of exactly this
//! name, then that of a wildcard over it, then the listener's own. The table is swapped as a whole, so
//! that a handshake sees one state, and connections that are open stay as they are.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use tokio_rustls::rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Tells certificates of owners apart. One that replaces another keeps its number.
pub(crate) type CertificateId = i64;

/// The certificates of owners, as handshakes see them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostCertificates(Arc<ArcSwap<HostTable>>);

/// The certificate of each name.
#[derive(Debug, Default)]
pub(crate) struct HostTable {
    exact: HashMap<Box<str>, HostCertificate>,
    /// By what follows the star and its dot.
    wildcards: HashMap<Box<str>, HostCertificate>,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct HostCertificate {
    pub(crate) id: CertificateId,
    pub(crate) key: Arc<CertifiedKey>,
}

impl HostCertificates {
    /// The table as it is now. Takes no lock.
    pub(crate) fn table(&self) -> Guard<Arc<HostTable>> {
        self.0.load()
    }

    /// Makes `table` the one that handshakes see from here on.
    pub(crate) fn replace(&self, table: HostTable) {
        self.0.store(Arc::new(table));
    }

    /// The owner's certificate that the name of a host has.
    pub(crate) fn of(&self, host: &str) -> Option<CertificateId> {
        self.table().find(host).map(|found| found.id)
    }
}

impl HostTable {
    /// Gives a name, which may be a wildcard, a certificate. Names are in lower case.
    pub(crate) fn insert(&mut self, host: &str, certificate: HostCertificate) {
        match host.strip_prefix("*.") {
            Some(parent) => self.wildcards.insert(parent.into(), certificate),
            None => self.exact.insert(host.into(), certificate),
        };
    }

    /// The certificate of a host. A wildcard stands for one label.
    pub(crate) fn find(&self, host: &str) -> Option<&HostCertificate> {
        if self.exact.is_empty() && self.wildcards.is_empty() {
            return None;
        }
        let lower;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        self.exact.get(host).or_else(|| {
            let (label, parent) = host.split_once('.')?;
            self.wildcards.get(parent).filter(|_| !label.is_empty())
        })
    }
}

/// Shows no key.
impl fmt::Debug for HostCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCertificate").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Chooses the certificate of a handshake.
#[derive(Debug)]
pub(super) struct ByName {
    /// The listener's own.
    pub(super) default: Arc<CertifiedKey>,
    pub(super) hosts: HostCertificates,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.hosts.table();
        let named = client.server_name().and_then(|name| table.find(name));
        Some(Arc::clone(named.map_or(&self.default, |found| &found.key)))
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::{crypto::ring, pki_types::PrivateKeyDer};

    use super::*;

    fn key() -> Arc<CertifiedKey> {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain = vec![made.cert.der().clone()];
        Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider()).unwrap())
    }

    /// Case K03.
    #[test]
    fn an_exact_name_comes_before_a_wildcard_over_one_label() {
        let hosts = HostCertificates::default();
        assert_eq!(hosts.of("a.example"), None);
        let (key, mut table) = (key(), HostTable::default());
        for (id, host) in [(1, "a.example.com"), (2, "*.example.com"), (3, "example.com")] {
            table.insert(host, HostCertificate { id, key: Arc::clone(&key) });
        }
        hosts.replace(table);
        for (host, expected) in [
            ("a.example.com", Some(1)),
            ("A.Example.COM", Some(1)),
            ("a.example.com.", Some(1)),
            ("b.example.com", Some(2)),
            ("example.com", Some(3)),
            ("b.a.example.com", None),
            (".example.com", None),
            ("*.example.com", Some(2)),
            ("com", None),
            ("", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(hosts.of(host), expected, "{host}");
        }
        let shown = format!("{:?}", *hosts.table());
        assert!(!shown.to_lowercase().contains("private"), "{shown}");
    }
}
