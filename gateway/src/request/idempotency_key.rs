//! The header field by which a client names a request that it may send again.

use http::HeaderName;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Bytes of such a key. Arbitrary, several times a UUID.
pub(crate) const IDEMPOTENCY_KEY_BYTES: usize = 255;
