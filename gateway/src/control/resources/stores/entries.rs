//! `/v1/stores/keyvalue/NAME/entries`: single entries, for people and scripts.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{
        FromRequest, Query, Request, State,
        rejection::{BytesRejection, FailedToBufferBody, QueryRejection},
    },
    response::{IntoResponse as _, Response},
};
use gateway_api::{EntriesView, EntryKeyView, StoreKindWord};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use runtime_pool::{Expect, KeyPage, Refused, Removed, Written};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::{KindAndName, StorePath, find};
use crate::{
    control::{
        extract::{Binary, PathParams},
        page::entries,
        state::ControlState,
    },
    functions::stores::{
        StoreError,
        entries::{SentEntry, VALUE_BYTES},
    },
    problem::Problem,
    telemetry::clock::rfc3339,
};

/// An entry in a path, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EntryPath {
    /// What the store keeps.
    #[param(value_type = StoreKindWord)]
    kind: String,
    /// The store's name.
    #[param(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", min_length = 1, max_length = 63)]
    name: String,
    /// The key, of at most 1,024 bytes.
    #[param(min_length = 1, max_length = 256)]
    key: String,
}

/// Which keys.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SoughtKeys {
    /// Only keys that begin with this.
    prefix: Option<String>,
    /// Entries on the page. The default is 100; more than 1,000 count as 1,000.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What is written with a value.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BesideValue {
    /// Seconds after which the entry expires; never without it.
    #[param(minimum = 1, maximum = 315_360_000)]
    ttl_s: Option<u64>,
    /// A text to keep with the entry, of at most 1,024 bytes.
    #[param(max_length = 256)]
    metadata: Option<String>,
}

/// What must be there, for the API's description.
#[expect(dead_code, reason = "the handlers read it themselves, to answer with problems")]
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct ExpectedEntry {
    /// The change is refused unless the entry has this etag.
    #[param(rename = "if-match", value_type = String, required = false, pattern = "^\"[0-9]{1,18}\"$")]
    if_match: (),
    /// `*`: the change is refused if there is an entry.
    #[param(rename = "if-none-match", value_type = String, required = false, pattern = "^[*]$")]
    if_none_match: (),
}

/// The value of an entry, with the right to have it in memory.
pub(crate) struct EntryValue(Bytes, OwnedSemaphorePermit);

impl FromRequest<ControlState> for EntryValue {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ControlState) -> Result<Self, Problem> {
        let problem = |error| Problem::of_guest_store(error, "");
        let transfer = state.stores.transfer().map_err(problem)?;
        // The router limits its length.
        match Bytes::from_request(request, state).await {
            Ok(value) => Ok(Self(value, transfer)),
            Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_))) => {
                let most = VALUE_BYTES as u64;
                Err(problem(Refused::TooLarge { what: "a value", most }.into()))
            }
            Err(other) => Err(Problem::bad_body(other)),
        }
    }
}

/// Lists keys in the order of their bytes, without the values.
#[utoipa::path(
    get, path = "/v1/stores/{kind}/{name}/entries", tag = "stores",
    operation_id = "listEntries",
    params(StorePath, SoughtKeys),
    responses(
        (status = 200, description = "A page of keys", body = EntriesView),
        (status = 400, description = "The query is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such store", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such kind of stores", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(state): State<ControlState>,
    PathParams(path): PathParams<KindAndName>,
    sought: Result<Query<SoughtKeys>, QueryRejection>,
) -> Result<Json<EntriesView>, Problem> {
    let Query(sought) = sought.map_err(|error| Problem::bad_query(error.body_text()))?;
    let store = find(&state, &path)?;
    let page = KeyPage {
        prefix: sought.prefix.as_deref().unwrap_or_default(),
        after: sought.cursor.as_deref(),
        limit: entries(sought.limit) as usize,
    };
    let listed = store.data.list(&store.guest, page).await;
    let listed = listed.map_err(|refused| Problem::of_guest_store(refused.into(), &path.1))?;
    let last = listed.keys.last().map(|key| key.name.clone());
    let entries = listed.keys.into_iter().map(|key| EntryKeyView {
        key: key.name,
        expires_at: key.expires_ms.map(rfc3339),
        metadata: key.metadata.map(|text| text.to_string()),
    });
    let next_cursor = last.filter(|_| listed.more);
    Ok(Json(EntriesView { entries: entries.collect(), next_cursor }))
}

/// Reads the value of an entry.
#[utoipa::path(
    get, path = "/v1/stores/{kind}/{name}/entries/{key}", tag = "stores",
    operation_id = "getEntry",
    params(EntryPath),
    responses(
        (status = 200, description = "The value; `etag` is the version", body = Binary, content_type = "application/octet-stream"),
        (status = 400, description = "The key has no place in a path", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such store or entry", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The key is too long", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such kind of stores", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams((kind, name, key)): PathParams<(String, String, String)>,
) -> Result<Response, Problem> {
    let store = find(&state, &(kind, name.clone()))?;
    let _transfer =
        state.stores.transfer().map_err(|error| Problem::of_guest_store(error, &name))?;
    let found = store.entry(&key).await.map_err(|error| Problem::of_guest_store(error, &name))?;
    let entry = found.ok_or_else(|| Problem::entry_not_found(&key))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::ETAG, etag(entry.version)),
    ];
    Ok((headers, entry.value).into_response())
}

/// Writes an entry, in place of what is there.
#[utoipa::path(
    put, path = "/v1/stores/{kind}/{name}/entries/{key}", tag = "stores",
    operation_id = "putEntry",
    params(EntryPath, BesideValue, ExpectedEntry),
    request_body(content = Option<Binary>, content_type = "application/octet-stream"),
    responses(
        (status = 204, description = "The entry is written; `etag` is its version"),
        (status = 400, description = "The query or the body cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such store", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The store is full", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "Something else is there", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The key, the value or the metadata is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The kind, the time or a precondition is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(state): State<ControlState>,
    PathParams((kind, name, key)): PathParams<(String, String, String)>,
    beside: Result<Query<BesideValue>, QueryRejection>,
    headers: HeaderMap,
    EntryValue(value, _transfer): EntryValue,
) -> Result<Response, Problem> {
    let Query(BesideValue { ttl_s, metadata }) =
        beside.map_err(|error| Problem::bad_query(error.body_text()))?;
    let store = find(&state, &(kind, name.clone()))?;
    let problem = |error| Problem::of_guest_store(error, &name);
    let expect = expected(&headers).map_err(problem)?;
    let new = SentEntry { key, value, ttl: ttl_s.map(Duration::from_secs), metadata };
    match store.write(&new, expect).await.map_err(problem)? {
        Written::Version(version) => {
            Ok((StatusCode::NO_CONTENT, [(header::ETAG, etag(version))]).into_response())
        }
        Written::Conflict(found) => {
            let found = found.map(|found| etag(found.version));
            Err(Problem::entry_conflict(found.as_ref()))
        }
    }
}

/// Removes an entry.
#[utoipa::path(
    delete, path = "/v1/stores/{kind}/{name}/entries/{key}", tag = "stores",
    operation_id = "deleteEntry",
    params(EntryPath, ExpectedEntry),
    responses(
        (status = 204, description = "The entry was removed"),
        (status = 400, description = "The key has no place in a path", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such store or entry", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "Something else is there", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The kind or a precondition is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The backend does not answer", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<ControlState>,
    PathParams((kind, name, key)): PathParams<(String, String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let store = find(&state, &(kind, name.clone()))?;
    let problem = |error| Problem::of_guest_store(error, &name);
    let expect = expected(&headers).map_err(problem)?;
    let removed = store.data.delete(&store.guest, &key, expect).await;
    match removed.map_err(|refused| problem(refused.into()))? {
        Removed::Entry => Ok(StatusCode::NO_CONTENT),
        Removed::Nothing => Err(Problem::entry_not_found(&key)),
        Removed::Conflict => Err(Problem::entry_conflict(None)),
    }
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits are valid in a field")
}

/// What the preconditions of a request expect to be there.
fn expected(headers: &HeaderMap) -> Result<Expect, StoreError> {
    let text = |name| {
        let mut values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or(""));
        (values.next(), values.next())
    };
    let version = |tag: &str| -> Option<u64> {
        let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
        // The same number, written otherwise, is another tag.
        digits.parse().ok().filter(|version: &u64| version.to_string() == digits)
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        ((None, None), (None, None)) => Ok(Expect::Anything),
        ((None, None), (Some("*"), None)) => Ok(Expect::Absent),
        // No entry has a tag that is not a version, nor version 0.
        ((Some(tag), None), (None, None)) if tag.starts_with('"') => {
            Ok(Expect::Version(version(tag).unwrap_or(0)))
        }
        _ => Err(StoreError::Entry(
            "send the etag of an entry in `if-match`, or `if-none-match: *`, and not both"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Option<Expect> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        expected(&headers).ok()
    }

    #[test]
    fn a_precondition_is_an_etag_or_that_there_is_nothing() {
        assert_eq!(of(&[]), Some(Expect::Anything));
        assert_eq!(of(&[("if-match", "\"7\"")]), Some(Expect::Version(7)));
        assert_eq!(of(&[("if-match", "\"07\"")]), Some(Expect::Version(0)));
        assert_eq!(of(&[("if-match", "\"x\"")]), Some(Expect::Version(0)));
        assert_eq!(of(&[("if-none-match", "*")]), Some(Expect::Absent));
        for fields in [
            &[("if-match", "*")][..],
            &[("if-match", "W/\"7\"")],
            &[("if-none-match", "\"7\"")],
            &[("if-match", "\"7\""), ("if-none-match", "*")],
            &[("if-match", "\"7\""), ("if-match", "\"8\"")],
        ] {
            assert_eq!(of(fields), None, "{fields:?}");
        }
    }
}
