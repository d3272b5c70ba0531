//! Parts of requests and answers that several handlers share.

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
};
use gateway_api::Manifest;
use http::{StatusCode, request::Parts};
use serde::de::{DeserializeOwned, Error as _};
use store::Digest;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type},
};

use crate::{control::state::ControlState, problem::Problem};

/// Bytes of a JSON body.
pub(crate) const JSON_BYTES: usize = 256 << 10;

/// The name in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct NamePath {
    /// 1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with a hyphen.
    #[param(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", min_length = 1, max_length = 63)]
    name: String,
}

/// The name of a channel in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ChannelPath {
    /// Its name: 1 to 32 of a-z, 0-9 and -, beginning with a letter and not ending with a hyphen.
    #[param(pattern = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", min_length = 1, max_length = 32)]
    channel: String,
}

/// The digest in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DigestPath {
    /// The SHA-256 of what is named.
    #[param(pattern = "^(sha256:)?[0-9a-f]{64}$")]
    digest: String,
}

/// The digest that a path names.
pub(crate) fn digest(named: &str) -> Result<Digest, Problem> {
    named.parse().map_err(|_| {
        Problem::bad_query("a digest is sha256: and 64 hexadecimal digits in lower case".to_owned())
    })
}

/// The header `if-match`, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IfMatch {
    /// The change is refused unless the function's etag is one of these; `*`: unless it exists.
    #[param(rename = "if-match", value_type = String, required = false)]
    if_match: (),
}

/// The parameters of a path. A path that cannot be decoded is answered with a problem document.
pub(crate) struct PathParams<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let decoded = axum::extract::Path::from_request_parts(parts, state).await;
        decoded.map(|axum::extract::Path(parts)| Self(parts)).map_err(|_| Problem::bad_target())
    }
}

/// Bytes of a binary format, for the API's description.
pub(crate) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
    }
}

impl ToSchema for Binary {}

/// A small body. A body that cannot be read is answered with a problem document.
pub(crate) struct Document(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        read(request, state, JSON_BYTES).await.map(Self)
    }
}

/// Reads a document that is one object. A type whose members may all be absent could be read from an array, too.
pub(crate) fn object<T: DeserializeOwned>(document: &[u8]) -> Result<T, Problem> {
    let read = match document.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(document),
        _ => Err(serde_json::Error::custom("expected an object")),
    };
    read.map_err(|error| Problem::bad_json(&error))
}

/// Bytes of a manifest. Arbitrary: thousands of functions with their settings.
pub(crate) const MANIFEST_BYTES: usize = 4 << 20;

/// A manifest. It may be larger than other documents: the route has a limit of its own.
pub(crate) struct ManifestDocument(pub(crate) Manifest);

impl FromRequest<ControlState> for ManifestDocument {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ControlState) -> Result<Self, Problem> {
        let document = read(request, state, MANIFEST_BYTES).await?;
        if document.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::bad_json(&serde_json::Error::custom("expected an object")));
        }
        let mut json = serde_json::Deserializer::from_slice(&document);
        let read = serde_path_to_error::deserialize(&mut json);
        let manifest = read.map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
            let path = error.path().to_string();
            let problem = Problem::bad_json(error.inner());
            // The whole document has no path.
            if path == "." { problem } else { problem.at(path) }
        })?;
        json.end().map_err(|error| Problem::bad_json(&error))?;
        Ok(Self(manifest))
    }
}

/// Messages that are published. They may be larger than other documents: the route has a limit of its own.
pub(crate) struct PublishedDocument(pub(crate) Bytes);

impl FromRequest<ControlState> for PublishedDocument {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ControlState) -> Result<Self, Problem> {
        read(request, state, state.published_bytes()).await.map(Self)
    }
}

/// Reads a body, of which the router limits the length to `max`.
async fn read<S: Send + Sync>(request: Request, state: &S, max: usize) -> Result<Bytes, Problem> {
    use BytesRejection::FailedToBufferBody as NotRead;
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        NotRead(FailedToBufferBody::LengthLimitError(_)) => Problem::document_too_large(max),
        other => Problem::bad_body(other),
    })
}

/// The answer to a deletion: `absent` if there was nothing to delete.
pub(crate) fn deleted_or(
    deleted: bool,
    absent: impl FnOnce() -> Problem,
) -> Result<StatusCode, Problem> {
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(absent()) }
}
