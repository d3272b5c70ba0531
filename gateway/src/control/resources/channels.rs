//! `/v1/functions/{name}/channels`: named pointers to revisions.

use axum::{Extension, Json, extract::State};
use gateway_api::{ChannelView, ChannelsView, PutChannel};
use http::{HeaderMap, StatusCode};
use store::{Channel, DEFAULT_CHANNEL};

use crate::{
    control::{
        auth::tokens::Scope,
        extract::{ChannelPath, Document, IfMatch, NamePath, PathParams, deleted_or},
        preconditions,
        resources::functions::parse,
        state::ControlState,
        views,
    },
    functions::{
        channels,
        deploy::{error::DeployError, upload::Actor},
        name::FunctionName,
    },
    problem::Problem,
};

/// Lists the channels of a function.
#[utoipa::path(
    get, path = "/v1/functions/{name}/channels", tag = "functions",
    operation_id = "listChannels",
    params(NamePath),
    responses(
        (status = 200, description = "All channels", body = ChannelsView),
        (status = 400, description = "The name is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
) -> Result<Json<ChannelsView>, Problem> {
    let name = parse(&name)?;
    Ok(Json(ChannelsView { channels: all(&state, &name, scope).await? }))
}

/// Makes a channel, or sets it.
///
/// The next request of the channel goes where it says.
#[utoipa::path(
    put, path = "/v1/functions/{name}/channels/{channel}", tag = "functions",
    operation_id = "putChannel",
    params(
        NamePath,
        ChannelPath,
        IfMatch,
    ),
    request_body = PutChannel,
    responses(
        (status = 200, description = "The channel", body = ChannelView),
        (status = 400, description = "The request cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A quota is used up", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There cannot be such a channel", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams((name, channel)): PathParams<(String, String)>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Json<ChannelView>, Problem> {
    let name = parse(&name)?;
    let put: PutChannel =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let asked = channels::asked(&channel, put).map_err(DeployError::Channel)?;
    let function = state.qualified(name.clone());
    let precondition = preconditions::parse(&headers);
    let set = state.deployer.put_channel(&actor, function, channel, asked, precondition);
    // Boxed: the future is large, and changes are rare.
    let set = Box::pin(set).await?;
    let set = set.ok_or_else(|| Problem::function_not_found(name.as_str()))?;
    Ok(Json(shown(&state, &name, set, scope)))
}

/// Deletes a channel.
///
/// `default` stays where it is, and each publish moves it again.
#[utoipa::path(
    delete, path = "/v1/functions/{name}/channels/{channel}", tag = "functions",
    operation_id = "deleteChannel",
    params(
        NamePath,
        ChannelPath,
        IfMatch,
    ),
    responses(
        (status = 204, description = "The channel was deleted"),
        (status = 400, description = "The name is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function or channel", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The function does not meet the precondition", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams((name, channel)): PathParams<(String, String)>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let name = parse(&name)?;
    let function = state.qualified(name.clone());
    let precondition = preconditions::parse(&headers);
    let deleted =
        state.deployer.delete_channel(&actor, function, channel.clone(), precondition).await?;
    deleted_or(deleted, || Problem::channel_not_found(name.as_str(), &channel))
}

/// The channels of a function, `default` first, whether or not that was ever set.
async fn all(
    state: &ControlState,
    name: &FunctionName,
    reader: Scope,
) -> Result<Vec<ChannelView>, Problem> {
    let active = state.store.function(&state.tenant, name.as_str()).await?;
    let active = active.ok_or_else(|| Problem::function_not_found(name.as_str()))?;
    let stored = state.store.channels(&state.tenant, name.as_str()).await?;
    let (default, others): (Vec<_>, Vec<_>) =
        stored.into_iter().partition(|channel| channel.name == DEFAULT_CHANNEL);
    let shown = |channel| shown(state, name, channel, reader);
    let default = default
        .into_iter()
        .next()
        .map_or_else(|| views::newest_channel(active.revision.number, &base(state, name)), shown);
    let others = others.into_iter().map(shown);
    Ok(std::iter::once(default).chain(others).collect())
}

/// The address of a function, without the slash at its end.
fn base(state: &ControlState, name: &FunctionName) -> String {
    format!("{}/f/{name}", state.public_base)
}

fn shown(
    state: &ControlState,
    name: &FunctionName,
    channel: Channel,
    reader: Scope,
) -> ChannelView {
    let function = state.qualified(name.clone());
    let canaries = state.catalog.canaries();
    let meter = canaries.iter().find(|meter| {
        meter.function == function
            && meter.channel == channel.name
            && channel.canary.as_ref() == Some(&meter.canary)
    });
    views::channel(channel, &base(state, name), reader, meter.map(|meter| &**meter))
}
