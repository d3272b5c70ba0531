//! Secrets: the store has them sealed, the pool has them in clear text, no answer contains them.
//!
//! A change reaches the store before the pool: an acknowledged change survives a crash, and the
//! next request of every function has the new value.

use std::sync::Arc;

use http::HeaderValue;
use runtime_pool::{Grant, Pool};
use secrecy::{ExposeSecret as _, SecretString};
use store::{NewSecret, SecretRecord, Store, Tenant};
use tokio::sync::Mutex;

use crate::{clock::now_ms, functions::name::is_name};

/// Bytes of a value. It must fit into a header that common servers accept.
const VALUE_BYTES: usize = 4 << 10;
/// Hosts of a secret. Arbitrary, large enough.
const HOSTS: usize = 64;

/// Why a secret was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The secrets of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Secrets {
    state: Arc<SecretsState>,
}

struct SecretsState {
    store: Store,
    pool: Arc<Pool>,
    /// Held from a change in the store until the pool has the same change: two changes of one
    /// secret reach both in the same order.
    changing: Mutex<()>,
}

impl Secrets {
    /// Opens all stored secrets for the pool.
    pub(crate) async fn load(store: &Store, pool: &Arc<Pool>) -> store::Result<Self> {
        for (secret, value) in store.open_secrets().await? {
            match value {
                Some(value) => {
                    pool.set_secret(
                        secret.tenant.as_str(),
                        &secret.name,
                        value,
                        grants(&secret.hosts),
                    );
                }
                None => tracing::error!(
                    name = secret.name,
                    "a secret cannot be opened: secrets.key is not the key that sealed it"
                ),
            }
        }
        let (store, pool) = (store.clone(), Arc::clone(pool));
        Ok(Self { state: Arc::new(SecretsState { store, pool, changing: Mutex::new(()) }) })
    }

    /// The secrets of a tenant, without their values.
    pub(crate) async fn list(&self, tenant: &Tenant) -> store::Result<Vec<SecretRecord>> {
        self.state.store.secrets(tenant).await
    }

    /// Stores a secret, or replaces its value and hosts. Returns whether it is new.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        value: SecretString,
        hosts: Vec<String>,
    ) -> Result<(SecretRecord, bool), SecretError> {
        check(name, &value, &hosts).map_err(SecretError::Refused)?;
        let state = Arc::clone(&self.state);
        let name = name.to_owned();
        // In a task of its own: it must reach the pool even if the client disconnects.
        let put = tokio::spawn(async move {
            let _order = state.changing.lock().await;
            let new = NewSecret {
                tenant: tenant.clone(),
                name: &name,
                value: value.clone(),
                hosts,
                now_ms: now_ms(),
            };
            let (secret, is_new) = state.store.put_secret(new).await?;
            state.pool.set_secret(tenant.as_str(), &name, value, grants(&secret.hosts));
            Ok((secret, is_new))
        });
        put.await.expect("the task does not panic and is not aborted")
    }

    /// Deletes a secret. Returns whether there was one.
    pub(crate) async fn delete(&self, tenant: Tenant, name: &str) -> store::Result<bool> {
        let state = Arc::clone(&self.state);
        let name = name.to_owned();
        let delete = tokio::spawn(async move {
            let _order = state.changing.lock().await;
            let deleted = state.store.delete_secret(&tenant, &name).await?;
            state.pool.remove_secret(tenant.as_str(), &name);
            Ok(deleted)
        });
        delete.await.expect("the task does not panic and is not aborted")
    }
}

/// The hosts of a secret. Hosts are validated when they are stored. A host that this version cannot
/// parse becomes a name that does not exist: a secret without hosts could be sent anywhere.
fn grants(hosts: &[String]) -> Vec<Grant> {
    let nowhere = || "https://invalid.".parse().expect("a valid name, reserved by RFC 6761");
    hosts.iter().map(|host| host.parse().unwrap_or_else(|_| nowhere())).collect()
}

fn check(name: &str, value: &SecretString, hosts: &[String]) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!(
            "{name:?} is not valid as the name of a secret: 1 to 63 of a-z, 0-9 and -, beginning \
             with a letter and not ending with a hyphen"
        ));
    }
    let text = value.expose_secret();
    if text.is_empty() || text.len() > VALUE_BYTES {
        return Err(format!("value: must have 1 to {VALUE_BYTES} bytes"));
    }
    if HeaderValue::from_str(text).is_err() || text.trim() != text {
        return Err(
            "value: must be valid in a header field: visible ASCII characters, with blanks \
                    only between them"
                .into(),
        );
    }
    if hosts.len() > HOSTS {
        return Err(format!("hosts: the limit is {HOSTS}"));
    }
    for host in hosts {
        host.parse::<Grant>().map_err(|error| format!("hosts: {error}"))?;
    }
    Ok(())
}
