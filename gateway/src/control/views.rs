//! Functions and revisions as the API shows them.

pub(crate) mod warm;

use std::collections::BTreeMap;

use http::StatusCode;
use runtime_pool::{Snapshot, State};
use serde::{Deserialize, Serialize};
use store::{ActiveFunction, Revision, Settings};
use utoipa::{IntoParams, ToSchema};

use crate::{
    control::{
        state::ControlState,
        views::warm::{InstancesView, IsolationView, WindowView},
    },
    functions::catalog::{Catalog, OTHER, effective_isolation},
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
    limits: LimitsView,
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
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsView {
    /// Linear memory of one instance, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// CPU time of one invocation, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ms: Option<u64>,
    /// Wall-clock time of one invocation, its response's body included, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    /// Invocations that may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u64>,
    /// Invocations that may wait for one of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<u64>,
    /// How long one may wait for that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_wait_ms: Option<u64>,
    /// How long it stays in memory without a call, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    /// Instances that wait for calls even if nobody calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_warm: Option<u64>,
    /// Instances that may wait for calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_warm: Option<u64>,
    /// Times of the week when more than `min_warm` wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schedule: Vec<WindowView>,
    /// What invocations share: nothing unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<IsolationView>,
    /// Whether answers carry `Server-Timing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timing: Option<bool>,
    /// Bytes of a response's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_bytes: Option<u64>,
    /// Bytes of a request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_bytes: Option<u64>,
    /// Bytes of the environment's names and values together.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_bytes: Option<u64>,
    /// Bytes of output that are kept of one invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes: Option<u64>,
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

/// Limits as they hold.
#[derive(Serialize, ToSchema)]
pub(crate) struct LimitsView {
    /// Linear memory of one instance, in bytes.
    memory_bytes: u64,
    /// CPU time of one invocation, in milliseconds.
    cpu_ms: u64,
    /// Wall-clock time of one invocation, in milliseconds.
    timeout_ms: u64,
    /// Invocations that may run at once.
    concurrency: u64,
    /// Invocations that may wait for one of those.
    queue: u64,
    /// How long one may wait, in milliseconds.
    queue_wait_ms: u64,
    /// How long it stays in memory without a call, in milliseconds.
    idle_ms: u64,
    /// Bytes of a response's body.
    response_bytes: u64,
    /// Bytes of a request's body.
    request_bytes: u64,
    /// Bytes of the environment's names and values together.
    environment_bytes: u64,
    /// Bytes of output kept per invocation.
    log_bytes: u64,
    /// Instances that wait for calls even if nobody calls, unless its schedule wants more.
    min_warm: u64,
    /// Instances that may wait for calls.
    max_warm: u64,
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
        let limits = LimitsView::new(&state.catalog, &revision.settings);
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
        Self {
            memory_bytes: settings.memory_bytes,
            cpu_ms: settings.cpu_ms,
            timeout_ms: settings.timeout_ms,
            concurrency: settings.concurrency,
            queue: settings.queue,
            queue_wait_ms: settings.queue_wait_ms,
            idle_ms: settings.idle_ms,
            min_warm: settings.min_warm,
            max_warm: settings.max_warm,
            schedule: settings.schedule.into_iter().map(WindowView::from).collect(),
            isolation: settings.isolation.map(IsolationView::from),
            server_timing: settings.server_timing,
            response_bytes: settings.response_bytes,
            request_bytes: settings.request_bytes,
            environment_bytes: settings.environment_bytes,
            log_bytes: settings.log_bytes,
            environment: settings.environment,
            snapshot: settings.snapshot.map(|snapshot| match snapshot {
                store::SnapshotMode::Switch(on) => SnapshotSetting::Switch(on),
                store::SnapshotMode::After(function) => SnapshotSetting::After(function),
            }),
            outbound: settings.outbound,
            credentials: settings.credentials.into_iter().map(Into::into).collect(),
        }
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

impl LimitsView {
    fn new(catalog: &Catalog, settings: &Settings) -> Self {
        let limits = catalog.effective_limits(settings);
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            memory_bytes: limits.memory_bytes as u64,
            cpu_ms: ms(limits.cpu),
            timeout_ms: ms(limits.timeout),
            concurrency: limits.concurrency as u64,
            queue: limits.queue as u64,
            queue_wait_ms: ms(limits.queue_wait),
            idle_ms: ms(limits.idle),
            response_bytes: limits.response_bytes,
            request_bytes: catalog.request_bytes(settings),
            environment_bytes: catalog.environment_bytes(settings) as u64,
            log_bytes: limits.log_bytes as u64,
            min_warm: catalog.min_warm(settings) as u64,
            max_warm: catalog.max_warm(settings) as u64,
        }
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
