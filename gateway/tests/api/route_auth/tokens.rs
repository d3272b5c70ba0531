//! Tokens of an issuer.

use futures_util::future::join_all;
use ring::hmac;
use serde_json::{Value, json};

use super::{
    call, challenges,
    issuer::{Issuer, SigningKey, encode},
    put, route, set, variable,
};
use crate::{
    client::{FullResponse, eventually},
    test_gateway::TestGateway,
};

const ISSUER: &str = "https://login.example.com/";
const AUDIENCE: &str = "https://api.example.com";

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn claims() -> Value {
    let now = now_s();
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "nbf": now, "exp": now + 300})
}

/// The claims with one changed, or left out.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

async fn ask(gateway: &TestGateway, target: &str, token: &str) -> FullResponse {
    call(gateway, target).header("authorization", &format!("Bearer {token}")).send().await
}

/// Three keys, and the set of their public halves.
fn keys() -> ([SigningKey; 3], Value) {
    let keys = [SigningKey::rsa(), SigningKey::p256(), SigningKey::ed25519()];
    let set = json!([keys[0].jwk("r"), keys[1].jwk("e"), keys[2].jwk("d")]);
    (keys, set)
}

fn rules(issuer: &Issuer, more: Value) -> Value {
    let mut jwt =
        json!({"issuer": ISSUER, "audiences": [AUDIENCE, "other"], "jwks_url": issuer.jwks_url()});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    jwt.as_object_mut().unwrap().extend(more);
    json!({ "jwt": jwt })
}

/// Case P11.
#[tokio::test]
async fn a_token_of_the_issuer_is_taken_and_the_function_sees_its_claims_alone() {
    let ([rsa, p256, ed25519], public) = keys();
    let issuer = Issuer::start(public).await;
    let gateway = issuer.gateway(&[]).await;
    gateway.deploy(super::GUEST).await;
    set(&gateway, "x", rules(&issuer, json!({}))).await;
    set(
        &gateway,
        "shown",
        rules(
            &issuer,
            json!({
                "claims": {"who": "email", "roles": "https://example.com/roles", "admin": "admin"},
                "algorithms": ["PS256"],
            }),
        ),
    )
    .await;
    for token in [
        rsa.token(&json!({"alg": "RS256", "kid": "r", "typ": "JWT"}), &claims()),
        p256.token(&json!({"alg": "ES256", "kid": "e", "typ": "at+jwt"}), &claims()),
        ed25519.token(&json!({"alg": "EdDSA", "kid": "d"}), &claims()),
        // Its algorithm is that of one key alone.
        ed25519.token(&json!({"alg": "EdDSA"}), &claims()),
        rsa.token(&json!({"alg": "RS256", "kid": "r"}), &with("aud", json!(["x", "other"]))),
        rsa.token(&json!({"alg": "RS256", "kid": "r"}), &with("nbf", Value::Null)),
        // Within what clocks may differ by.
        rsa.token(&json!({"alg": "RS256", "kid": "r"}), &with("exp", json!(now_s() - 30))),
        rsa.token(&json!({"alg": "RS256", "kid": "r"}), &with("nbf", json!(now_s() + 30))),
    ] {
        // What only the gateway may say does not come from clients, however they spell it.
        let request = call(&gateway, "/x/").header("authorization", &format!("bearer {token}"));
        let request = request.header("mayfly-auth-sub", "forged").header("Mayfly-Auth-Role", "x");
        let request = request.header("mayfly_auth_sub", "forged").header("mayfly_auth-role", "x");
        let answer = request.send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_SUB"), Some("alice"));
        assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_METHOD"), Some("jwt"));
        assert!(!answer.text().contains("forged") && !answer.text().contains("ROLE"), "{answer:?}");
        assert!(!answer.text().contains("HTTP_AUTHORIZATION"), "the function cannot pass it on");
    }
    let mut more = claims();
    more["email"] = json!("a@example.com");
    more["https://example.com/roles"] = json!(["a", "b"]);
    more["admin"] = json!(true);
    let token = rsa.token(&json!({"alg": "PS256", "kid": "r"}), &more);
    let answer = ask(&gateway, "/shown/", &token).await;
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_WHO"), Some("a@example.com"), "{answer:?}");
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_ROLES"), Some(r#"["a","b"]"#));
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_ADMIN"), Some("true"));
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_SUB"), None);
    assert_eq!(issuer.asked(), 1);
}

/// Tokens that must not be taken, each with what is wrong about it.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn forged([rsa, p256, ed25519]: &[SigningKey; 3]) -> Vec<(&'static str, String)> {
    let head = json!({"alg": "RS256", "kid": "r"});
    let good = rsa.token(&head, &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (first, second, third) = (parts[0], parts[1], parts[2]);
    let headed = |head: Value| rsa.token(&head, &claims());
    let claiming = |claim: &str, value: Value| rsa.token(&head, &with(claim, value));
    let unsigned = |algorithm: &str| {
        format!("{}.{second}.", encode(json!({"alg": algorithm, "kid": "r"}).to_string()))
    };
    // With the public key as the secret of a symmetric algorithm.
    let symmetric = |algorithm: &str, secret: &[u8]| {
        let signed =
            format!("{}.{second}", encode(json!({"alg": algorithm, "kid": "r"}).to_string()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes())))
    };
    let modulus = rsa.jwk("r")["n"].as_str().unwrap().to_owned();
    let other = SigningKey::p256();
    let embedded = json!({"alg": "ES256", "kid": "e", "jwk": other.jwk("e")});
    let (now, mut changed) = (now_s(), claims());
    changed["sub"] = json!("mallory");
    let swapped = encode(changed.to_string());
    let p256_token = p256.token(&json!({"alg": "ES256", "kid": "e"}), &claims());
    let zeros = encode([0; 64]);
    let (signed, _) = p256_token.rsplit_once('.').unwrap();
    vec![
        ("no algorithm", unsigned("none")),
        ("no algorithm, in capitals", unsigned("NONE")),
        ("no algorithm, mixed", unsigned("nOnE")),
        ("no algorithm at all", format!("{}.{second}.{third}", encode(r#"{"kid":"r"}"#))),
        ("a signature that is missing", format!("{first}.{second}.")),
        ("HS256 with the modulus", symmetric("HS256", modulus.as_bytes())),
        ("HS256 with the key set", symmetric("HS256", rsa.jwk("r").to_string().as_bytes())),
        ("HS256 with nothing", symmetric("HS256", b"")),
        ("RS256 that is an HMAC", symmetric("RS256", modulus.as_bytes())),
        ("an algorithm that is not configured", headed(json!({"alg": "PS256", "kid": "r"}))),
        ("an algorithm that does not exist", headed(json!({"alg": "RS1", "kid": "r"}))),
        ("an algorithm in lower case", headed(json!({"alg": "rs256", "kid": "r"}))),
        ("an algorithm that is a list", headed(json!({"alg": ["RS256"], "kid": "r"}))),
        ("the key of another kind", headed(json!({"alg": "RS256", "kid": "e"}))),
        ("a key that is not there", headed(json!({"alg": "RS256", "kid": "absent"}))),
        ("a key with no name", headed(json!({"alg": "RS256", "kid": ""}))),
        ("a key whose name is a number", headed(json!({"alg": "RS256", "kid": 1}))),
        ("a key whose name is a path", headed(json!({"alg": "RS256", "kid": "../../r"}))),
        ("a key whose name is a query", headed(json!({"alg": "RS256", "kid": "r' OR '1'='1"}))),
        (
            "an extension",
            headed(json!({"alg": "RS256", "kid": "r", "crit": ["b64"], "b64": false})),
        ),
        ("an extension of nothing", headed(json!({"alg": "RS256", "kid": "r", "crit": []}))),
        ("a token for a log-out", headed(json!({"alg": "RS256", "kid": "r", "typ": "logout+jwt"}))),
        ("a proof of possession", headed(json!({"alg": "RS256", "kid": "r", "typ": "dpop+jwt"}))),
        (
            "another key of the same kind",
            other.token(&json!({"alg": "ES256", "kid": "e"}), &claims()),
        ),
        ("a key within the token", other.token(&embedded, &claims())),
        (
            "a key at the forger's address",
            other.token(
                &json!({"alg": "ES256", "kid": "e", "jku": "https://127.0.0.1:1/jwks"}),
                &claims(),
            ),
        ),
        (
            "a certificate within the token",
            other.token(&json!({"alg": "ES256", "kid": "e", "x5c": ["MIIB"]}), &claims()),
        ),
        ("claims that were changed", format!("{first}.{swapped}.{third}")),
        (
            "a head that was changed",
            format!("{}.{second}.{third}", encode(r#"{"alg":"RS256","kid":"r","x":1}"#)),
        ),
        ("a signature of zeros", format!("{signed}.{zeros}")),
        ("a signature cut short", good[..good.len() - 8].to_owned()),
        ("a signature with more", format!("{good}AAAA")),
        ("a signature of another token", format!("{signed}.{third}")),
        ("padding", format!("{good}==")),
        ("five parts", format!("{good}.{second}.{third}")),
        ("two parts", format!("{first}.{second}")),
        ("no part", String::new()),
        ("a dot", "..".to_owned()),
        ("a head that is no object", format!("{}.{second}.{third}", encode("[]"))),
        (
            "an algorithm twice",
            format!("{}.{second}.{third}", encode(r#"{"alg":"none","alg":"RS256","kid":"r"}"#)),
        ),
        ("claims that are no object", rsa.token(&head, &json!([claims()]))),
        ("another issuer", claiming("iss", json!("https://login.example.org/"))),
        ("an issuer without its slash", claiming("iss", json!("https://login.example.com"))),
        ("an issuer in a list", claiming("iss", json!([ISSUER]))),
        ("no issuer", claiming("iss", Value::Null)),
        ("another audience", claiming("aud", json!("https://api.example.org"))),
        (
            "an audience that begins alike",
            claiming("aud", json!(format!("{AUDIENCE}.evil.example"))),
        ),
        ("an audience that is an object", claiming("aud", json!({AUDIENCE: true}))),
        ("no audience in a list", claiming("aud", json!([]))),
        ("no audience", claiming("aud", Value::Null)),
        ("no end", claiming("exp", Value::Null)),
        ("an end in the past", claiming("exp", json!(now - 61))),
        ("an end that is a text", claiming("exp", json!("9999999999"))),
        ("an end that is an object", claiming("exp", json!({}))),
        ("a beginning in the future", claiming("nbf", json!(now + 120))),
        ("a beginning that is a text", claiming("nbf", json!("0"))),
        ("made in the future", claiming("iat", json!(now + 120))),
        (
            "no beginning",
            rsa.token(&head, &{
                let mut claims = with("nbf", Value::Null);
                claims.as_object_mut().unwrap().remove("iat");
                claims
            }),
        ),
        ("a token that is too long", format!("{first}.{}.{third}", "A".repeat(17 << 10))),
        ("the key's name alone", ed25519.token(&json!({"alg": "EdDSA", "kid": "r"}), &claims())),
    ]
}

/// Case P11.
#[tokio::test]
async fn no_forged_token_is_taken_and_none_costs_a_call() {
    let (keys, public) = keys();
    let issuer = Issuer::start(public).await;
    let gateway = issuer.gateway(&["server.header_bytes=64KiB"]).await;
    gateway.deploy(super::GUEST).await;
    set(&gateway, "x", rules(&issuer, json!({}))).await;
    let forged = forged(&keys);
    assert!(forged.len() >= 40);
    for (what, token) in &forged {
        let refused = ask(&gateway, "/x/", token).await;
        assert_eq!(refused.problem(), (401, "authentication-required"), "{what}");
        let challenge = challenges(&refused).join("; ");
        assert!(
            challenge.starts_with("Bearer realm=\"x\", error=\"invalid_token\""),
            "{challenge}"
        );
    }
    let good = keys[0].token(&json!({"alg": "RS256", "kid": "r"}), &claims());
    let plain = call(&gateway, "/x/").send().await;
    assert_eq!(plain.problem(), (401, "authentication-required"));
    assert_eq!(challenges(&plain), ["Bearer realm=\"x\""]);
    for other in [format!("Basic {good}"), good.clone(), format!("Bearer\t{good}")] {
        let refused = call(&gateway, "/x/").header("authorization", &other).send().await;
        assert_eq!(refused.status(), 401, "{other}");
    }
    let twice = call(&gateway, "/x/").header("authorization", &format!("Bearer {good}"));
    let twice = twice.header("authorization", &format!("Bearer {good}")).send().await;
    assert_eq!(twice.status(), 401);
    assert_eq!(gateway.metric("mayfly_requests_total").await, 0.0);
    assert_eq!(ask(&gateway, "/x/", &good).await.status(), 200);
    assert_eq!(issuer.asked(), 1, "whatever keys the tokens name");
}

/// Case P11.
#[tokio::test]
async fn a_token_must_have_the_scopes_and_the_claims_of_the_route() {
    let ([rsa, ..], public) = keys();
    let issuer = Issuer::start(public).await;
    let gateway = issuer.gateway(&[]).await;
    gateway.deploy(super::GUEST).await;
    let more = json!({"scopes": ["read", "write"], "require": {"tenant": "a", "roles": "admin"}});
    set(&gateway, "x", rules(&issuer, more)).await;
    let mut full = claims();
    full["scope"] = json!("write other read");
    full["tenant"] = json!("a");
    full["roles"] = json!(["user", "admin"]);
    let head = json!({"alg": "RS256", "kid": "r"});
    assert_eq!(ask(&gateway, "/x/", &rsa.token(&head, &full)).await.status(), 200);
    for (claim, value) in [
        ("scope", json!("read")),
        ("scope", json!("readwrite read")),
        ("scope", Value::Null),
        ("tenant", json!("b")),
        ("tenant", Value::Null),
        ("roles", json!(["user"])),
    ] {
        let mut less = full.clone();
        less[claim] = value;
        let refused = ask(&gateway, "/x/", &rsa.token(&head, &less)).await;
        assert_eq!(refused.problem(), (403, "not-permitted"), "{claim}");
        let challenge = "Bearer realm=\"x\", error=\"insufficient_scope\", scope=\"read write\"";
        assert_eq!(challenges(&refused), [challenge]);
    }
}

/// Case P12.
#[tokio::test]
async fn keys_are_fetched_once_for_all_and_again_only_after_a_while() {
    let ([rsa, p256, _], _) = keys();
    let issuer = Issuer::start(json!([rsa.jwk("r")])).await;
    let gateway = issuer.gateway(&["server.jwks_refresh_ms=1500"]).await;
    gateway.deploy(super::GUEST).await;
    // Without `jwks_url`: the issuer says where its keys are.
    let jwt = json!({"issuer": issuer.address(), "audiences": [AUDIENCE]});
    set(&gateway, "x", json!({ "jwt": jwt })).await;
    let of_issuer = with("iss", json!(issuer.address()));
    let old = rsa.token(&json!({"alg": "RS256", "kid": "r"}), &of_issuer);
    let answers = join_all((0..20).map(|_| ask(&gateway, "/x/", &old))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200), "{answers:?}");
    assert_eq!(issuer.asked(), 1);

    // Tokens that name other keys cause no more requests than time allows.
    issuer.set_keys(json!([p256.jwk("e")]));
    for number in 0..50 {
        let name = format!("k{number}");
        let unknown = p256.token(&json!({"alg": "ES256", "kid": name}), &of_issuer);
        assert_eq!(ask(&gateway, "/x/", &unknown).await.status(), 401);
    }
    assert!(issuer.asked() <= 3, "{}", issuer.asked());
    let new = p256.token(&json!({"alg": "ES256", "kid": "e"}), &of_issuer);
    eventually("the new key is known", async || {
        (ask(&gateway, "/x/", &new).await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(ask(&gateway, "/x/", &old).await.status(), 401, "the issuer has taken it back");
}

/// Case P12.
#[tokio::test]
async fn an_issuer_that_is_down_keeps_its_keys_for_a_while_and_then_nobody_gets_in() {
    let ([rsa, ..], public) = keys();
    let issuer = Issuer::start(public).await;
    let settings = ["server.jwks_refresh_ms=100", "server.jwks_keep_ms=3000"];
    let gateway = issuer.gateway(&settings).await;
    gateway.deploy(super::GUEST).await;
    set(&gateway, "x", rules(&issuer, json!({}))).await;
    let token = rsa.token(&json!({"alg": "RS256", "kid": "r"}), &claims());
    issuer.set_down(true);
    let refused = ask(&gateway, "/x/", &token).await;
    assert_eq!(refused.problem(), (503, "issuer-unavailable"));
    assert!(refused.header("retry-after").is_some());
    issuer.set_down(false);
    eventually("the keys are known", async || {
        (ask(&gateway, "/x/", &token).await.status() == 200).then_some(())
    })
    .await;
    issuer.set_down(true);
    let mut taken = 0;
    let last = eventually("nobody gets in", async || {
        let answer = ask(&gateway, "/x/", &token).await;
        taken += u32::from(answer.status() == 200);
        (answer.status() != 200).then_some(answer)
    })
    .await;
    assert_eq!(last.problem(), (503, "issuer-unavailable"));
    assert!(taken > 0, "known keys are kept for a while");
}

/// Case P12.
#[tokio::test]
async fn keys_come_over_tls_from_public_addresses_alone() {
    let ([rsa, ..], public) = keys();
    let issuer = Issuer::start(public).await;
    let gateway = TestGateway::start().await;
    gateway.deploy(super::GUEST).await;
    set(&gateway, "x", rules(&issuer, json!({}))).await;
    let token = rsa.token(&json!({"alg": "RS256", "kid": "r"}), &claims());
    let refused = ask(&gateway, "/x/", &token).await;
    assert_eq!(refused.problem(), (503, "issuer-unavailable"));
    assert_eq!(issuer.connections(), 0, "the address is not public");
    let plain = "http://login.example.com/jwks";
    for (jwt, member) in [
        (json!({"issuer": ISSUER, "audiences": ["a"], "jwks_url": plain}), "jwt.jwks_url: "),
        (json!({"issuer": "http://login.example.com", "audiences": ["a"]}), "jwt.issuer: "),
        (json!({"issuer": "login", "audiences": ["a"]}), "jwt.issuer: "),
        (json!({"issuer": ISSUER, "audiences": []}), "jwt.audiences: "),
        (json!({"issuer": ISSUER, "audiences": ["a"], "algorithms": ["none"]}), "jwt.algorithms: "),
        (
            json!({"issuer": ISSUER, "audiences": ["a"], "algorithms": ["HS256"]}),
            "jwt.algorithms: ",
        ),
        (json!({"issuer": ISSUER, "audiences": ["a"], "claims": {"user": "x"}}), "jwt.claims: "),
        (json!({"issuer": ISSUER, "audiences": ["a"], "claims": {"A_b": "x"}}), "jwt.claims: "),
        (json!({"issuer": ISSUER, "audiences": ["a"], "scopes": ["a b"]}), "jwt.scopes: "),
    ] {
        let refused = put(&gateway, "x", &route("x", json!({ "jwt": jwt }))).await;
        assert_eq!(refused.problem(), (422, "bad-route"), "{jwt}");
        assert!(refused.detail().starts_with(member), "{refused:?}");
    }
}
