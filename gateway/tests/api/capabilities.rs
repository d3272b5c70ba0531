//! Stores, configuration and logs of functions, by guests that were made with the kits of the field.

mod access;
mod configuration;
mod interfaces;
mod kits;
mod limits;

use http::Method;
use serde_json::{Value, json};

use crate::{client::FullResponse, guests::guest, test_gateway::TestGateway};

/// Deploys `guest` as the function `name` with these settings.
async fn deploy_as(
    gateway: &TestGateway,
    name: &str,
    wasm: &str,
    settings: &Value,
) -> FullResponse {
    let put = gateway.put(name, guest(wasm)).header("mayfly-settings", &settings.to_string());
    put.send().await
}

/// Deploys `guest` under its own name with one store as `default`.
async fn deploy(gateway: &TestGateway, guest: &str) {
    let settings = json!({"grants": {"keyvalue": {"default": "carts"}}});
    let made = deploy_as(gateway, guest, guest, &settings).await;
    assert_eq!(made.status(), 201, "{made:?}");
}

/// Asks a guest for something: `/INTERFACE/OPERATION?…`, with a value as the body.
async fn ask(gateway: &TestGateway, function: &str, what: &str, value: &str) -> FullResponse {
    let target = format!("/f/{function}/{what}");
    gateway.call(Method::POST, &target).body(value.to_owned()).send().await
}

/// The answer of a guest that was to give one.
async fn told(gateway: &TestGateway, function: &str, what: &str, value: &str) -> String {
    let answer = ask(gateway, function, what, value).await;
    assert_eq!(answer.status(), 200, "{what}: {answer:?}");
    answer.text().to_owned()
}

/// The error of a guest's interface.
async fn refused(gateway: &TestGateway, function: &str, what: &str, value: &str) -> String {
    let answer = ask(gateway, function, what, value).await;
    assert_eq!(answer.status(), 409, "{what}: {answer:?}");
    answer.text().to_owned()
}

/// Percent-encodes every byte of a text.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
