//! Deploying: check, compile, try, publish, activate.
//!
//! Nothing is visible before it is stored, and nothing is stored that does not start.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, header};
use runtime_pool::{Grant, LoadError, Pool};
use serde_json::Value;
use store::{
    ActiveFunction, Digest, Expect, IsolationMode, NewRevision, Published, Received, Settings,
    Snapshot, Store,
};
use tokio::{sync::Mutex, task::JoinError};

use crate::{
    catalog::{Catalog, OTHER},
    config::FunctionLimits,
    function_name::FunctionName,
    warm::Floor,
};

/// The only tenant there is. It is part of every key, so that there can be more.
pub(crate) const TENANT: &str = "default";

/// Settings for a new revision, as a JSON merge patch on those of the active one.
const SETTINGS_HEADER: &str = "mayfly-settings";

/// Bytes of the name of an export that is called before a snapshot. Arbitrary, large enough.
const START_FUNCTION_BYTES: usize = 128;

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
}

/// What an upload came to.
pub(crate) enum Deployed {
    /// A new revision is active.
    New(ActiveFunction),
    /// These bytes, with these settings, were active already.
    Already(ActiveFunction),
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
    artifact_bytes: u64,
    environment_bytes: usize,
    ceilings: FunctionLimits,
    /// Held from a change in the store until the catalog says the same: otherwise two changes of
    /// one function could reach the catalog in the other order.
    publishing: Mutex<()>,
}

/// What the request's head says about an upload.
pub(crate) struct UploadHead {
    bytes: Option<u64>,
    digest: Option<Digest>,
    settings: Option<Value>,
}

impl UploadHead {
    /// Everything that can be refused before the first byte of the body is read.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Error> {
        if let Some(kind) = headers.get(header::CONTENT_TYPE) {
            let kind = kind.to_str().map_err(|_| Error::ContentType)?;
            let essence = kind.split(';').next().unwrap_or_default().trim();
            // What curl says when it is told nothing.
            let unsaid = ["application/x-www-form-urlencoded", "application/octet-stream"];
            if essence != "application/wasm" && !unsaid.contains(&essence) {
                return Err(Error::ContentType);
            }
        }
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|value| value != "identity") {
            return Err(Error::ContentEncoding);
        }
        let digest = headers
            .get("repr-digest")
            .map(|value| value.to_str().ok().and_then(repr_digest).ok_or(Error::BadDigest))
            .transpose()?
            .flatten();
        let settings = headers
            .get(SETTINGS_HEADER)
            .map(|value| {
                serde_json::from_slice(value.as_bytes())
                    .map_err(|error| Error::Settings(format!("{SETTINGS_HEADER}: {error}")))
            })
            .transpose()?;
        let bytes =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self { bytes, digest, settings })
    }
}

/// The SHA-256 in a `repr-digest` header (RFC 9530): `Some(None)` when it names only others.
fn repr_digest(value: &str) -> Option<Option<Digest>> {
    for member in value.split(',') {
        let (algorithm, digest) = member.split_once('=')?;
        if algorithm.trim().eq_ignore_ascii_case("sha-256") {
            let digest = digest.trim().strip_prefix(':')?.strip_suffix(':')?;
            let bytes = BASE64_STANDARD.decode(digest).ok()?;
            return Some(Some(Digest::from_bytes(bytes.try_into().ok()?)));
        }
    }
    Some(None)
}

impl Deployer {
    pub(crate) fn new(
        store: Store,
        pool: Arc<Pool>,
        catalog: Arc<Catalog>,
        config: &crate::config::Config,
    ) -> Self {
        let shared = Shared {
            store,
            pool,
            catalog,
            artifact_bytes: config.uploads.artifact_bytes,
            environment_bytes: config.limits.environment_bytes,
            ceilings: config.ceilings.clone(),
            publishing: Mutex::new(()),
        };
        Self { shared: Arc::new(shared) }
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
        let settings = shared.patched(before.as_ref(), head.settings.clone())?;
        let received = shared.receive(body).await?;
        let found = received.digest();
        if let Some(sent) = head.digest.filter(|sent| *sent != found) {
            return Err(Error::DigestMismatch { sent, found });
        }
        let active = shared.store.is_active_digest(TENANT, name.as_str(), &found).await?;
        if let Some(active) = active.filter(|active| active.revision.settings == settings)
            && shared.is_intact(&active).await?
        {
            return Ok(Deployed::Already(active));
        }
        let mut source = shared.catalog.source(OTHER.into(), found, &settings);
        source.artifact = received.path().to_owned();
        let inspection = shared.pool.prepare(source).await?;
        let kind = inspection.kind.as_str();
        to_end(Arc::clone(shared).publish(name, received, kind, head.settings)).await
    }

    /// Changes settings: a new revision with the same artifact.
    pub(crate) async fn change_settings(
        &self,
        name: FunctionName,
        patch: Value,
    ) -> Result<Option<ActiveFunction>, Error> {
        let shared = Arc::clone(&self.shared);
        let Some(before) = shared.store.function(TENANT, name.as_str()).await? else {
            return Ok(None);
        };
        let settings = shared.patched(Some(&before), Some(patch))?;
        if settings == before.revision.settings {
            return Ok(Some(before));
        }
        // A limit may be less than what an instance begins with.
        let digest = before.revision.digest;
        shared.pool.prepare(shared.catalog.source(OTHER.into(), digest, &settings)).await?;
        to_end(async move {
            let _order = shared.publishing.lock().await;
            let expected = before.revision.number;
            let changed = shared
                .store
                .change_settings(TENANT, name.as_str(), expected, settings, now_ms())
                .await?;
            Ok(match changed {
                Some(published) => Some(shared.activate(name, published).await),
                None => None,
            })
        })
        .await
    }

    /// Makes an older revision the active one again.
    pub(crate) async fn activate(
        &self,
        name: FunctionName,
        revision: u32,
    ) -> Result<Option<ActiveFunction>, Error> {
        let shared = Arc::clone(&self.shared);
        to_end(async move {
            let _order = shared.publishing.lock().await;
            let activated =
                shared.store.activate(TENANT, name.as_str(), revision, now_ms()).await?;
            Ok(match activated {
                Some(published) => Some(shared.activate(name, published).await),
                None => None,
            })
        })
        .await
    }

    /// Removes a function with all its revisions. Calls in flight end as they would have.
    pub(crate) async fn delete(&self, name: FunctionName) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        to_end(async move {
            let _order = shared.publishing.lock().await;
            let deleted = shared.store.delete_function(TENANT, name.as_str()).await?;
            if let Some(active) = shared.catalog.remove(name.as_str()) {
                shared.pool.evict(&active.key).await;
            }
            Ok(deleted)
        })
        .await
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

    async fn publish(
        self: Arc<Self>,
        name: FunctionName,
        received: Received,
        kind: &'static str,
        patch: Option<Value>,
    ) -> Result<Deployed, Error> {
        let _order = self.publishing.lock().await;
        // Once more: others may have published while this was received and compiled, and the
        // patch is on what is active now.
        let before = self.store.function(TENANT, name.as_str()).await?;
        let settings = self.patched(before.as_ref(), patch)?;
        let same = |active: &ActiveFunction| {
            let revision = &active.revision;
            revision.digest == received.digest() && revision.settings == settings
        };
        if let Some(active) = before.filter(same)
            && self.is_intact(&active).await?
        {
            return Ok(Deployed::Already(active));
        }
        let new = NewRevision {
            tenant: TENANT,
            function: name.as_str(),
            kind,
            settings: Some(settings),
            expect: Expect::Anything,
            now_ms: now_ms(),
        };
        let published = self.store.publish(&received, new).await?;
        Ok(Deployed::New(self.activate(name, published).await))
    }

    /// Whether a revision's file is still there: if not, the same bytes once more mend it.
    async fn is_intact(&self, active: &ActiveFunction) -> Result<bool, Error> {
        let file = self.store.open_artifact(&active.revision.digest).await?;
        Ok(file.is_some_and(|(_, bytes)| bytes == active.revision.bytes))
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

    /// The settings of the next revision: those of the active one, changed by `patch`.
    fn patched(
        &self,
        before: Option<&ActiveFunction>,
        patch: Option<Value>,
    ) -> Result<Settings, Error> {
        let before = before.map(|active| active.revision.settings.clone()).unwrap_or_default();
        let Some(patch) = patch else { return Ok(before) };
        let invalid = |error: serde_json::Error| Error::Settings(error.to_string());
        let mut value = serde_json::to_value(before).map_err(invalid)?;
        merge(&mut value, patch);
        // Null in place of them all resets them all.
        let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
        let settings: Settings = serde_json::from_value(value).map_err(invalid)?;
        self.check(&settings)?;
        Ok(settings)
    }

    fn check(&self, settings: &Settings) -> Result<(), Error> {
        let ceilings = &self.ceilings;
        let asked = [
            ("memory_bytes", settings.memory_bytes, ceilings.memory_bytes as u64),
            ("cpu_ms", settings.cpu_ms, ceilings.cpu_ms),
            ("timeout_ms", settings.timeout_ms, ceilings.timeout_ms),
            ("concurrency", settings.concurrency, ceilings.concurrency as u64),
            ("queue", settings.queue, ceilings.queue as u64),
            ("idle_ms", settings.idle_ms, ceilings.idle_ms),
            ("min_warm", settings.min_warm, ceilings.min_warm as u64),
            ("max_warm", settings.max_warm, ceilings.max_warm as u64),
            ("response_bytes", settings.response_bytes, ceilings.response_bytes),
        ];
        for (name, value, ceiling) in asked {
            // These may be empty by choice; none of anything else is a mistake.
            let least = u64::from(!["queue", "min_warm", "max_warm"].contains(&name));
            if value.is_some_and(|value| value > ceiling || value < least) {
                return Err(Error::Settings(format!(
                    "{name} must be from {least} to {ceiling} (the operator's setting \
                     ceilings.{name})"
                )));
            }
        }
        self.check_warm(settings)?;
        self.check_environment(settings)?;
        check_snapshot(settings)?;
        for host in &settings.outbound {
            host.parse::<Grant>().map_err(|error| Error::Settings(format!("outbound: {error}")))?;
        }
        Ok(())
    }

    fn check_warm(&self, settings: &Settings) -> Result<(), Error> {
        Floor::new(settings).map_err(Error::Settings)?;
        let most = self.ceilings.min_warm as u64;
        if settings.schedule.iter().any(|window| window.min_warm > most) {
            return Err(Error::Settings(format!(
                "schedule: min_warm must be at most {most} (the operator's setting \
                 ceilings.min_warm)"
            )));
        }
        let Some(isolation) = &settings.isolation else { return Ok(()) };
        let numbers = [
            ("max_uses", isolation.max_uses),
            ("max_concurrent", isolation.max_concurrent),
            ("idle_ms", isolation.idle_ms),
        ];
        for (name, value) in numbers {
            if value == Some(0) {
                return Err(Error::Settings(format!("isolation: {name} must be at least 1")));
            }
            if value.is_some() && isolation.mode == IsolationMode::Request {
                return Err(Error::Settings(format!(
                    "isolation: {name} is for the mode `reuse`; with `request` no instance is \
                     used again"
                )));
            }
        }
        Ok(())
    }

    fn check_environment(&self, settings: &Settings) -> Result<(), Error> {
        let mut bytes = 0;
        for (name, value) in &settings.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::Settings(format!(
                    "environment: {name:?} cannot be the name of a variable, or its value holds a \
                     zero byte"
                )));
            }
            bytes += name.len() + value.len();
        }
        if bytes > self.environment_bytes {
            return Err(Error::Settings(format!(
                "environment: names and values have {bytes} bytes; at most {} are allowed (the \
                 operator's setting limits.environment_bytes)",
                self.environment_bytes
            )));
        }
        Ok(())
    }
}

/// The name goes to the compile worker on its command line.
fn check_snapshot(settings: &Settings) -> Result<(), Error> {
    let Some(Snapshot::After(function)) = &settings.snapshot else { return Ok(()) };
    let wrong = if function.is_empty() || function.len() > START_FUNCTION_BYTES {
        format!("must be true, false, or a name of 1 to {START_FUNCTION_BYTES} bytes")
    } else if function.contains(char::is_control) {
        "must be true, false, or a name without control characters".to_owned()
    } else if function == "_start" {
        "cannot be `_start`, which is what every request runs".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Settings(format!("snapshot: {wrong}")))
}

/// Runs a change in a task of its own: a client that leaves must not stop it halfway between the
/// store and the catalog.
async fn to_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(change).await.map_err(Error::Interrupted)?
}

/// Applies a JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_sets_replaces_and_removes() {
        let mut value = json!({"a": 1, "b": {"c": 2, "d": 3}});
        merge(&mut value, json!({"a": null, "b": {"c": 4}, "e": {"f": null, "g": 5}}));
        assert_eq!(value, json!({"b": {"c": 4, "d": 3}, "e": {"g": 5}}));
    }

    #[test]
    fn a_digest_is_read_from_among_others() {
        let digest = Digest::of(b"x");
        let text = BASE64_STANDARD.encode(digest.as_bytes());
        assert_eq!(repr_digest(&format!("sha-256=:{text}:")), Some(Some(digest)));
        assert_eq!(repr_digest(&format!("md5=:eA==:, SHA-256=:{text}:")), Some(Some(digest)));
        assert_eq!(repr_digest("sha-512=:eA==:"), Some(None));
        for broken in ["", "sha-256", "sha-256=abc", "sha-256=:!:", "sha-256=:eA==:"] {
            assert_eq!(repr_digest(broken), None, "{broken}");
        }
    }

    #[test]
    fn an_upload_must_look_like_wasm_or_like_nothing_in_particular() {
        let head = |kind: &'static str| {
            UploadHead::parse(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                http::HeaderValue::from_static(kind),
            )]))
        };
        assert!(head("application/wasm").is_ok());
        assert!(head("application/x-www-form-urlencoded").is_ok());
        assert!(matches!(head("multipart/form-data; boundary=x"), Err(Error::ContentType)));
        assert!(UploadHead::parse(&HeaderMap::new()).is_ok());
    }
}
