//! Secrets that are added to a guest's requests on their way out, so that the guest never sees
//! them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;

use super::{cdn_loop, failure::OutboundFailure, grant::Grant, target::Target};

/// Names a secret, and the requests of a function to which it is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    grant: Grant,
    header: HeaderName,
    secret: Arc<str>,
    prefix: String,
}

/// Why a setting is not a [`Credential`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotACredential(String);

impl Credential {
    /// Requests that match `host`, which is written like a grant, get the header field `header`
    /// with `prefix` and the value of `secret`.
    pub fn new(
        host: &str,
        header: &str,
        secret: &str,
        prefix: &str,
    ) -> Result<Self, NotACredential> {
        let grant = host.parse().map_err(|error| NotACredential(format!("host: {error}")))?;
        let name = HeaderName::from_bytes(header.as_bytes())
            .ok()
            .filter(|name| !is_reserved(name))
            .ok_or_else(|| {
                NotACredential(format!(
                    "header: {header:?} is not a header that a credential may set"
                ))
            })?;
        if HeaderValue::from_str(prefix).is_err() {
            return Err(NotACredential(format!("prefix: {prefix:?} cannot be part of a header")));
        }
        Ok(Self { grant, header: name, secret: secret.into(), prefix: prefix.to_owned() })
    }

    /// Whether the secret is added to a request. Without TLS the network could read it, so then it
    /// is only added if the host was written with `http://`.
    fn is_for(&self, method: &Method, target: &Target) -> bool {
        self.grant.allows(method, target) && self.grant.allows_plain_text_or_is_https(target)
    }
}

/// Fields that say where a message ends or where it goes.
fn is_reserved(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || *name == cdn_loop::HEADER
        || [header::CONTENT_LENGTH, header::TE, header::TRAILER, header::EXPECT].contains(name)
}

/// The secrets of the node, by tenant and name. They change while it runs.
#[derive(Default)]
pub(crate) struct NodeSecrets(RwLock<HashMap<String, HashMap<String, Arc<Secret>>>>);

struct Secret {
    value: SecretString,
    /// Where it may be sent. An empty list stands for every host.
    hosts: Vec<Grant>,
}

/// Prints only the tenants and the names.
impl fmt::Debug for NodeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let names = |secrets: &HashMap<String, _>| secrets.keys().cloned().collect::<Vec<_>>();
        let tenants = secrets.iter().map(|(tenant, secrets)| (tenant, names(secrets)));
        f.debug_map().entries(tenants).finish()
    }
}

impl NodeSecrets {
    pub(crate) fn set(&self, tenant: &str, name: &str, value: SecretString, hosts: Vec<Grant>) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let secrets = secrets.entry(tenant.to_owned()).or_default();
        secrets.insert(name.to_owned(), Arc::new(Secret { value, hosts }));
    }

    pub(crate) fn remove(&self, tenant: &str, name: &str) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(secrets) = secrets.get_mut(tenant) {
            secrets.remove(name);
        }
    }

    fn get(&self, tenant: &str, name: &str) -> Option<Arc<Secret>> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.get(tenant)?.get(name).cloned()
    }

    /// Adds secrets to a request, as its function's credentials say. They replace what the guest
    /// has set in the same fields.
    pub(super) fn add(
        &self,
        tenant: &str,
        credentials: &[Credential],
        method: &Method,
        target: &Target,
        headers: &mut HeaderMap,
    ) -> Result<(), OutboundFailure> {
        for credential in credentials.iter().filter(|one| one.is_for(method, target)) {
            let name = &credential.secret;
            let secret = self
                .get(tenant, name)
                .ok_or_else(|| OutboundFailure::NoSecret(name.to_string()))?;
            let any_host = secret.hosts.is_empty();
            if !any_host && !secret.hosts.iter().any(|host| host.allows(method, target)) {
                return Err(OutboundFailure::SecretHost(name.to_string()));
            }
            let text = format!("{}{}", credential.prefix, secret.value.expose_secret());
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| OutboundFailure::NoSecret(name.to_string()))?;
            value.set_sensitive(true);
            headers.insert(credential.header.clone(), value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(
        credentials: &[Credential],
        hosts: &[&str],
        uri: &str,
    ) -> Result<HeaderMap, OutboundFailure> {
        let secrets = NodeSecrets::default();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        secrets.set("default", "token", "hunter2".into(), hosts);
        let mut headers = HeaderMap::new();
        headers.append("x-key", HeaderValue::from_static("the guest's"));
        headers.append("x-key", HeaderValue::from_static("and another"));
        let target = Target::of(&uri.parse().unwrap()).unwrap();
        let added = secrets.add("default", credentials, &Method::GET, &target, &mut headers);
        added.map(|()| headers)
    }

    fn credential(host: &str) -> Credential {
        Credential::new(host, "X-Key", "token", "Bearer ").unwrap()
    }

    #[test]
    fn a_secret_takes_the_place_of_what_the_guest_has_set() {
        let headers = added(&[credential("a.example")], &[], "https://a.example/").unwrap();
        let values: Vec<_> = headers.get_all("x-key").iter().collect();
        assert_eq!(values, ["Bearer hunter2"]);
        assert!(values[0].is_sensitive());
        assert!(!format!("{headers:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_goes_to_its_hosts_alone_and_over_tls_unless_said() {
        let values = |host: &str, hosts: &[&str], uri: &str| {
            added(&[credential(host)], hosts, uri)
                .map(|headers| headers["x-key"] == "Bearer hunter2")
        };
        assert!(!values("a.example", &[], "https://b.example/").unwrap());
        assert!(!values("a.example", &[], "http://a.example/").unwrap());
        assert!(values("http://a.example", &[], "http://a.example/").unwrap());
        assert!(!values("POST a.example", &[], "https://a.example/").unwrap());
        assert!(values("*.example", &["a.example"], "https://a.example/").unwrap());
        let elsewhere = values("*.example", &["a.example"], "https://b.example/");
        assert!(matches!(elsewhere, Err(OutboundFailure::SecretHost(_))));
        let unknown = Credential::new("a.example", "x-key", "other", "").unwrap();
        let unknown = added(&[unknown], &[], "https://a.example/");
        assert!(matches!(unknown, Err(OutboundFailure::NoSecret(_))));
    }

    #[test]
    fn a_function_gets_the_secrets_of_its_own_tenant_only() {
        let secrets = NodeSecrets::default();
        secrets.set("first", "token", "of the first".into(), Vec::new());
        let credentials = [credential("a.example")];
        let target = Target::of(&"https://a.example/".parse().unwrap()).unwrap();
        let added = |tenant: &str| {
            let mut headers = HeaderMap::new();
            secrets.add(tenant, &credentials, &Method::GET, &target, &mut headers)?;
            Ok(headers["x-key"].clone())
        };
        assert!(matches!(added("second"), Err(OutboundFailure::NoSecret(_))));
        secrets.set("second", "token", "of the second".into(), Vec::new());
        assert_eq!(added("first").unwrap(), "Bearer of the first");
        assert_eq!(added("second").unwrap(), "Bearer of the second");
        secrets.remove("second", "token");
        assert_eq!(added("first").unwrap(), "Bearer of the first");
        assert!(matches!(added("second"), Err(OutboundFailure::NoSecret(_))));
    }

    #[test]
    fn fields_that_frame_a_message_hold_no_secret() {
        for header in ["host", "Content-Length", "transfer-encoding", "cdn-loop", "a b", ""] {
            assert!(Credential::new("a.example", header, "token", "").is_err(), "{header}");
        }
        assert!(Credential::new("a/b", "x-key", "token", "").is_err());
        assert!(Credential::new("a.example", "x-key", "token", "a\nb").is_err());
    }
}
