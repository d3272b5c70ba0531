//! Stores, over HTTP and from the command line.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, eventually},
    hostile_uploads::repetitions,
    test_gateway::TestGateway,
};

async fn api(gateway: &TestGateway, method: Method, target: &str) -> FullResponse {
    gateway.control(method, target).send().await
}

async fn put_store(gateway: &TestGateway, name: &str, spec: &Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/stores/keyvalue/{name}")).json(spec).send().await
}

async fn make(gateway: &TestGateway, name: &str, spec: Value) {
    let made = put_store(gateway, name, &spec).await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
}

fn entry(name: &str, key: &str) -> String {
    format!("/v1/stores/keyvalue/{name}/entries/{key}")
}

async fn put(gateway: &TestGateway, name: &str, key: &str, value: &str) -> FullResponse {
    gateway.control(Method::PUT, &entry(name, key)).body(value.to_owned()).send().await
}

async fn get(gateway: &TestGateway, name: &str, key: &str) -> FullResponse {
    api(gateway, Method::GET, &entry(name, key)).await
}

async fn usage(gateway: &TestGateway, name: &str) -> (u64, u64) {
    let shown = api(gateway, Method::GET, &format!("/v1/stores/keyvalue/{name}")).await;
    let usage = shown.json()["usage"].clone();
    (usage["bytes"].as_u64().unwrap(), usage["keys"].as_u64().unwrap())
}

/// Case L12.
#[tokio::test]
async fn a_store_keeps_entries_over_a_restart_and_one_in_memory_does_not() {
    let mut gateway = TestGateway::start().await;
    let made = put_store(&gateway, "carts", &json!({})).await;
    assert_eq!(made.status(), 201, "{made:?}");
    assert_eq!(made.json()["quota"], json!({"bytes": 1 << 30, "keys": 1_000_000}));
    assert_eq!(made.json()["backend"], "embedded");
    let again =
        put_store(&gateway, "carts", &json!({"quota": {"bytes": 1_000, "keys": 2.0}})).await;
    assert_eq!((again.status(), &again.json()["quota"]["keys"]), (200, &json!(2)));
    make(&gateway, "scratch", json!({"backend": "memory"})).await;

    for store in ["carts", "scratch"] {
        assert_eq!(put(&gateway, store, "customer%2F17", "three").await.status(), 204);
        let read = get(&gateway, store, "customer%2F17").await;
        assert_eq!(read.plain(), (200, "three"));
        assert_eq!(read.header("content-type"), Some("application/octet-stream"));
        assert_eq!(usage(&gateway, store).await, (16, 1));
    }
    gateway.restart().await;

    assert_eq!(get(&gateway, "carts", "customer%2F17").await.plain(), (200, "three"));
    assert_eq!(get(&gateway, "scratch", "customer%2F17").await.problem(), (404, "entry-not-found"));
    let list = api(&gateway, Method::GET, "/v1/stores").await;
    let names: Vec<_> =
        list.json()["stores"].as_array().unwrap().iter().map(|store| &store["name"]).collect();
    assert_eq!(names, ["carts", "scratch"]);
    assert_eq!(list.json()["stores"][0]["quota"], json!({"bytes": 1_000, "keys": 2}));
    let page = api(&gateway, Method::GET, "/v1/stores?limit=1").await;
    assert_eq!(page.json()["next_cursor"], "carts");
    gateway.metric_becomes("mayfly_stores", 2.0).await;
    let labels = [("store", "carts")];
    eventually("the bytes are counted", async || {
        (gateway.metric_with("mayfly_store_bytes", &labels).await == 16.0).then_some(())
    })
    .await;
}

/// Case L13.
#[tokio::test]
async fn what_cannot_be_a_store_or_an_entry_is_refused() {
    let gateway =
        TestGateway::with(&["quotas.stores=2", "stores.max_bytes=2000", "stores.memory_bytes=100"])
            .await;
    make(&gateway, "small", json!({"quota": {"bytes": 20, "keys": 2}})).await;
    for (spec, problem) in [
        (json!({"quota": {"bytes": 2_001}}), (422, "bad-store")),
        (json!({"backend": "tape"}), (400, "bad-json")),
        (json!({"quota": []}), (400, "bad-json")),
        (json!({"quota": {"bytes": -1}}), (400, "bad-json")),
        (json!([]), (400, "bad-json")),
        (json!({"unknown": 1}), (400, "bad-json")),
        (json!({"backend": "memory"}), (409, "other-backend")),
    ] {
        assert_eq!(put_store(&gateway, "small", &spec).await.problem(), problem, "{spec}");
    }
    assert_eq!(put_store(&gateway, "Bad", &json!({})).await.problem(), (422, "bad-store"));
    let kind = api(&gateway, Method::GET, "/v1/stores/blob/small").await;
    assert_eq!(kind.problem(), (422, "bad-store"));
    assert!(kind.detail().contains("keyvalue"), "{kind:?}");
    make(&gateway, "memory", json!({"backend": "memory"})).await;
    assert_eq!(put_store(&gateway, "third", &json!({})).await.problem(), (409, "store-quota"));
    for target in ["/v1/stores/keyvalue/none", &entry("none", "k")] {
        for method in [Method::GET, Method::DELETE] {
            let missing = api(&gateway, method, target).await;
            assert_eq!(missing.problem(), (404, "store-not-found"), "{target}");
        }
    }

    assert_eq!(put(&gateway, "small", "k", &"x".repeat(20)).await.problem(), (409, "store-full"));
    assert_eq!(put(&gateway, "memory", "k", &"x".repeat(100)).await.problem(), (409, "store-full"));
    let long = "k".repeat(1_025);
    assert_eq!(put(&gateway, "small", &long, "v").await.problem(), (413, "entry-too-large"));
    let large = put(&gateway, "small", "k", &"x".repeat((25 << 20) + 1)).await;
    assert_eq!(large.problem(), (413, "entry-too-large"));
    for (query, problem) in [
        ("ttl_s=0", (422, "bad-entry")),
        ("ttl_s=315360001", (422, "bad-entry")),
        ("ttl_s=x", (400, "bad-query")),
        ("other=1", (400, "bad-query")),
    ] {
        let target = format!("{}?{query}", entry("small", "k"));
        let refused = gateway.control(Method::PUT, &target).body("v").send().await;
        assert_eq!(refused.problem(), problem, "{query}");
    }
    assert_eq!(usage(&gateway, "small").await, (0, 0));
}

/// Case L14.
#[tokio::test]
async fn entries_have_etags_expiry_and_metadata_and_are_listed_by_prefix() {
    let gateway = TestGateway::start().await;
    make(&gateway, "s", json!({})).await;
    let with = async |field: &str, value: &str, method: Method| {
        let request = gateway.control(method, &entry("s", "k")).header(field, value);
        request.body("new").send().await
    };
    assert_eq!(with("if-match", "\"1\"", Method::PUT).await.problem(), (412, "entry-conflict"));
    let first = with("if-none-match", "*", Method::PUT).await;
    assert_eq!(first.status(), 204, "{first:?}");
    let etag = first.header("etag").unwrap().to_owned();
    assert_eq!(get(&gateway, "s", "k").await.header("etag"), Some(&*etag));
    let conflict = with("if-none-match", "*", Method::PUT).await;
    assert_eq!(conflict.problem(), (412, "entry-conflict"));
    assert!(conflict.detail().contains(&etag), "{conflict:?}");
    let second = with("if-match", &etag, Method::PUT).await;
    assert_eq!(second.status(), 204, "{second:?}");
    assert_eq!(with("if-match", &etag, Method::DELETE).await.problem(), (412, "entry-conflict"));
    assert_eq!(with("if-match", "*", Method::DELETE).await.problem(), (422, "bad-entry"));
    let now = second.header("etag").unwrap();
    assert_eq!(with("if-match", now, Method::DELETE).await.status(), 204);
    assert_eq!(get(&gateway, "s", "k").await.problem(), (404, "entry-not-found"));

    for key in ["a%2F1", "a%2F2", "b%2F1", "a", "%C3%A9"] {
        let target = format!("{}?ttl_s=3600&metadata=m%20n", entry("s", key));
        assert_eq!(gateway.control(Method::PUT, &target).body("v").send().await.status(), 204);
    }
    let list = async |query: &str| {
        let target = format!("/v1/stores/keyvalue/s/entries?{query}");
        api(&gateway, Method::GET, &target).await.json().clone()
    };
    let keys = |list: &Value| -> Vec<String> {
        let entries = list["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&list("").await), ["a", "a/1", "a/2", "b/1", "é"]);
    let page = list("prefix=a%2F&limit=1").await;
    assert_eq!((keys(&page), &page["next_cursor"]), (vec!["a/1".to_owned()], &json!("a/1")));
    assert_eq!(page["entries"][0]["metadata"], "m n");
    assert!(page["entries"][0]["expires_at"].as_str().unwrap().ends_with('Z'), "{page}");
    let next = list("prefix=a%2F&limit=1&cursor=a%2F1").await;
    assert_eq!((keys(&next), &next["next_cursor"]), (vec!["a/2".to_owned()], &json!(null)));

    let short = format!("{}?ttl_s=1", entry("s", "short"));
    assert_eq!(gateway.control(Method::PUT, &short).body("v").send().await.status(), 204);
    eventually("it expires", async || {
        (get(&gateway, "s", "short").await.status() == 404).then_some(())
    })
    .await;
}

/// Case L15.
#[tokio::test]
async fn an_export_is_imported_again_and_a_bad_line_is_named() {
    let gateway = TestGateway::start().await;
    make(&gateway, "from", json!({})).await;
    make(&gateway, "to", json!({})).await;
    let import = async |name: &str, lines: String| {
        let target = format!("/v1/stores/keyvalue/{name}/import");
        gateway.control(Method::POST, &target).body(lines).send().await
    };
    let mut lines: String = (0..250)
        .map(|index| format!("{}\n", json!({"key": format!("k{index:03}"), "value": "v\n\u{e9}"})))
        .collect();
    lines += &json!({"key": "bytes", "value_base64": "/wA=", "metadata": "m"}).to_string();
    lines += "\n\n";
    let later = jiff::Timestamp::now() + Duration::from_secs(365 * 24 * 3_600);
    lines += &json!({"key": "later", "value": "", "expires_at": later.to_string()}).to_string();
    let imported = import("from", lines).await;
    assert_eq!(
        (imported.status(), &imported.json()["entries"]),
        (200, &json!(252)),
        "{imported:?}"
    );
    assert_eq!(get(&gateway, "from", "bytes").await.bytes(), [0xff, 0]);

    let exported = api(&gateway, Method::GET, "/v1/stores/keyvalue/from/export").await;
    assert_eq!(exported.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(exported.text().lines().count(), 252);
    assert!(exported.text().starts_with(r#"{"key":"bytes","value_base64":"/wA=","metadata":"m"}"#));
    let copied = import("to", exported.text().to_owned()).await;
    assert_eq!(copied.json()["entries"], 252, "{copied:?}");
    assert_eq!(usage(&gateway, "to").await, usage(&gateway, "from").await);
    let again = api(&gateway, Method::GET, "/v1/stores/keyvalue/to/export").await;
    // The times, which are the last line's alone, are those of the import by the millisecond.
    assert!(again.text().lines().take(251).eq(exported.text().lines().take(251)));
    assert!(again.text().lines().last().unwrap().contains("\"later\""), "{again:?}");

    let bad =
        "{\"key\":\"one\",\"value\":\"1\"}\n{\"key\":\"two\"}\n{\"key\":\"three\",\"value\":\"3\"}";
    let refused = import("to", bad.to_owned()).await;
    assert_eq!(refused.problem(), (422, "bad-entry"));
    assert!(refused.detail().starts_with("line 2: "), "{refused:?}");
    assert_eq!(get(&gateway, "to", "one").await.plain(), (200, "1"));
    assert_eq!(get(&gateway, "to", "three").await.status(), 404);
    make(&gateway, "to", json!({"quota": {"keys": 253}})).await;
    let full = import("to", "{\"key\":\"more\",\"value\":\"1\"}".to_owned()).await;
    assert_eq!(full.problem(), (409, "store-full"));
    assert!(full.detail().starts_with("line 1: "), "{full:?}");
}

/// Case L16.
#[tokio::test]
async fn a_deleted_store_is_empty_when_it_is_made_again_also_after_a_crash() {
    let mut gateway = TestGateway::start().await;
    make(&gateway, "s", json!({})).await;
    let lines: String =
        (0..5_000).map(|index| format!("{{\"key\":\"{index}\",\"value\":\"v\"}}\n")).collect();
    let import = gateway.control(Method::POST, "/v1/stores/keyvalue/s/import").body(lines);
    assert_eq!(import.send().await.status(), 200);
    assert_eq!(api(&gateway, Method::DELETE, "/v1/stores/keyvalue/s").await.status(), 204);
    // Most of its data is still there.
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(get(&gateway, "s", "1").await.problem(), (404, "store-not-found"));
    make(&gateway, "s", json!({})).await;
    assert_eq!(usage(&gateway, "s").await, (0, 0));
    assert_eq!(put(&gateway, "s", "1", "new").await.status(), 204);
    assert_eq!(usage(&gateway, "s").await, (4, 1));
}

/// Case L17.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_loses_no_write_that_it_has_acknowledged() {
    let rounds = (0..repetitions(2, 20)).map(|round| async move {
        let mut gateway = TestGateway::start().await;
        make(&gateway, "s", json!({})).await;
        let (done, acknowledged) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
        let writer = async |writer: u32| {
            for index in 0_u32.. {
                if done.load(Relaxed) {
                    return;
                }
                let (key, value) = (format!("w{writer}-{index}"), format!("{index}").repeat(100));
                let write = gateway.control(Method::PUT, &entry("s", &key)).body(value.clone());
                match write.try_send().await {
                    Ok(answer) if answer.status() == 204 => {
                        acknowledged.lock().unwrap().insert(key, value);
                    }
                    _ => return,
                }
            }
        };
        let killer = async {
            tokio::time::sleep(Duration::from_millis(200 + 150 * u64::from(round))).await;
            gateway.signal(rustix::process::Signal::KILL);
            done.store(true, Relaxed);
        };
        tokio::join!(writer(0), writer(1), writer(2), writer(3), killer);
        let acknowledged = acknowledged.into_inner().unwrap();
        assert!(!acknowledged.is_empty());
        gateway.kill();
        gateway.start_again().await;
        for (key, value) in &acknowledged {
            assert_eq!(get(&gateway, "s", key).await.plain(), (200, &**value), "{key}");
        }
        let exported = api(&gateway, Method::GET, "/v1/stores/keyvalue/s/export").await;
        let keys = exported.text().lines().count() as u64;
        assert_eq!(usage(&gateway, "s").await.1, keys);
    });
    stream::iter(rounds).buffer_unordered(2).collect::<()>().await;
}

/// Case L18.
#[tokio::test]
async fn the_command_line_makes_fills_and_copies_a_store() {
    let gateway = TestGateway::start().await;
    let cli = async |arguments: &[&str]| {
        let output = gateway.cli(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let set = cli(&["store", "set", "carts", "--bytes", "1048576"]).await;
    assert_eq!(set, "carts has 0 B of 1 MiB, and 0 of 1000000 keys\n");
    cli(&["store", "put", "carts", "customer/17", "three", "--metadata", "m", "--ttl-s", "900"])
        .await;
    cli(&["store", "put", "carts", "customer/18", "four"]).await;
    assert_eq!(cli(&["store", "get", "carts", "customer/17"]).await, "three");
    let listed = cli(&["store", "entries", "carts", "--prefix", "customer/"]).await;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("customer/18"), "{listed}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("carts.ndjson");
    let file = file.to_str().unwrap();
    cli(&["store", "export", "carts", "--to", file]).await;
    assert_eq!(fs::read_to_string(file).unwrap(), cli(&["store", "export", "carts"]).await);
    cli(&["store", "set", "copy", "--backend", "memory"]).await;
    assert_eq!(cli(&["store", "import", "copy", file]).await, "written: 2\n");
    assert_eq!(cli(&["store", "remove", "copy", "customer/18"]).await, "removed customer/18\n");
    let list = cli(&["store", "list"]).await;
    assert!(list.lines().nth(2).unwrap().starts_with("copy   keyvalue  memory    1"), "{list}");
    assert!(cli(&["store", "show", "copy"]).await.contains("\"backend\":\"memory\""));
    assert_eq!(cli(&["store", "delete", "copy"]).await, "deleted copy\n");
    let refused = gateway.cli(&["store", "get", "copy", "customer/17"]).await;
    assert!(!refused.status.success());
}

/// Case L20.
#[tokio::test]
async fn a_deploy_makes_the_stores_that_it_grants_and_they_stay_while_it_does() {
    let mut gateway = TestGateway::start().await;
    let grant = |store: &str| json!({"grants": {"keyvalue": {"default": store}}});
    gateway.deploy_with("c-hello", &grant("carts")).await;
    let granted_to = async |name: &str| {
        let shown = api(&gateway, Method::GET, &format!("/v1/stores/keyvalue/{name}")).await;
        shown.json()["granted_to"].clone()
    };
    assert_eq!(granted_to("carts").await, json!(["c-hello"]));
    let channel = gateway.control(Method::PUT, "/v1/functions/c-hello/channels/beta");
    let channel = channel.json(&json!({"revision": 1, "settings": grant("trial")})).send().await;
    assert_eq!(channel.status(), 200, "{channel:?}");
    assert_eq!(granted_to("trial").await, json!(["c-hello@beta"]));
    let changed = gateway.patch("c-hello", &json!({"settings": grant("later")})).await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    assert_eq!(granted_to("later").await, json!(["c-hello"]));
    assert_eq!(granted_to("carts").await, json!([]));

    let trial = "/v1/stores/keyvalue/trial";
    let refused = api(&gateway, Method::DELETE, trial).await;
    assert_eq!(refused.problem(), (409, "store-in-use"));
    assert!(refused.detail().contains("c-hello@beta"), "{refused:?}");
    assert_eq!(api(&gateway, Method::DELETE, "/v1/stores/keyvalue/carts").await.status(), 204);
    assert_eq!(api(&gateway, Method::DELETE, &format!("{trial}?force=true")).await.status(), 204);
    let missing = api(&gateway, Method::DELETE, &format!("{trial}?force=true")).await;
    assert_eq!(missing.problem(), (404, "store-not-found"));

    gateway.terminate();
    gateway.exit().await;
    gateway.start_with(&["stores.create_on_deploy=false"]).await;
    let refused = gateway.patch("c-hello", &json!({"settings": grant("none")})).await;
    assert_eq!(refused.problem(), (422, "unknown-store"));
    assert!(refused.detail().contains("none"), "{refused:?}");
    make(&gateway, "none", json!({})).await;
    let changed = gateway.patch("c-hello", &json!({"settings": grant("none")})).await;
    assert_eq!(changed.status(), 200, "{changed:?}");
}

/// Case L19.
#[tokio::test]
async fn entries_need_a_token_that_may_deploy() {
    let gateway = TestGateway::start().await;
    make(&gateway, "s", json!({})).await;
    put(&gateway, "s", "k", "v").await;
    let wanted = json!({"name": "t", "scopes": ["read"]});
    let made = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
    let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
    let reader = async |target: &str| {
        let request = gateway.anonymous(Method::GET, target);
        request.header("authorization", &bearer).send().await.status()
    };

    assert_eq!(reader("/v1/stores").await, 200);
    assert_eq!(reader("/v1/stores/keyvalue/s").await, 200);
    assert_eq!(reader(&entry("s", "k")).await, 403);
    assert_eq!(reader("/v1/stores/keyvalue/s/entries").await, 403);
    assert_eq!(reader("/v1/stores/keyvalue/s/export").await, 403);
}
