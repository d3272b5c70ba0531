//! Random valid binaries: those that compile run and end, the others are refused.

use futures_util::{StreamExt as _, stream};
use http::Method;

use super::{Canary, repetitions};
use crate::{guests, test_gateway::TestGateway};

/// The variable that names another file of binaries than the one from the tests' guests.
const FILE: &str = "MAYFLY_RANDOM_FILE";

/// The binaries that `functions/random` has generated.
fn binaries() -> Vec<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "asks whether this is one of the long runs")]
    let other = std::env::var(FILE);
    let file = match other {
        Ok(file) => std::fs::read(file).unwrap(),
        Err(_) => guests::guest("random"),
    };
    let mut rest = &file[..];
    let mut binaries = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk() {
        let (binary, after) = after.split_at(u32::from_le_bytes(*len) as usize);
        binaries.push(binary.to_vec());
        rest = after;
    }
    binaries
}

/// Case U09.
#[tokio::test]
async fn random_valid_binaries_break_nothing() {
    let mut gateway = TestGateway::with(&[
        "quotas.compiles_per_minute=100000",
        "quotas.changes_per_minute=100000",
    ])
    .await;
    gateway.deploy("c-hello").await;
    let canary = Canary::start(&gateway);
    let binaries = binaries();
    let count = repetitions(300, u32::MAX) as usize;
    let tries = binaries.into_iter().take(count).enumerate().map(|(number, binary)| {
        let gateway = &gateway;
        async move {
            let name = format!("random-{}", number % 8);
            let put = gateway.put(&name, binary).send().await;
            match put.status() {
                200 | 201 => {
                    // Any outcome is allowed as long as it is reported.
                    let called = gateway.call(Method::GET, &format!("/f/{name}/")).send().await;
                    let known = matches!(called.status(), 200 | 404 | 429 | 502 | 503 | 504);
                    assert!(known, "{number}: {called:?}");
                    1
                }
                422 => {
                    assert!(!put.detail().is_empty(), "{number}: {put:?}");
                    0
                }
                other => panic!("{number}: {other}: {put:?}"),
            }
        }
    });
    let ran: Vec<u32> = stream::iter(tries).buffer_unordered(4).collect().await;
    let ran: u32 = ran.iter().sum();
    assert!(ran > 100, "only {ran} binaries ran");
    canary.ends_unharmed().await;
    gateway.metric_becomes("mayfly_live_instances", 0.0).await;
    gateway.no_uploads_left().await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
}
