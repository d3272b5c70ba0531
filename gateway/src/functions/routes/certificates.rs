//! Certificates of owners' hosts: which handshake gets which, and what is stored of them.
//!
//! Handshakes see a table that is made of all certificates, and swapped as a whole. When a change is
//! acknowledged, the next handshake sees it; connections that are open stay.

pub(crate) mod checked;
pub(crate) mod expiry;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prometheus::Registry;
use secrecy::{ExposeSecret as _, SecretString};
use store::{CertificateRecord, NewCertificate, Store, Tenant};
use tokio::{sync::Mutex, time};

use self::{checked::CheckedCertificate, expiry::ExpiryMetrics};
use crate::{
    functions::name::is_name,
    server::{CertificateId, HostCertificate, HostCertificates, HostTable},
    telemetry::clock::now_ms,
};

/// How often the log warns of certificates that expire.
const LOOK_AT_EXPIRY: Duration = Duration::from_hours(6);

/// Why a certificate was not stored or deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("{0}")]
    Refused(String),
    /// The certificate is the one of a host that a route names.
    #[error("the route {route:?} has the host {host:?}")]
    InUse { route: String, host: String },
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A certificate that an owner sends, as PEM.
pub(crate) struct SentCertificate<'a> {
    pub(crate) chain: &'a str,
    pub(crate) key: SecretString,
}

/// The certificates of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Certificates {
    state: Arc<CertificatesState>,
}

struct CertificatesState {
    store: Store,
    hosts: HostCertificates,
    /// Held from a change in the store until handshakes see it.
    loaded: Mutex<BTreeMap<CertificateId, LoadedCertificate>>,
    metrics: ExpiryMetrics,
}

/// A certificate that handshakes use.
struct LoadedCertificate {
    record: CertificateRecord,
    certificate: HostCertificate,
}

impl Certificates {
    /// Reads all certificates, and gives them to handshakes. One that cannot be read is logged and left
    /// out.
    pub(crate) async fn load(store: &Store, registry: &Registry) -> anyhow::Result<Self> {
        let metrics = ExpiryMetrics::register(registry)?;
        let mut loaded = BTreeMap::new();
        for (record, key) in store.open_certificates().await? {
            let name = record.name.clone();
            match of_record(record, key) {
                Ok(one) => drop(loaded.insert(one.certificate.id, one)),
                Err(why) => tracing::error!(name, why, "a certificate of an owner is not used"),
            }
        }
        let (store, hosts) = (store.clone(), HostCertificates::default());
        let state = CertificatesState { store, hosts, loaded: Mutex::new(loaded), metrics };
        state.show(&*state.loaded.lock().await);
        Ok(Self { state: Arc::new(state) })
    }

    /// Stores a certificate, or replaces all of it, and returns whether it is new. Refuses a new one if
    /// there are `max`.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: String,
        sent: SentCertificate<'_>,
        max: u64,
    ) -> Result<(CertificateRecord, bool), CertificateError> {
        if !is_name(&name) {
            let why =
                "a certificate has a name of 1 to 63 of a-z, 0-9 and -, beginning with a letter";
            return Err(CertificateError::Refused(why.to_owned()));
        }
        let now_ms = now_ms();
        let checked = CheckedCertificate::read(sent.chain, sent.key.expose_secret());
        let checked = checked.map_err(CertificateError::Refused)?;
        checked.check_time(now_ms).map_err(CertificateError::Refused)?;
        let (state, chain) = (Arc::clone(&self.state), sent.chain.to_owned());
        // In a task of its own: a client that leaves does not stop it between the store and the table.
        let change = tokio::spawn(async move {
            let mut loaded = state.loaded.lock().await;
            let new = NewCertificate {
                tenant,
                name: &name,
                chain: &chain,
                key: sent.key,
                hosts: checked.hosts,
                fingerprint: checked.fingerprint,
                not_before_ms: checked.not_before_ms,
                not_after_ms: checked.not_after_ms,
                max,
                now_ms,
            };
            let (record, is_new) = state.store.put_certificate(new).await?;
            let certificate = HostCertificate { id: record.id, key: checked.key };
            loaded.insert(record.id, LoadedCertificate { record: record.clone(), certificate });
            state.show(&loaded);
            Ok((record, is_new))
        });
        finished(change).await
    }

    /// A tenant's certificate.
    pub(crate) async fn get(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> store::Result<Option<CertificateRecord>> {
        self.state.store.certificate(tenant, name).await
    }

    /// The certificates of a tenant after a name, at most `limit`.
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> store::Result<Vec<CertificateRecord>> {
        self.state.store.certificates(tenant, after, limit).await
    }

    /// Deletes a certificate, unless one of `routes` (names with their hosts) has one of its hosts.
    /// Returns whether there was one.
    pub(crate) async fn delete(
        &self,
        tenant: Tenant,
        name: String,
        routes: Vec<(String, String)>,
    ) -> Result<bool, CertificateError> {
        let state = Arc::clone(&self.state);
        let change = tokio::spawn(async move {
            let mut loaded = state.loaded.lock().await;
            let Some(record) = state.store.certificate(&tenant, &name).await? else {
                return Ok(false);
            };
            let table = state.hosts.table();
            for (route, host) in routes {
                if table.find(&host).is_some_and(|found| found.id == record.id) {
                    return Err(CertificateError::InUse { route, host });
                }
            }
            drop(table);
            let deleted = state.store.delete_certificate(&tenant, &name).await?;
            loaded.remove(&record.id);
            state.show(&loaded);
            Ok(deleted)
        });
        finished(change).await
    }

    /// The certificates as handshakes see them.
    pub(crate) fn hosts(&self) -> &HostCertificates {
        &self.state.hosts
    }

    /// Updates the metrics of what expires, and warns of it in the log, until it is dropped.
    pub(crate) async fn watch_expiry(self) {
        let mut ticks = time::interval(LOOK_AT_EXPIRY);
        loop {
            ticks.tick().await;
            let (loaded, now_ms) = (self.state.loaded.lock().await, now_ms());
            self.state.metrics.show(loaded.values().map(|one| &one.record), now_ms);
            for LoadedCertificate { record, .. } in loaded.values() {
                expiry::warn(record, now_ms);
            }
        }
    }
}

impl CertificatesState {
    /// Gives the certificates to handshakes.
    fn show(&self, loaded: &BTreeMap<CertificateId, LoadedCertificate>) {
        let mut table = HostTable::default();
        for LoadedCertificate { record, certificate } in loaded.values() {
            for host in &record.hosts {
                table.insert(host, certificate.clone());
            }
        }
        self.hosts.replace(table);
        self.metrics.show(loaded.values().map(|one| &one.record), now_ms());
    }
}

/// A stored certificate with its key, as handshakes use it. It may have expired.
fn of_record(
    record: CertificateRecord,
    key: Option<SecretString>,
) -> Result<LoadedCertificate, String> {
    let key = key.ok_or("its key cannot be decrypted")?;
    let checked = CheckedCertificate::read(&record.chain, key.expose_secret())?;
    let certificate = HostCertificate { id: record.id, key: checked.key };
    Ok(LoadedCertificate { record, certificate })
}

async fn finished<T>(
    change: tokio::task::JoinHandle<Result<T, CertificateError>>,
) -> Result<T, CertificateError> {
    match change.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_ending) => Err(store::Error::Busy.into()),
        },
    }
}
