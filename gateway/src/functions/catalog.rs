//! What is active, in memory, so that no call waits for SQL.
//!
//! Reads take no lock. An entry is replaced as a whole: a call sees one revision or the other.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapWeak, Guard};
use gateway_api::{FunctionLimit, LimitValues};
use runtime_pool::{
    ArtifactDigest, Credential, Function, FunctionKey, FunctionSpec, Grant, GuestLimits, Isolation,
    Limits, NotACredential,
};
use serde::{Deserialize as _, de::value::MapDeserializer};
use store::{ActiveFunction, IsolationMode, Settings, SnapshotMode, Store, Tenant};

use crate::{
    config::Config,
    functions::{
        name::{BorrowedName, QualifiedName},
        ok_counter::OkCounter,
        schedule::WarmSchedule,
    },
};

/// What guests usually call the function that prepares them for a snapshot.
const START_FUNCTION: &str = "wizer-initialize";

/// The export to call before a snapshot is taken, if one is asked for.
pub(crate) fn start_function(snapshot: &SnapshotMode) -> Option<&str> {
    match snapshot {
        SnapshotMode::Switch(true) => Some(START_FUNCTION),
        SnapshotMode::Switch(false) => None,
        SnapshotMode::After(function) => Some(function),
    }
}

/// The label of functions that came after there were enough, and of what is none yet.
pub(crate) const OTHER: &str = "other";

/// Calls after which an instance is dropped that is used again: what it leaks ends with it.
const REUSE_USES: u32 = 1_000;
/// Time without a call after which it is dropped.
const REUSE_IDLE: Duration = Duration::from_secs(60);

/// One function as calls see it. Never changed.
#[derive(Debug)]
pub(crate) struct CatalogEntry {
    pub(crate) key: FunctionKey,
    /// `/f/{name}`: where the function is mounted when it is called by path.
    pub(crate) mount: Arc<str>,
    pub(crate) spec: FunctionSpec,
    /// Bytes of a request body.
    pub(crate) request_bytes: u64,
    /// Whether its answers say how they came about.
    pub(crate) timing: bool,
    /// How many instances stay warm without calls.
    pub(crate) schedule: WarmSchedule,
    pub(crate) ok: OkCounter,
    pub(crate) resident: ResidentCache,
}

/// The resident function as the last calls found it: most calls find it here and need not ask the
/// pool, whose look-up also keeps the books of who was used when.
#[derive(Debug)]
pub(crate) struct ResidentCache {
    function: ArcSwapWeak<Function>,
    since: Instant,
    /// When the pool was last asked, in milliseconds since `since`.
    asked_ms: AtomicU64,
}

/// How long calls may go without asking the pool. Short against every idle time, so that the pool
/// does not take a busy function for an idle one, and what it has evicted is not kept in use.
const ASK_EVERY_MS: u64 = 100;

impl ResidentCache {
    fn new() -> Self {
        let function = ArcSwapWeak::new(Weak::new());
        Self { function, since: Instant::now(), asked_ms: AtomicU64::new(0) }
    }

    /// The function, unless it is gone or the pool should be asked again.
    pub(crate) fn get(&self, now: Instant) -> Option<Arc<Function>> {
        let fresh = self.now_ms(now).saturating_sub(self.asked_ms.load(Relaxed)) < ASK_EVERY_MS;
        if fresh { self.function.load().upgrade() } else { None }
    }

    /// The function if it is in memory, for those who only want to look.
    pub(crate) fn peek(&self) -> Option<Arc<Function>> {
        self.function.load().upgrade()
    }

    /// Notes what the pool has said.
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
    /// Whether it is held to the same limits.
    fn same_limits(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.spec, &other.spec);
        (&ours.limits, ours.max_warm) == (&theirs.limits, theirs.max_warm)
            && (self.request_bytes, &self.schedule) == (other.request_bytes, &other.schedule)
    }
}

/// What the operator lets functions use.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) defaults: LimitValues,
    pub(crate) ceilings: LimitValues,
    /// How often they have changed since the start.
    generation: u32,
}

/// All functions that can be called.
#[derive(Debug)]
pub(crate) struct Catalog {
    functions: papaya::HashMap<QualifiedName, Arc<CatalogEntry>>,
    labels: Mutex<HashSet<Arc<str>>>,
    labels_max: usize,
    store: Store,
    bounds: ArcSwap<Bounds>,
    guest: GuestLimits,
    /// Whether answers say how they came about, where the owner has not said.
    timing: bool,
}

impl Catalog {
    /// Reads what is active. One query, whatever the number of functions; no artifact is touched.
    pub(crate) async fn load(store: &Store, config: &Config) -> store::Result<Self> {
        let (defaults, ceilings) = (config.limits, config.ceilings);
        let catalog = Self {
            functions: papaya::HashMap::new(),
            labels: Mutex::new(HashSet::new()),
            labels_max: config.metrics.functions,
            store: store.clone(),
            bounds: ArcSwap::from_pointee(Bounds { defaults, ceilings, generation: 0 }),
            guest: config.guests,
            timing: config.server.edge.timing,
        };
        for function in store.all_active().await? {
            match QualifiedName::try_from(&function.function) {
                Ok(name) => drop(catalog.set(name, &function)),
                Err(error) => {
                    tracing::error!(name = function.function.name, %error, "skipped a function");
                }
            }
        }
        Ok(catalog)
    }

    /// What the operator lets functions use.
    pub(crate) fn bounds(&self) -> Guard<Arc<Bounds>> {
        self.bounds.load()
    }

    /// Lets other limits hold for whatever enters the catalog from here on.
    pub(crate) fn set_bounds(&self, defaults: LimitValues, ceilings: LimitValues) {
        let generation = self.bounds().generation + 1;
        self.bounds.store(Arc::new(Bounds { defaults, ceilings, generation }));
    }

    /// The entry with the current limits, and the entry it replaces, if the limits of the function
    /// have changed since that entry was made.
    pub(crate) fn with_current_limits(
        &self,
        name: &QualifiedName,
        active: &ActiveFunction,
    ) -> Option<(CatalogEntry, Arc<CatalogEntry>)> {
        let before = self.functions.pin().get(name).cloned()?;
        let entry = self.entry(name, active);
        (!entry.same_limits(&before)).then_some((entry, before))
    }

    /// The function of this name. Allocates nothing: every request comes through here.
    pub(crate) fn get(&self, tenant: &Tenant, name: &str) -> Option<Arc<CatalogEntry>> {
        self.functions.pin().get(&BorrowedName { tenant, name }).cloned()
    }

    /// Makes a revision the active one; returns the one before it.
    pub(crate) fn set(
        &self,
        name: QualifiedName,
        active: &ActiveFunction,
    ) -> Option<Arc<CatalogEntry>> {
        let entry = self.entry(&name, active);
        self.replace(name, entry)
    }

    /// Makes `entry` the one that calls see; returns the one before it.
    pub(crate) fn replace(
        &self,
        name: QualifiedName,
        entry: CatalogEntry,
    ) -> Option<Arc<CatalogEntry>> {
        self.functions.pin().insert(name, Arc::new(entry)).cloned()
    }

    /// Removes a function; returns its entry.
    pub(crate) fn remove(&self, name: &QualifiedName) -> Option<Arc<CatalogEntry>> {
        self.functions.pin().remove(name).cloned()
    }

    /// All functions for which `wanted` returns true.
    pub(crate) fn filter(&self, wanted: impl Fn(&CatalogEntry) -> bool) -> Vec<Arc<CatalogEntry>> {
        self.functions.pin().values().filter(|entry| wanted(entry)).cloned().collect()
    }

    /// The limits that hold: what the owner asked for or the default, and at most the ceiling.
    pub(crate) fn limits(&self, settings: &Settings) -> LimitValues {
        let bounds = self.bounds();
        LimitValues::of(|row| {
            let asked = settings.limit(row.key).unwrap_or(bounds.defaults[row.limit]);
            asked.min(bounds.ceilings[row.limit])
        })
    }

    /// How many warm instances are kept, at each time of the week.
    fn schedule(&self, settings: &Settings, limits: &LimitValues) -> WarmSchedule {
        // It was checked when the revision was published. A schedule that this version cannot parse
        // is ignored; `min_warm` still applies.
        let asked = WarmSchedule::new(settings).unwrap_or_default();
        let ceiling = self.bounds().ceilings.size(FunctionLimit::MinWarm);
        asked.within(limits.size(FunctionLimit::MinWarm), ceiling)
    }

    /// How many functions can be called.
    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }

    /// The entry of a revision.
    pub(crate) fn entry(&self, name: &QualifiedName, active: &ActiveFunction) -> CatalogEntry {
        let ActiveFunction { function, revision } = active;
        let key = FunctionKey {
            function: function.id,
            revision: revision.number,
            generation: self.bounds().generation,
        };
        let spec = self.spec(&name.tenant, self.label(name), revision.digest, &revision.settings);
        let limits = self.limits(&revision.settings);
        CatalogEntry {
            mount: format!("/f/{}", name.name).into(),
            key,
            spec,
            request_bytes: limits[FunctionLimit::RequestBytes],
            timing: revision.settings.server_timing.unwrap_or(self.timing),
            schedule: self.schedule(&revision.settings, &limits),
            ok: OkCounter::default(),
            resident: ResidentCache::new(),
        }
    }

    /// What the pool needs to make a revision resident.
    pub(crate) fn spec(
        &self,
        tenant: &Tenant,
        label: Arc<str>,
        digest: store::Digest,
        settings: &Settings,
    ) -> FunctionSpec {
        // Both were checked when the revision was published. An entry that a later version no
        // longer understands allows nothing.
        let outbound = settings.outbound.iter().filter_map(|host| host.parse().ok());
        let limits = self.limits(settings);
        FunctionSpec {
            tenant: tenant.clone().into(),
            digest: ArtifactDigest(*digest.as_bytes()),
            artifact: self.store.artifact_path(&digest),
            label,
            limits: pool_limits(&limits, self.guest),
            environment: settings.environment.clone().into_iter().collect(),
            outbound: outbound.collect::<Vec<Grant>>(),
            credentials: settings
                .credentials
                .iter()
                .filter_map(|one| credential(one).ok())
                .collect(),
            isolation: effective_isolation(settings),
            max_warm: limits.size(FunctionLimit::MaxWarm),
            snapshot: settings.snapshot.as_ref().and_then(start_function).map(Into::into),
        }
    }

    /// The function's own label in metrics, or [`OTHER`] once there are as many as the setting
    /// `metrics.functions` allows. Functions of the default tenant are labelled by their bare
    /// names, those of others by `tenant/name`. The label of a deleted function stays taken,
    /// because its series stay.
    fn label(&self, function: &QualifiedName) -> Arc<str> {
        let QualifiedName { tenant, name } = function;
        let text = if *tenant == Tenant::default() {
            Cow::Borrowed(name.as_str())
        } else {
            Cow::Owned(format!("{tenant}/{name}"))
        };
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = labels.get(&*text) {
            return Arc::clone(label);
        }
        if labels.len() >= self.labels_max {
            return OTHER.into();
        }
        let label: Arc<str> = text.into();
        labels.insert(Arc::clone(&label));
        label
    }
}

/// The limits that the pool enforces: it names them by the same keys.
fn pool_limits(limits: &LimitValues, guest: GuestLimits) -> Limits {
    let values = limits.iter().map(|(row, value)| (row.key, value));
    let values = MapDeserializer::<_, serde::de::value::Error>::new(values);
    let limits = Limits::deserialize(values).expect("the table has all limits of the pool");
    Limits { guest, ..limits }
}

/// What requests of the function get on their way.
pub(crate) fn credential(asked: &store::CredentialSetting) -> Result<Credential, NotACredential> {
    Credential::new(&asked.host, &asked.header, &asked.secret, &asked.prefix)
}

/// What invocations share, with what holds where the owner has not said.
pub(crate) fn effective_isolation(settings: &Settings) -> Isolation {
    let Some(asked) = &settings.isolation else { return Isolation::Request };
    let number = |asked: Option<u64>, default: u32| {
        asked.map_or(default, |asked| u32::try_from(asked).unwrap_or(u32::MAX))
    };
    match asked.mode {
        IsolationMode::Request => Isolation::Request,
        IsolationMode::Reuse => Isolation::Reuse {
            max_uses: number(asked.max_uses, REUSE_USES),
            max_concurrent: number(asked.max_concurrent, 1),
            idle: asked.idle_ms.map_or(REUSE_IDLE, Duration::from_millis),
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
