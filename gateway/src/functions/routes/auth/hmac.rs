//! Requests that are signed with a secret (HMAC-SHA256, RFC 2104).

use std::sync::Arc;

use gateway_api::HmacView;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use ring::hmac::{self, HMAC_SHA256};
use runtime_pool::Secret;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::{
    refusal::{AuthRefusal, SignedBody},
    replays::Replays,
};
use crate::functions::{name::is_name, routes::fields::field_name};

/// Keys of a route: two for each of a few callers.
const KEYS: usize = 16;
/// Bounds of an owner's choice.
const WINDOW_S: u32 = 3_600;

/// The signatures that a route takes.
#[derive(Debug)]
pub(super) struct HmacRules {
    /// The names of keys, with those of their secrets.
    keys: Vec<(HeaderValue, String)>,
    window_s: u32,
    key: HeaderName,
    time: HeaderName,
    signature: HeaderName,
    digest: HeaderName,
}

impl HmacRules {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(super) fn new(view: &HmacView) -> Result<Self, String> {
        if !(1..=KEYS).contains(&view.keys.len()) {
            return Err(format!("hmac.keys: 1 to {KEYS} are allowed"));
        }
        if !(1..=WINDOW_S).contains(&view.window_s) {
            return Err(format!("hmac.window_s: from 1 to {WINDOW_S} are allowed"));
        }
        let key = |(name, secret): (&String, &String)| {
            if !is_name(name) || !is_name(secret) {
                return Err(format!(
                    "hmac.keys: {name:?} and {secret:?} must be the names of a key and of a secret: 1 \
                     to 63 of a-z, 0-9 and -, beginning with a letter"
                ));
            }
            let name = HeaderValue::try_from(name).map_err(|error| error.to_string())?;
            Ok((name, secret.clone()))
        };
        let field = |member: &str, name: &Option<String>, usual: &str| {
            field_name(&format!("hmac.{member}"), name.as_deref().unwrap_or(usual))
        };
        let rules = Self {
            keys: view.keys.iter().map(key).collect::<Result<_, _>>()?,
            window_s: view.window_s,
            key: field("key_header", &view.key_header, "x-key-id")?,
            time: field("time_header", &view.time_header, "x-timestamp")?,
            signature: field("signature_header", &view.signature_header, "x-signature")?,
            digest: field("digest_header", &view.digest_header, "x-content-sha256")?,
        };
        let fields = rules.fields();
        if (1..fields.len()).any(|place| fields[..place].contains(&fields[place])) {
            return Err("hmac: the four header fields must have different names".to_owned());
        }
        Ok(rules)
    }

    /// The secrets that it names.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(_, secret)| secret.as_str())
    }

    /// The field with the signature.
    pub(super) fn header(&self) -> &HeaderName {
        &self.signature
    }

    fn fields(&self) -> [&HeaderName; 4] {
        [&self.key, &self.time, &self.signature, &self.digest]
    }

    /// Takes a signature out.
    pub(super) fn take(&self, headers: &mut HeaderMap) {
        for field in self.fields() {
            headers.remove(field);
        }
    }

    /// The name of the key that has signed a request, and what its body must be.
    pub(super) fn verify(
        &self,
        head: &Parts,
        secret: impl Fn(&str) -> Option<Arc<Secret>>,
        function: Option<&str>,
        now_ms: i64,
        replays: &Replays,
    ) -> Result<(HeaderValue, SignedBody), AuthRefusal> {
        let one = |field: &HeaderName| one(&head.headers, field);
        let time =
            one(&self.time)?.ok_or(AuthRefusal::Wrong("the time of the signature is missing"))?;
        let signed_s =
            seconds(time).ok_or(AuthRefusal::Wrong("the time is not in Unix seconds"))?;
        let now_s = now_ms.div_euclid(1_000);
        if now_s.abs_diff(signed_s) > u64::from(self.window_s) {
            return Err(AuthRefusal::Wrong("the time of the signature is too far from now"));
        }
        let sent = one(&self.signature)?.and_then(hexadecimal);
        let sent = sent.ok_or(AuthRefusal::Wrong("the signature has no 64 hexadecimal digits"))?;
        let body = match one(&self.digest)? {
            Some(digest) => hexadecimal(digest),
            None => Some(Sha256::digest(b"").into()),
        };
        let body = body.ok_or(AuthRefusal::Wrong("the SHA-256 has no 64 hexadecimal digits"))?;
        let wrong = AuthRefusal::Wrong("the key or the signature is not right");
        let id = one(&self.key)?.ok_or(AuthRefusal::Wrong("the name of the key is missing"))?;
        let (id, name) = self.keys.iter().find(|(known, _)| known == id).ok_or(wrong.clone())?;
        let secret = secret(name).filter(|secret| is_for(secret, function)).ok_or(wrong.clone())?;
        let text = signed_text(time, head, &body);
        let key = hmac::Key::new(HMAC_SHA256, secret.value.expose_secret().as_bytes());
        // In constant time.
        hmac::verify(&key, text.as_bytes(), &sent).map_err(|_| wrong)?;
        replays.remember(&sent, signed_s, self.window_s, now_s)?;
        Ok((id.clone(), SignedBody(body)))
    }
}

/// Whether a secret may be used for a route to this function.
fn is_for(secret: &Secret, function: Option<&str>) -> bool {
    let names = |functions: &Vec<String>| {
        function.is_some_and(|function| functions.iter().any(|name| name == function))
    };
    secret.functions.as_ref().is_none_or(names)
}

/// What is signed.
fn signed_text(time: &str, head: &Parts, body: &[u8; 32]) -> String {
    let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let body = store::Digest::from_bytes(*body);
    format!("{time}\n{}\n{path}\n{body}", head.method)
}

fn one<'a>(headers: &'a HeaderMap, field: &HeaderName) -> Result<Option<&'a str>, AuthRefusal> {
    let mut values = headers.get_all(field).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(AuthRefusal::Wrong("a field of the signature is there twice, or not ASCII")),
    }
}

/// Only digits, so that one time has one text.
fn seconds(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    text.parse::<store::Digest>().ok().map(|digest| *digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_signed_text_is_four_lines() {
        let head = Request::put("/a/b?c=d%20e").body(()).unwrap().into_parts().0;
        let text = signed_text("1700000000", &head, &Sha256::digest(b"").into());
        assert_eq!(
            text,
            "1700000000\nPUT\n/a/b?c=d%20e\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_time_has_one_text() {
        assert_eq!(seconds("1700000000"), Some(1_700_000_000));
        for wrong in ["", "+1", "-1", "01", "1.0", " 1", "99999999999999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
    }
}
