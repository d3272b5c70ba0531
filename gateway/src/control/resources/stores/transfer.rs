//! `/v1/stores/keyvalue/NAME/export` and `/import`: all entries, as lines of JSON.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures_util::TryStreamExt as _;
use gateway_api::ImportedView;
use http::{HeaderValue, header};

use super::{KindAndName, StorePath, find};
use crate::{
    control::{
        extract::{Binary, PathParams},
        state::ControlState,
    },
    problem::Problem,
};

/// The media type of lines of JSON.
const LINES: &str = "application/x-ndjson";

/// Reads all entries, a line of JSON for each, in the order of their keys.
///
/// Entries that are written or removed meanwhile may be in it or not. An export that breaks off is not whole.
#[utoipa::path(
    get, path = "/v1/stores/{kind}/{name}/export", tag = "stores",
    operation_id = "exportStore",
    params(StorePath),
    responses(
        (status = 200, description = "The entries", body = Binary, content_type = "application/x-ndjson"),
        (status = 404, description = "There is no such store", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such kind of stores", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "There are too many such requests", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn export(
    State(state): State<ControlState>,
    PathParams(path): PathParams<KindAndName>,
) -> Result<Response, Problem> {
    let store = find(&state, &path)?;
    let transfer =
        state.stores.transfer().map_err(|error| Problem::of_guest_store(error, &path.1))?;
    // Until the last line has left.
    let lines = store.export().inspect_ok(move |_| {
        let _ = &transfer;
    });
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(LINES))];
    Ok((content_type, Body::from_stream(lines)).into_response())
}

/// Writes the entries of lines of JSON, in place of those with the same keys.
///
/// Others stay. If a line is refused, those before it are written. Entries that have expired are left out.
#[utoipa::path(
    post, path = "/v1/stores/{kind}/{name}/import", tag = "stores",
    operation_id = "importStore",
    params(StorePath),
    request_body(content = Option<Binary>, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "The entries are written", body = ImportedView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such store", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The store is full", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "A key, a value or metadata is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The kind or a line is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn import(
    State(state): State<ControlState>,
    PathParams(path): PathParams<KindAndName>,
    request: Request,
) -> Result<Json<ImportedView>, Problem> {
    let store = find(&state, &path)?;
    let problem = |error| Problem::of_guest_store(error, &path.1);
    let _transfer = state.stores.transfer().map_err(problem)?;
    let body = request.into_body().into_data_stream();
    // Boxed: the future is large, and imports are rare.
    let entries = Box::pin(store.import(body)).await.map_err(problem)?;
    Ok(Json(ImportedView { entries }))
}
