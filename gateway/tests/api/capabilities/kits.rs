//! Components made with the kits of Spin and wasmCloud, as they are.

use serde_json::json;

use super::{ask, deploy_as, refused, told};
use crate::test_gateway::TestGateway;

/// Case I08.
#[tokio::test]
async fn components_of_spin_and_wasmcloud_do_here_what_they_do_there() {
    let gateway = TestGateway::start().await;
    let settings = json!({
        "grants": {"keyvalue": {"default": "carts"}}, "config": {"greeting": "hello"},
    });
    for guest in ["t-spin3", "t-spin5", "t-spin7", "t-wasmcloud"] {
        let made = deploy_as(&gateway, guest, guest, &settings).await;
        assert_eq!(made.status(), 201, "{made:?}");
        let at = |operation: &str| format!("kv/{operation}?label=default&key=k");
        told(&gateway, guest, &at("delete"), "").await;
        assert_eq!(ask(&gateway, guest, &at("get"), "").await.status(), 404, "{guest}");
        told(&gateway, guest, &at("set"), "value").await;
        assert_eq!(told(&gateway, guest, &at("get"), "").await, "value");
        assert_eq!(told(&gateway, guest, &at("exists"), "").await, "true");
        assert_eq!(told(&gateway, guest, &at("list"), "").await, "k");
        let denied = refused(&gateway, guest, "kv/get?label=other&key=k", "").await;
        assert!(denied.contains("AccessDenied"), "{guest}: {denied}");
    }
    for guest in ["t-spin3", "t-spin5", "t-spin7"] {
        assert_eq!(told(&gateway, guest, "variables/get?key=greeting", "").await, "hello");
        let unknown = refused(&gateway, guest, "variables/get?key=farewell", "").await;
        assert!(unknown.contains("Undefined"), "{unknown}");
        let invalid = refused(&gateway, guest, "variables/get?key=Greeting", "").await;
        assert!(invalid.contains("InvalidName"), "{invalid}");
    }
    assert_eq!(told(&gateway, "t-wasmcloud", "config/get?key=greeting", "").await, "hello");
    told(&gateway, "t-wasmcloud", "kv/delete?label=default&key=n", "").await;
    let sum = told(&gateway, "t-wasmcloud", "kv/increment?label=default&key=n&n=4", "").await;
    assert_eq!(sum, "4");
    told(&gateway, "t-wasmcloud", "kv/delete-many?label=default&key=n%0ak", "").await;
    assert_eq!(told(&gateway, "t-wasmcloud", "kv/list?label=default", "").await, "");
}
