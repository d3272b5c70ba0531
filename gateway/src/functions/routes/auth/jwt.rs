//! Tokens of an issuer: JSON Web Tokens (RFC 7519), by the rules of RFC 8725.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use gateway_api::JwtView;
use http::{HeaderName, HeaderValue, Uri};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    issuer::KeySource,
    jwk::{ALGORITHMS, Algorithm, KeySet},
    refusal::TokenFault,
};

/// Bytes of a token that is looked at.
const TOKEN_BYTES: usize = 16 << 10;
/// How far the clocks of issuers may be from the gateway's, in seconds.
const SKEW_S: f64 = 60.0;
/// Audiences, algorithms, claims that are shown or required. Arbitrary, large enough.
const ENTRIES: usize = 16;
const SCOPES: usize = 32;
/// Bytes of an issuer, an audience, or the value of a claim that is required.
const TEXT_BYTES: usize = 1 << 10;
/// What comes before the name of a field with a claim.
const FIELD: &str = "mayfly-auth-";
/// Names that have a meaning of their own there.
const OWN_FIELDS: [&str; 3] = ["method", "key", "user"];
const DEFAULT_ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// The tokens that a route takes.
#[derive(Debug)]
pub(super) struct JwtRules {
    issuer: String,
    audiences: Vec<String>,
    source: KeySource,
    algorithms: Vec<Algorithm>,
    /// Fields with the claims that they show.
    shown: Vec<(HeaderName, String)>,
    scopes: Vec<String>,
    required: Vec<(String, String)>,
}

/// A token, as it was sent.
#[derive(Debug)]
pub(super) struct SentToken<'a> {
    head: TokenHead,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct TokenHead {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> SentToken<'a> {
    pub(super) fn parse(sent: &'a str) -> Result<Self, TokenFault> {
        if sent.len() > TOKEN_BYTES {
            return Err(TokenFault("it is too long"));
        }
        let form = || TokenFault("it is not a JSON Web Token of three parts");
        let (signed, signature) = sent.rsplit_once('.').ok_or_else(form)?;
        let (head, claims) = signed.split_once('.').ok_or_else(form)?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| form());
        let head = serde_json::from_slice(&decode(head)?)
            .map_err(|_| TokenFault("its first part cannot be read"))?;
        Ok(Self { head, signed, signature: decode(signature)?, claims: decode(claims)? })
    }

    /// The name of the key that has signed it.
    pub(super) fn kid(&self) -> Option<&str> {
        self.head.kid.as_deref()
    }
}

impl JwtRules {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(super) fn new(view: &JwtView) -> Result<Self, String> {
        text("jwt.issuer", &view.issuer)?;
        count("jwt.audiences", view.audiences.len(), 1, ENTRIES)?;
        view.audiences.iter().try_for_each(|audience| text("jwt.audiences", audience))?;
        let source = match &view.jwks_url {
            Some(url) => KeySource::Jwks(https("jwks_url", url)?),
            None => KeySource::Discovery(
                https("issuer", &view.issuer)
                    .map_err(|why| format!("{why}; or name `jwks_url`"))?,
            ),
        };
        count("jwt.algorithms", view.algorithms.len(), 0, ENTRIES)?;
        let algorithm = |name: &String| {
            let known = ALGORITHMS.map(|(name, _)| name).join(", ");
            Algorithm::named(name)
                .ok_or_else(|| format!("jwt.algorithms: {name:?} is not one of {known}"))
        };
        let algorithms: Vec<_> = view.algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
        count("jwt.scopes", view.scopes.len(), 0, SCOPES)?;
        view.scopes.iter().try_for_each(|scope| is_scope(scope))?;
        count("jwt.require", view.require.len(), 0, ENTRIES)?;
        for (claim, value) in &view.require {
            text("jwt.require", claim)?;
            text("jwt.require", value)?;
        }
        Ok(Self {
            issuer: view.issuer.clone(),
            audiences: view.audiences.clone(),
            source,
            algorithms: match algorithms.is_empty() {
                true => DEFAULT_ALGORITHMS.to_vec(),
                false => algorithms,
            },
            shown: shown_claims(view)?,
            scopes: view.scopes.clone(),
            required: view.require.clone().into_iter().collect(),
        })
    }

    /// Where the keys of the issuer are.
    pub(super) fn source(&self) -> &KeySource {
        &self.source
    }

    /// The scopes that a token must have, as a challenge says them.
    pub(super) fn scope(&self) -> String {
        self.scopes.join(" ")
    }

    /// What can be said without a key.
    pub(super) fn check_head(&self, token: &SentToken<'_>) -> Result<(), TokenFault> {
        let algorithm = Algorithm::named(&token.head.alg);
        if !algorithm.is_some_and(|algorithm| self.algorithms.contains(&algorithm)) {
            return Err(TokenFault("its algorithm is not one of those that are taken"));
        }
        if token.head.crit.is_some() {
            return Err(TokenFault("it has an extension that is not known (crit)"));
        }
        // RFC 8725, section 3.11: a token that is for something else says so.
        let kind = token.head.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        match kind.strip_prefix("application/").unwrap_or(&kind) {
            "jwt" | "at+jwt" => Ok(()),
            _ => Err(TokenFault("it is a token for something else (typ)")),
        }
    }

    /// The claims of a token, if the issuer has signed it for this audience and this time.
    pub(super) fn verify(
        &self,
        token: &SentToken<'_>,
        keys: &KeySet,
        now_s: f64,
    ) -> Result<Claims, TokenFault> {
        let algorithm = Algorithm::named(&token.head.alg)
            .ok_or(TokenFault("its algorithm is not one of those that are taken"))?;
        keys.verify(token.kid(), algorithm, token.signed.as_bytes(), &token.signature)
            .map_err(TokenFault)?;
        let claims: Claims = serde_json::from_slice(&token.claims)
            .map_err(|_| TokenFault("its claims cannot be read"))?;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(TokenFault("it is not of this issuer (iss)"));
        }
        let has = |audience: &Value| {
            audience.as_str().is_some_and(|one| self.audiences.iter().any(|own| own == one))
        };
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(has),
            Some(one) => has(one),
            None => false,
        };
        if !is_for_us {
            return Err(TokenFault("it is for another audience (aud)"));
        }
        check_times(&claims, now_s)?;
        Ok(claims)
    }

    /// What the token must allow. An error names what is missing.
    pub(super) fn check_rights(&self, claims: &Claims) -> Result<(), String> {
        let granted = claims.get("scope").or_else(|| claims.get("scp"));
        let has = |scope: &str| match granted {
            Some(Value::String(all)) => all.split(' ').any(|one| one == scope),
            Some(Value::Array(all)) => all.iter().any(|one| one == scope),
            _ => false,
        };
        if let Some(missing) = self.scopes.iter().find(|scope| !has(scope)) {
            return Err(format!("the scope {missing:?}"));
        }
        let holds = |(claim, wanted): &&(String, String)| match claims.get(claim) {
            Some(Value::Array(several)) => several.iter().any(|one| is_text(one, wanted)),
            Some(one) => is_text(one, wanted),
            None => false,
        };
        match self.required.iter().find(|required| !holds(required)) {
            Some((claim, wanted)) => Err(format!("{wanted:?} in the claim {claim:?}")),
            None => Ok(()),
        }
    }

    /// The fields by which the function sees the token's claims.
    pub(super) fn shown(&self, claims: &Claims) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.shown
            .iter()
            .filter_map(|(field, claim)| Some((field.clone(), shown(claims.get(claim)?)?)))
    }
}

/// A claim as the value of a field: texts as they are, all else as JSON. `None` if it cannot be one.
pub(super) fn shown(claim: &Value) -> Option<HeaderValue> {
    match claim {
        Value::Null => None,
        Value::String(text) => HeaderValue::from_bytes(text.as_bytes()).ok(),
        other => HeaderValue::try_from(other.to_string()).ok(),
    }
}

fn is_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(_) | Value::Number(_) => {
            serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A token must end, and must have begun: `nbf`, or `iat` where an issuer leaves that out.
fn check_times(claims: &Claims, now_s: f64) -> Result<(), TokenFault> {
    let time = |claim: &str| match claims.get(claim) {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .filter(|time| time.is_finite())
            .map(Some)
            .ok_or(TokenFault("one of its times is not a number")),
    };
    let (ends, begins, made) = (time("exp")?, time("nbf")?, time("iat")?);
    let ends = ends.ok_or(TokenFault("it does not say when it ends (exp)"))?;
    if begins.or(made).is_none() {
        return Err(TokenFault("it does not say when it begins (nbf, iat)"));
    }
    if now_s >= ends + SKEW_S {
        return Err(TokenFault("it has expired"));
    }
    if [begins, made].into_iter().flatten().any(|begins| now_s < begins - SKEW_S) {
        return Err(TokenFault("it is not valid yet"));
    }
    Ok(())
}

fn shown_claims(view: &JwtView) -> Result<Vec<(HeaderName, String)>, String> {
    count("jwt.claims", view.claims.len(), 0, ENTRIES)?;
    if view.claims.is_empty() {
        return Ok(vec![(HeaderName::from_static("mayfly-auth-sub"), "sub".to_owned())]);
    }
    let field = |(name, claim): (&String, &String)| {
        text("jwt.claims", claim)?;
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || name.is_empty() || name.len() > 63 || OWN_FIELDS.contains(&name.as_str()) {
            return Err(format!(
                "jwt.claims: {name:?} cannot be the name of a field: 1 to 63 of a-z, 0-9 and -, and \
                 none of {}",
                OWN_FIELDS.join(", ")
            ));
        }
        let field = HeaderName::try_from(format!("{FIELD}{name}"));
        Ok((field.map_err(|error| format!("jwt.claims: {error}"))?, claim.clone()))
    };
    view.claims.iter().map(field).collect()
}

/// A scope as RFC 6749, section 3.3, has it.
fn is_scope(scope: &str) -> Result<(), String> {
    let fits = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
    match scope.is_empty() || scope.len() > TEXT_BYTES || !scope.bytes().all(fits) {
        true => Err(format!("jwt.scopes: {scope:?} is not a scope")),
        false => Ok(()),
    }
}

fn count(member: &str, count: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    Err(format!("{member}: {least} to {most} are allowed"))
}

fn text(member: &str, text: &str) -> Result<(), String> {
    if (1..=TEXT_BYTES).contains(&text.len()) {
        return Ok(());
    }
    Err(format!("{member}: 1 to {TEXT_BYTES} bytes are allowed"))
}

/// Keys come over TLS, so that they cannot be replaced on the way.
fn https(member: &str, url: &str) -> Result<String, String> {
    let wrong = || format!("jwt.{member}: {url:?} is not an address with https://");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if uri.scheme_str() == Some("https") && plain && url.len() <= 2 * TEXT_BYTES {
        Ok(url.to_owned())
    } else {
        Err(wrong())
    }
}
