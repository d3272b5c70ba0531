//! `/v1/functions`: the deployed functions.

pub(crate) mod artifacts;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use gateway_api::{ChangeFunction, FunctionView, FunctionsView};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use crate::{
    control::{
        auth::tokens::Scope,
        extract::{Binary, Document, IfMatch, NamePath, PathParams, deleted_or},
        page::{Page, next_cursor},
        preconditions::{self, entity_tag},
        state::ControlState,
        upload::{UploadFields, UploadHead},
        views,
    },
    functions::{
        deploy::{Deployed, change_condition::StateTag, state::Activated, upload::Actor},
        name::FunctionName,
    },
    problem::Problem,
};

/// The revision whose artifact is read.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichRevision {
    /// The default is the active revision.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    revision: Option<u32>,
}

/// The header fields of a request for bytes, for the API's description.
#[expect(dead_code, reason = "the handler reads them itself")]
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct KnownBytes {
    /// The digests of bytes that the client has, in quotes.
    #[param(rename = "if-none-match", value_type = String, required = false)]
    if_none_match: (),
}

/// Deploys a function.
///
/// The body is the wasm binary. It becomes a new revision, which is active and answers requests as
/// soon as this request is answered. Bytes that are active already change nothing.
#[utoipa::path(
    put, path = "/v1/functions/{name}", tag = "functions",
    operation_id = "deployFunction",
    params(NamePath, UploadFields),
    request_body(content = Binary, content_type = "application/wasm"),
    responses(
        (status = 201, description = "A new revision is active", body = FunctionView),
        (status = 200, description = "These bytes are active already, or wait in the newest revision", body = FunctionView),
        (status = 400, description = "The request cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A quota is used up", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The artifact is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not sent as wasm", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The bytes cannot be a function", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many compilations within a minute", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many compilations are waiting", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn deploy(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Response, Problem> {
    let deployed = async {
        let name = parse(&name)?;
        let head = UploadHead::parse(request.headers())?;
        check_sandbox(&state, scope).await?;
        let body = request.into_body().into_data_stream();
        // Boxed: the future is large, and deploys are rare.
        Box::pin(state.deployer.deploy(head.of(state.qualified(name), actor), body))
            .await
            .map_err(Problem::from)
    };
    let (status, activated) = match deployed.await {
        Ok(Deployed::New(activated)) => (StatusCode::CREATED, activated),
        Ok(Deployed::Already(activated)) => (StatusCode::OK, activated),
        Err(problem) => {
            state.deployer.count_refused(problem.slug());
            return Err(problem);
        }
    };
    Ok((status, shown(activated, &state, scope).await).into_response())
}

/// Refuses bytes of those who cannot administer the node, unless the whole sandbox stands between
/// their bytes and the gateway.
pub(crate) async fn check_sandbox(state: &ControlState, scope: Scope) -> Result<(), Problem> {
    if scope == Scope::Admin || !state.require_sandbox {
        return Ok(());
    }
    let is_complete = match state.sandbox.get() {
        Some(sandbox) => sandbox.is_complete(),
        // The first moments after the start.
        None => state.pool.sandbox().await.is_ok_and(|sandbox| sandbox.is_complete()),
    };
    if is_complete { Ok(()) } else { Err(Problem::sandbox_missing()) }
}

/// A function with its entity tag.
pub(crate) type Shown = ([(HeaderName, String); 1], Json<FunctionView>);

pub(crate) async fn shown(activated: Activated, state: &ControlState, reader: Scope) -> Shown {
    let Activated { active, inactive_revision, removed_revisions } = activated;
    let tag = [(header::ETAG, entity_tag(StateTag::of(&active)))];
    let view = views::function(active, state, reader).await;
    (tag, Json(FunctionView { inactive_revision, removed_revisions, ..view }))
}

/// Lists functions.
#[utoipa::path(
    get, path = "/v1/functions", tag = "functions", params(Page),
    operation_id = "listFunctions",
    responses(
        (status = 200, description = "A page", body = FunctionsView),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<FunctionsView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let limit = page.limit();
    let found = state.store.functions(&state.tenant, page.cursor.as_deref(), limit).await?;
    let next_cursor = next_cursor(&found, limit, |active| active.function.name.clone());
    let found = found.into_iter().map(|active| views::listed_function(active, &state, scope));
    Ok(Json(FunctionsView { functions: found.collect(), next_cursor }))
}

/// Shows a function.
#[utoipa::path(
    get, path = "/v1/functions/{name}", tag = "functions",
    operation_id = "showFunction",
    params(NamePath),
    responses(
        (status = 200, description = "The function", body = FunctionView),
        (status = 400, description = "The name is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
) -> Result<Shown, Problem> {
    let name = parse(&name)?;
    let active = state
        .store
        .function(&state.tenant, name.as_str())
        .await?
        .ok_or_else(|| Problem::function_not_found(name.as_str()))?;
    Ok(shown(active.into(), &state, scope).await)
}

/// Changes a function's description or settings.
#[utoipa::path(
    patch, path = "/v1/functions/{name}", tag = "functions",
    operation_id = "changeFunction",
    params(NamePath, IfMatch),
    request_body(content = ChangeFunction, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The changed function", body = FunctionView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another request changed it at the same time", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The settings are not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Shown, Problem> {
    let name = parse(&name)?;
    let precondition = preconditions::parse(&headers);
    let change: ChangeFunction =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let function = state.qualified(name.clone());
    let description = change.description.map(Option::unwrap_or_default);
    let changed = match (change.settings, description) {
        (Some(patch), description) => {
            let change =
                state.deployer.change_settings(&actor, function, patch, description, precondition);
            // Boxed: the future is large, and changes are rare.
            Box::pin(change).await?
        }
        (None, Some(description)) => {
            state.deployer.describe(&actor, function, description, precondition).await?
        }
        (None, None) => {
            return show(State(state), Extension(scope), PathParams(name.to_string())).await;
        }
    };
    let changed = changed.ok_or_else(|| Problem::function_not_found(name.as_str()))?;
    Ok(shown(changed, &state, scope).await)
}

/// Deletes a function and all its revisions.
#[utoipa::path(
    delete, path = "/v1/functions/{name}", tag = "functions",
    operation_id = "deleteFunction",
    params(NamePath, IfMatch),
    responses(
        (status = 204, description = "The function was deleted"),
        (status = 400, description = "The name is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let name = parse(&name)?;
    let deleted = state
        .deployer
        .delete(state.qualified(name.clone()), preconditions::parse(&headers))
        .await?;
    deleted_or(deleted, || Problem::function_not_found(name.as_str()))
}

/// Reads an artifact.
#[utoipa::path(
    get, path = "/v1/functions/{name}/artifact", tag = "functions",
    operation_id = "readArtifact",
    params(
        NamePath,
        WhichRevision,
        KnownBytes,
    ),
    responses(
        (status = 200, description = "The wasm binary", body = Binary, content_type = "application/wasm"),
        (status = 304, description = "The client has these bytes: if-none-match names them"),
        (status = 400, description = "The query cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function or revision", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn artifact(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    which: Result<Query<WhichRevision>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = parse(&name)?;
    let Query(which) = which.map_err(|error| Problem::bad_query(error.body_text()))?;
    let store = &state.store;
    let active = store
        .function(&state.tenant, name.as_str())
        .await?
        .ok_or_else(|| Problem::function_not_found(name.as_str()))?;
    let revision = match which.revision {
        None => active.revision,
        Some(number) => store
            .revision(&state.tenant, name.as_str(), number)
            .await?
            .ok_or_else(|| Problem::revision_not_found(name.as_str(), number))?,
    };
    let tag = format!("\"{}\"", revision.digest);
    if names(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let (file, bytes) = store
        .open_artifact(&revision.digest)
        .await?
        .ok_or_else(|| Problem::internal(&MissingArtifact))?;
    // Before the first byte: after it, the response could only be aborted.
    if !store.is_whole(&revision.digest).await? {
        state.quarantine.report(revision.digest);
        return Err(Problem::artifact_damaged());
    }
    let wasm = HeaderValue::from_static("application/wasm");
    let mut response = Response::new(Body::from_stream(ReaderStream::new(file)));
    response.headers_mut().insert(header::CONTENT_TYPE, wasm);
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Whether `if-none-match` lists this tag. It compares strong and weak tags alike (RFC 9110,
/// 13.1.2).
fn names(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

/// A revision whose file is missing.
#[derive(Debug, thiserror::Error)]
#[error("the artifact of a published revision is missing")]
struct MissingArtifact;

pub(crate) fn parse(name: &str) -> Result<FunctionName, Problem> {
    FunctionName::try_from(name).map_err(Problem::bad_name)
}
