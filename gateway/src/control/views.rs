//! Functions and revisions as the API shows them.

pub(crate) mod warm;

use std::collections::BTreeMap;

use gateway_api::{AskedLimits, LimitValues};
use http::StatusCode;
use runtime_pool::{Snapshot, State};
use serde::{Deserialize, Serialize};
use store::{ActiveFunction, Revision, Settings};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::AdditionalProperties},
};

use crate::{
    control::{
        state::ControlState,
        views::warm::{InstancesView, IsolationView, WindowView},
    },
    functions::catalog::{OTHER, effective_isolation},
    problem::Problem,
};

/// Entries on a page when none are asked for, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// A function and its active revision.
#[derive(Serialize, ToSchema)]
pub(crate) struct FunctionView {
    /// Unique among functions.
    #[schema(example = "hello")]
    name: String,
    /// The revision that answers now.
    revision: u32,
    /// The SHA-256 of the artifact.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    digest: String,
    /// How it runs: `wasi-http-0.2`, `wasi-http-0.3`, `wasi-command` or `wasi-preview1`.
    #[schema(example = "wasi-http-0.2")]
    kind: String,
    /// Size of the artifact.
    bytes: u64,
    /// Where it answers.
    #[schema(example = "http://127.0.0.1:8080/f/hello/")]
    url: String,
    /// What its owner says about it.
    description: String,
    /// How much of it is in memory: `cold`, `loaded` or `warm`.
    #[schema(example = "loaded")]
    state: &'static str,
    /// What its invocations share: `request` (nothing) or `reuse` (an instance, one after the
    /// other).
    #[schema(example = "request")]
    isolation: &'static str,
    /// Its instances.
    instances: InstancesView,
    /// What its owner asked for.
    settings: SettingsView,
    /// What holds: the platform's defaults where nothing was asked for.
    limits: LimitValues,
    /// What became of the snapshot. Null where none was asked for, and in lists.
    snapshot: Option<SnapshotView>,
    /// When it was first deployed (RFC 3339).
    created_at: String,
    /// When it was last changed (RFC 3339).
    updated_at: String,
}

/// One immutable deployment of a function.
#[derive(Serialize, ToSchema)]
pub(crate) struct RevisionView {
    /// Counts up from 1 within a function.
    revision: u32,
    /// The SHA-256 of the artifact.
    digest: String,
    /// How it runs.
    kind: String,
    /// Size of the artifact.
    bytes: u64,
    /// What its owner asked for.
    settings: SettingsView,
    /// Whether it answers now.
    active: bool,
    /// When it was made (RFC 3339).
    created_at: String,
}

/// What a function's owner asks for. What is left out has the platform's default.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettingsView {
    #[serde(flatten)]
    limits: AskedLimits,
    #[serde(flatten)]
    others: OtherSettings,
}

/// What a function's owner asks for. What is left out has the platform's default.
#[derive(Serialize, Deserialize, ToSchema)]
struct OtherSettings {
    /// Times of the week when more than `min_warm` wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schedule: Vec<WindowView>,
    /// What invocations share: nothing unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<IsolationView>,
    /// Whether answers carry `Server-Timing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timing: Option<bool>,
    /// Environment variables of the guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, String>,
    /// Whether instances start from an image that is made at the deploy: true, false, or the name
    /// of the export to call before it is made (`wizer-initialize` unless said).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotSetting>,
    /// Hosts that the guest may call: `api.example.com`, `*.example.com`, `127.0.0.1:8000`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outbound: Vec<String>,
    /// Secrets that are put into its requests on their way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<CredentialView>,
}

/// A secret that is put into requests to a host.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialView {
    /// Which requests, like an entry of `outbound`. Over https alone unless this begins with
    /// `http://`.
    #[schema(example = "api.example.com")]
    host: String,
    /// The header field that holds it.
    #[schema(example = "authorization")]
    header: String,
    /// The secret's name.
    #[schema(example = "example-token")]
    secret: String,
    /// What stands before it in the field's value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "Bearer ")]
    prefix: String,
}

impl From<store::CredentialSetting> for CredentialView {
    fn from(credential: store::CredentialSetting) -> Self {
        let store::CredentialSetting { host, header, secret, prefix } = credential;
        Self { host, header, secret, prefix }
    }
}

/// A switch, or the name of an export.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum SnapshotSetting {
    /// Whether there is to be one.
    Switch(bool),
    /// There is to be one, after a call of this export.
    After(String),
}

/// What became of a snapshot that was asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct SnapshotView {
    /// Whether instances start from it.
    taken: bool,
    /// CPU time of the start-up that instances are spared, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    init_ms: Option<u64>,
    /// Bytes of the memory that instances start with.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Entries on the page: 100 unless said, at most 1,000.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

impl Page {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
}

/// The cursor of the page after one with these entries: none when it is not full.
pub(crate) fn next_cursor<T>(
    entries: &[T],
    limit: u32,
    cursor: impl Fn(&T) -> String,
) -> Option<String> {
    (entries.len() >= limit as usize).then(|| entries.last().map(cursor)).flatten()
}

impl FunctionView {
    /// With what became of its snapshot, for which a file may have to be read.
    pub(crate) async fn whole(active: ActiveFunction, state: &ControlState) -> Self {
        let ActiveFunction { function, revision } = &active;
        let (label, settings) = (OTHER.into(), &revision.settings);
        let spec = state.catalog.spec(&function.tenant, label, revision.digest, settings);
        let snapshot = state.pool.snapshot(&spec).await.map(Into::into);
        Self { snapshot, ..Self::new(active, state) }
    }

    pub(crate) fn new(active: ActiveFunction, state: &ControlState) -> Self {
        let ActiveFunction { function, revision } = active;
        let limits = state.catalog.limits(&revision.settings);
        let isolation = effective_isolation(&revision.settings);
        let active = state.catalog.get(&function.tenant, &function.name);
        let resident = active.as_ref().and_then(|active| active.resident.peek());
        let instances = resident.as_deref().map(InstancesView::from).unwrap_or_default();
        let residency = match active {
            _ if instances.any_waits() => State::Warm,
            Some(active) => state.pool.state(&active.key),
            None => State::Cold,
        };
        Self {
            url: format!("{}/f/{}/", state.public_base, function.name),
            state: residency.as_str(),
            isolation: isolation.as_str(),
            instances,
            name: function.name,
            revision: revision.number,
            digest: format!("sha256:{}", revision.digest),
            kind: revision.kind,
            bytes: revision.bytes,
            description: function.description,
            settings: revision.settings.into(),
            limits,
            snapshot: None,
            created_at: rfc3339(function.created_ms),
            updated_at: rfc3339(function.updated_ms),
        }
    }
}

impl RevisionView {
    pub(crate) fn new(revision: Revision, active: u32) -> Self {
        Self {
            revision: revision.number,
            digest: format!("sha256:{}", revision.digest),
            kind: revision.kind,
            bytes: revision.bytes,
            active: revision.number == active,
            settings: revision.settings.into(),
            created_at: rfc3339(revision.created_ms),
        }
    }
}

impl From<Settings> for SettingsView {
    fn from(settings: Settings) -> Self {
        let limits = AskedLimits::of(|row| settings.limit(row.key));
        let others = OtherSettings {
            schedule: settings.schedule.into_iter().map(WindowView::from).collect(),
            isolation: settings.isolation.map(IsolationView::from),
            server_timing: settings.server_timing,
            environment: settings.environment,
            snapshot: settings.snapshot.map(|snapshot| match snapshot {
                store::SnapshotMode::Switch(on) => SnapshotSetting::Switch(on),
                store::SnapshotMode::After(function) => SnapshotSetting::After(function),
            }),
            outbound: settings.outbound,
            credentials: settings.credentials.into_iter().map(Into::into).collect(),
        };
        Self { limits, others }
    }
}

/// One object of both parts, without other keys.
impl PartialSchema for SettingsView {
    fn schema() -> RefOr<Schema> {
        let mut schema = OtherSettings::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            AskedLimits::describe(object);
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        schema
    }
}

impl ToSchema for SettingsView {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        OtherSettings::schemas(schemas);
    }
}

impl From<Snapshot> for SnapshotView {
    fn from(snapshot: Snapshot) -> Self {
        let (taken, init_ms, bytes, reason) = match snapshot {
            Snapshot::Taken { init_ms, bytes } => (true, Some(init_ms), Some(bytes), None),
            Snapshot::NotTaken { reason } => (false, None, None, Some(reason)),
        };
        Self { taken, init_ms, bytes, reason }
    }
}

/// A moment as text; the beginning of time for what no calendar knows.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_string()
}

/// The answer to a deletion, if there was something to delete.
pub(crate) fn gone(
    was_there: bool,
    absent: impl FnOnce() -> Problem,
) -> Result<StatusCode, Problem> {
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(absent()) }
}
