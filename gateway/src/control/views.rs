//! Stored and running functions as the types of the API.

use gateway_api::{
    AskedLimits, CanaryView, ChangeView, ChannelView, ConfigSecretView, ConfigView, CredentialView,
    FunctionView, GrantsView, InstancesView, IsolationView, LineView, MountView, OtherSettings,
    RevisionView, RouteView, RunView, ScheduleView, SecretView, SettingsView, ShadowView,
    SnapshotSetting, SnapshotView, StoreGrantView, StorePartView, TokenView, WeightView,
    WindowView,
};
use runtime_pool::{SnapshotOutcome, State};
use serde_json::Value;
use store::{
    ActiveFunction, CallState, Canary, Change, Channel, ConfigSetting, CredentialSetting,
    DEFAULT_CHANNEL, DayOfWeek, IsolationMode, IsolationSetting, LogSource, Overlay, RespondAsync,
    Revision, RunOutcome, ScheduleRun, SecretRecord, SecretSetting, Settings, Shadow, SnapshotMode,
    Sticky, StoreAccess, StoreGrantSetting, StorePart, StoredLogLine, TokenRecord, Ungranted,
    WarmWindow, Weight,
};

use crate::{
    control::{auth::tokens::Scope, state::ControlState},
    functions::{
        catalog::effective_isolation,
        channels::{meters::CanaryMeter, sticky_text},
        labels::OTHER,
        qualified_name::BorrowedName,
        routes::StoredRoute,
        secrets::EVERY,
    },
    telemetry::clock::rfc3339,
    triggers::schedules::StoredSchedule,
};

/// Stands for the value of an environment variable, for those who may only read.
pub(crate) const HIDDEN: &str = "***";

/// A function in a list: without the outcome of its snapshot.
pub(crate) fn listed_function(
    active: ActiveFunction,
    state: &ControlState,
    reader: Scope,
) -> FunctionView {
    let ActiveFunction { function, revision } = active;
    let limits = state.catalog.limits(&revision.settings);
    let isolation = effective_isolation(&revision.settings);
    let entry = state.catalog.get(&function.tenant, &function.name);
    let resident = entry.as_ref().and_then(|entry| entry.resident.peek());
    let instances = resident.as_deref().map(instances).unwrap_or_default();
    let residency = match entry {
        _ if instances.waiting > 0 => State::Warm,
        Some(entry) => state.pool.state(&entry.key),
        None => State::Cold,
    };
    FunctionView {
        url: format!("{}/f/{}/", state.public_base, function.name),
        state: residency.as_str().to_owned(),
        isolation: isolation.as_str().to_owned(),
        instances,
        name: function.name,
        revision: revision.number,
        digest: format!("sha256:{}", revision.digest),
        kind: revision.kind,
        bytes: revision.bytes,
        description: function.description,
        settings: settings(revision.settings, reader),
        limits,
        snapshot: None,
        inactive_revision: None,
        removed_revisions: Vec::new(),
        created_at: rfc3339(function.created_ms),
        updated_at: rfc3339(function.updated_ms),
    }
}

/// A function with the outcome of its snapshot, for which a file may have to be read.
pub(crate) async fn function(
    active: ActiveFunction,
    state: &ControlState,
    reader: Scope,
) -> FunctionView {
    let ActiveFunction { function, revision } = &active;
    let (label, asked) = (OTHER.into(), &revision.settings);
    let name = BorrowedName { tenant: &function.tenant, name: &function.name };
    let spec = state.catalog.spec(name, label, revision.digest, asked);
    let snapshot = state.pool.snapshot(&spec).await.map(snapshot);
    FunctionView { snapshot, ..listed_function(active, state, reader) }
}

/// A revision of a function whose revision `active` answers requests.
pub(crate) fn revision(revision: Revision, active: u32, reader: Scope) -> RevisionView {
    RevisionView {
        revision: revision.number,
        digest: format!("sha256:{}", revision.digest),
        kind: revision.kind,
        bytes: revision.bytes,
        active: revision.number == active,
        settings: settings(revision.settings, reader),
        version: revision.release.semver,
        labels: revision.release.labels,
        deployed_by: revision.deployed_by,
        deployed_from: revision.deployed_from,
        created_at: rfc3339(revision.created_ms),
    }
}

/// A channel of the function at `base`.
pub(crate) fn channel(
    channel: Channel,
    base: &str,
    reader: Scope,
    meter: Option<&CanaryMeter>,
) -> ChannelView {
    let follows = if channel.range.is_some() { "range" } else { "revision" };
    let weights = channel.weights.iter();
    ChannelView {
        url: channel_url(&channel.name, base),
        follows: follows.to_owned(),
        range: channel.range,
        revision: channel.revision,
        weights: weights
            .map(|&Weight { revision, percent }| WeightView { revision, percent })
            .collect(),
        sticky: sticky_text(&channel.sticky),
        settings: overlay(channel.options.settings, reader),
        tester_header: channel.options.tester_header,
        shadow: channel.options.shadow.map(shadow),
        canary: channel.canary.map(|running| canary(running, meter)),
        updated_at: Some(rfc3339(channel.updated_ms)),
        name: channel.name,
    }
}

/// The channel `default` of a function whose owner never set it.
pub(crate) fn newest_channel(revision: u32, base: &str) -> ChannelView {
    ChannelView {
        name: DEFAULT_CHANNEL.to_owned(),
        follows: "newest".to_owned(),
        range: None,
        revision,
        weights: Vec::new(),
        sticky: sticky_text(&Sticky::None),
        settings: overlay(Overlay::default(), Scope::Read),
        tester_header: None,
        shadow: None,
        canary: None,
        url: channel_url(DEFAULT_CHANNEL, base),
        updated_at: None,
    }
}

fn shadow(Shadow { revision, percent, all_methods }: Shadow) -> ShadowView {
    let methods = if all_methods { "all" } else { "safe" };
    ShadowView { revision, percent, methods: methods.to_owned() }
}

fn canary(canary: Canary, meter: Option<&CanaryMeter>) -> CanaryView {
    let (old_requests, new_requests) = meter.map_or((0, 0), CanaryMeter::requests);
    CanaryView {
        revision: canary.revision,
        step: canary.step as u64 + 1,
        steps: canary.steps,
        requests: canary.requests,
        old_requests,
        new_requests,
        since: rfc3339(canary.since_ms),
    }
}

/// The settings of a channel. Values of the environment are for those who may change them.
fn overlay(Overlay(mut settings): Overlay, reader: Scope) -> Value {
    if !reader.covers(Scope::Deploy)
        && let Some(Value::Object(environment)) = settings.get_mut("environment")
    {
        let values = environment.values_mut().filter(|value| !value.is_null());
        values.for_each(|value| *value = HIDDEN.into());
    }
    Value::Object(settings)
}

fn channel_url(name: &str, base: &str) -> String {
    if name == DEFAULT_CHANNEL { format!("{base}/") } else { format!("{base}@{name}/") }
}

/// One change in a function's history.
pub(crate) fn change(change: Change) -> ChangeView {
    ChangeView {
        change: change.number,
        action: change.action.as_str().to_owned(),
        channel: change.channel,
        from: change.before,
        to: change.after,
        detail: Some(change.detail).filter(|detail| !detail.is_null()),
        made_by: change.token,
        made_from: change.origin,
        made_at: rfc3339(change.made_ms),
    }
}

pub(crate) fn secret(secret: SecretRecord) -> SecretView {
    SecretView {
        name: secret.name,
        hosts: secret.hosts,
        functions: secret.functions.unwrap_or_else(|| vec![EVERY.to_owned()]),
        created_at: rfc3339(secret.created_ms),
        updated_at: rfc3339(secret.updated_ms),
    }
}

pub(crate) fn token(token: TokenRecord) -> TokenView {
    TokenView {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        created_at: rfc3339(token.created_ms),
        expires_at: token.expires_ms.map(rfc3339),
        revoked_at: token.revoked_ms.map(rfc3339),
    }
}

pub(crate) fn log_line(line: StoredLogLine) -> LineView {
    let stream = match line.stream {
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
        LogSource::System => "system",
    };
    LineView {
        cursor: line.id,
        time: rfc3339(line.time_ms),
        invocation: line.invocation,
        revision: line.revision,
        stream: stream.to_owned(),
        line: line.line,
    }
}

/// Environments and configurations often hold passwords, so their values are for those who may change them.
fn settings(mut settings: Settings, reader: Scope) -> SettingsView {
    if !reader.covers(Scope::Deploy) {
        settings.environment.values_mut().for_each(|value| *value = HIDDEN.to_owned());
        for value in settings.config.values_mut() {
            if let ConfigSetting::Text(text) = value {
                HIDDEN.clone_into(text);
            }
        }
    }
    let limits = AskedLimits::of(|row| settings.limit(row.key));
    let others = OtherSettings {
        schedule: settings.schedule.into_iter().map(window).collect(),
        isolation: settings.isolation.as_ref().map(isolation),
        server_timing: settings.server_timing,
        environment: settings.environment,
        arguments: settings.arguments,
        files: settings
            .files
            .map(|files| MountView { tree: format!("sha256:{}", files.tree), at: files.at }),
        stream_body: settings.stream_body,
        revision_urls: settings.revision_urls,
        private: settings.private,
        snapshot: settings.snapshot.map(|snapshot| match snapshot {
            SnapshotMode::Switch(on) => SnapshotSetting::Switch(on),
            SnapshotMode::After(function) => SnapshotSetting::After(function),
        }),
        outbound: settings.outbound,
        credentials: settings.credentials.into_iter().map(credential).collect(),
        grants: GrantsView {
            keyvalue: settings
                .grants
                .keyvalue
                .into_iter()
                .map(|(label, grant)| (label, store_grant(grant)))
                .collect(),
        },
        config: settings
            .config
            .into_iter()
            .map(|(name, value)| (name, config_value(value)))
            .collect(),
        config_lists_secrets: settings.config_lists_secrets,
        ungranted: settings.ungranted.map(|ungranted| {
            let word = match ungranted {
                Ungranted::Refuse => "refuse",
                Ungranted::Deny => "deny",
            };
            word.to_owned()
        }),
        respond_async: settings.respond_async.map(|respond| {
            let word = match respond {
                RespondAsync::Prefer => "prefer",
                RespondAsync::Always => "always",
                RespondAsync::Never => "never",
            };
            word.to_owned()
        }),
        on_success: settings.on_success,
        on_failure: settings.on_failure,
        callback_secret: settings.callback_secret,
    };
    SettingsView { limits, others }
}

fn store_grant(grant: StoreGrantSetting) -> StoreGrantView {
    let StorePart { store, access, prefix } = match grant {
        StoreGrantSetting::Store(name) => return StoreGrantView::Store(name),
        StoreGrantSetting::Part(part) => part,
    };
    let access = access.map(|access| {
        let word = match access {
            StoreAccess::Read => "read",
            StoreAccess::Write => "write",
            StoreAccess::ReadWrite => "read-write",
        };
        word.to_owned()
    });
    StoreGrantView::Part(StorePartView { store, access, prefix })
}

fn config_value(value: ConfigSetting) -> ConfigView {
    match value {
        ConfigSetting::Text(text) => ConfigView::Text(text),
        ConfigSetting::Secret(SecretSetting { secret, environment }) => {
            ConfigView::Secret(ConfigSecretView { secret, environment })
        }
    }
}

fn window(window: WarmWindow) -> WindowView {
    let WarmWindow { days, from, to, min_warm } = window;
    let days = days.into_iter().map(|day| day_name(day).to_owned()).collect();
    WindowView { days, from, to, min_warm }
}

fn day_name(day: DayOfWeek) -> &'static str {
    match day {
        DayOfWeek::Mon => "mon",
        DayOfWeek::Tue => "tue",
        DayOfWeek::Wed => "wed",
        DayOfWeek::Thu => "thu",
        DayOfWeek::Fri => "fri",
        DayOfWeek::Sat => "sat",
        DayOfWeek::Sun => "sun",
    }
}

fn isolation(isolation: &IsolationSetting) -> IsolationView {
    let &IsolationSetting { mode, max_uses, max_concurrent, idle_ms } = isolation;
    let mode = match mode {
        IsolationMode::Request => "request",
        IsolationMode::Reuse => "reuse",
    };
    IsolationView { mode: mode.to_owned(), max_uses, max_concurrent, idle_ms }
}

fn credential(credential: CredentialSetting) -> CredentialView {
    let CredentialSetting { host, header, secret, prefix } = credential;
    CredentialView { host, header, secret, prefix }
}

fn snapshot(outcome: SnapshotOutcome) -> SnapshotView {
    let (taken, init_ms, bytes, reason) = match outcome {
        SnapshotOutcome::Taken { init_ms, bytes } => (true, Some(init_ms), Some(bytes), None),
        SnapshotOutcome::NotTaken { reason } => (false, None, None, Some(reason)),
    };
    SnapshotView { taken, init_ms, bytes, reason }
}

fn instances(function: &runtime_pool::Function) -> InstancesView {
    InstancesView {
        running: function.running_invocations() as u64,
        waiting: function.warm_instances() as u64,
    }
}

/// A route.
pub(crate) fn route(route: StoredRoute) -> RouteView {
    RouteView {
        name: route.name,
        route: route.spec,
        created_at: rfc3339(route.created_ms),
        updated_at: rfc3339(route.updated_ms),
    }
}

/// A schedule.
pub(crate) fn schedule(schedule: StoredSchedule) -> ScheduleView {
    let StoredSchedule { record, spec, next, runs } = schedule;
    ScheduleView {
        name: record.name,
        schedule: spec,
        next: next.iter().map(ToString::to_string).collect(),
        runs: runs.into_iter().map(run).collect(),
        created_at: rfc3339(record.created_ms),
        updated_at: rfc3339(record.updated_ms),
    }
}

fn run(run: ScheduleRun) -> RunView {
    let outcome = match (run.outcome, run.state) {
        (RunOutcome::Skipped, _) => "skipped",
        (RunOutcome::Missed, _) => "missed",
        (RunOutcome::Refused, _) => "refused",
        (RunOutcome::Queued, Some(CallState::Due)) => "queued",
        (RunOutcome::Queued, Some(CallState::Running)) => "running",
        (RunOutcome::Queued, Some(CallState::Succeeded)) => "succeeded",
        (RunOutcome::Queued, Some(CallState::Dead)) => "failed",
        (RunOutcome::Queued, Some(CallState::Cancelled)) => "cancelled",
        (RunOutcome::Queued, None) => "forgotten",
    };
    RunView {
        due_at: rfc3339(run.due_ms),
        outcome: outcome.to_owned(),
        manual: run.manual,
        invocation: run.invocation,
        others: run.others,
    }
}
