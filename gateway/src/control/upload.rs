//! The head of an upload in HTTP's form.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use store::{Digest, Release};
use utoipa::IntoParams;

use crate::{
    control::preconditions,
    functions::{
        deploy::{
            change_condition::ChangeCondition,
            releases,
            upload::{Actor, IdempotencyKey, Upload},
        },
        qualified_name::QualifiedName,
    },
    request::{
        idempotency_key::{IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_BYTES},
        limited_body::declared_length,
    },
};

/// Settings for a new revision, as a JSON merge patch on those of the active one.
const SETTINGS_HEADER: &str = "mayfly-settings";
/// The semantic version of a new revision.
const VERSION_HEADER: &str = "mayfly-version";
/// The labels of a new revision, as a JSON object of strings.
const LABELS_HEADER: &str = "mayfly-labels";

/// The header fields of an upload, for the API's description.
#[expect(dead_code, reason = "`UploadHead` reads them itself, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct UploadFields {
    /// `sha-256=:<base64>:` (RFC 9530): the upload is refused if its bytes have another digest.
    #[param(rename = "repr-digest", value_type = String, required = false)]
    repr_digest: (),
    /// A JSON merge patch on the settings of the active revision.
    #[param(rename = "mayfly-settings", value_type = String, required = false)]
    settings: (),
    /// The semantic version of the new revision, such as `1.2.3`. Another artifact of the function
    /// cannot have the same.
    #[param(rename = "mayfly-version", value_type = String, required = false)]
    version: (),
    /// Labels of the new revision: a JSON object of strings, such as `{"commit": "4be1f0c"}`.
    #[param(rename = "mayfly-labels", value_type = String, required = false)]
    labels: (),
    /// The upload is refused unless the function's etag is one of these; `*`: unless the function
    /// exists.
    #[param(rename = "if-match", value_type = String, required = false)]
    if_match: (),
    /// `*`: the upload is refused if the function exists.
    #[param(rename = "if-none-match", value_type = String, required = false)]
    if_none_match: (),
    /// 1 to 255 characters that identify this upload: a repetition within a day gets the same
    /// answer.
    #[param(
        rename = "idempotency-key",
        value_type = String,
        required = false,
        pattern = "^[!-~]{1,255}$"
    )]
    idempotency_key: (),
}

/// Why the head of an upload was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadHeadError {
    #[error("the content-type is not that of wasm")]
    ContentType,
    #[error("the upload has a content-encoding")]
    ContentEncoding,
    #[error("the repr-digest cannot be read")]
    Digest,
    #[error("{SETTINGS_HEADER}: {0}")]
    Settings(#[from] serde_json::Error),
    #[error("{0}")]
    Release(String),
    #[error("the idempotency-key cannot be used")]
    IdempotencyKey,
}

/// The head of an upload.
pub(crate) struct UploadHead {
    length: Option<u64>,
    digest: Option<Digest>,
    settings: Option<Value>,
    release: Release,
    precondition: ChangeCondition,
    idempotency: Option<IdempotencyKey>,
}

impl UploadHead {
    /// Checks everything that can be refused before the first byte of the body is read.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, UploadHeadError> {
        check_encoding(headers)?;
        let digest = headers
            .get("repr-digest")
            .map(|value| value.to_str().ok().and_then(repr_digest).ok_or(UploadHeadError::Digest))
            .transpose()?
            .flatten();
        let settings = headers
            .get(SETTINGS_HEADER)
            .map(|value| serde_json::from_slice(value.as_bytes()))
            .transpose()?;
        let length = declared_length(headers);
        let precondition = preconditions::parse(headers);
        let idempotency = headers.get(IDEMPOTENCY_KEY).map(|key| idempotency_key(key, headers));
        let idempotency = idempotency.transpose()?;
        let release = release(headers)?;
        Ok(Self { length, digest, settings, release, precondition, idempotency })
    }

    /// The upload that has this head, of this function, sent by this actor.
    pub(crate) fn of(self, function: QualifiedName, actor: Actor) -> Upload {
        let Self { length, digest, settings, release, precondition, idempotency } = self;
        Upload { function, actor, release, settings, precondition, idempotency, digest, length }
    }
}

/// Refuses a body that is not sent as wasm.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), UploadHeadError> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = kind.to_str().map_err(|_| UploadHeadError::ContentType)?;
        let essence = kind.split(';').next().unwrap_or_default().trim();
        // The last of these is what curl sends by default.
        let accepted =
            ["application/wasm", "application/octet-stream", "application/x-www-form-urlencoded"];
        if !accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(essence)) {
            return Err(UploadHeadError::ContentType);
        }
    }
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(is_identity) { Ok(()) } else { Err(UploadHeadError::ContentEncoding) }
}

/// Whether the codings in this line change nothing.
fn is_identity(codings: &HeaderValue) -> bool {
    codings.to_str().is_ok_and(|codings| {
        let mut codings = codings.split(',').map(str::trim);
        codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
    })
}

fn idempotency_key(
    key: &HeaderValue,
    headers: &HeaderMap,
) -> Result<IdempotencyKey, UploadHeadError> {
    let text = key.to_str().map_err(|_| UploadHeadError::IdempotencyKey)?;
    if text.is_empty() || text.len() > IDEMPOTENCY_KEY_BYTES {
        return Err(UploadHeadError::IdempotencyKey);
    }
    let mut parameters = Vec::new();
    let names = [SETTINGS_HEADER, VERSION_HEADER, LABELS_HEADER];
    for name in names.into_iter().chain([header::IF_MATCH.as_str(), header::IF_NONE_MATCH.as_str()])
    {
        for value in headers.get_all(name) {
            for part in [name.as_bytes(), value.as_bytes()] {
                // With its length, so that no two lists of headers have the same bytes.
                parameters.extend((part.len() as u64).to_le_bytes());
                parameters.extend(part);
            }
        }
    }
    Ok(IdempotencyKey { text: text.to_owned(), parameters })
}

/// What the head says of the new revision.
fn release(headers: &HeaderMap) -> Result<Release, UploadHeadError> {
    let semver = headers.get(VERSION_HEADER).map(|value| {
        let version = value.to_str().map_err(|_| "it is not ASCII".to_owned())?;
        releases::version(version)
    });
    let semver = semver.transpose().map_err(|wrong| format!("{VERSION_HEADER}: {wrong}"));
    let labels = headers.get(LABELS_HEADER).map(|value| {
        let labels = serde_json::from_slice(value.as_bytes()).map_err(|wrong| wrong.to_string())?;
        releases::check_labels(&labels)?;
        Ok::<_, String>(labels)
    });
    let labels = labels.transpose().map_err(|wrong| format!("{LABELS_HEADER}: {wrong}"));
    let (semver, labels) =
        semver.and_then(|semver| Ok((semver, labels?))).map_err(UploadHeadError::Release)?;
    Ok(Release { semver, labels: labels.unwrap_or_default() })
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
        assert!(head("Application/WASM").is_ok());
        assert!(head("APPLICATION/Octet-Stream ; x=Y").is_ok());
        assert!(matches!(
            head("multipart/form-data; boundary=x"),
            Err(UploadHeadError::ContentType)
        ));
        assert!(UploadHead::parse(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn an_upload_has_no_coding() {
        let head = |codings: &[&'static str]| {
            let codings = codings.iter().map(|coding| HeaderValue::from_static(coding));
            let headers = codings.map(|coding| (header::CONTENT_ENCODING, coding));
            UploadHead::parse(&headers.collect())
        };
        for none in [&["identity"][..], &["Identity"], &["IDENTITY, identity"], &[""], &[]] {
            assert!(head(none).is_ok(), "{none:?}");
        }
        for coded in [&["gzip"][..], &["GZip"], &["identity, br"], &["identity", "gzip"]] {
            let refused = head(coded);
            assert!(matches!(refused, Err(UploadHeadError::ContentEncoding)), "{coded:?}");
        }
    }

    /// Keys are remembered for a day: a fingerprint that changes with the version of the gateway
    /// would refuse repetitions of uploads that the version before has answered.
    #[test]
    fn the_fingerprint_of_an_upload_stays_the_same_between_versions() {
        use sha2::{Digest as _, Sha256};
        let headers = HeaderMap::from_iter([
            (IDEMPOTENCY_KEY, HeaderValue::from_static("k")),
            (header::HeaderName::from_static(SETTINGS_HEADER), HeaderValue::from_static("{}")),
            (header::IF_NONE_MATCH, HeaderValue::from_static("*")),
        ]);
        let key = UploadHead::parse(&headers).unwrap().idempotency.unwrap();
        let digest = Digest::of(b"x");
        let mut expected = Sha256::new();
        let parts: [&[u8]; 6] =
            [b"mayfly-settings", b"{}", b"if-none-match", b"*", b"greet", digest.as_bytes()];
        for part in parts {
            expected.update((part.len() as u64).to_le_bytes());
            expected.update(part);
        }
        let name = "greet".try_into().unwrap();
        assert_eq!(key.fingerprint(&name, &digest), <[u8; 32]>::from(expected.finalize()));
    }
}
