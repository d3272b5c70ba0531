//! Deliveries: callbacks to an address that an owner has named.
//!
//! Each goes the way of guests' requests, and the address is looked at each time. It is signed as Standard
//! Webhooks says, with a secret that may be sent to that address, so that its server can tell it from a
//! request of anyone else. An owner sees one text for a server that is closed, filtered or forbidden.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use ring::hmac;
use runtime_pool::{CdnLoop, Pool, VettedAnswer, VettedClient, VettedRequest};
use secrecy::ExposeSecret as _;
use store::Invocation;

/// Time for everything, from the name to the last byte of the answer.
const WITHIN: Duration = Duration::from_secs(15);
/// Before a secret that is written in Base64.
const ENCODED: &str = "whsec_";

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Makes deliveries.
pub(crate) struct Deliveries {
    pool: Arc<Pool>,
    client: VettedClient,
}

/// Why a delivery got no answer.
pub(super) enum NotDelivered {
    /// Another attempt would fail as well.
    Final(String),
    Failed(String),
}

impl Deliveries {
    pub(crate) fn new(pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), client: pool.vetted_client("callbacks") }
    }

    /// Sends a stored call to its address, signed with the secret of this name.
    pub(super) async fn send(
        &self,
        call: &Invocation,
        secret: Option<&str>,
        (now_ms, answer_bytes): (i64, usize),
    ) -> Result<VettedAnswer, NotDelivered> {
        let uri: Uri =
            call.request.target.parse().map_err(|_| {
                NotDelivered::Final("the address of the callback is none".to_owned())
            })?;
        let missing = || {
            NotDelivered::Final(
                "the function's setting `callback_secret` names no secret that it may send to this \
                 address"
                    .to_owned(),
            )
        };
        let key = secret.and_then(|name| {
            let tenant = call.tenant.as_str();
            self.pool.signing_secret(tenant, &call.function, name, &Method::POST, &uri)
        });
        let key = key_bytes(key.ok_or_else(missing)?.expose_secret());
        let mut headers = HeaderMap::new();
        for (name, value) in &call.request.fields.0 {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        let cdn_loop = CdnLoop::of(&headers);
        headers.remove("cdn-loop");
        let timestamp = now_ms / 1_000;
        let signature = signature(&key, &call.id, timestamp, &call.request.body);
        for (name, value) in
            [(ID, call.id.clone()), (TIMESTAMP, timestamp.to_string()), (SIGNATURE, signature)]
        {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        let body = call.request.body.clone().into();
        let method = Method::POST;
        let request =
            VettedRequest { method, uri, headers, body, cdn_loop, within: WITHIN, answer_bytes };
        self.client.send(request).await.map_err(|_| {
            NotDelivered::Failed("no answer came from the address of the callback".to_owned())
        })
    }
}

fn key_bytes(secret: &str) -> Vec<u8> {
    let encoded = secret.strip_prefix(ENCODED).and_then(|encoded| STANDARD.decode(encoded).ok());
    encoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

/// The signature over id, time and body (Standard Webhooks, version 1).
fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{id}.{timestamp}.").as_bytes());
    signing.update(body);
    format!("v1,{}", STANDARD.encode(signing.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let key = key_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let made = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_not_encoded_is_the_key_itself() {
        assert_eq!(key_bytes("plain"), b"plain");
        assert_eq!(key_bytes("whsec_???"), b"whsec_???");
    }
}
