//! `/v1/queues`: named queues and their messages.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway_api::{
    ChangeQueue, ChangedInvocationsView, DepthView, InvocationWord, MessageView, MessagesView,
    PublishMessages, PublishedBody, PublishedMessage, PublishedView, QueueSpec, QueueView,
    QueuesView,
};
use http::StatusCode;
use serde::Deserialize;
use store::{CallState, EnqueueOutcome, MessagePage, WaitingMessage};
use utoipa::IntoParams;

use crate::{
    control::{
        auth::tokens::Scope,
        extract::{Document, NamePath, PathParams, PublishedDocument, object},
        page::{Page, next_cursor},
        resources::triggers::invocations::{cursor, known_state},
        state::ControlState,
    },
    problem::{Problem, table},
    telemetry::clock::{now_ms, rfc3339},
    triggers::{
        queues::{
            QueueWithTotals,
            message::{ATTRIBUTE_PREFIX, CONTENT_TYPE, NewMessage},
            table::NamedQueue,
        },
        views::text_or_base64,
    },
};

/// Messages on a page by default, and at most.
const PAGE: u32 = 20;
const PAGE_MAX: u32 = 100;
/// Bytes of a message's body that are shown.
const SHOWN_BYTES: u32 = 16 << 10;
/// What stands in place of what only tokens that may deploy see.
const HIDDEN: &str = "(hidden)";

/// Which messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SoughtMessages {
    /// Only messages in this state. The default is `due`.
    #[param(value_type = InvocationWord, required = false)]
    state: Option<String>,
    /// Entries on the page. The default is 20; more than 100 count as 100.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
}

/// Which messages to remove.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PurgedMessages {
    /// Only messages in this state. The default is `due`.
    #[param(value_type = InvocationWord, required = false)]
    state: Option<String>,
}

/// How a queue is deleted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeletedQueue {
    /// Whether messages that are not done are deleted with it.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Sets a queue, or replaces all of it, and subscribes the function that it names.
///
/// Its messages stay. When this answers, what is delivered is delivered as it says.
#[utoipa::path(
    put, path = "/v1/queues/{name}", tag = "queues",
    operation_id = "putQueue",
    params(NamePath),
    request_body = QueueSpec,
    responses(
        (status = 201, description = "A new queue is set", body = QueueView),
        (status = 200, description = "The queue was replaced", body = QueueView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many queues", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The name or a member is not valid, or there is no such function or queue", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<(StatusCode, Json<QueueView>), Problem> {
    let spec: QueueSpec = object(&body)?;
    let max = state.deployer.queues_max();
    let put = state.triggers.queues.put(state.tenant.clone(), &name, spec, max).await;
    let (queue, is_new) = put.map_err(|error| Problem::of_queue(error, &name))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view(queue))))
}

/// Lists queues by name, with what is in them.
#[utoipa::path(
    get, path = "/v1/queues", tag = "queues",
    operation_id = "listQueues",
    params(Page),
    responses(
        (status = 200, description = "A page of queues", body = QueuesView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<QueuesView>, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_query(error.body_text()))?;
    let after = page.cursor.as_deref().unwrap_or_default();
    let queues = state.triggers.queues.list(&state.tenant, after, page.limit() as usize).await?;
    let next_cursor = next_cursor(&queues, page.limit(), |(queue, _)| queue.name.clone());
    let queues = queues.into_iter().map(view).collect();
    Ok(Json(QueuesView { queues, next_cursor }))
}

/// Shows a queue with what is in it, and the age of its oldest message.
#[utoipa::path(
    get, path = "/v1/queues/{name}", tag = "queues",
    operation_id = "getQueue",
    params(NamePath),
    responses(
        (status = 200, description = "The queue", body = QueueView),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<Json<QueueView>, Problem> {
    let queue = state.triggers.queues.get(&state.tenant, &name).await;
    Ok(Json(view(queue.map_err(|error| Problem::of_queue(error, &name))?)))
}

/// Pauses or resumes a queue.
#[utoipa::path(
    patch, path = "/v1/queues/{name}", tag = "queues",
    operation_id = "changeQueue",
    params(NamePath),
    request_body = ChangeQueue,
    responses(
        (status = 200, description = "The queue as it is then", body = QueueView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    Document(body): Document,
) -> Result<Json<QueueView>, Problem> {
    let change: ChangeQueue =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let changed = state.triggers.queues.change(state.tenant.clone(), &name, change).await;
    Ok(Json(view(changed.map_err(|error| Problem::of_queue(error, &name))?)))
}

/// Deletes a queue with its messages. One with messages that wait, run or are dead only by `force`.
#[utoipa::path(
    delete, path = "/v1/queues/{name}", tag = "queues",
    operation_id = "deleteQueue",
    params(NamePath, DeletedQueue),
    responses(
        (status = 204, description = "The queue was deleted"),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The queue has messages", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    query: Result<Query<DeletedQueue>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(DeletedQueue { force }) =
        query.map_err(|error| Problem::bad_query(error.body_text()))?;
    let deleted = state.triggers.queues.delete(state.tenant.clone(), &name, force).await;
    deleted.map_err(|error| Problem::of_queue(error, &name))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes messages: all of them, or none. When this answers, they survive a crash.
#[utoipa::path(
    post, path = "/v1/queues/{name}/messages", tag = "queues",
    operation_id = "publishMessages",
    params(NamePath),
    request_body = PublishMessages,
    responses(
        (status = 202, description = "The messages are in the queue", body = PublishedView),
        (status = 400, description = "The body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "A message, or all of them, are too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A message is not valid, or its idempotency key belongs to another one", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "There is no space left", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn publish(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    PublishedDocument(body): PublishedDocument,
) -> Result<(StatusCode, Json<PublishedView>), Problem> {
    let document: PublishMessages =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_json(&error))?;
    let messages = document.messages.into_iter().enumerate().map(message);
    let messages = messages.collect::<Result<Vec<_>, _>>();
    let messages = messages.map_err(|why| Problem::new(&table::BAD_MESSAGE).detail(why))?;
    let published = state.triggers.queues.publish(&state.tenant, &name, messages).await;
    let published = published.map_err(|error| Problem::of_queue(error, &name))?;
    let messages = published
        .into_iter()
        .map(|one| PublishedMessage { id: one.id, repeated: one.outcome == EnqueueOutcome::Known });
    Ok((StatusCode::ACCEPTED, Json(PublishedView { messages: messages.collect() })))
}

fn message((index, body): (usize, PublishedBody)) -> Result<NewMessage, String> {
    let PublishedBody { body, body_base64, content_type, attributes, delay_s, idempotency_key } =
        body;
    let body = match (body, body_base64) {
        (Some(_), Some(_)) => {
            return Err(format!("messages[{index}]: give one of `body` and `body_base64`"));
        }
        (Some(text), None) => text.into_bytes(),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map_err(|error| format!("messages[{index}].body_base64: {error}"))?,
        (None, None) => Vec::new(),
    };
    Ok(NewMessage { body, content_type, attributes, delay_s, key: idempotency_key })
}

/// Shows messages of a queue without taking them, the oldest first.
#[utoipa::path(
    get, path = "/v1/queues/{name}/messages", tag = "queues",
    operation_id = "listMessages",
    params(NamePath, SoughtMessages),
    responses(
        (status = 200, description = "A page of messages", body = MessagesView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn messages(
    State(state): State<ControlState>,
    Extension(scope): Extension<Scope>,
    PathParams(name): PathParams<String>,
    sought: Result<Query<SoughtMessages>, QueryRejection>,
) -> Result<Json<MessagesView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let page = MessagePage {
        state: sought.state.as_deref().map_or(Ok(CallState::Due), known_state)?,
        after: sought.cursor.as_deref().map_or(Ok(0), cursor)?,
        limit: sought.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX),
        body_bytes: SHOWN_BYTES,
    };
    let found = state.triggers.queues.messages(&state.tenant, &name, page).await;
    let (queue, messages) = found.map_err(|error| Problem::of_queue(error, &name))?;
    let next_cursor = next_cursor(&messages, page.limit, |message| message.seq.to_string());
    let may_deploy = scope.covers(Scope::Deploy);
    let messages = messages
        .into_iter()
        .map(|message| message_view(&queue, message, page.state, may_deploy))
        .collect();
    Ok(Json(MessagesView { messages, next_cursor }))
}

/// Removes messages of a queue: those that wait, or those in another state. One that runs is never
/// removed.
#[utoipa::path(
    delete, path = "/v1/queues/{name}/messages", tag = "queues",
    operation_id = "purgeQueue",
    params(NamePath, PurgedMessages),
    responses(
        (status = 200, description = "So many messages were removed", body = ChangedInvocationsView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn purge(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
    sought: Result<Query<PurgedMessages>, QueryRejection>,
) -> Result<Json<ChangedInvocationsView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let in_state = sought.state.as_deref().map_or(Ok(CallState::Due), known_state)?;
    let count = state.triggers.queues.purge(&state.tenant, &name, in_state).await;
    let count = count.map_err(|error| Problem::of_queue(error, &name))?;
    Ok(Json(ChangedInvocationsView { count }))
}

/// Makes all dead messages of a queue due again, under their ids, with all their attempts and their whole
/// time.
#[utoipa::path(
    post, path = "/v1/queues/{name}/redrive", tag = "queues",
    operation_id = "redriveQueue",
    params(NamePath),
    responses(
        (status = 200, description = "So many messages are due", body = ChangedInvocationsView),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn redrive(
    State(state): State<ControlState>,
    PathParams(name): PathParams<String>,
) -> Result<Json<ChangedInvocationsView>, Problem> {
    let count = state.triggers.queues.redrive(&state.tenant, &name).await;
    let count = count.map_err(|error| Problem::of_queue(error, &name))?;
    Ok(Json(ChangedInvocationsView { count }))
}

fn view((queue, totals): QueueWithTotals) -> QueueView {
    let messages = totals.map_or_else(DepthView::default, |totals| DepthView {
        waiting: totals.due,
        running: totals.running,
        dead: totals.dead,
        delivered: totals.done,
        bytes: totals.waiting_bytes,
        oldest_s: totals.oldest_ms.map(|oldest| {
            let age_ms = now_ms().saturating_sub(oldest).max(0);
            age_ms as f64 / 1_000.0
        }),
    });
    QueueView {
        name: queue.name.clone(),
        queue: queue.spec.clone(),
        messages,
        created_at: rfc3339(queue.created_ms),
        updated_at: rfc3339(queue.updated_ms),
    }
}

/// A message. What publishers send is for those who may change the function that reads it.
fn message_view(
    queue: &NamedQueue,
    message: WaitingMessage,
    state: CallState,
    may_deploy: bool,
) -> MessageView {
    let truncated = message.body_bytes > message.body.len() as u64;
    let (body, body_base64) = match may_deploy {
        true => text_or_base64(&message.body, truncated),
        false => (None, None),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let fields = &message.fields.0;
    let attributes = fields.iter().filter_map(|(name, value)| {
        let shown = if may_deploy { text(value) } else { HIDDEN.to_owned() };
        Some((name.strip_prefix(ATTRIBUTE_PREFIX)?.to_owned(), shown))
    });
    let content_type = fields.iter().find(|(name, _)| name == CONTENT_TYPE);
    MessageView {
        state: state.as_str().to_owned(),
        attempts: message.attempt,
        published_at: rfc3339(message.created_ms),
        due_at: rfc3339(message.due_ms),
        expires_at: rfc3339(message.expires_ms),
        finished_at: message.finished_ms.map(rfc3339),
        error: message.last_error,
        content_type: content_type.map(|(_, value)| text(value)),
        attributes: attributes.collect(),
        body_bytes: message.body_bytes,
        body,
        body_base64,
        truncated,
        dead_letter_of: message.source.filter(|source| *source != queue.name),
        id: message.id,
    }
}
