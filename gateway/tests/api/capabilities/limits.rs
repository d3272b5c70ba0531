//! Limits of operations on stores: the guest gets an error of its interface, and the node counts it.

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{ask, deploy, deploy_as, refused, told};
use crate::test_gateway::TestGateway;

async fn hits(gateway: &TestGateway, limit: &str) -> f64 {
    gateway.metric_with("mayfly_limit_hits_total", &[("limit", limit)]).await
}

/// Case I13.
#[tokio::test]
async fn keys_values_operations_and_handles_are_limited() {
    let gateway = TestGateway::with(&[
        "guests.store_key_bytes=100",
        "guests.store_value_bytes=200KiB",
        "guests.store_operations=50",
        "guests.store_handles=8",
    ])
    .await;
    for guest in ["t-every", "t-every-p3"] {
        let part = json!({"store": "carts", "prefix": "ten bytes/"});
        let settings = json!({"grants": {"keyvalue": {"default": part}}});
        assert_eq!(deploy_as(&gateway, guest, guest, &settings).await.status(), 201);

        let key = "k".repeat(90);
        told(&gateway, guest, &format!("draft/set?key={key}"), "v").await;
        for interface in ["draft", "draft2", "spin"] {
            let long = refused(&gateway, guest, &format!("{interface}/get?key={key}k"), "").await;
            assert!(long.contains("a key is larger than 100 bytes"), "{long}");
            let empty = refused(&gateway, guest, &format!("{interface}/get?key="), "").await;
            assert!(empty.contains("cannot be empty"), "{empty}");
        }
        let long = refused(&gateway, guest, &format!("mayfly/get?key={key}k"), "").await;
        assert!(long.starts_with("Error::TooLarge"), "{long}");

        told(&gateway, guest, "draft/set?key=v", &"v".repeat(200 << 10)).await;
        let large = "v".repeat((200 << 10) + 1);
        let error = refused(&gateway, guest, "spin/set?key=v", &large).await;
        assert!(error.contains("a value is larger than 204800 bytes"), "{error}");
        let error = refused(&gateway, guest, "draft2/cas?key=v", &large).await;
        assert!(error.contains("a value is larger"), "{error}");

        assert_eq!(told(&gateway, guest, "draft/repeat?key=v&n=50", "").await, "50");
        assert_eq!(told(&gateway, guest, "draft/repeat?key=v&n=51", "").await, "50");
        let many = vec!["k"; 51].join("%0a");
        let error = refused(&gateway, guest, &format!("draft/get-many?key={many}"), "").await;
        assert!(error.contains("50 are allowed"), "{error}");

        // The guest holds one handle before it begins to count.
        assert_eq!(told(&gateway, guest, "draft/open?n=6", "").await, "6 enough");
        let open = told(&gateway, guest, "draft/open?n=8", "").await;
        assert!(open.starts_with("7 Error::Other"), "{open}");
        assert_eq!(told(&gateway, guest, "spin/open?n=8", "").await, "7 Error::StoreTableFull");
        let open = told(&gateway, guest, "draft2/many-cas?key=new&n=100", "").await;
        assert!(open.starts_with("7 Error::Other"), "{open}");
    }
    assert!(hits(&gateway, "store_sizes").await >= 12.0);
    assert_eq!(hits(&gateway, "store_operations").await, 4.0);
    assert_eq!(hits(&gateway, "store_handles").await, 6.0);
    let labels = [("function", "t-every"), ("kind", "keyvalue"), ("outcome", "refused")];
    assert!(gateway.metric_with("mayfly_capability_operations_total", &labels).await >= 10.0);
}

/// Case I14.
#[tokio::test]
async fn a_value_above_one_host_call_is_stored_and_one_far_above_the_limit_ends_the_guest() {
    let gateway = TestGateway::with(&["guests.store_value_bytes=3MiB"]).await;
    deploy(&gateway, "t-every").await;
    let value = "v".repeat(3 << 20);
    told(&gateway, "t-every", "draft/set?key=v", &value).await;
    assert_eq!(told(&gateway, "t-every", "draft/get?key=v", "").await, value);
    let far = "v".repeat(4 << 20);
    let answer = ask(&gateway, "t-every", "draft/set?key=v", &far).await;
    assert_eq!(answer.problem(), (502, "hostcall-limit"));
    assert_eq!(told(&gateway, "t-every", "draft/get?key=v", "").await, value);
}

/// Case I15.
#[tokio::test]
async fn a_function_has_so_many_operations_in_a_second_and_others_have_their_own() {
    let gateway = TestGateway::with(&["guests.store_operations_per_second=20"]).await;
    let settings = json!({"grants": {"keyvalue": {"default": "carts"}}});
    for name in ["a", "b"] {
        assert_eq!(deploy_as(&gateway, name, "t-every", &settings).await.status(), 201);
        told(&gateway, name, "draft/set?key=k", "v").await;
    }
    // Two seconds may have a part in it.
    let done: u32 = told(&gateway, "a", "draft/repeat?key=k&n=900", "").await.parse().unwrap();
    assert!((10..=40).contains(&done), "{done}");
    assert_eq!(told(&gateway, "b", "draft/get?key=k", "").await, "v");
    assert!(hits(&gateway, "store_operations_per_second").await >= 1.0);
}

/// Case I16.
#[tokio::test]
async fn guests_that_list_without_end_take_little_memory() {
    let gateway = TestGateway::with(&["guests.store_operations_per_second=1000000"]).await;
    let settings = json!({
        "grants": {"keyvalue": {"default": "carts"}}, "concurrency": 64,
    });
    assert_eq!(deploy_as(&gateway, "f", "t-every", &settings).await.status(), 201);
    for part in 0..10 {
        let keys: Vec<String> =
            (0..90).map(|n| format!("{part}{n:03}{}", "k".repeat(900))).collect();
        for keys in keys.chunks(3) {
            told(&gateway, "f", &format!("draft/set-many?key={}", keys.join("%0a")), "v").await;
        }
    }
    let before = gateway.resident_bytes();
    gateway.reset_peak();
    let lists = stream::iter(0..512).map(|_| told(&gateway, "f", "spin/list", ""));
    let lists: Vec<String> = lists.buffer_unordered(64).collect().await;
    assert!(lists.iter().all(|list| list.lines().count() == 900));
    let grown = gateway.most_resident_bytes().saturating_sub(before);
    // Each guest has its list in its own memory, too, and so has the answer.
    assert!(grown < 64 * (6 << 20), "{grown} bytes");
}

/// Case I17.
#[tokio::test]
async fn a_guest_without_grants_has_no_more_room_for_one_call_than_before() {
    let gateway = TestGateway::with(&["guests.store_value_bytes=20MiB"]).await;
    let denied = deploy_as(&gateway, "f", "t-every", &json!({"ungranted": "deny"})).await;
    assert_eq!(denied.status(), 201);
    let answer = ask(&gateway, "f", "logging/log", "").await;
    assert_eq!(answer.status(), 404);
    let text = "x".repeat(7_000);
    let answer = ask(&gateway, "f", &format!("logging/log?text={text}"), "").await;
    assert_eq!(answer.status(), 404);
    let lines = gateway.log_lines("f", 2).await;
    assert!(lines.iter().all(|line| line["line"].as_str().unwrap().len() <= 4 << 10));
}
