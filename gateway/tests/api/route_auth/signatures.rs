//! Signed requests.

use futures_util::future::join_all;
use http::Method;
use ring::hmac;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{HOST, challenges, put, route, set, variable};
use crate::{
    client::{FullResponse, TestRequest},
    test_gateway::TestGateway,
};

fn now_s() -> u64 {
    jiff::Timestamp::now().as_second().unsigned_abs()
}

fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request that is signed, and what can be wrong about it.
#[derive(Clone)]
struct Signed {
    secret: &'static str,
    key: &'static str,
    time: String,
    method: Method,
    target: &'static str,
    body: &'static str,
}

impl Signed {
    fn new(target: &'static str, body: &'static str) -> Self {
        let time = now_s().to_string();
        Self { secret: "first secret", key: "one", time, method: Method::POST, target, body }
    }

    fn digest(&self) -> String {
        hexadecimal(Sha256::digest(self.body))
    }

    fn signature(&self) -> String {
        let Self { secret, time, method, target, .. } = self;
        let text = format!("{time}\n{method}\n{target}\n{}", self.digest());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hexadecimal(hmac::sign(&key, text.as_bytes()))
    }

    /// The request, with this signature and this digest of its body.
    fn with(&self, gateway: &TestGateway, signature: &str, digest: &str) -> TestRequest {
        let request = gateway.call(self.method.clone(), self.target).header("host", HOST);
        let request = request.header("x-key-id", self.key).header("x-timestamp", &self.time);
        let request = request.header("x-signature", signature).header("x-content-sha256", digest);
        request.body(self.body)
    }

    async fn send(&self, gateway: &TestGateway) -> FullResponse {
        self.with(gateway, &self.signature(), &self.digest()).send().await
    }
}

async fn gateway() -> TestGateway {
    let gateway = TestGateway::start().await;
    gateway.deploy(super::GUEST).await;
    gateway.deploy("echo").await;
    for (name, value) in [("hook-1", "first secret"), ("hook-2", "second secret")] {
        let secret = json!({"value": value, "hosts": ["https://hook.invalid"]});
        let target = format!("/v1/secrets/{name}");
        let made = gateway.control(Method::PUT, &target).json(&secret).send().await;
        assert_eq!(made.status(), 201, "{made:?}");
    }
    let hmac = json!({"keys": {"one": "hook-1", "two": "hook-2"}});
    set(&gateway, "x", json!({ "hmac": hmac })).await;
    let mut echo = route("echo", json!({ "hmac": hmac }));
    echo["function"] = json!("echo");
    assert_eq!(put(&gateway, "echo", &echo).await.status(), 201);
    gateway
}

/// Case P13.
#[tokio::test]
async fn a_signed_request_is_taken_once_and_its_function_sees_no_signature() {
    let gateway = gateway().await;
    let signed = Signed::new("/x/a%20b?c=d&e", "");
    let answer = signed.send(&gateway).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_KEY"), Some("one"));
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_METHOD"), Some("hmac"));
    for field in ["X_SIGNATURE", "X_TIMESTAMP", "X_KEY_ID", "X_CONTENT_SHA256"] {
        assert_eq!(variable(&answer, &format!("HTTP_{field}")), None);
    }
    let again = signed.send(&gateway).await;
    assert_eq!(again.problem(), (401, "authentication-required"));
    assert!(again.detail().contains("used before"), "{again:?}");
    assert_eq!(challenges(&again), ["HMAC-SHA256 header=\"x-signature\""]);

    // Of many at once, one is taken.
    let signed = Signed { target: "/x/at-once", ..Signed::new("/x/", "") };
    let all = join_all((0..16).map(|_| signed.send(&gateway))).await;
    assert_eq!(all.iter().filter(|answer| answer.status() == 200).count(), 1);

    // Both keys are valid while one is being replaced.
    let two = Signed { key: "two", secret: "second secret", ..Signed::new("/x/two", "") };
    assert_eq!(two.send(&gateway).await.status(), 200);
    let body = Signed { body: "what was signed", ..Signed::new("/echo/", "") };
    assert_eq!(body.send(&gateway).await.plain(), (200, "what was signed"));
}

/// Case P13.
#[tokio::test]
async fn no_forged_signature_is_taken_and_no_function_sees_a_body_that_was_not_signed() {
    let gateway = gateway().await;
    let good = Signed::new("/echo/a?b=c", "body");
    let (signature, digest) = (good.signature(), good.digest());
    let zeros = "0".repeat(64);
    let changed = |change: fn(&mut Signed)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.with(&gateway, &signature, &digest)
    };
    let resigned = |change: fn(&mut Signed)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.with(&gateway, &changed.signature(), &changed.digest())
    };
    let refused = [
        ("another path", changed(|signed| signed.target = "/echo/b?b=c")),
        ("another query", changed(|signed| signed.target = "/echo/a?b=d")),
        ("another method", changed(|signed| signed.method = Method::PUT)),
        ("another time", changed(|signed| signed.time = (now_s() - 1).to_string())),
        ("another key", changed(|signed| signed.key = "two")),
        ("a key that is not there", changed(|signed| signed.key = "three")),
        ("a body that is longer", changed(|signed| signed.body = "body and more")),
        ("a body that is shorter", changed(|signed| signed.body = "bod")),
        ("no body", changed(|signed| signed.body = "")),
        ("another secret", resigned(|signed| signed.secret = "first Secret")),
        ("the name of the secret", resigned(|signed| signed.secret = "hook-1")),
        ("an empty secret", resigned(|signed| signed.secret = "")),
        ("an old time", resigned(|signed| signed.time = (now_s() - 302).to_string())),
        ("a time to come", resigned(|signed| signed.time = (now_s() + 302).to_string())),
        ("a time in milliseconds", resigned(|signed| signed.time = (now_s() * 1_000).to_string())),
        ("a time with a sign", resigned(|signed| signed.time = format!("+{}", now_s()))),
        ("no time", resigned(|signed| signed.time = String::new())),
        ("another digest", good.with(&gateway, &signature, &zeros)),
        ("no digest", good.with(&gateway, &signature, "")),
        ("a signature of zeros", good.with(&gateway, &zeros, &digest)),
        ("a signature cut short", good.with(&gateway, &signature[..62], &digest)),
        ("a signature with more", good.with(&gateway, &format!("{signature}00"), &digest)),
        ("a signature with a prefix", good.with(&gateway, &format!("sha256={signature}"), &digest)),
        ("two signatures", good.with(&gateway, &signature, &digest).header("x-signature", &zeros)),
        ("two times", good.with(&gateway, &signature, &digest).header("x-timestamp", "1")),
    ];
    for (what, request) in refused {
        let answer = request.send().await;
        assert_eq!(answer.problem(), (401, "authentication-required"), "{what}");
    }
    assert_eq!(gateway.metric("mayfly_requests_total").await, 0.0, "no function was called");

    // A body that is too large to be kept is refused, whether it says so or not.
    let large: &'static str = "x".repeat((1 << 20) + 1).leak();
    let large = Signed { body: large, ..Signed::new("/echo/large", "") };
    assert_eq!(large.send(&gateway).await.problem(), (413, "request-too-large"));
    let largest: &'static str = "x".repeat(1 << 20).leak();
    let largest = Signed { body: largest, ..Signed::new("/echo/largest", "") };
    assert_eq!(largest.send(&gateway).await.bytes().len(), 1 << 20);
}

/// Case P13.
#[tokio::test]
async fn a_secret_for_other_functions_signs_nothing_and_one_that_is_gone_neither() {
    let gateway = gateway().await;
    let secret =
        json!({"value": "first secret", "hosts": ["https://hook.invalid"], "functions": ["echo"]});
    let put_secret = gateway.control(Method::PUT, "/v1/secrets/hook-1").json(&secret).send().await;
    assert_eq!(put_secret.status(), 200);
    assert_eq!(Signed::new("/x/", "").send(&gateway).await.status(), 401);
    assert_eq!(Signed::new("/echo/", "").send(&gateway).await.status(), 200);
    let deleted = gateway.control(Method::DELETE, "/v1/secrets/hook-1").send().await;
    assert_eq!(deleted.status(), 204);
    assert_eq!(Signed::new("/echo/gone", "").send(&gateway).await.status(), 401);
    for (hmac, member) in [
        (json!({"keys": {"one": "absent"}}), "hmac.keys: there is no secret"),
        (json!({"keys": {}}), "hmac.keys: "),
        (json!({"keys": {"One": "hook-2"}}), "hmac.keys: "),
        (json!({"keys": {"one": "hook-2"}, "window_s": 0}), "hmac.window_s: "),
        (json!({"keys": {"one": "hook-2"}, "window_s": 3_601}), "hmac.window_s: "),
        (json!({"keys": {"one": "hook-2"}, "key_header": "mayfly-x"}), "hmac.key_header: "),
        (json!({"keys": {"one": "hook-2"}, "key_header": "x-signature"}), "hmac: the four"),
    ] {
        let refused = put(&gateway, "x", &route("x", json!({ "hmac": hmac }))).await;
        assert_eq!(refused.problem(), (422, "bad-route"), "{hmac}");
        assert!(refused.detail().starts_with(member), "{refused:?}");
    }
}
