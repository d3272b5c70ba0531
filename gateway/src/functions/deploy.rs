//! Deploying: receive → plan → compile and try → publish → activate.
//!
//! Nothing is visible before it is stored, and nothing is stored that does not start. The entry
//! point is [`Deployer::deploy`]; it knows nothing of HTTP.

pub(crate) mod artifacts;
pub(crate) mod change_condition;
pub(crate) mod change_rate;
pub(crate) mod changes;
pub(crate) mod channel_changes;
pub(crate) mod error;
mod granted;
pub(crate) mod projects;
pub(crate) mod releases;
pub(crate) mod set_limits;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod upload;

use std::{error::Error as StdError, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::Stream;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use runtime_pool::Pool;
use store::{
    ActiveFunction, DEFAULT_CHANNEL, FunctionRecord, NewRevision, Precondition, Quotas, Revision,
    Settings, Store, Tenant,
};
use tokio::sync::Mutex;

use crate::{
    config::Config,
    functions::{
        catalog::Catalog,
        deploy::{
            change_rate::ChangeRate,
            error::DeployError,
            granted::check_imports,
            state::{Activated, DeployState},
            upload::{ReceivedUpload, TokenId, Upload},
        },
        labels::OTHER,
        qualified_name::QualifiedName,
        quarantine::Quarantine,
        stores::Stores,
    },
    telemetry::clock::now_ms,
};

/// How often an upload is compiled again because another change altered the function's settings
/// meanwhile. Each attempt costs an instance. Arbitrary, more than concurrent changes are likely.
const ATTEMPTS: usize = 8;

/// The outcome of an upload.
pub(crate) enum Deployed {
    /// A new revision is active.
    New(Activated),
    /// A revision with these bytes and settings was active already, or it was the newest one and waits
    /// for its owner.
    Already(Activated),
}

/// The effect of an upload.
#[expect(clippy::large_enum_variant, reason = "there is one at a time for each upload")]
enum DeployPlan {
    /// Nothing: the outcome is known.
    Answer(Deployed),
    /// Publish a revision with these settings, if the precondition still holds.
    Publish(Precondition, Settings),
}

/// Publishes revisions of functions, and changes what is published. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Deployer {
    state: Arc<DeployState>,
}

impl Deployer {
    pub(crate) fn new(
        store: &Store,
        pool: &Arc<Pool>,
        (catalog, stores): (&Arc<Catalog>, &Stores),
        quarantine: &Arc<Quarantine>,
        config: &Config,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new("mayfly_uploads_refused_total", "Uploads that were refused, by problem"),
            &["problem"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        let removed_revisions = IntCounter::new(
            "mayfly_revisions_removed_total",
            "Inactive revisions that were removed to make room for new ones",
        )?;
        registry.register(Box::new(removed_revisions.clone()))?;
        let state = DeployState {
            store: store.clone(),
            pool: Arc::clone(pool),
            catalog: Arc::clone(catalog),
            stores: stores.clone(),
            quarantine: Arc::clone(quarantine),
            artifact_bytes: config.uploads.artifact_bytes,
            quotas: ArcSwap::from_pointee(config.quotas.clone()),
            changes: ChangeRate::default(),
            publishing: Mutex::default(),
            refused,
            removed_revisions,
        };
        Ok(Self { state: Arc::new(state) })
    }

    /// How many routes there may be.
    pub(crate) fn routes_max(&self) -> u64 {
        self.state.quotas.load().routes as u64
    }

    /// How many certificates there may be.
    pub(crate) fn certificates_max(&self) -> u64 {
        self.state.quotas.load().certificates as u64
    }

    /// How many schedules there may be.
    pub(crate) fn schedules_max(&self) -> u64 {
        self.state.quotas.load().schedules as u64
    }

    /// How many named queues there may be.
    pub(crate) fn queues_max(&self) -> u64 {
        self.state.quotas.load().queues as u64
    }

    /// Counts one change, or refuses it.
    pub(crate) fn admit(&self, token: &TokenId) -> Result<(), DeployError> {
        self.state.admit_change(token)
    }

    /// The quotas that the store enforces.
    pub(crate) fn quotas(&self) -> Quotas {
        self.state.store_quotas()
    }

    /// How many flows there may be.
    pub(crate) fn flows_max(&self) -> u64 {
        self.state.quotas.load().flows as u64
    }

    /// How many stores there may be.
    pub(crate) fn stores_max(&self) -> u64 {
        self.state.quotas.load().stores as u64
    }

    /// Counts an upload that was refused, or that failed.
    pub(crate) fn count_refused(&self, problem: &str) {
        self.state.refused.with_label_values(&[problem]).inc();
    }

    /// Makes an upload the function's active revision. When this returns, the function answers
    /// with it, and no crash undoes that.
    pub(crate) async fn deploy<E>(
        &self,
        upload: Upload,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Deployed, DeployError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let state = &self.state;
        state.check_before_receiving(&upload).await?;
        let upload = Arc::new(state.receive(upload, bytes).await?);
        for _ in 0..ATTEMPTS {
            let settings = match state.plan(&upload).await? {
                DeployPlan::Answer(deployed) => return Ok(deployed),
                DeployPlan::Publish(_, settings) => settings,
            };
            let kind = state.compile_and_try(&upload, &settings).await?;
            let publish = Arc::clone(state).publish(Arc::clone(&upload), kind, settings);
            if let Some(deployed) = Box::pin(state.serialized(publish)).await? {
                return Ok(deployed);
            }
        }
        Err(store::Error::Conflict.into())
    }
}

impl DeployState {
    /// Refuses what can be refused before the first byte is read.
    async fn check_before_receiving(&self, upload: &Upload) -> Result<(), DeployError> {
        let QualifiedName { tenant, name } = &upload.function;
        self.check_length(upload.length)?;
        let before = self.store.function(tenant, name.as_str()).await?;
        self.patched(before.as_ref(), upload.settings.clone())?;
        // A repeated upload is answered like the first one, although that one has changed the
        // state: so its precondition is checked only after its key was looked up.
        if upload.idempotency.is_none() {
            upload.precondition.check(before.as_ref())?;
        }
        Ok(())
    }

    /// Reads the artifact into a file of the store.
    async fn receive<E>(
        &self,
        upload: Upload,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<ReceivedUpload, DeployError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let Upload {
            function,
            actor,
            release,
            settings,
            precondition,
            idempotency,
            digest,
            length: _,
        } = upload;
        let artifact = self.receive_bytes(digest, bytes).await?;
        let received = artifact.digest();
        let idempotency = idempotency.map(|key| {
            let fingerprint = key.fingerprint(&function.name, &received);
            (key.text, fingerprint)
        });
        Ok(ReceivedUpload {
            function,
            actor,
            release,
            settings,
            precondition,
            artifact,
            idempotency,
        })
    }

    /// Decides what an upload changes: nothing if it was answered before, or if the same bytes
    /// are active with the same settings.
    async fn plan(&self, upload: &ReceivedUpload) -> Result<DeployPlan, DeployError> {
        let QualifiedName { tenant, name } = &upload.function;
        if let Some(request) = upload.request()
            && let Some(answered) = self.store.recorded_reply(tenant, request.key, now_ms()).await?
        {
            if answered.fingerprint != request.fingerprint {
                return Err(DeployError::IdempotencyKeyReused);
            }
            return Ok(DeployPlan::Answer(if answered.created {
                Deployed::New(answered.active.into())
            } else {
                Deployed::Already(answered.active.into())
            }));
        }
        let before = self.store.function(tenant, name.as_str()).await?;
        upload.precondition.check(before.as_ref())?;
        let settings = self.patched(before.as_ref(), upload.settings.clone())?;
        let digest = upload.artifact.digest();
        let same = |revision: &Revision| {
            revision.digest == digest
                && revision.settings == settings
                && upload.says_nothing_new_of(&revision.release)
        };
        let existing = match &before {
            Some(active) if same(&active.revision) => Some(Activated::from(active.clone())),
            Some(active) => self.waiting(active).await?.filter(&same).map(|newest| {
                let inactive_revision = Some(newest.number);
                Activated { inactive_revision, ..active.clone().into() }
            }),
            None => None,
        };
        // If the stored file is damaged or missing, publishing the same bytes again repairs it.
        if let Some(existing) = existing
            && self.store.is_whole(&digest).await?
        {
            if let Some(request) = upload.request() {
                let active = &existing.active;
                self.store.record_reply(request, active, &self.store_quotas(), now_ms()).await?;
            }
            return Ok(DeployPlan::Answer(Deployed::Already(existing)));
        }
        let precondition = match before {
            _ if upload.precondition.is_none() => Precondition::Unconditional,
            Some(before) => Precondition::ActiveRevision(before.revision.number),
            None => Precondition::Absent,
        };
        Ok(DeployPlan::Publish(precondition, settings))
    }

    /// The newest revision, if it is not active and a publish of it again would not make it so: the
    /// channel `default` is tied to something else.
    async fn waiting(&self, active: &ActiveFunction) -> store::Result<Option<Revision>> {
        let FunctionRecord { tenant, name, .. } = &active.function;
        let newest = self.store.revisions(tenant, name, None, 1).await?.into_iter().next();
        let waiting = newest.filter(|newest| newest.number != active.revision.number);
        if waiting.is_none() {
            return Ok(None);
        }
        let channels = self.store.channels(tenant, name).await?;
        Ok(waiting.filter(|_| channels.iter().any(|channel| channel.name == DEFAULT_CHANNEL)))
    }

    /// Compiles the artifact and starts one instance of it. Returns its kind.
    async fn compile_and_try(
        &self,
        upload: &ReceivedUpload,
        settings: &Settings,
    ) -> Result<&'static str, DeployError> {
        let (function, digest) = (upload.function.borrowed(), upload.artifact.digest());
        self.check_tree(function.tenant, settings).await?;
        let mut spec = self.catalog.spec(function, OTHER.into(), digest, settings);
        spec.artifact = upload.artifact.path().to_owned();
        let inspection = self.pool.validate(spec, upload.actor.token.uploader()).await?;
        check_imports(&inspection.imports, settings)?;
        self.provide_stores(function.tenant, settings).await?;
        Ok(inspection.kind.as_str())
    }

    /// Makes the stores that settings grant and that are not there, or refuses the settings.
    pub(super) async fn provide_stores(
        &self,
        tenant: &Tenant,
        settings: &Settings,
    ) -> Result<(), DeployError> {
        let max = self.quotas.load().stores as u64;
        match self.stores.provide(tenant, settings.granted_stores(), max).await? {
            None => Ok(()),
            Some(name) => Err(DeployError::UnknownStore { name }),
        }
    }

    /// Refuses settings that name a tree of files which the tenant does not have. The store does so, too,
    /// when it publishes them: but no guest is to see another tenant's files before.
    pub(super) async fn check_tree(
        &self,
        tenant: &Tenant,
        settings: &Settings,
    ) -> Result<(), DeployError> {
        let Some(files) = &settings.files else { return Ok(()) };
        match self.store.tree(tenant, &files.tree).await? {
            Some(_) => Ok(()),
            None => Err(store::Error::NoSuchTree.into()),
        }
    }

    /// Publishes an upload that was tried with the settings `tried`, and activates it. `None` if
    /// it must be tried with other settings first.
    async fn publish(
        self: Arc<Self>,
        upload: Arc<ReceivedUpload>,
        kind: &'static str,
        tried: Settings,
    ) -> Result<Option<Deployed>, DeployError> {
        // A second plan: other changes may have been published while this one was received and
        // compiled, and the patch applies to the settings that are active now.
        let (precondition, settings) = match self.plan(&upload).await? {
            DeployPlan::Answer(deployed) => return Ok(Some(deployed)),
            DeployPlan::Publish(precondition, settings) => (precondition, settings),
        };
        if settings != tried {
            return Ok(None);
        }
        self.admit_change(&upload.actor.token)?;
        let new = NewRevision {
            tenant: upload.function.tenant.clone(),
            function: upload.function.name.as_str(),
            actor: upload.actor.recorded(),
            release: upload.release.clone(),
            kind,
            settings: Some(settings),
            precondition,
            request: upload.request(),
            quotas: self.store_quotas(),
            now_ms: now_ms(),
        };
        let published = self.store.publish(&upload.artifact, new).await?;
        // Boxed: the future is large.
        let activated = Box::pin(self.activate(upload.function.clone(), published)).await;
        Ok(Some(Deployed::New(activated)))
    }

    /// Counts one change of a function, or refuses it.
    fn admit_change(&self, token: &TokenId) -> Result<(), DeployError> {
        let per_minute = self.quotas.load().changes_per_minute;
        Ok(self.changes.admit(token, per_minute, Instant::now())?)
    }
}
