//! `/v1/stores`: what functions keep.

pub(crate) mod entries;
pub(crate) mod transfer;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{StoreKindWord, StoreSpec, StoreUsageView, StoreView, StoresView};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    control::{
        extract::{Document, PathParams, object},
        page::{Page, next_cursor},
        state::ControlState,
    },
    functions::stores::{
        StoreError, StoreWithUsage,
        granted::{Granted, granted},
        table::{KEY_VALUE, NamedStore},
    },
    problem::Problem,
    telemetry::clock::rfc3339,
};

/// A store in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct StorePath {
    /// What it keeps.
    #[param(value_type = StoreKindWord)]
    kind: String,
    /// 1 to 63 of a-z, 0-9 and -, beginning with a letter and not ending with a hyphen.
    #[param(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", min_length = 1, max_length = 63)]
    name: String,
}

/// How a store is deleted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeletedStore {
    /// Also while functions may open it.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// The kind and the name in a path.
pub(crate) type KindAndName = (String, String);

/// Refuses a kind that there is not.
fn check_kind(kind: &str) -> Result<(), Problem> {
    if kind == KEY_VALUE { Ok(()) } else { Err(Problem::unknown_store_kind(kind)) }
}

/// The store that a path names.
fn find(state: &ControlState, (kind, name): &KindAndName) -> Result<Arc<NamedStore>, Problem> {
    check_kind(kind)?;
    let found = state.stores.by_name(&state.tenant, name);
    found.map_err(|error| Problem::of_guest_store(error, name))
}

/// Makes a store, or changes its quota.
///
/// Its data stays, and stays in its backend. A quota holds at once, also for functions that run.
#[utoipa::path(
    put, path = "/v1/stores/{kind}/{name}", tag = "stores",
    operation_id = "putStore",
    params(StorePath),
    request_body = StoreSpec,
    responses(
        (status = 201, description = "A new store is made", body = StoreView),
        (status = 200, description = "The store was changed", body = StoreView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many stores, or its data is in another backend", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The kind, the name or the quota is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams((kind, name)): PathParams<KindAndName>,
    Document(body): Document,
) -> Result<(StatusCode, Json<StoreView>), Problem> {
    check_kind(&kind)?;
    let spec: StoreSpec = object(&body)?;
    let max = state.deployer.stores_max();
    let put = state.stores.put(state.tenant.clone(), &name, spec, max).await;
    let (store, is_new) = put.map_err(|error| Problem::of_guest_store(error, &name))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view(&store, &granted(&state.catalog, &state.tenant)))))
}

/// Lists stores by name, with what is in them.
#[utoipa::path(
    get, path = "/v1/stores", tag = "stores",
    operation_id = "listStores",
    params(Page),
    responses(
        (status = 200, description = "A page of stores", body = StoresView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "A backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<StoresView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let after = page.cursor.as_deref().unwrap_or_default();
    let stores = state.stores.list(&state.tenant, after, page.limit() as usize).await;
    let stores = stores.map_err(|error| Problem::of_guest_store(error, ""))?;
    let next_cursor = next_cursor(&stores, page.limit(), |(store, _)| store.record.name.clone());
    let granted = granted(&state.catalog, &state.tenant);
    let stores = stores.iter().map(|store| view(store, &granted)).collect();
    Ok(Json(StoresView { stores, next_cursor }))
}

/// Shows a store with what is in it.
#[utoipa::path(
    get, path = "/v1/stores/{kind}/{name}", tag = "stores",
    operation_id = "getStore",
    params(StorePath),
    responses(
        (status = 200, description = "The store", body = StoreView),
        (status = 404, description = "There is no such store", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such kind of stores", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams((kind, name)): PathParams<KindAndName>,
) -> Result<Json<StoreView>, Problem> {
    check_kind(&kind)?;
    let store = state.stores.get(&state.tenant, &name).await;
    let store = store.map_err(|error| Problem::of_guest_store(error, &name))?;
    Ok(Json(view(&store, &granted(&state.catalog, &state.tenant))))
}

/// Deletes a store with all that is in it. One that functions may open only by `force`.
///
/// Functions that have it open find it gone at once. Its data is removed in the background.
#[utoipa::path(
    delete, path = "/v1/stores/{kind}/{name}", tag = "stores",
    operation_id = "deleteStore",
    params(StorePath, DeletedStore),
    responses(
        (status = 204, description = "The store was deleted"),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such store", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Functions may open it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such kind of stores", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams((kind, name)): PathParams<KindAndName>,
    query: Result<Query<DeletedStore>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(DeletedStore { force }) =
        query.map_err(|error| Problem::bad_query(error.body_text()))?;
    let path = (kind, name);
    find(&state, &path)?;
    let (_, name) = path;
    let users = granted(&state.catalog, &state.tenant).remove(&name);
    if let Some(functions) = users.filter(|_| !force) {
        let functions = functions.into_iter().collect();
        return Err(Problem::of_guest_store(StoreError::InUse { functions }, &name));
    }
    let deleted = state.stores.delete(state.tenant.clone(), &name).await;
    deleted.map_err(|error| Problem::of_guest_store(error, &name))?;
    Ok(StatusCode::NO_CONTENT)
}

fn view((store, usage): &StoreWithUsage, granted: &Granted) -> StoreView {
    let NamedStore { record, backend, guest, .. } = &**store;
    StoreView {
        kind: record.kind.clone(),
        name: record.name.clone(),
        backend: *backend,
        quota: StoreUsageView { bytes: guest.bytes_max(), keys: guest.keys_max() },
        usage: StoreUsageView { bytes: usage.bytes, keys: usage.keys },
        granted_to: granted.get(&record.name).into_iter().flatten().cloned().collect(),
        created_at: rfc3339(record.created_ms),
        updated_at: rfc3339(record.updated_ms),
    }
}
