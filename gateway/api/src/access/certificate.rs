//! Certificates of owners' hosts.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A certificate with its key.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCertificate {
    /// The chain as PEM: the certificate itself, then each that has signed the one before it. The root
    /// can be left out.
    pub chain: String,
    /// The private key as PEM: RSA of at least 2,048 bits, ECDSA over P-256 or P-384, or Ed25519. It is
    /// stored encrypted, and never shown.
    #[schema(write_only)]
    pub key: String,
}

/// Shows no key.
impl fmt::Debug for PutCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutCertificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// A stored certificate, without its key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// Its name.
    pub name: String,
    /// The hosts that it is for, from its subject alternative names. `*.` stands for one label.
    #[schema(example = json!(["www.example.com", "*.example.org"]))]
    pub hosts: Vec<String>,
    /// The SHA-256 of the first certificate of its chain.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub fingerprint: String,
    /// When it becomes valid (RFC 3339).
    #[schema(format = DateTime)]
    pub not_before: String,
    /// When it expires (RFC 3339).
    #[schema(format = DateTime)]
    pub not_after: String,
    /// When it was first stored (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last replaced (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A page of certificates.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificatesView {
    /// In the order of their names.
    pub certificates: Vec<CertificateView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}
