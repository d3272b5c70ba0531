//! Deploying: check, compile, try, publish, activate.
//!
//! Nothing is visible before it is stored, and nothing is stored that does not start.

pub(crate) mod changes;
pub(crate) mod condition;
pub(crate) mod limits;
pub(crate) mod settings;
pub(crate) mod upload;

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prometheus::{IntCounterVec, Opts, Registry};
use runtime_pool::{LoadError, Pool};
use serde_json::Value;
use store::{
    ActiveFunction, Digest, Expect, NewRevision, Published, Quotas, Received, Request, Settings,
    Store,
};
use tokio::{sync::Mutex, task::JoinError};

use crate::{
    config::Config,
    functions::{
        catalog::{Catalog, OTHER},
        name::FunctionName,
        quarantine::Quarantine,
    },
};

pub(crate) use self::{
    condition::{Condition, entity_tag},
    upload::UploadHead,
};

/// The only tenant there is. It is part of every key, so that there can be more.
pub(crate) const TENANT: &str = "default";

/// How often an upload is tried anew because somebody else has changed the function's settings
/// meanwhile. Each time costs an instance; arbitrary, more than people are quick.
const ATTEMPTS: usize = 8;

/// Why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the upload broke off")]
    Body(#[source] axum::Error),
    #[error("publishing was interrupted")]
    Interrupted(#[source] JoinError),
    #[error("not application/wasm")]
    ContentType,
    #[error("a content encoding")]
    ContentEncoding,
    #[error("an unreadable digest")]
    BadDigest,
    #[error("{sent} was sent, {found} was found")]
    DigestMismatch { sent: Digest, found: Digest },
    #[error("{0}")]
    Settings(String),
    #[error("the function is not in the state that the change is meant for")]
    Precondition { tag: Option<String> },
    #[error("an idempotency key that is none")]
    BadIdempotencyKey,
    #[error("an idempotency key that was another upload's")]
    IdempotencyKeyReused,
}

/// What an upload came to.
pub(crate) enum Deployed {
    /// A new revision is active.
    New(ActiveFunction),
    /// These bytes, with these settings, were active already.
    Already(ActiveFunction),
}

/// What is to be published, checked and received.
struct Upload {
    name: FunctionName,
    received: Received,
    /// A merge patch on the settings of whatever revision is active.
    patch: Option<Value>,
    condition: Condition,
    /// The client's name for it, and its fingerprint.
    request: Option<(String, [u8; 32])>,
}

impl Upload {
    fn request(&self) -> Option<Request<'_>> {
        let (key, fingerprint) = self.request.as_ref()?;
        Some(Request { key, fingerprint: *fingerprint })
    }
}

/// What an upload finds.
enum DeployPlan {
    /// There is nothing to do.
    Answered(Deployed),
    /// It is to be published, if this still holds, with these settings.
    ToPublish(Expect, Settings),
}

/// Publishes revisions of functions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Deployer {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    pool: Arc<Pool>,
    catalog: Arc<Catalog>,
    quarantine: Arc<Quarantine>,
    artifact_bytes: u64,
    quotas: ArcSwap<Quotas>,
    /// Held from a change in the store until the catalog says the same: otherwise two changes of
    /// one function could reach the catalog in the other order. Holds when somebody last waited in
    /// vain for the database.
    publishing: Mutex<Option<Instant>>,
    refused: IntCounterVec,
}

impl Deployer {
    pub(crate) fn new(
        store: &Store,
        pool: &Arc<Pool>,
        catalog: &Arc<Catalog>,
        quarantine: &Arc<Quarantine>,
        config: &Config,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new("mayfly_uploads_refused_total", "Uploads that were refused, by problem"),
            &["problem"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        let shared = Shared {
            store: store.clone(),
            pool: Arc::clone(pool),
            catalog: Arc::clone(catalog),
            quarantine: Arc::clone(quarantine),
            artifact_bytes: config.uploads.artifact_bytes,
            quotas: ArcSwap::from_pointee(limits::quotas(&config.quotas)),
            publishing: Mutex::default(),
            refused,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Counts an upload that came to nothing.
    pub(crate) fn refused(&self, problem: &str) {
        self.shared.refused.with_label_values(&[problem]).inc();
    }

    /// Takes an upload and makes it the function's active revision. When this returns, the
    /// function answers with it, and no crash takes that back.
    pub(crate) async fn deploy(
        &self,
        name: FunctionName,
        head: UploadHead,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send,
    ) -> Result<Deployed, Error> {
        let shared = &self.shared;
        let max_bytes = shared.artifact_bytes;
        if head.bytes.is_some_and(|bytes| bytes > max_bytes) {
            return Err(store::Error::TooLarge { max_bytes }.into());
        }
        let before = shared.store.function(TENANT, name.as_str()).await?;
        shared.patched(before.as_ref(), head.settings.clone())?;
        // What was answered before is answered alike, whatever it has changed since.
        if head.idempotency.is_none() {
            head.condition.check(before.as_ref())?;
        }
        let received = shared.receive(body).await?;
        let found = received.digest();
        if let Some(sent) = head.digest.filter(|sent| *sent != found) {
            return Err(Error::DigestMismatch { sent, found });
        }
        let UploadHead { settings: patch, condition, idempotency, .. } = head;
        let request = idempotency.map(|named| {
            let fingerprint = named.fingerprint(&name, &found);
            (named.key, fingerprint)
        });
        let upload = Arc::new(Upload { name, received, patch, condition, request });
        for _ in 0..ATTEMPTS {
            let settings = match shared.look(&upload).await? {
                DeployPlan::Answered(deployed) => return Ok(deployed),
                DeployPlan::ToPublish(_, settings) => settings,
            };
            let mut source = shared.catalog.source(OTHER.into(), found, &settings);
            source.artifact = upload.received.path().to_owned();
            let kind = shared.pool.prepare(source).await?.kind.as_str();
            let publish = Arc::clone(shared).publish(Arc::clone(&upload), kind, settings);
            if let Some(deployed) = Box::pin(shared.in_turn(publish)).await? {
                return Ok(deployed);
            }
        }
        Err(store::Error::Conflict.into())
    }
}

impl Shared {
    async fn receive(
        &self,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send,
    ) -> Result<Received, Error> {
        let mut upload = self.store.receive(self.artifact_bytes).await?;
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.next().await {
            upload.write(&chunk.map_err(Error::Body)?).await?;
        }
        Ok(upload.finish().await?)
    }

    /// Makes a change when it is its turn, in a task of its own: a client that leaves must not stop
    /// it halfway between the store and the catalog.
    ///
    /// If the one before it could not have the database, which takes seconds to find out, those that
    /// waited meanwhile do not find out one after the other.
    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(self);
        let in_turn = async move {
            let asked = Instant::now();
            let mut busy = shared.publishing.lock().await;
            if busy.is_some_and(|busy| busy >= asked) {
                return Err(store::Error::Busy.into());
            }
            let outcome = change.await;
            if matches!(outcome, Err(Error::Store(store::Error::Busy))) {
                *busy = Some(Instant::now());
            }
            outcome
        };
        tokio::spawn(in_turn).await.map_err(Error::Interrupted)?
    }

    /// What an upload would change: nothing if it was answered before, or is what is active.
    async fn look(&self, upload: &Upload) -> Result<DeployPlan, Error> {
        if let Some(request) = upload.request()
            && let Some(answered) = self.store.answered(TENANT, request.key, now_ms()).await?
        {
            if answered.fingerprint != request.fingerprint {
                return Err(Error::IdempotencyKeyReused);
            }
            let deployed = if answered.created { Deployed::New } else { Deployed::Already };
            return Ok(DeployPlan::Answered(deployed(answered.active)));
        }
        let before = self.store.function(TENANT, upload.name.as_str()).await?;
        upload.condition.check(before.as_ref())?;
        let settings = self.patched(before.as_ref(), upload.patch.clone())?;
        let digest = upload.received.digest();
        let same = |active: &&ActiveFunction| {
            active.revision.digest == digest && active.revision.settings == settings
        };
        // If the file is damaged or gone, the same bytes once more mend it.
        if let Some(active) = before.as_ref().filter(same)
            && self.store.is_whole(&digest).await?
        {
            if let Some(request) = upload.request() {
                self.store.remember(request, active, &self.quotas.load(), now_ms()).await?;
            }
            return Ok(DeployPlan::Answered(Deployed::Already(active.clone())));
        }
        let expect = match before {
            _ if upload.condition.is_none() => Expect::Anything,
            Some(before) => Expect::Active(before.revision.number),
            None => Expect::Absent,
        };
        Ok(DeployPlan::ToPublish(expect, settings))
    }

    /// Publishes what was tried with the settings `tried`, unless others hold by now.
    async fn publish(
        self: Arc<Self>,
        upload: Arc<Upload>,
        kind: &'static str,
        tried: Settings,
    ) -> Result<Option<Deployed>, Error> {
        // Once more: others may have published while this was received and compiled, and the
        // patch is on what is active now.
        let (expect, settings) = match self.look(&upload).await? {
            DeployPlan::Answered(deployed) => return Ok(Some(deployed)),
            DeployPlan::ToPublish(expect, settings) => (expect, settings),
        };
        if settings != tried {
            return Ok(None);
        }
        let new = NewRevision {
            tenant: TENANT,
            function: upload.name.as_str(),
            kind,
            settings: Some(settings),
            expect,
            request: upload.request(),
            quotas: **self.quotas.load(),
            now_ms: now_ms(),
        };
        let published = self.store.publish(&upload.received, new).await?;
        let active = self.activate(upload.name.clone(), published).await;
        Ok(Some(Deployed::New(active)))
    }

    /// Tells the data plane of a revision that the store has made active.
    async fn activate(&self, name: FunctionName, published: Published) -> ActiveFunction {
        let active = ActiveFunction { function: published.function, revision: published.revision };
        let entry = self.catalog.active(&name, &active);
        // Resident before it is visible, so that the first call finds it.
        self.pool.adopt(entry.key, entry.source).await;
        if let Some(before) = self.catalog.set(name, &active) {
            self.pool.evict(&before.key).await;
        }
        active
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
