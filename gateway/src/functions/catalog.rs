//! The active revision of each function, in memory, so that no call waits for SQL.
//!
//! Reads take no lock. An entry is replaced as a whole: a call sees one revision or the other.

pub(crate) mod target;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapWeak, Guard};
use gateway_api::{FunctionLimit, LimitValues};
use http::HeaderValue;
use papaya::Guard as _;
use runtime_pool::{
    ArtifactDigest, BlobPath, FilesSpec, Function, FunctionKey, FunctionSpec, GuestLimits,
    Isolation, Limits,
};
use serde::{Deserialize as _, de::value::MapDeserializer};
use store::{
    ActiveFunction, ChannelTargets, DEFAULT_CHANNEL, IsolationMode, Overlay, RespondAsync,
    Settings, Shadow, SnapshotMode, Store, Tenant,
};

use crate::{
    config::Config,
    functions::{
        background::BackgroundSettings,
        channels::{
            channel_labels::ChannelLabels,
            counts::ChannelLabel,
            meters::{CanaryMeter, CanaryMeters},
            ok_counter::OkCounter,
            overlay,
            plan::{ChannelPlan, Member, ShadowPlan},
            split::Split,
        },
        grants::{CompactGrants, add_grants},
        labels::Labels,
        qualified_name::{BorrowedName, QualifiedName},
        schedule::WarmSchedule,
    },
};

/// The usual name of the export that prepares a guest for a snapshot.
const START_FUNCTION: &str = "wizer-initialize";

/// The export to call before the snapshot; `None` if the settings ask for no snapshot.
pub(crate) fn start_function(snapshot: &SnapshotMode) -> Option<&str> {
    match snapshot {
        SnapshotMode::Switch(true) => Some(START_FUNCTION),
        SnapshotMode::Switch(false) => None,
        SnapshotMode::After(function) => Some(function),
    }
}

/// Where guests see their files if the settings do not say.
const ROOT_MOUNT: &str = "/";

/// Invocations after which a reused instance is dropped, which bounds what it can leak.
const REUSE_USES: u32 = 1_000;
/// Time without an invocation after which a reused instance is dropped.
const REUSE_IDLE: Duration = Duration::from_secs(60);

/// One function as calls see it. Immutable.
#[derive(Debug)]
pub(crate) struct CatalogEntry {
    pub(crate) key: FunctionKey,
    /// `/f/{name}` or `/f/{name}@{revision}`: where it is mounted when it is called by path.
    pub(crate) mount: Arc<str>,
    /// The same as the value of a header field.
    pub(crate) mount_field: HeaderValue,
    /// Its specification without the grants, which [`Self::spec`] adds.
    pub(crate) ungranted: FunctionSpec,
    grants: CompactGrants,
    /// The bytes of its settings.
    settings_bytes: u64,
    /// The limit of a request's body, in bytes.
    pub(crate) request_bytes: u64,
    /// Whether responses have the header `Server-Timing`.
    pub(crate) timing: bool,
    /// Whether each revision of the function has an address of its own.
    pub(crate) revision_urls: bool,
    /// Whether the function has no address of its own.
    pub(crate) private: bool,
    /// When its calls are enqueued.
    pub(crate) respond_async: RespondAsync,
    /// How its calls are enqueued. Apart, because most calls do not need it.
    pub(crate) background: Box<BackgroundSettings>,
    /// How many instances stay warm without calls.
    pub(crate) schedule: WarmSchedule,
    /// What calls do besides running the revision, if this is the revision of a channel that was set.
    pub(crate) channel: Option<Box<ChannelPlan<CatalogEntry>>>,
    pub(crate) ok: OkCounter,
    pub(crate) resident: ResidentCache,
}

/// The resident function that the last calls found in the pool. Most calls find it here, which is
/// faster than the pool: a look-up in the pool also updates the order of eviction.
#[derive(Debug)]
pub(crate) struct ResidentCache {
    function: ArcSwapWeak<Function>,
    since: Instant,
    /// The time of the last look-up in the pool, in milliseconds since `since`.
    asked_ms: AtomicU64,
}

/// The interval between look-ups in the pool. Shorter than every idle time, so that the pool does
/// not evict a busy function as idle, and calls do not keep using one that it has evicted.
const ASK_EVERY_MS: u64 = 100;

impl ResidentCache {
    fn new() -> Self {
        let function = ArcSwapWeak::new(Weak::new());
        Self { function, since: Instant::now(), asked_ms: AtomicU64::new(0) }
    }

    /// The function; `None` if it was evicted, or if it is time for a look-up in the pool.
    pub(crate) fn get(&self, now: Instant) -> Option<Arc<Function>> {
        let fresh = self.now_ms(now).saturating_sub(self.asked_ms.load(Relaxed)) < ASK_EVERY_MS;
        if fresh { self.function.load().upgrade() } else { None }
    }

    /// The function if it is in memory. Does not count as use.
    pub(crate) fn peek(&self) -> Option<Arc<Function>> {
        self.function.load().upgrade()
    }

    /// Stores the result of a look-up in the pool.
    pub(crate) fn set(&self, function: &Arc<Function>, now: Instant) {
        self.asked_ms.store(self.now_ms(now), Relaxed);
        if !self.function.load().ptr_eq(&Arc::downgrade(function)) {
            self.function.store(Arc::downgrade(function));
        }
    }

    fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX)
    }
}

impl CatalogEntry {
    /// The specification from which the pool makes it resident.
    pub(crate) fn spec(&self) -> FunctionSpec {
        self.grants.add_to(self.ungranted.clone())
    }

    /// The names of the stores that its guests may open.
    pub(crate) fn granted_stores(&self) -> Vec<String> {
        self.grants.stores()
    }

    /// The bytes of its settings, and of those of the revisions that take a share.
    fn kept_bytes(&self) -> u64 {
        let weighted = self.channel.iter().flat_map(|channel| channel.entries());
        self.settings_bytes + weighted.map(|entry| entry.settings_bytes).sum::<u64>()
    }

    /// Whether both have the same limits.
    fn same_limits(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.ungranted, &other.ungranted);
        (&ours.limits, ours.max_warm) == (&theirs.limits, theirs.max_warm)
            && (self.request_bytes, &self.schedule) == (other.request_bytes, &other.schedule)
            && self.background == other.background
    }
}

/// The channels of a function by name, but for `default`.
pub(crate) type Channels = HashMap<String, Arc<CatalogEntry>>;

/// A function as calls are to see it.
#[derive(Debug)]
pub(crate) struct Entries {
    /// What calls of the function itself reach.
    pub(crate) default: CatalogEntry,
    pub(crate) channels: Channels,
}

impl Entries {
    /// The bytes of all settings that are kept for the function.
    pub(crate) fn settings_bytes(&self) -> u64 {
        self.default.kept_bytes() + channels_bytes(&self.channels)
    }

    /// The keys of all revisions that calls can reach.
    pub(crate) fn keys(&self) -> HashSet<FunctionKey> {
        let own =
            std::iter::once(&self.default).chain(self.channels.values().map(|entry| &**entry));
        let all = own.flat_map(|entry| {
            let weighted = entry.channel.iter().flat_map(|channel| channel.entries());
            std::iter::once(entry.key).chain(weighted.map(|entry| entry.key))
        });
        all.collect()
    }
}

fn channels_bytes(channels: &Channels) -> u64 {
    channels.values().map(|entry| entry.kept_bytes()).sum()
}

/// The defaults and ceilings that the operator has set.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) defaults: LimitValues,
    pub(crate) ceilings: LimitValues,
    /// The number of changes since the start.
    generation: u32,
}

/// All functions that can be called.
#[derive(Debug)]
pub(crate) struct Catalog {
    functions: papaya::HashMap<QualifiedName, Arc<CatalogEntry>>,
    /// The channels of each function that has any, but for `default`.
    channels: papaya::HashMap<QualifiedName, Arc<Channels>>,
    /// The sum over the entries.
    settings_bytes: AtomicU64,
    labels: Labels,
    channel_labels: ChannelLabels,
    canaries: CanaryMeters,
    store: Store,
    /// Where files of functions are.
    blob_path: BlobPath,
    bounds: ArcSwap<Bounds>,
    guest: GuestLimits,
    /// Whether responses have the header `Server-Timing` if a function's settings do not say.
    timing: bool,
}

impl Catalog {
    /// Reads all active revisions, in one query. Touches no artifact.
    pub(crate) async fn load(store: &Store, config: &Config) -> store::Result<Self> {
        let (defaults, ceilings) = (config.limits, config.ceilings);
        let catalog = Self {
            functions: papaya::HashMap::new(),
            channels: papaya::HashMap::new(),
            settings_bytes: AtomicU64::new(0),
            labels: Labels::new(config.metrics.functions),
            channel_labels: ChannelLabels::new(config.metrics.channels),
            canaries: CanaryMeters::default(),
            store: store.clone(),
            blob_path: blob_path(store),
            bounds: ArcSwap::from_pointee(Bounds { defaults, ceilings, generation: 0 }),
            guest: config.guests,
            timing: config.server.edge.timing,
        };
        let with_channels: HashSet<i64> =
            store.functions_with_channels().await?.into_iter().collect();
        for active in store.all_active().await? {
            let id = active.function.id;
            let channels = match with_channels.contains(&id) {
                true => store.channel_targets(id).await?,
                false => Vec::new(),
            };
            match QualifiedName::try_from(&active.function) {
                Ok(name) => {
                    let entries = catalog.entries(&name, &active, channels);
                    catalog.replace(name, entries);
                }
                Err(error) => {
                    tracing::error!(name = active.function.name, %error, "skipped a function");
                }
            }
        }
        Ok(catalog)
    }

    /// The defaults and ceilings that the operator has set.
    pub(crate) fn bounds(&self) -> Guard<Arc<Bounds>> {
        self.bounds.load()
    }

    /// Sets the defaults and ceilings of entries that are made from here on.
    pub(crate) fn set_bounds(&self, defaults: LimitValues, ceilings: LimitValues) {
        let generation = self.bounds().generation + 1;
        self.bounds.store(Arc::new(Bounds { defaults, ceilings, generation }));
    }

    /// The entries with the current limits, and the entry that they replace, if the limits of the
    /// function have changed since that entry was made, or could have in a channel.
    pub(crate) fn with_current_limits(
        &self,
        name: &QualifiedName,
        active: &ActiveFunction,
        channels: Vec<ChannelTargets>,
    ) -> Option<(Entries, Arc<CatalogEntry>)> {
        let before = self.functions.pin().get(name).cloned()?;
        let has_channels = !channels.is_empty();
        let entries = self.entries(name, active, channels);
        let changed = has_channels || !entries.default.same_limits(&before);
        changed.then_some((entries, before))
    }

    /// The function of this name. Allocates nothing: every request comes through here.
    pub(crate) fn get(&self, tenant: &Tenant, name: &str) -> Option<Arc<CatalogEntry>> {
        self.functions.pin().get(&BorrowedName { tenant, name }).cloned()
    }

    /// A channel of a function other than `default`. Allocates nothing.
    pub(crate) fn channel(
        &self,
        tenant: &Tenant,
        name: &str,
        channel: &str,
    ) -> Option<Arc<CatalogEntry>> {
        self.channels.pin().get(&BorrowedName { tenant, name })?.get(channel).cloned()
    }

    /// Makes `entries` the ones that calls see; returns the one before of the function itself.
    pub(crate) fn replace(
        &self,
        name: QualifiedName,
        entries: Entries,
    ) -> Option<Arc<CatalogEntry>> {
        // Added first, so that the sum never falls below zero.
        self.settings_bytes.fetch_add(entries.settings_bytes(), Relaxed);
        let Entries { default: entry, channels } = entries;
        let guard = self.channels.guard();
        let channels_before = match channels.is_empty() {
            true => self.channels.remove(&name, &guard).cloned(),
            false => self.channels.insert(name.clone(), Arc::new(channels), &guard).cloned(),
        };
        // As below: the map would keep labels of channels, and meters of canaries.
        guard.flush();
        drop(guard);
        let guard = self.functions.guard();
        let before = self.functions.insert(name, Arc::new(entry), &guard).cloned();
        guard.flush();
        drop(guard);
        self.forget_settings(before.as_deref(), channels_before.as_deref());
        before
    }

    fn forget_settings(&self, entry: Option<&CatalogEntry>, channels: Option<&Channels>) {
        let bytes = entry.map_or(0, CatalogEntry::kept_bytes) + channels.map_or(0, channels_bytes);
        self.settings_bytes.fetch_sub(bytes, Relaxed);
    }

    /// The bytes of the settings of all functions, their channels and environments included.
    pub(crate) fn settings_bytes(&self) -> u64 {
        self.settings_bytes.load(Relaxed)
    }

    /// The part of them that one function has.
    pub(crate) fn settings_bytes_of(&self, name: &QualifiedName) -> u64 {
        let entry = self.functions.pin().get(name).map_or(0, |entry| entry.kept_bytes());
        entry + self.channels.pin().get(name).map_or(0, |channels| channels_bytes(channels))
    }

    /// Removes a function; returns its entry.
    pub(crate) fn remove(&self, name: &QualifiedName) -> Option<Arc<CatalogEntry>> {
        let channels = self.channels.pin().remove(name).cloned();
        let guard = self.functions.guard();
        let removed = self.functions.remove(name, &guard).cloned();
        // The map would keep the entry, and with it the label, until many more were removed.
        guard.flush();
        drop(guard);
        self.labels.retire(name);
        self.forget_settings(removed.as_deref(), channels.as_deref());
        removed
    }

    /// Frees the labels of deleted functions, and returns them.
    pub(crate) fn free_labels(&self) -> Vec<Arc<str>> {
        self.labels.free()
    }

    /// Frees the labels of channels that no call uses any more, and returns them.
    pub(crate) fn free_channel_labels(&self) -> Vec<Arc<ChannelLabel>> {
        self.channel_labels.free()
    }

    /// The canaries that run.
    pub(crate) fn canaries(&self) -> Vec<Arc<CanaryMeter>> {
        self.canaries.live()
    }

    /// Shows each function, and each of its channels but `default` with its name.
    pub(crate) fn for_each(
        &self,
        mut each: impl FnMut(&QualifiedName, Option<&str>, &CatalogEntry),
    ) {
        for (name, entry) in &self.functions.pin() {
            each(name, None, entry);
        }
        for (name, channels) in &self.channels.pin() {
            for (channel, entry) in &**channels {
                each(name, Some(channel), entry);
            }
        }
    }

    /// All functions for which `wanted` returns true.
    pub(crate) fn filter(&self, wanted: impl Fn(&CatalogEntry) -> bool) -> Vec<Arc<CatalogEntry>> {
        self.functions.pin().values().filter(|entry| wanted(entry)).cloned().collect()
    }

    /// The specifications, without grants, of all revisions that calls can reach: those of functions, of
    /// their channels, and those with a share of requests or of copies.
    pub(crate) fn reachable(&self) -> Vec<FunctionSpec> {
        let mut specs = Vec::new();
        let mut add = |entry: &CatalogEntry| {
            specs.push(entry.ungranted.clone());
            let others = entry.channel.iter().flat_map(|channel| channel.entries());
            specs.extend(others.map(|other| other.ungranted.clone()));
        };
        self.functions.pin().values().for_each(|entry| add(entry));
        let channels = self.channels.pin();
        channels.values().flat_map(|channels| channels.values()).for_each(|entry| add(entry));
        specs
    }

    /// The limits in effect: those of the settings or the defaults, and at most the ceilings.
    pub(crate) fn limits(&self, settings: &Settings) -> LimitValues {
        let bounds = self.bounds();
        LimitValues::of(|row| {
            let limit = settings.limit(row.key).unwrap_or(bounds.defaults[row.limit]);
            limit.min(bounds.ceilings[row.limit])
        })
    }

    /// The number of instances to keep warm, by the time of the week.
    fn schedule(&self, settings: &Settings, limits: &LimitValues) -> WarmSchedule {
        // Schedules are validated at publish. A schedule that this version cannot parse is ignored;
        // `min_warm` still applies.
        let schedule = WarmSchedule::new(settings).unwrap_or_default();
        let ceiling = self.bounds().ceilings.size(FunctionLimit::MinWarm);
        schedule.within(limits.size(FunctionLimit::MinWarm), ceiling)
    }

    /// The number of functions.
    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }

    /// The entries of a function, of its active revision and its channels.
    pub(crate) fn entries(
        &self,
        name: &QualifiedName,
        active: &ActiveFunction,
        channels: Vec<ChannelTargets>,
    ) -> Entries {
        let mount = format!("/f/{}", name.name);
        let mut default = self.entry_at(name, active, mount.clone());
        let mut others = Channels::new();
        for ChannelTargets { channel, revisions } in channels {
            let is_default = channel.name == DEFAULT_CHANNEL;
            let mount =
                if is_default { mount.clone() } else { format!("{mount}@{}", channel.name) };
            let overlay = &channel.options.settings;
            let entry = |revision| {
                let active = ActiveFunction { revision, function: active.function.clone() };
                self.overlaid(name, active, overlay, mount.clone())
            };
            let mut entries = revisions.into_iter().map(entry);
            let Some(mut own) = entries.next() else { continue };
            let members = entries
                .by_ref()
                .map(|entry| Member { revision: entry.key.revision, entry: Arc::new(entry) });
            // In this order: `zip` takes no member for which there is no weight.
            let weighted = channel.weights.into_iter().zip(members).collect();
            let shadow = channel.options.shadow.zip(entries.next());
            let shadow = shadow.map(|(Shadow { percent, all_methods, .. }, entry)| ShadowPlan {
                entry: Arc::new(entry),
                percent,
                all_methods,
            });
            let split = Split::new(weighted, channel.sticky, active.function.id);
            let label = self.channel_labels.take(&own.ungranted.label, &channel.name);
            let tester = channel.options.tester_header.as_deref();
            let meter = channel.canary.clone().map(|canary| {
                let (id, channel, old) =
                    (active.function.id, channel.name.clone(), channel.revision);
                self.canaries.get_or(CanaryMeter::new(name.clone(), id, channel, old, canary))
            });
            let plan = ChannelPlan::new(channel.revision, split, tester, shadow, label, meter);
            own.channel = Some(Box::new(plan));
            if is_default {
                default = own;
            } else {
                others.insert(channel.name, Arc::new(own));
            }
        }
        Entries { default, channels: others }
    }

    /// The entry of a revision in a channel with settings of its own.
    fn overlaid(
        &self,
        name: &QualifiedName,
        mut active: ActiveFunction,
        overlay: &Overlay,
        mount: String,
    ) -> CatalogEntry {
        let own = &active.revision.settings;
        let settings = overlay::merged(own, overlay).unwrap_or_else(|error| {
            // They were tried when the channel was set.
            tracing::error!(%error, name = %name.name, "a channel's settings are ignored");
            own.clone()
        });
        let fingerprint = if settings == *own { 0 } else { overlay::fingerprint(&settings) };
        active.revision.settings = settings;
        let mut entry = self.entry_at(name, &active, mount);
        // Instances with other settings are never the same.
        entry.key.overlay = fingerprint;
        entry
    }

    /// The entry of a revision, mounted at a path.
    pub(crate) fn entry_at(
        &self,
        name: &QualifiedName,
        active: &ActiveFunction,
        mount: String,
    ) -> CatalogEntry {
        let ActiveFunction { function, revision } = active;
        let key = FunctionKey {
            function: function.id,
            revision: revision.number,
            generation: self.bounds().generation,
            overlay: 0,
        };
        let settings = &revision.settings;
        let label = self.labels.take(name, &function.token);
        let ungranted = self.ungranted(name.borrowed(), label, revision.digest, settings);
        let limits = self.limits(settings);
        CatalogEntry {
            // Names of functions are ASCII.
            mount_field: HeaderValue::try_from(&mount)
                .unwrap_or_else(|_| HeaderValue::from_static("/")),
            mount: mount.into(),
            key,
            ungranted,
            grants: CompactGrants::of(settings),
            settings_bytes: settings_bytes(settings),
            request_bytes: limits[FunctionLimit::RequestBytes],
            timing: settings.server_timing.unwrap_or(self.timing),
            revision_urls: settings.revision_urls.unwrap_or(true),
            private: settings.private.unwrap_or_default(),
            respond_async: settings.respond_async.unwrap_or_default(),
            background: Box::new(BackgroundSettings::new(settings, &limits)),
            schedule: self.schedule(settings, &limits),
            channel: None,
            ok: OkCounter::default(),
            resident: ResidentCache::new(),
        }
    }

    /// The specification of a revision, from which the pool makes it resident.
    pub(crate) fn spec(
        &self,
        function: BorrowedName<'_>,
        label: Arc<str>,
        digest: store::Digest,
        settings: &Settings,
    ) -> FunctionSpec {
        add_grants(settings, self.ungranted(function, label, digest, settings))
    }

    fn files(&self, settings: &Settings) -> Option<Arc<FilesSpec>> {
        let files = settings.files.as_ref()?;
        let at = files.at.as_deref().unwrap_or(ROOT_MOUNT).into();
        let (tree, blob_path) = (*files.tree.as_bytes(), self.blob_path.clone());
        Some(Arc::new(FilesSpec { tree, at, blob_path }))
    }

    /// The same without what the settings grant to guests.
    fn ungranted(
        &self,
        function: BorrowedName<'_>,
        label: Arc<str>,
        digest: store::Digest,
        settings: &Settings,
    ) -> FunctionSpec {
        let limits = self.limits(settings);
        FunctionSpec {
            tenant: function.tenant.clone().into(),
            name: function.name.into(),
            digest: ArtifactDigest(*digest.as_bytes()),
            artifact: self.store.artifact_path(&digest),
            label,
            limits: pool_limits(&limits, self.guest),
            environment: Vec::new(),
            arguments: Vec::new(),
            stream_body: settings.stream_body.unwrap_or_default(),
            outbound: Vec::new(),
            credentials: Vec::new(),
            capabilities: None,
            files: self.files(settings),
            isolation: effective_isolation(settings),
            max_warm: limits.size(FunctionLimit::MaxWarm),
            snapshot: settings.snapshot.as_ref().and_then(start_function).map(Into::into),
        }
    }
}

fn blob_path(store: &Store) -> BlobPath {
    let store = store.clone();
    BlobPath::new(move |digest| store.blob_path(&store::Digest::from_bytes(*digest)))
}

/// The limits that the pool enforces: it names them by the same keys.
fn pool_limits(limits: &LimitValues, guest: GuestLimits) -> Limits {
    let values = limits.iter().map(|(row, value)| (row.key, value));
    let values = MapDeserializer::<_, serde::de::value::Error>::new(values);
    let limits = Limits::deserialize(values).expect("the table has all limits of the pool");
    Limits { guest, ..limits }
}

/// The bytes of settings as JSON.
pub(crate) fn settings_bytes(settings: &Settings) -> u64 {
    serde_json::to_vec(settings).map_or(0, |json| json.len() as u64)
}

/// The isolation of invocations, with defaults for the settings that the owner has not chosen.
pub(crate) fn effective_isolation(settings: &Settings) -> Isolation {
    let Some(isolation) = &settings.isolation else { return Isolation::Request };
    let number = |value: Option<u64>, default: u32| {
        value.map_or(default, |value| u32::try_from(value).unwrap_or(u32::MAX))
    };
    match isolation.mode {
        IsolationMode::Request => Isolation::Request,
        IsolationMode::Reuse => Isolation::Reuse {
            max_uses: number(isolation.max_uses, REUSE_USES),
            max_concurrent: number(isolation.max_concurrent, 1),
            idle: isolation.idle_ms.map_or(REUSE_IDLE, Duration::from_millis),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_defaults_are_those_of_the_table() {
        let defaults = LimitValues::of(|row| row.default);
        assert_eq!(pool_limits(&defaults, GuestLimits::default()), Limits::default());
    }
}
