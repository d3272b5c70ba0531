//! Parts of requests and answers that several handlers share.

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Bytes of a JSON body.
pub(crate) const JSON_BYTES: usize = 256 << 10;

/// The parameters of a path. A path that cannot be decoded is answered with a problem document.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let decoded = axum::extract::Path::from_request_parts(parts, state).await;
        decoded.map(|axum::extract::Path(parts)| Self(parts)).map_err(|_| Problem::bad_target())
    }
}

/// A small body. A body that cannot be read is answered with a problem document.
pub(crate) struct Document(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        use BytesRejection::FailedToBufferBody as NotRead;
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| match rejection {
            NotRead(FailedToBufferBody::LengthLimitError(_)) => {
                Problem::document_too_large(JSON_BYTES)
            }
            other => Problem::bad_body(other),
        })
    }
}

/// The answer to a deletion: `absent` if there was nothing to delete.
pub(crate) fn deleted_or(
    deleted: bool,
    absent: impl FnOnce() -> Problem,
) -> Result<StatusCode, Problem> {
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(absent()) }
}
