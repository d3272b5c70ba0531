//! `/v1/routes`: which requests go to which function.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use gateway_api::{RouteSpec, RouteView, RoutesView};
use http::StatusCode;

use crate::{
    control::{
        extract::{Document, NamePath, PathParams, deleted_or},
        page::{Page, next_cursor},
        state::ControlState,
        views,
    },
    problem::Problem,
};

/// Sets a route, or replaces all of it.
///
/// When this answers, the next request sees it.
#[utoipa::path(
    put, path = "/v1/routes/{name}", tag = "routes",
    operation_id = "putRoute",
    params(NamePath),
    request_body = RouteSpec,
    responses(
        (status = 201, description = "A new route is set", body = RouteView),
        (status = 200, description = "The route was replaced", body = RouteView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another route takes the same requests, or there are too many", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The name or a member is not valid, or there is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<RouteView>), Problem> {
    let spec: RouteSpec =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let max = state.deployer.routes_max();
    let (flows, tenant) = (state.triggers.flows.clone(), state.tenant.clone());
    // It may go later; the route then answers that there is none.
    let exists = move |flow: &str| flows.exists(&tenant, flow);
    let put = state.routes.put(state.tenant.clone(), &name, spec, max, exists);
    let (route, is_new) = put.await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(views::route(route))))
}

/// Lists routes by name.
#[utoipa::path(
    get, path = "/v1/routes", tag = "routes",
    operation_id = "listRoutes",
    params(Page),
    responses(
        (status = 200, description = "A page of routes", body = RoutesView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<RoutesView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let after = page.cursor.as_deref().unwrap_or_default();
    let routes = state.routes.list(&state.tenant, after, page.limit() as usize).await;
    let next_cursor = next_cursor(&routes, page.limit(), |route| route.name.clone());
    let routes = routes.into_iter().map(views::route).collect();
    Ok(Json(RoutesView { routes, next_cursor }))
}

/// Shows a route.
#[utoipa::path(
    get, path = "/v1/routes/{name}", tag = "routes",
    operation_id = "getRoute",
    params(NamePath),
    responses(
        (status = 200, description = "The route", body = RouteView),
        (status = 404, description = "There is no such route", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<Json<RouteView>, Problem> {
    let route = state.routes.get(&state.tenant, &name).await;
    Ok(Json(views::route(route.ok_or_else(|| Problem::route_not_found(&name))?)))
}

/// Deletes a route.
#[utoipa::path(
    delete, path = "/v1/routes/{name}", tag = "routes",
    operation_id = "deleteRoute",
    params(NamePath),
    responses(
        (status = 204, description = "The route was deleted"),
        (status = 404, description = "There is no such route", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, Problem> {
    deleted_or(state.routes.delete(state.tenant.clone(), &name).await?, || {
        Problem::route_not_found(&name)
    })
}
