//! The header field by which a client names a request that it may send again.

use http::HeaderName;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Bytes of such a key. Arbitrary, several times a UUID.
pub(crate) const IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Whether a text can be such a key.
pub(crate) fn is_idempotency_key(text: &str) -> bool {
    (1..=IDEMPOTENCY_KEY_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
