//! What the head of an upload says: its digest, its settings, its condition, its name.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use store::Digest;

use super::{Condition, Error};
use crate::functions::name::FunctionName;

/// Settings for a new revision, as a JSON merge patch on those of the active one.
const SETTINGS_HEADER: &str = "mayfly-settings";
/// What the client calls an upload, so that it may send it once more.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes of such a name. Arbitrary, several times a UUID.
const IDEMPOTENCY_KEY_BYTES: usize = 255;

/// What the request's head says about an upload.
pub(crate) struct UploadHead {
    pub(crate) bytes: Option<u64>,
    pub(crate) digest: Option<Digest>,
    pub(crate) settings: Option<Value>,
    pub(crate) condition: Condition,
    pub(crate) idempotency: Option<Idempotency>,
}

/// What the client calls this upload, and what all but its bytes come to.
#[derive(Clone, Debug)]
pub(crate) struct Idempotency {
    pub(crate) key: String,
    hasher: Sha256,
}

impl UploadHead {
    /// Everything that can be refused before the first byte of the body is read.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Error> {
        if let Some(kind) = headers.get(header::CONTENT_TYPE) {
            let kind = kind.to_str().map_err(|_| Error::ContentType)?;
            let essence = kind.split(';').next().unwrap_or_default().trim();
            // What curl says when it is told nothing.
            let unsaid = ["application/x-www-form-urlencoded", "application/octet-stream"];
            if essence != "application/wasm" && !unsaid.contains(&essence) {
                return Err(Error::ContentType);
            }
        }
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|value| value != "identity") {
            return Err(Error::ContentEncoding);
        }
        let digest = headers
            .get("repr-digest")
            .map(|value| value.to_str().ok().and_then(repr_digest).ok_or(Error::BadDigest))
            .transpose()?
            .flatten();
        let settings = headers
            .get(SETTINGS_HEADER)
            .map(|value| {
                serde_json::from_slice(value.as_bytes())
                    .map_err(|error| Error::Settings(format!("{SETTINGS_HEADER}: {error}")))
            })
            .transpose()?;
        let bytes =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let condition = Condition::parse(headers);
        let idempotency = headers.get(IDEMPOTENCY_KEY).map(|key| Idempotency::new(key, headers));
        Ok(Self { bytes, digest, settings, condition, idempotency: idempotency.transpose()? })
    }
}

impl Idempotency {
    fn new(key: &HeaderValue, headers: &HeaderMap) -> Result<Self, Error> {
        let key = key.to_str().map_err(|_| Error::BadIdempotencyKey)?;
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES {
            return Err(Error::BadIdempotencyKey);
        }
        let mut hasher = Sha256::new();
        for name in [SETTINGS_HEADER, header::IF_MATCH.as_str(), header::IF_NONE_MATCH.as_str()] {
            for value in headers.get_all(name) {
                hash(&mut hasher, name.as_bytes());
                hash(&mut hasher, value.as_bytes());
            }
        }
        Ok(Self { key: key.to_owned(), hasher })
    }

    /// Tells this upload from another one under the same name.
    pub(crate) fn fingerprint(&self, function: &FunctionName, digest: &Digest) -> [u8; 32] {
        let mut hasher = self.hasher.clone();
        hash(&mut hasher, function.as_str().as_bytes());
        hash(&mut hasher, digest.as_bytes());
        hasher.finalize().into()
    }
}

/// With its length, so that two parts cannot be taken for two others.
fn hash(hasher: &mut Sha256, part: &[u8]) {
    hasher.update((part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// The SHA-256 in a `repr-digest` header (RFC 9530): `Some(None)` when it names only others.
fn repr_digest(value: &str) -> Option<Option<Digest>> {
    for member in value.split(',') {
        let (algorithm, digest) = member.split_once('=')?;
        if algorithm.trim().eq_ignore_ascii_case("sha-256") {
            let digest = digest.trim().strip_prefix(':')?.strip_suffix(':')?;
            let bytes = BASE64_STANDARD.decode(digest).ok()?;
            return Some(Some(Digest::from_bytes(bytes.try_into().ok()?)));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_among_others() {
        let digest = Digest::of(b"x");
        let text = BASE64_STANDARD.encode(digest.as_bytes());
        assert_eq!(repr_digest(&format!("sha-256=:{text}:")), Some(Some(digest)));
        assert_eq!(repr_digest(&format!("md5=:eA==:, SHA-256=:{text}:")), Some(Some(digest)));
        assert_eq!(repr_digest("sha-512=:eA==:"), Some(None));
        for broken in ["", "sha-256", "sha-256=abc", "sha-256=:!:", "sha-256=:eA==:"] {
            assert_eq!(repr_digest(broken), None, "{broken}");
        }
    }

    #[test]
    fn an_upload_must_look_like_wasm_or_like_nothing_in_particular() {
        let head = |kind: &'static str| {
            UploadHead::parse(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static(kind),
            )]))
        };
        assert!(head("application/wasm").is_ok());
        assert!(head("application/x-www-form-urlencoded").is_ok());
        assert!(matches!(head("multipart/form-data; boundary=x"), Err(Error::ContentType)));
        assert!(UploadHead::parse(&HeaderMap::new()).is_ok());
    }
}
