//! The keys of an issuer: a JSON Web Key Set (RFC 7517), as far as signatures need it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

/// Keys of one issuer that are looked at. Issuers have two to ten.
const KEYS: usize = 64;

/// An algorithm of signatures (RFC 7518, RFC 8037). There is no `none`, and no secret that would be
/// shared: a public key can never be taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// All of them, by the names that tokens have.
pub(super) const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
];

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<IssuerKey>);

#[derive(Debug)]
struct IssuerKey {
    id: Option<String>,
    /// The one that it is for, if it says so.
    algorithm: Option<Algorithm>,
    material: KeyMaterial,
}

#[derive(Debug)]
enum KeyMaterial {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    for_what: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys that are not for signatures, or of a kind that is not known, are passed
    /// over.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        let document: KeySetDocument =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if document.keys.len() > KEYS {
            return Err(format!("it has more than {KEYS} keys"));
        }
        let keys = document.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(keys.filter_map(|key: Jwk| IssuerKey::new(&key)).collect()))
    }

    /// Whether there is a key of this name, or any if a token names none.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        match id {
            Some(id) => self.0.iter().any(|key| key.id.as_deref() == Some(id)),
            None => !self.0.is_empty(),
        }
    }

    /// Whether a key of this name has signed the message. Without a name, there must be one key alone
    /// that could have.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), &'static str> {
        let named = |key: &&IssuerKey| id.is_none() || key.id.as_deref() == id;
        let fitting = self.0.iter().filter(named).filter(|key| key.is_for(algorithm));
        let fitting: Vec<_> = fitting.collect();
        if fitting.is_empty() {
            return Err("the issuer has no such key");
        }
        if id.is_none() && fitting.len() > 1 {
            return Err("it names no key (kid), and the issuer has several");
        }
        let signed = fitting.iter().any(|key| key.verify(algorithm, message, signature));
        if signed { Ok(()) } else { Err("its signature is not right") }
    }
}

impl IssuerKey {
    /// `None` if it is of no use here.
    fn new(key: &Jwk) -> Option<Self> {
        let verifies = key
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|operation| operation == "verify"));
        if key.for_what.as_ref().is_some_and(|what| what != "sig") || !verifies {
            return None;
        }
        let algorithm = match &key.alg {
            Some(name) => Some(Algorithm::named(name)?),
            None => None,
        };
        let material = match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", None) => {
                let (n, e) = (number(key.n.as_deref()?)?, number(key.e.as_deref()?)?);
                KeyMaterial::Rsa { n, e }
            }
            ("EC", Some("P-256")) => KeyMaterial::P256(point(key, 32)?),
            ("EC", Some("P-384")) => KeyMaterial::P384(point(key, 48)?),
            ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519(bytes(key.x.as_deref()?, 32)?),
            _ => return None,
        };
        Some(Self { id: key.kid.clone(), algorithm, material })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let kind = match algorithm {
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => {
                matches!(self.material, KeyMaterial::Rsa { .. })
            }
            Es256 => matches!(self.material, KeyMaterial::P256(_)),
            Es384 => matches!(self.material, KeyMaterial::P384(_)),
            EdDsa => matches!(self.material, KeyMaterial::Ed25519(_)),
        };
        kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let by = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(message, signature).is_ok()
        };
        match &self.material {
            KeyMaterial::Rsa { n, e } => rsa(algorithm).is_some_and(|how| {
                RsaPublicKeyComponents { n, e }.verify(how, message, signature).is_ok()
            }),
            KeyMaterial::P256(key) => by(&ECDSA_P256_SHA256_FIXED, key),
            KeyMaterial::P384(key) => by(&ECDSA_P384_SHA384_FIXED, key),
            KeyMaterial::Ed25519(key) => by(&ED25519, key),
        }
    }
}

/// Keys of less than 2,048 bits are refused.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    match algorithm {
        Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Es256 | Es384 | EdDsa => None,
    }
}

/// A number without zeros at its beginning, which some issuers write.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

fn bytes(text: &str, length: usize) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == length)
}

/// An uncompressed point (SEC 1, section 2.3.3).
fn point(key: &Jwk, length: usize) -> Option<Vec<u8>> {
    let (x, y) = (bytes(key.x.as_deref()?, length)?, bytes(key.y.as_deref()?, length)?);
    Some([&[4], &x[..], &y[..]].concat())
}
