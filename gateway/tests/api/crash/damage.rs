//! Files that are damaged on disk.

use std::{fs, path::PathBuf};

use http::Method;

use crate::{
    client::eventually, guests::guest, hostile_uploads::repetitions, test_gateway::TestGateway,
};

fn file(gateway: &TestGateway, below: &str, extension: &str) -> PathBuf {
    let files = gateway.files(below);
    let mut found =
        files.into_iter().filter(|path| path.extension().is_some_and(|e| e == extension));
    found.next().unwrap()
}

/// Case C06.
/// One bit in each part of a file in turn, while the gateway is down.
#[tokio::test]
async fn native_code_with_any_bit_flipped_is_recompiled() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let rounds = repetitions(6, 60);
    for round in 0..rounds {
        gateway.kill();
        let code = file(&gateway, "code", if round % 3 == 2 { "json" } else { "cwasm" });
        let mut bytes = fs::read(&code).unwrap();
        let at = bytes.len() * round as usize / rounds as usize;
        bytes[at] ^= 1 << (round % 8);
        fs::write(&code, bytes).unwrap();
        gateway.start_again().await;
        assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"), "at {at}");
    }
}

/// Case C07.
/// Native code of another version has another file name and is not read, not even if its bytes are
/// put in place of this version's.
#[tokio::test]
async fn native_code_of_another_build_is_not_used_and_the_first_call_works() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.put("other", guest("hello")).send().await;
    gateway.terminate();
    gateway.exit().await;
    // The files of an older version: complete, sealed, and under names that are not read.
    for path in gateway.files("code") {
        let Some(extension) = path.extension() else { continue };
        if extension == "cwasm" || extension == "json" {
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::rename(&path, path.with_file_name(format!("0ld{}", &name[3..]))).unwrap();
        }
    }
    gateway.start_again().await;
    for (name, says) in [("c-hello", "hello from c\n"), ("other", "hello from rust\n")] {
        assert_eq!(gateway.get(&format!("/f/{name}/")).await.plain(), (200, says));
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 2.0);
    let kept = gateway.files("code");
    let old = kept.iter().filter(|path| path.to_str().unwrap().contains("/0ld"));
    assert_eq!(old.count(), 4, "the old files must stay for a downgrade");

    // The native code and the seals of two functions are exchanged.
    gateway.terminate();
    gateway.exit().await;
    let codes: Vec<PathBuf> = gateway
        .files("code")
        .into_iter()
        .filter(|path| !path.to_str().unwrap().contains("/0ld"))
        .filter(|path| path.extension().is_some_and(|is| is == "cwasm"))
        .collect();
    for extension in ["cwasm", "json"] {
        let (one, two) = (codes[0].with_extension(extension), codes[1].with_extension(extension));
        let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
        fs::write(one, second).unwrap();
        fs::write(two, first).unwrap();
    }
    gateway.start_again().await;
    for (name, says) in [("c-hello", "hello from c\n"), ("other", "hello from rust\n")] {
        assert_eq!(gateway.get(&format!("/f/{name}/")).await.plain(), (200, says));
    }
    assert_eq!(gateway.metric("mayfly_compilations_total").await, 2.0);
}

/// Case C08.
#[tokio::test]
async fn a_damaged_artifact_is_quarantined_reported_and_restored_by_the_same_bytes() {
    let mut gateway = TestGateway::start().await;
    gateway.expect_errors();
    let wasm = guest("c-hello");
    gateway.put("greet", wasm.clone()).send().await;
    gateway.deploy("hello-cgi").await;
    let shown = gateway.show("greet").await;
    let digest = shown.json()["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = gateway.data_dir().join(format!("artifacts/{}/{digest}.wasm", &digest[..2]));
    let damage = || {
        let mut bytes = wasm.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
    };
    let is_quarantined = async |times: f64| {
        gateway.metric_becomes("mayfly_artifacts_damaged_total", times).await;
        assert!(!path.exists());
        assert!(gateway.data_dir().join(format!("quarantine/{digest}.wasm")).exists());
    };

    // A download detects the damage. Calls continue with the existing native code.
    damage();
    let artifact = gateway.api("/v1/functions/greet/artifact").await;
    assert_eq!(artifact.problem(), (500, "artifact-damaged"));
    is_quarantined(1.0).await;
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.put("greet", wasm.clone()).send().await.status(), 201);
    assert!(gateway.api("/v1/functions/greet/artifact").await.bytes() == wasm);

    // The same bytes restore the artifact before the damage is detected.
    damage();
    assert_eq!(gateway.put("greet", wasm.clone()).send().await.status(), 201);
    assert!(gateway.api("/v1/functions/greet/artifact").await.bytes() == wasm);

    // The compiler detects the damage when the native code is lost, too.
    damage();
    fs::remove_dir_all(gateway.data_dir().join("code")).unwrap();
    let evict = gateway.control(Method::PATCH, "/v1/functions/greet");
    let change = serde_json::json!({"settings": {"cpu_ms": 900}});
    drop(evict.json(&change).send().await);
    gateway.kill();
    damage();
    gateway.start_again().await;
    let failed = gateway.get("/f/greet/").await;
    assert_eq!(failed.problem(), (500, "artifact-damaged"));
    assert!(failed.json()["hint"].as_str().unwrap().contains("same bytes"), "{failed:?}");
    gateway.metric_becomes("mayfly_artifacts_damaged_total", 1.0).await;
    eventually("the log names the artifact", async || {
        let log = gateway.log();
        log.lines().any(|line| line.contains("ERROR") && line.contains(digest)).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/f/greet/").await.problem(), (500, "artifact-damaged"), "and again");
    assert_eq!(gateway.get("/f/hello-cgi/").await.plain(), (200, "hello from rust\n"));
    assert_eq!(gateway.put("greet", wasm).send().await.status(), 201);
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
}
