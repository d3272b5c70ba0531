//! The keys of issuers, as they are known on this node.
//!
//! They are fetched when the first token comes, and again after a while, or when a token names a key
//! that is not known; but at most once in `server.jwks_refresh_ms`, whatever tokens come. While an
//! issuer does not answer, its keys stay known for `server.jwks_keep_ms`, and then its callers are refused.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use runtime_pool::{VettedClient, VettedRequest};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::jwk::KeySet;
use crate::config::IssuerSettings;

/// Issuers that are known at a time. The keys of one beyond that are fetched again.
const ISSUERS: u64 = 1_024;
/// An issuer whose tokens have not come for so long is forgotten.
const IDLE: Duration = Duration::from_secs(86_400);
/// Known keys are fetched again after so many times the shortest interval.
const RENEW: u32 = 5;
/// Time for one document.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a document.
const DOCUMENT_BYTES: usize = 256 << 10;
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeySource {
    /// At this address.
    Jwks(String),
    /// Where the document about this issuer says (OpenID Connect Discovery 1.0).
    Discovery(String),
}

/// The keys of an issuer are not known, and cannot be fetched at the moment.
#[derive(Debug)]
pub(super) struct KeysUnavailable;

/// The issuers whose tokens come.
pub(super) struct Issuers {
    client: VettedClient,
    settings: IssuerSettings,
    known: moka::future::Cache<KeySource, Arc<Issuer>>,
}

struct Issuer {
    source: KeySource,
    keys: ArcSwapOption<FetchedKeys>,
    /// When its keys were last asked for. Held while they are fetched.
    asked: Mutex<Option<Instant>>,
}

struct FetchedKeys {
    keys: Arc<KeySet>,
    at: Instant,
}

impl Issuers {
    pub(super) fn new(client: VettedClient, settings: &IssuerSettings) -> Self {
        let known = moka::future::Cache::builder().max_capacity(ISSUERS).time_to_idle(IDLE).build();
        Self { client, settings: settings.clone(), known }
    }

    /// The keys of an issuer. Fetches them if the one of this name is not among them.
    pub(super) async fn keys(
        &self,
        source: &KeySource,
        id: Option<&str>,
    ) -> Result<Arc<KeySet>, KeysUnavailable> {
        let made = async {
            let asked = Mutex::new(None);
            Arc::new(Issuer { source: source.clone(), keys: ArcSwapOption::empty(), asked })
        };
        let issuer = self.known.get_with_by_ref(source, made).await;
        if let Some(fetched) = self.usable(&issuer)
            && fetched.keys.has(id)
        {
            if fetched.at.elapsed() > self.settings.refresh * RENEW && self.may_ask(&issuer) {
                self.fetch(&issuer);
            }
            return Ok(Arc::clone(&fetched.keys));
        }
        if self.may_ask(&issuer) {
            // In a task of its own: the other calls that wait get the keys even if this client leaves.
            let _ = self.fetch(&issuer).await;
        }
        self.usable(&issuer).map(|fetched| Arc::clone(&fetched.keys)).ok_or(KeysUnavailable)
    }

    /// What is known of an issuer, if it is not too old.
    fn usable(&self, issuer: &Issuer) -> Option<Arc<FetchedKeys>> {
        let fetched = issuer.keys.load_full()?;
        (fetched.at.elapsed() <= self.settings.keep).then_some(fetched)
    }

    /// Whether its keys are being fetched, or may be again.
    fn may_ask(&self, issuer: &Issuer) -> bool {
        let Ok(asked) = issuer.asked.try_lock() else { return true };
        asked.is_none_or(|at| at.elapsed() >= self.settings.refresh)
    }

    /// Fetches its keys, or waits until another call has. Ends within the time for two documents.
    fn fetch(&self, issuer: &Arc<Issuer>) -> tokio::task::JoinHandle<()> {
        let (issuer, client) = (Arc::clone(issuer), self.client.clone());
        let refresh = self.settings.refresh;
        tokio::spawn(async move {
            let mut asked = issuer.asked.lock().await;
            if asked.is_some_and(|at| at.elapsed() < refresh) {
                return;
            }
            *asked = Some(Instant::now());
            match fetch_keys(&client, &issuer.source).await {
                Ok(keys) => {
                    let fetched = FetchedKeys { keys: Arc::new(keys), at: Instant::now() };
                    issuer.keys.store(Some(Arc::new(fetched)));
                }
                Err(why) => {
                    let source = &issuer.source;
                    tracing::warn!(?source, why, "the keys of an issuer cannot be fetched");
                }
            }
        })
    }
}

#[derive(Deserialize)]
struct AboutIssuer {
    issuer: String,
    jwks_uri: String,
}

async fn fetch_keys(client: &VettedClient, source: &KeySource) -> Result<KeySet, String> {
    let document = match source {
        KeySource::Jwks(url) => fetch_document(client, url).await?,
        KeySource::Discovery(issuer) => {
            let url = format!("{}{DISCOVERY}", issuer.strip_suffix('/').unwrap_or(issuer));
            let about: AboutIssuer = serde_json::from_slice(&fetch_document(client, &url).await?)
                .map_err(|error| format!("{url}: {error}"))?;
            if about.issuer != *issuer {
                return Err(format!("{url}: it is about another issuer"));
            }
            fetch_document(client, &about.jwks_uri).await?
        }
    };
    KeySet::read(&document)
}

async fn fetch_document(client: &VettedClient, url: &str) -> Result<bytes::Bytes, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if uri.scheme_str() != Some("https") {
        return Err(format!("{url}: it is not an address with https://"));
    }
    let answer = client.send(VettedRequest::get(uri, WITHIN, DOCUMENT_BYTES)).await;
    let answer = answer.map_err(|error| format!("{url}: {error}"))?;
    if answer.status != http::StatusCode::OK {
        return Err(format!("{url}: the answer is {}", answer.status));
    }
    if answer.truncated {
        return Err(format!("{url}: it is larger than {DOCUMENT_BYTES} bytes"));
    }
    Ok(answer.body)
}
