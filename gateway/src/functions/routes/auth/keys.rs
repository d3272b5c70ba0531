//! API keys of a route. The gateway knows their SHA-256 only: those who read routes, or the
//! database, cannot call with them. Keys are long and random: a slow hash would protect nothing more.

use gateway_api::ApiKeysView;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::functions::{name::is_name, routes::fields::field_name};

/// Keys of a route. Each is compared with for each request.
const KEYS: usize = 64;
/// Bytes of a key that is looked at.
const KEY_BYTES: usize = 512;

/// The keys of a route.
#[derive(Debug)]
pub(super) struct ApiKeys {
    header: HeaderName,
    /// Each with its name.
    keys: Vec<([u8; 32], HeaderValue)>,
}

impl ApiKeys {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(super) fn new(keys: &ApiKeysView) -> Result<Self, String> {
        if !(1..=KEYS).contains(&keys.sha256.len()) {
            return Err(format!("api_keys.sha256: 1 to {KEYS} are allowed"));
        }
        let header = field_name("api_keys.header", keys.header.as_deref().unwrap_or("x-api-key"))?;
        let key = |(name, hash): (&String, &String)| {
            if !is_name(name) {
                return Err(format!("api_keys.sha256: {name:?} cannot be the name of a key"));
            }
            let wrong =
                || format!("api_keys.sha256: that of {name:?} has no 64 hexadecimal digits");
            let hash: store::Digest = hash.parse().map_err(|_| wrong())?;
            let name = HeaderValue::try_from(name).map_err(|error| error.to_string())?;
            Ok((*hash.as_bytes(), name))
        };
        Ok(Self { header, keys: keys.sha256.iter().map(key).collect::<Result<_, _>>()? })
    }

    /// The field that keys come in.
    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What tells the key of this name from a later one of the same name, without telling the key.
    pub(super) fn mark(&self, name: &HeaderValue) -> Option<String> {
        self.keys.iter().find(|(_, key)| key == name).map(mark)
    }

    /// Whether one of the keys has this mark.
    pub(super) fn has_mark(&self, sought: &str) -> bool {
        self.keys.iter().any(|key| mark(key) == sought)
    }

    /// The name of the key that a request has.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut values = headers.get_all(&self.header).iter();
        let (sent, None) = (values.next()?, values.next()) else { return None };
        let bare = sent.as_bytes().strip_prefix(b"Bearer ").unwrap_or(sent.as_bytes());
        if bare.len() > KEY_BYTES {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(bare).into();
        // All of them: the time says nothing about which it is.
        let mut found = None;
        for (key, name) in &self.keys {
            if key.ct_eq(&hash).into() {
                found = Some(name);
            }
        }
        found.cloned()
    }
}

fn mark((hash, name): &([u8; 32], HeaderValue)) -> String {
    let again = Sha256::digest(hash);
    let digits: String = again.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{digits}", name.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(header: Option<&str>) -> ApiKeys {
        let hash = |key: &str| {
            Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let sha256 = [("one", "first key"), ("two", "second key")];
        let sha256 = sha256.map(|(name, key)| (name.to_owned(), hash(key))).into();
        ApiKeys::new(&ApiKeysView { sha256, header: header.map(ToOwned::to_owned) }).unwrap()
    }

    fn found(keys: &ApiKeys, fields: &[(&'static str, &str)]) -> Option<String> {
        let field = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        keys.find(&headers).map(|name| name.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_key_is_known_by_its_name() {
        let keys = keys(None);
        assert_eq!(found(&keys, &[("x-api-key", "first key")]).as_deref(), Some("one"));
        assert_eq!(found(&keys, &[("x-api-key", "second key")]).as_deref(), Some("two"));
        for wrong in ["", "First key", "first key ", "first"] {
            assert_eq!(found(&keys, &[("x-api-key", wrong)]), None, "{wrong}");
        }
        assert_eq!(found(&keys, &[]), None);
        let twice = [("x-api-key", "wrong"), ("x-api-key", "first key")];
        assert_eq!(found(&keys, &twice), None);
    }

    #[test]
    fn a_key_may_be_a_bearer_token() {
        let keys = keys(Some("authorization"));
        let sent = [("authorization", "Bearer first key")];
        assert_eq!(found(&keys, &sent).as_deref(), Some("one"));
    }
}
