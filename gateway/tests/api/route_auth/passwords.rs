//! Users with passwords, and several ways at once.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{call, challenges, put, route, set, variable};
use crate::{client::FullResponse, test_gateway::TestGateway};

/// What the command line prints for a password.
fn hash(password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mayfly"));
    command.args(["route", "password"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

async fn ask(gateway: &TestGateway, user: &str, password: &str) -> FullResponse {
    let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let request = call(gateway, "/x/").header("authorization", &format!("Basic {credentials}"));
    request.header("mayfly-auth-user", "forged").send().await
}

/// Case P16.
#[tokio::test]
async fn a_user_with_a_password_is_let_in_and_nobody_else() {
    let gateway = TestGateway::start().await;
    gateway.deploy(super::GUEST).await;
    let (ada, bob) = (hash("open: sesame"), hash("\u{fc}ber"));
    assert!(ada.starts_with("$pbkdf2-sha256$i=600000$"), "{ada}");
    let users = json!({"ada": ada, "bob": bob});
    set(&gateway, "x", json!({"basic": {"users": users, "realm": "The shop"}})).await;
    let answer = ask(&gateway, "ada", "open: sesame").await;
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_USER"), Some("ada"), "{answer:?}");
    assert_eq!(variable(&answer, "HTTP_MAYFLY_AUTH_METHOD"), Some("basic"));
    assert_eq!(variable(&answer, "HTTP_AUTHORIZATION"), None);
    assert_eq!(ask(&gateway, "bob", "\u{fc}ber").await.status(), 200);
    for (user, password) in [
        ("ada", "Open: sesame"),
        ("ada", ""),
        ("bob", "open: sesame"),
        ("eve", "open: sesame"),
        ("", ""),
        ("Ada", "open: sesame"),
        ("ada", &ada),
    ] {
        let refused = ask(&gateway, user, password).await;
        assert_eq!(refused.problem(), (401, "authentication-required"), "{user}:{password}");
        assert_eq!(challenges(&refused), ["Basic realm=\"The shop\", charset=\"UTF-8\""]);
    }
    for broken in ["Basic", "Basic !", "Basic YWRh", "Bearer YWRhOg=="] {
        let refused = call(&gateway, "/x/").header("authorization", broken).send().await;
        assert_eq!(refused.status(), 401, "{broken}");
    }
    gateway.metric_becomes("mayfly_requests_total", 2.0).await;

    // A password that is known is not hashed again; one that was changed is not known.
    let many = join_all((0..30).map(|_| ask(&gateway, "ada", "open: sesame"))).await;
    assert!(many.iter().all(|answer| answer.status() == 200), "{many:?}");
    set(&gateway, "x", json!({"basic": {"users": {"ada": hash("another")}}})).await;
    assert_eq!(ask(&gateway, "ada", "open: sesame").await.status(), 401);
    assert_eq!(ask(&gateway, "ada", "another").await.status(), 200);
    for (basic, member) in [
        (json!({"users": {}}), "basic.users: "),
        (json!({"users": {"a:b": ada}}), "basic.users: "),
        (json!({"users": {"ada": "open: sesame"}}), "basic.users: "),
        (json!({"users": {"ada": ada}, "realm": "a\"b"}), "basic.realm: "),
    ] {
        let refused = put(&gateway, "x", &route("x", json!({ "basic": basic }))).await;
        assert_eq!(refused.problem(), (422, "bad-route"), "{basic}");
        assert!(refused.detail().starts_with(member), "{refused:?}");
    }
}

/// Case P16.
#[tokio::test]
async fn guesses_of_passwords_wait_for_each_other_and_hold_up_nobody_who_is_known() {
    let gateway = TestGateway::start().await;
    gateway.deploy(super::GUEST).await;
    set(&gateway, "x", json!({"basic": {"users": {"ada": hash("right")}}})).await;
    assert_eq!(ask(&gateway, "ada", "right").await.status(), 200);
    let guesses = (0..100).map(|number| {
        let gateway = &gateway;
        async move { ask(gateway, "ada", &format!("guess {number}")).await }
    });
    let (guesses, known) = tokio::join!(join_all(guesses), ask(&gateway, "ada", "right"));
    assert_eq!(known.status(), 200);
    let busy: Vec<_> = guesses.iter().filter(|guess| guess.status() == 503).collect();
    assert!(busy.len() > 50, "{}", busy.len());
    assert!(busy.iter().all(|guess| guess.problem().1 == "authentication-busy"));
    assert!(guesses.iter().all(|guess| [401, 503].contains(&guess.status())));
}

/// Case P16.
#[tokio::test]
async fn any_of_several_ways_suffices_and_callers_are_counted_by_who_they_are() {
    let gateway = TestGateway::start().await;
    gateway.deploy(super::GUEST).await;
    let key: String = Sha256::digest("a key").iter().map(|byte| format!("{byte:02x}")).collect();
    let users = json!({"ada": hash("a"), "bob": hash("b")});
    let more = json!({
        "basic": {"users": users},
        "api_keys": {"sha256": {"shop": key}},
        "rate": {"requests": 2, "window_s": 3_600, "by": "key"},
    });
    set(&gateway, "x", more).await;
    let with_key = async || call(&gateway, "/x/").header("x-api-key", "a key").send().await;
    let shop = with_key().await;
    assert_eq!(variable(&shop, "HTTP_MAYFLY_AUTH_KEY"), Some("shop"), "{shop:?}");
    assert_eq!(variable(&shop, "HTTP_MAYFLY_API_KEY"), Some("shop"));
    assert_eq!(variable(&shop, "HTTP_MAYFLY_AUTH_METHOD"), Some("api-key"));
    let refused = call(&gateway, "/x/").send().await;
    assert_eq!(refused.problem(), (401, "authentication-required"));
    assert_eq!(challenges(&refused), ["ApiKey", "Basic realm=\"x\", charset=\"UTF-8\""]);
    // A wrong key beside a right password.
    let both = call(&gateway, "/x/").header("x-api-key", "wrong");
    let both = both.header("authorization", &format!("Basic {}", BASE64_STANDARD.encode("ada:a")));
    let both = both.send().await;
    assert_eq!(variable(&both, "HTTP_MAYFLY_AUTH_USER"), Some("ada"), "{both:?}");
    assert_eq!(variable(&both, "HTTP_X_API_KEY"), None);
    for (user, password, expected) in [
        ("ada", "a", 200),
        ("ada", "a", 429),
        ("bob", "b", 200),
        ("bob", "b", 200),
        ("bob", "b", 429),
    ] {
        assert_eq!(ask(&gateway, user, password).await.status(), expected, "{user}");
    }
    assert_eq!((with_key().await.status(), with_key().await.status()), (200, 429));
}
