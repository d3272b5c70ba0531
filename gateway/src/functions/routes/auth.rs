//! Who calls a route: API keys, passwords, tokens of an issuer, signed requests. Where a route names
//! several, any of them suffices. A request that is refused has spent no slot and no instance.

pub(crate) mod basic;
mod hmac;
mod issuer;
mod jwk;
mod jwt;
mod keys;
mod passwords;
mod refusal;
mod replays;

use std::{net::IpAddr, sync::Arc};

use gateway_api::RouteSpec;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use runtime_pool::Pool;
use store::Tenant;

pub(crate) use self::refusal::{AuthRefusal, SignedBody};
use self::{
    basic::BasicRules,
    hmac::HmacRules,
    issuer::{Issuers, KeysUnavailable},
    jwt::{JwtRules, SentToken},
    keys::ApiKeys,
    passwords::{Passwords, TooManyPasswords},
    replays::Replays,
};
use crate::{config::IssuerSettings, telemetry::clock::now_ms};

/// Tells the function how its caller was recognised.
const METHOD: HeaderName = HeaderName::from_static("mayfly-auth-method");
/// Tells the function the name of the caller's key.
const KEY: HeaderName = HeaderName::from_static("mayfly-auth-key");
/// Tells the function the name of the caller's API key.
const API_KEY: HeaderName = HeaderName::from_static("mayfly-api-key");
/// Tells the function the name of the user.
const USER: HeaderName = HeaderName::from_static("mayfly-auth-user");

/// The callers that a route lets through.
#[derive(Debug)]
pub(crate) struct AuthRules {
    keys: Option<ApiKeys>,
    basic: Option<BasicRules>,
    jwt: Option<JwtRules>,
    hmac: Option<HmacRules>,
}

/// A caller that a route lets through.
#[derive(Debug)]
pub(crate) struct Caller {
    /// How it was recognised.
    method: &'static str,
    /// Its name within that, by which its requests are counted.
    name: HeaderValue,
    /// What the function sees of it.
    fields: Vec<(HeaderName, HeaderValue)>,
    /// What the body must be, if the request was signed.
    pub(crate) body: Option<SignedBody>,
}

/// A way to say who one is, for the answer to a caller that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    ApiKey(HeaderName),
    Basic { realm: String },
    Bearer { scope: String },
    Signature { header: HeaderName },
}

impl AuthRules {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(crate) fn new(name: &str, spec: &RouteSpec) -> Result<Option<Box<Self>>, String> {
        let rules = Self {
            keys: spec.api_keys.as_ref().map(ApiKeys::new).transpose()?,
            basic: spec.basic.as_ref().map(|basic| BasicRules::new(name, basic)).transpose()?,
            jwt: spec.jwt.as_ref().map(JwtRules::new).transpose()?,
            hmac: spec.hmac.as_ref().map(HmacRules::new).transpose()?,
        };
        let given = rules.challenges().next().is_some();
        Ok(given.then(|| Box::new(rules)))
    }

    /// The secrets that it names.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.hmac.iter().flat_map(HmacRules::secrets)
    }

    /// What tells the API key that a request has come with from a later one of the same name, without
    /// telling the key.
    pub(crate) fn mark(&self, headers: &HeaderMap) -> Option<String> {
        self.keys.as_ref()?.mark(headers.get(API_KEY)?)
    }

    /// Whether the API key with this mark may still be used; without one, whether there are other ways.
    pub(crate) fn still_admits(&self, mark: Option<&str>) -> bool {
        match (&self.keys, mark) {
            (Some(keys), Some(mark)) => keys.has_mark(mark),
            (None, Some(_)) => false,
            (_, None) => !self.has_only_keys(),
        }
    }

    /// Whether API keys are the only way.
    pub(crate) fn has_only_keys(&self) -> bool {
        self.basic.is_none() && self.jwt.is_none() && self.hmac.is_none()
    }

    /// The ways in which a caller may say who it is.
    pub(crate) fn challenges(&self) -> impl Iterator<Item = Challenge> {
        let keys = self.keys.as_ref().map(|keys| Challenge::ApiKey(keys.header().clone()));
        let basic = self.basic.as_ref();
        let basic = basic.map(|basic| Challenge::Basic { realm: basic.realm().to_owned() });
        let jwt = self.jwt.as_ref().map(|jwt| Challenge::Bearer { scope: jwt.scope() });
        let signature = |hmac: &HmacRules| Challenge::Signature { header: hmac.header().clone() };
        [keys, basic, jwt, self.hmac.as_ref().map(signature)].into_iter().flatten()
    }

    /// Takes out what callers say who they are with: the function must not be able to pass it on.
    fn take_credentials(&self, headers: &mut HeaderMap) {
        if let Some(keys) = &self.keys {
            headers.remove(keys.header());
        }
        if self.basic.is_some() || self.jwt.is_some() {
            headers.remove(header::AUTHORIZATION);
        }
        if let Some(hmac) = &self.hmac {
            hmac.take(headers);
        }
    }
}

impl Caller {
    fn new(method: &'static str, name: HeaderValue) -> Self {
        let fields = vec![(METHOD, HeaderValue::from_static(method))];
        Self { method, name, fields, body: None }
    }

    fn with(mut self, field: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((field, value));
        self
    }

    /// By what its requests are counted.
    pub(crate) fn identity(&self) -> (&'static str, &HeaderValue) {
        (self.method, &self.name)
    }

    /// Tells the function who calls it.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// What is known of callers, on this node and of all routes.
pub(crate) struct RouteAuth {
    pool: Arc<Pool>,
    issuers: Issuers,
    passwords: Passwords,
    replays: Replays,
}

impl RouteAuth {
    pub(crate) fn new(pool: &Arc<Pool>, settings: &IssuerSettings) -> Self {
        Self {
            issuers: Issuers::new(pool.vetted_client("jwks"), settings),
            passwords: Passwords::new(),
            replays: Replays::new(),
            pool: Arc::clone(pool),
        }
    }

    /// Recognises the caller of a request, and takes its credentials out of the header fields.
    pub(crate) async fn authenticate(
        &self,
        rules: &AuthRules,
        (tenant, function): (&Tenant, Option<&str>),
        client: IpAddr,
        head: &mut Parts,
    ) -> Result<Caller, AuthRefusal> {
        let mut refusal = AuthRefusal::Nothing;
        if let Some(keys) = &rules.keys
            && head.headers.contains_key(keys.header())
        {
            match keys.find(&head.headers) {
                Some(name) => {
                    rules.take_credentials(&mut head.headers);
                    let caller = Caller::new("api-key", name.clone());
                    return Ok(caller.with(API_KEY, name.clone()).with(KEY, name));
                }
                None => refusal = AuthRefusal::Wrong("the API key is not one of the route's"),
            }
        }
        let mut found = None;
        if rules.basic.is_some() || rules.jwt.is_some() {
            match credentials(&head.headers) {
                Ok(Some((scheme, sent))) => {
                    let sent = self.by_credentials(rules, client, scheme, sent).await;
                    match sent {
                        Some(Ok(caller)) => found = Some(caller),
                        Some(Err(why)) => refusal = why,
                        None => {}
                    }
                }
                Ok(None) => {}
                Err(why) => refusal = AuthRefusal::Wrong(why),
            }
        }
        if found.is_none()
            && let Some(hmac) = &rules.hmac
            && head.headers.contains_key(hmac.header())
        {
            let secret = |name: &str| self.pool.secret(tenant.as_str(), name);
            match hmac.verify(head, secret, function, now_ms(), &self.replays) {
                Ok((key, body)) => {
                    let caller = Caller::new("hmac", key.clone()).with(KEY, key);
                    found = Some(Caller { body: Some(body), ..caller });
                }
                Err(why) => refusal = why,
            }
        }
        let caller = found.ok_or(refusal)?;
        rules.take_credentials(&mut head.headers);
        Ok(caller)
    }

    /// Recognises a caller by the field `authorization`. `None` if the route takes no such scheme.
    async fn by_credentials(
        &self,
        rules: &AuthRules,
        client: IpAddr,
        scheme: &str,
        sent: &str,
    ) -> Option<Result<Caller, AuthRefusal>> {
        if let Some(basic) = &rules.basic
            && scheme.eq_ignore_ascii_case("basic")
        {
            return Some(self.by_password(basic, client, sent).await);
        }
        if let Some(jwt) = &rules.jwt
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Some(self.by_token(jwt, sent).await);
        }
        None
    }

    async fn by_password(
        &self,
        rules: &BasicRules,
        client: IpAddr,
        sent: &str,
    ) -> Result<Caller, AuthRefusal> {
        let wrong = AuthRefusal::Wrong("the user or the password is not right");
        let (user, password) = basic::decode(sent).ok_or_else(|| wrong.clone())?;
        let checked = self.passwords.check(client, &user, &password, rules.hash_of(&user)).await;
        match checked {
            Ok(true) => {
                let name = HeaderValue::try_from(user).map_err(|_| wrong)?;
                Ok(Caller::new("basic", name.clone()).with(USER, name))
            }
            Ok(false) => Err(wrong),
            Err(TooManyPasswords) => Err(AuthRefusal::Busy("too many passwords are being checked")),
        }
    }

    async fn by_token(&self, rules: &JwtRules, sent: &str) -> Result<Caller, AuthRefusal> {
        let token = SentToken::parse(sent).map_err(AuthRefusal::Token)?;
        rules.check_head(&token).map_err(AuthRefusal::Token)?;
        let keys = self.issuers.keys(rules.source(), token.kid()).await;
        let keys = keys.map_err(|KeysUnavailable| AuthRefusal::KeysUnavailable)?;
        let now_s = now_ms() as f64 / 1_000.0;
        let claims = rules.verify(&token, &keys, now_s).map_err(AuthRefusal::Token)?;
        rules.check_rights(&claims).map_err(AuthRefusal::NotAllowed)?;
        let subject = claims.get("sub").and_then(jwt::shown);
        let name = subject.unwrap_or_else(|| HeaderValue::from_static(""));
        let shown = rules.shown(&claims);
        Ok(shown.fold(Caller::new("jwt", name), |caller, (field, value)| caller.with(field, value)))
    }
}

/// The scheme and the rest of the field `authorization`.
fn credentials(headers: &HeaderMap) -> Result<Option<(&str, &str)>, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("there is more than one field `authorization`");
    }
    let text = value.to_str().map_err(|_| "the field `authorization` is not ASCII")?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(Some((scheme, rest.trim_start_matches(' '))))
}
