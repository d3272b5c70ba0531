//! Nothing is reached without a grant.

use http::Method;
use serde_json::{Value, json};

use super::{ask, deploy_as, encoded, refused, told};
use crate::{guests::guest, test_gateway::TestGateway};

/// Case I09.
#[tokio::test]
async fn an_import_that_no_setting_grants_is_refused_at_the_deploy_with_the_line_that_grants_it() {
    let gateway = TestGateway::start().await;
    let refusal = gateway.put("f", guest("t-every")).send().await;
    assert_eq!(refusal.problem(), (422, "missing-grant"));
    for import in [
        "wasi:keyvalue/store@0.2.0-draft2",
        "fermyon:spin/key-value@2.0.0",
        "mayfly:keyvalue/store@0.1.0",
    ] {
        let line = format!("{import}: grants.keyvalue.default = \"STORE\"");
        assert!(refusal.detail().contains(&line), "{}", refusal.detail());
    }
    assert!(!refusal.detail().contains("wasi:config"), "{}", refusal.detail());
    assert_eq!(gateway.show("f").await.status(), 404);

    let denied = deploy_as(&gateway, "f", "t-every", &json!({"ungranted": "deny"})).await;
    assert_eq!(denied.status(), 201, "{denied:?}");
    for interface in ["draft", "draft2", "spin", "mayfly"] {
        let error = refused(&gateway, "f", &format!("{interface}/get?key=k"), "").await;
        assert!(error.contains("AccessDenied"), "{error}");
    }
    let labels = [("function", "f"), ("operation", "open"), ("outcome", "refused")];
    assert_eq!(gateway.metric_with("mayfly_capability_operations_total", &labels).await, 4.0);

    // A change of the settings is checked, too, and so are those of a channel.
    let change = json!({"settings": {"ungranted": null}});
    assert_eq!(gateway.patch("f", &change).await.problem(), (422, "missing-grant"));
    let change =
        json!({"settings": {"grants": {"keyvalue": {"default": "carts"}}, "ungranted": null}});
    assert_eq!(gateway.patch("f", &change).await.status(), 200);
    let channel = json!({"revision": 2, "settings": {"grants": {"keyvalue": {"default": null}}}});
    let set =
        gateway.control(Method::PUT, "/v1/functions/f/channels/c").json(&channel).send().await;
    assert_eq!(set.problem(), (422, "missing-grant"));
}

/// Case I10.
#[tokio::test]
async fn each_function_reaches_what_it_is_granted_and_nothing_else() {
    let gateway = TestGateway::start().await;
    // Every store has one entry under each of these keys.
    let keys = ["k", "a/k", "a/b/k", "x/k"];
    let owner = json!({"grants": {"keyvalue": {"one": "one", "two": "two"}}});
    assert_eq!(deploy_as(&gateway, "owner", "t-every", &owner).await.status(), 201);
    for store in ["one", "two"] {
        for key in keys {
            let set = format!("draft/set?label={store}&key={}", encoded(key));
            told(&gateway, "owner", &set, &format!("{store} {key}")).await;
        }
    }
    let mut functions = 0;
    for store in ["one", "two"] {
        for access in ["read", "write", "read-write"] {
            for prefix in ["", "a/", "a/b/", "x"] {
                let label = if functions % 2 == 0 { "default" } else { "l" };
                let name = format!("f{functions}");
                functions += 1;
                let grant = json!({label: {"store": store, "access": access, "prefix": prefix}});
                let settings = json!({"grants": {"keyvalue": grant}});
                assert_eq!(deploy_as(&gateway, &name, "t-every", &settings).await.status(), 201);
                check(&gateway, &name, label, store, access, prefix, &keys).await;
            }
        }
    }
}

async fn check(
    gateway: &TestGateway,
    function: &str,
    label: &str,
    store: &str,
    access: &str,
    prefix: &str,
    keys: &[&str],
) {
    for other in ["one", "two", "other", "..", "*", "/one", "one/", "%00", "default%00"] {
        if other != label {
            let answer =
                ask(gateway, function, &format!("draft/get?label={other}&key=k"), "").await;
            assert_eq!(answer.plain(), (409, "Error::AccessDenied"), "{function} {other}");
        }
    }
    let (reads, writes) = (access.contains("read"), access.contains("write"));
    for key in keys {
        for interface in ["draft", "draft2", "spin"] {
            let get = format!("{interface}/get?label={label}&key={}", encoded(key));
            let answer = ask(gateway, function, &get, "").await;
            let whole = format!("{prefix}{key}");
            match keys.contains(&whole.as_str()) {
                _ if !reads => assert!(answer.text().contains("AccessDenied"), "{answer:?}"),
                true => assert_eq!(answer.plain(), (200, &*format!("{store} {whole}"))),
                false => assert_eq!(answer.status(), 404, "{function} {whole}"),
            }
        }
    }
    let listed = ask(gateway, function, &format!("spin/list?label={label}"), "").await;
    if reads {
        let inside = keys.iter().filter_map(|key| key.strip_prefix(prefix));
        let mut inside: Vec<_> = inside.collect();
        inside.sort_unstable();
        assert_eq!(listed.text().lines().collect::<Vec<_>>(), inside, "{function}");
    } else {
        assert!(listed.text().contains("AccessDenied"), "{listed:?}");
    }
    let set = format!("draft/set?label={label}&key=new%2f{function}");
    let answer = ask(gateway, function, &set, "v").await;
    assert_eq!(answer.status() == 200, writes, "{answer:?}");
    if writes {
        let whole = encoded(&format!("{prefix}new/{function}"));
        let seen =
            told(gateway, "owner", &format!("draft/get?label={store}&key={whole}"), "").await;
        assert_eq!(seen, "v");
        told(gateway, "owner", &format!("draft/delete?label={store}&key={whole}"), "").await;
        // A writer that may not read does not learn what is there.
        let put = format!("mayfly/put?label={label}&key=k&text=0");
        let conflict = ask(gateway, function, &put, "mine").await;
        if !reads && keys.contains(&&*format!("{prefix}k")) {
            assert_eq!(conflict.plain(), (409, "conflict None"));
        }
        if conflict.status() == 200 {
            told(gateway, function, &format!("draft/delete?label={label}&key=k"), "").await;
        }
        let increment = format!("draft/increment?label={label}&key=n&n=1");
        let sum = ask(gateway, function, &increment, "").await;
        assert_eq!(sum.status() == 200, reads, "{function}");
        told(gateway, function, &format!("draft/delete?label={label}&key=n"), "").await;
    }
}

/// Case I11.
#[tokio::test]
async fn no_form_of_a_key_leaves_the_prefix_of_a_grant() {
    let gateway = TestGateway::start().await;
    let part = json!({"store": "one", "prefix": "mine/"});
    let settings = json!({"grants": {"keyvalue": {"default": part, "*": "two"}}});
    assert_eq!(deploy_as(&gateway, "f", "t-every", &settings).await.status(), 201);
    let owner = json!({"grants": {"keyvalue": {"default": "one"}}});
    assert_eq!(deploy_as(&gateway, "owner", "t-every", &owner).await.status(), 201);
    told(&gateway, "owner", "draft/set?key=secret", "not yours").await;

    let beginnings = ["", "../", "..\\", "/", "//", "./", "mine/../", "\u{0}", "%2e%2e/", "..%2f"];
    let ends = [
        "secret",
        "..//secret",
        "secret\u{0}",
        "secret/",
        "\u{fe0f}secret",
        "\u{202e}secret",
        "SECRET",
        "se\u{301}cret",
        "\u{8}secret",
        "*",
    ];
    let mut forms = 0;
    for beginning in beginnings {
        for end in ends {
            forms += 1;
            let key = format!("{beginning}{end}");
            let answer = ask(&gateway, "f", &format!("draft/get?key={}", encoded(&key)), "").await;
            assert_eq!(answer.status(), 404, "{key:?}: {answer:?}");
            told(&gateway, "f", &format!("draft/set?key={}", encoded(&key)), "mine").await;
            let found = format!("draft/get?key={}", encoded(&format!("mine/{key}")));
            assert_eq!(told(&gateway, "owner", &found, "").await, "mine", "{key:?}");
        }
    }
    assert_eq!(forms, 100);
    assert_eq!(told(&gateway, "owner", "draft/get?key=secret", "").await, "not yours");
    let all = told(&gateway, "owner", "spin/list", "").await;
    let outside = all.split('\n').filter(|key| *key == "secret").count();
    assert_eq!(outside, 1);

    // A label without a grant of its own has its own part of the store for all labels.
    told(&gateway, "f", "draft/set?label=left&key=k", "left").await;
    assert_eq!(ask(&gateway, "f", "draft/get?label=right&key=k", "").await.status(), 404);
    for label in ["..", "left%2fk", "%2a", "%00", "left%2f..", &"x".repeat(1_000)] {
        let answer = ask(&gateway, "f", &format!("draft/get?label={label}&key=k"), "").await;
        assert_eq!(answer.plain(), (409, "Error::AccessDenied"), "{label}");
    }
}

/// Case I12.
#[tokio::test]
async fn a_store_that_is_deleted_or_made_again_counts_at_once() {
    let gateway = TestGateway::start().await;
    let settings: Value = json!({"grants": {"keyvalue": {"default": "carts"}}});
    assert_eq!(deploy_as(&gateway, "f", "t-every", &settings).await.status(), 201);
    told(&gateway, "f", "draft/set?key=k", "v").await;
    let store = "/v1/stores/keyvalue/carts";
    let deleted = gateway.control(Method::DELETE, &format!("{store}?force=true")).send().await;
    assert_eq!(deleted.status(), 204, "{deleted:?}");
    assert_eq!(refused(&gateway, "f", "draft/get?key=k", "").await, "Error::NoSuchStore");
    let made = gateway.control(Method::PUT, store).json(&json!({})).send().await;
    assert_eq!(made.status(), 201, "{made:?}");
    assert_eq!(ask(&gateway, "f", "draft/get?key=k", "").await.status(), 404);
    told(&gateway, "f", "draft/set?key=k", "w").await;
}
