//! An issuer of tokens, with an address and keys of its own.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{outbound::Upstream, test_gateway::TestGateway};

/// A key that signs. RSA keys take long to make, so there is one for all tests.
pub(super) enum SigningKey {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl SigningKey {
    pub(super) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa-for-tests.der")).unwrap())
    }

    pub(super) fn p256() -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// Its public half, as a key set has it.
    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": encode(n), "e": encode(e)})
            }
            Self::P256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y})
            }
            Self::Ed25519(key) => {
                let x = encode(key.public_key());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": x})
            }
        }
    }

    pub(super) fn sign(&self, algorithm: &str, message: &str) -> Vec<u8> {
        let (message, random) = (message.as_bytes(), SystemRandom::new());
        match self {
            Self::Rsa(key) => {
                let pkcs1: &dyn RsaEncoding = &RSA_PKCS1_SHA256;
                let how = if algorithm.starts_with("PS") { &RSA_PSS_SHA256 } else { pkcs1 };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(how, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this head and these claims.
    pub(super) fn token(&self, head: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(head.to_string()), encode(claims.to_string()));
        let algorithm = head["alg"].as_str().unwrap_or_default();
        format!("{signed}.{}", encode(self.sign(algorithm, &signed)))
    }
}

/// The server of an issuer.
pub(super) struct Issuer {
    upstream: Upstream,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicU32>,
    down: Arc<AtomicBool>,
    files: TempDir,
}

impl Issuer {
    /// Serves `/jwks`, and a document about itself.
    pub(super) async fn start(keys: Value) -> Self {
        let (keys, asked) = (Arc::new(Mutex::new(keys)), Arc::<AtomicU32>::default());
        let down = Arc::<AtomicBool>::default();
        let (served, counter, broken) = (Arc::clone(&keys), Arc::clone(&asked), Arc::clone(&down));
        let (upstream, certificate) = Upstream::answering_over_tls("127.0.0.1", move |head| {
            let port = head.split("host: 127.0.0.1:").nth(1).and_then(|rest| rest.lines().next());
            let base = format!("https://127.0.0.1:{}", port.unwrap_or_default());
            let body = if head.starts_with("get /jwks ") {
                counter.fetch_add(1, Relaxed);
                json!({"keys": *served.lock().unwrap()})
            } else {
                json!({"issuer": base, "jwks_uri": format!("{base}/jwks")})
            };
            let (status, body) = match broken.load(Relaxed) {
                true => ("503 Service Unavailable", String::new()),
                false => ("200 OK", body.to_string()),
            };
            let length = body.len();
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
        })
        .await;
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("ca.pem"), certificate).unwrap();
        Self { upstream, keys, asked, down, files }
    }

    /// A gateway that trusts it.
    pub(super) async fn gateway(&self, more: &[&str]) -> TestGateway {
        let ca_file = format!("outbound.ca_file={}", self.files.path().join("ca.pem").display());
        let settings = [&[&*ca_file, "outbound.permit=127.0.0.1"], more].concat();
        TestGateway::with(&settings).await
    }

    pub(super) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.upstream.port())
    }

    pub(super) fn jwks_url(&self) -> String {
        format!("{}/jwks", self.address())
    }

    pub(super) fn set_keys(&self, keys: Value) {
        *self.keys.lock().unwrap() = keys;
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Relaxed);
    }

    /// How often its keys were asked for.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }

    pub(super) fn connections(&self) -> u32 {
        self.upstream.connections()
    }
}
