//! Secrets: the store has them sealed, the pool has them in clear text, no answer contains them.
//!
//! A change reaches the store before the pool: an acknowledged change survives a crash, and the
//! next request of every function has the new value.

use std::sync::Arc;

use gateway_api::PutSecret;
use http::HeaderValue;
use runtime_pool::{Pool, Secret, SecretHost};
use secrecy::{ExposeSecret as _, SecretString};
use store::{NewSecret, SecretRecord, Store, Tenant};
use tokio::sync::Mutex;

use crate::{functions::name::is_name, telemetry::clock::now_ms};

/// Bytes of a value. It must fit into a header that common servers accept.
const VALUE_BYTES: usize = 4 << 10;
/// Hosts of a secret, and functions that may use it. Arbitrary, large enough.
const ENTRIES: usize = 64;
/// An entry that stands for every host, or for every function.
pub(crate) const EVERY: &str = "*";

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
        for (mut secret, value) in store.open_secrets().await? {
            if secret.hosts.is_empty() {
                tracing::warn!(
                    name = secret.name,
                    "a secret was stored without hosts, so functions' settings can send it to every \
                     host over TLS; say where it may go: mayfly secret set {0} --host \
                     https://HOST, or --host '*' for every host",
                    secret.name
                );
                name_hosts(&mut secret);
            }
            match value {
                Some(value) => {
                    pool.set_secret(secret.tenant.as_str(), &secret.name, of_pool(&secret, value));
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
        let mut secrets = self.state.store.secrets(tenant).await?;
        secrets.iter_mut().for_each(name_hosts);
        Ok(secrets)
    }

    /// Stores a secret, or replaces all of it. Returns whether it is new.
    pub(crate) async fn put(
        &self,
        tenant: Tenant,
        name: &str,
        secret: PutSecret,
    ) -> Result<(SecretRecord, bool), SecretError> {
        let PutSecret { value, hosts, functions } = secret;
        let value = SecretString::from(value);
        check(name, &value, &hosts, functions.as_deref()).map_err(SecretError::Refused)?;
        let functions = functions.filter(|functions| !functions.iter().any(|one| one == EVERY));
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
                functions,
                now_ms: now_ms(),
            };
            let (secret, is_new) = state.store.put_secret(new).await?;
            state.pool.set_secret(tenant.as_str(), &name, of_pool(&secret, value));
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

/// A secret that was stored before hosts had to be named may go to every host, and says so.
fn name_hosts(secret: &mut SecretRecord) {
    if secret.hosts.is_empty() {
        secret.hosts.push(EVERY.to_owned());
    }
}

/// Hosts are validated when they are stored. One that this version cannot parse permits nothing.
fn of_pool(secret: &SecretRecord, value: SecretString) -> Secret {
    let hosts = secret.hosts.iter().filter_map(|host| host.parse().ok()).collect();
    Secret { value, hosts, functions: secret.functions.clone() }
}

fn check(
    name: &str,
    value: &SecretString,
    hosts: &[String],
    functions: Option<&[String]>,
) -> Result<(), String> {
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
    if hosts.is_empty() {
        return Err("hosts: name the hosts that it may be sent to, for example \
                    [\"https://api.example.com\"]; [\"*\"] stands for every host that functions' \
                    settings name, over TLS"
            .into());
    }
    if hosts.len() > ENTRIES {
        return Err(format!("hosts: the limit is {ENTRIES}"));
    }
    for host in hosts {
        host.parse::<SecretHost>().map_err(|error| format!("hosts: {error}"))?;
    }
    functions.map_or(Ok(()), check_functions)
}

fn check_functions(functions: &[String]) -> Result<(), String> {
    if functions.is_empty() {
        return Err("functions: name the functions that may use it, or leave the field out for \
                    every function"
            .into());
    }
    if functions.len() > ENTRIES {
        return Err(format!("functions: the limit is {ENTRIES}"));
    }
    match functions.iter().find(|name| *name != EVERY && !is_name(name)) {
        Some(name) => Err(format!("functions: {name:?} is not the name of a function")),
        None => Ok(()),
    }
}
