//! Secrets that are added to a guest's requests on their way out, so that the guest never sees
//! them.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::Scheme};
use secrecy::{ExposeSecret as _, SecretString};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;

use super::{
    grant::{Grant, NotAGrant},
    target::Target,
};
use crate::outbound::{cdn_loop, failure::OutboundFailure};

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

/// A place that a secret may be sent to: written like a grant, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretHost {
    /// `*`: every server, over TLS.
    Any,
    /// The servers that this grant names; without TLS only if it is written with `http://`.
    Granted(Grant),
}

impl SecretHost {
    fn allows(&self, method: &Method, target: &Target) -> bool {
        match self {
            Self::Any => target.scheme == Scheme::HTTPS,
            Self::Granted(grant) => {
                grant.allows(method, target) && grant.allows_plain_text_or_is_https(target)
            }
        }
    }
}

impl FromStr for SecretHost {
    type Err = NotAGrant;

    fn from_str(text: &str) -> Result<Self, NotAGrant> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::Granted) }
    }
}

/// A secret, and where it may go.
#[derive(Debug)]
pub struct Secret {
    /// The value. `Debug` does not show it.
    pub value: SecretString,
    /// Where it may be sent. An empty list stands for nowhere.
    pub hosts: Vec<SecretHost>,
    /// The functions of its tenant that may use it. `None` stands for all of them.
    pub functions: Option<Vec<String>>,
}

impl Secret {
    /// Whether a function of its tenant may use it.
    fn is_for(&self, function: &str) -> bool {
        let named = |functions: &Vec<String>| functions.iter().any(|one| one == function);
        self.functions.as_ref().is_none_or(named)
    }
}

/// The function that makes a request.
pub(in crate::outbound) struct Requester<'a> {
    pub(in crate::outbound) tenant: &'a str,
    /// Its name within the tenant.
    pub(in crate::outbound) function: &'a str,
}

/// The secrets of the node, by tenant and name. They change while it runs.
#[derive(Default)]
pub(crate) struct NodeSecrets(RwLock<HashMap<String, HashMap<String, Arc<Secret>>>>);

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
    pub(crate) fn set(&self, tenant: &str, name: &str, secret: Secret) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let secrets = secrets.entry(tenant.to_owned()).or_default();
        secrets.insert(name.to_owned(), Arc::new(secret));
    }

    pub(crate) fn remove(&self, tenant: &str, name: &str) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(secrets) = secrets.get_mut(tenant) {
            secrets.remove(name);
        }
    }

    /// The value of a secret that the function may use, and that may be sent to `uri`.
    pub(crate) fn for_signing(
        &self,
        tenant: &str,
        function: &str,
        name: &str,
        method: &Method,
        uri: &Uri,
    ) -> Option<SecretString> {
        let secret = self.get(tenant, name)?;
        let target = Target::of(uri)?;
        let allowed =
            secret.is_for(function) && secret.hosts.iter().any(|host| host.allows(method, &target));
        allowed.then(|| secret.value.clone())
    }

    /// The value of a secret for a guest that reads it. It must be allowed for every host: a guest
    /// can send what it reads anywhere.
    pub(crate) fn for_guest(
        &self,
        tenant: &str,
        function: &str,
        name: &str,
    ) -> Option<SecretString> {
        let secret = self.get(tenant, name)?;
        let allowed = secret.is_for(function) && secret.hosts.contains(&SecretHost::Any);
        allowed.then(|| secret.value.clone())
    }

    pub(crate) fn get(&self, tenant: &str, name: &str) -> Option<Arc<Secret>> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.get(tenant)?.get(name).cloned()
    }

    /// Adds secrets to a request, as its function's credentials say. They replace what the guest
    /// has set in the same fields.
    pub(in crate::outbound) fn add(
        &self,
        requester: &Requester<'_>,
        credentials: &[Credential],
        method: &Method,
        target: &Target,
        headers: &mut HeaderMap,
    ) -> Result<(), OutboundFailure> {
        for credential in credentials.iter().filter(|one| one.is_for(method, target)) {
            let name = &credential.secret;
            let secret = self
                .get(requester.tenant, name)
                .ok_or_else(|| OutboundFailure::NoSecret(name.to_string()))?;
            if !secret.is_for(requester.function) {
                return Err(OutboundFailure::SecretFunction(name.to_string()));
            }
            if !secret.hosts.iter().any(|host| host.allows(method, target)) {
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

    fn secret(value: &str, hosts: &[&str]) -> Secret {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Secret { value: value.into(), hosts, functions: None }
    }

    fn requester(tenant: &str) -> Requester<'_> {
        Requester { tenant, function: "f" }
    }

    fn added(
        credentials: &[Credential],
        hosts: &[&str],
        uri: &str,
    ) -> Result<HeaderMap, OutboundFailure> {
        added_of(credentials, secret("hunter2", hosts), uri)
    }

    fn added_of(
        credentials: &[Credential],
        secret: Secret,
        uri: &str,
    ) -> Result<HeaderMap, OutboundFailure> {
        let secrets = NodeSecrets::default();
        secrets.set("default", "token", secret);
        let mut headers = HeaderMap::new();
        headers.append("x-key", HeaderValue::from_static("the guest's"));
        headers.append("x-key", HeaderValue::from_static("and another"));
        let target = Target::of(&uri.parse().unwrap()).unwrap();
        let requester = requester("default");
        let added = secrets.add(&requester, credentials, &Method::GET, &target, &mut headers);
        added.map(|()| headers)
    }

    fn credential(host: &str) -> Credential {
        Credential::new(host, "X-Key", "token", "Bearer ").unwrap()
    }

    #[test]
    fn a_secret_takes_the_place_of_what_the_guest_has_set() {
        let headers = added(&[credential("a.example")], &["*"], "https://a.example/").unwrap();
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
        assert!(!values("a.example", &["*"], "https://b.example/").unwrap());
        assert!(!values("a.example", &["http://a.example"], "http://a.example/").unwrap());
        assert!(!values("POST a.example", &["*"], "https://a.example/").unwrap());
        assert!(values("a.example", &["*"], "https://a.example/").unwrap());
        assert!(values("*.example", &["a.example"], "https://a.example/").unwrap());
        let elsewhere = values("*.example", &["a.example"], "https://b.example/");
        assert!(matches!(elsewhere, Err(OutboundFailure::SecretHost(_))));
        let unknown = Credential::new("a.example", "x-key", "other", "").unwrap();
        let unknown = added(&[unknown], &["*"], "https://a.example/");
        assert!(matches!(unknown, Err(OutboundFailure::NoSecret(_))));
    }

    /// A function's owner chooses the credential's host, so that the secret's own hosts decide
    /// whether the network may read it.
    #[test]
    fn a_secret_goes_over_plain_http_only_where_its_own_hosts_say_http() {
        let credentials = [credential("http://a.example")];
        for (hosts, sent) in [
            (&["http://a.example"] as &[&str], true),
            (&["a.example", "http://*.example"], true),
            (&["a.example"], false),
            (&["*"], false),
            (&["https://a.example"], false),
            (&["http://b.example", "a.example"], false),
            (&[], false),
        ] {
            match added(&credentials, hosts, "http://a.example/") {
                Ok(headers) => assert!(sent && headers["x-key"] == "Bearer hunter2", "{hosts:?}"),
                Err(OutboundFailure::SecretHost(_)) => assert!(!sent, "{hosts:?}"),
                Err(other) => panic!("{hosts:?}: {other}"),
            }
        }
    }

    #[test]
    fn a_secret_is_used_by_the_functions_that_it_names_alone() {
        let of = |functions: &[&str]| {
            let functions = functions.iter().map(|name| (*name).to_owned()).collect();
            let secret = Secret { functions: Some(functions), ..secret("hunter2", &["*"]) };
            added_of(&[credential("a.example")], secret, "https://a.example/")
        };
        assert_eq!(of(&["e", "f"]).unwrap()["x-key"], "Bearer hunter2");
        for others in [&["e", "ff"] as &[&str], &[]] {
            assert!(matches!(of(others), Err(OutboundFailure::SecretFunction(_))), "{others:?}");
        }
    }

    #[test]
    fn a_function_gets_the_secrets_of_its_own_tenant_only() {
        let secrets = NodeSecrets::default();
        secrets.set("first", "token", secret("of the first", &["*"]));
        let credentials = [credential("a.example")];
        let target = Target::of(&"https://a.example/".parse().unwrap()).unwrap();
        let added = |tenant: &str| {
            let mut headers = HeaderMap::new();
            secrets.add(&requester(tenant), &credentials, &Method::GET, &target, &mut headers)?;
            Ok(headers["x-key"].clone())
        };
        assert!(matches!(added("second"), Err(OutboundFailure::NoSecret(_))));
        secrets.set("second", "token", secret("of the second", &["*"]));
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
