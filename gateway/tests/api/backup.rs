//! Backups of a running gateway, and gateways that start on what was restored.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::eventually,
    guests::guest,
    outbound::{Upstream, ask},
    test_gateway::{TestGateway, mayfly, run},
};

impl TestGateway {
    /// Puts what a backup holds in the place of its data directory, as on another machine.
    async fn becomes_restored(&mut self, file: &Path) {
        self.kill();
        let data = self.data_dir();
        fs::remove_dir_all(&data).unwrap();
        let mut restore = mayfly(&["restore"]);
        restore.arg(file).arg("--data-dir").arg(&data);
        let restored = run(restore).await;
        assert_eq!(restored.status.code(), Some(0), "{restored:?}");
        self.start_again().await;
    }

    async fn makes(&self, method: Method, target: &str, body: &Value) {
        let made = self.control(method, target).json(body).send().await;
        assert!(matches!(made.status(), 200..=202), "{target}: {made:?}");
    }
}

async fn back_up(gateway: &TestGateway, file: &Path) {
    let output = gateway.cli(&["backup", file.to_str().unwrap(), "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["missing"], json!([]), "{told}");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Case Z04.
#[tokio::test]
async fn a_gateway_on_a_restored_directory_answers_as_the_first_did() {
    let mut gateway = TestGateway::with(&["outbound.permit=127.0.0.1"]).await;
    let upstream = Upstream::echo().await;
    let host = upstream.host();
    let to = format!("http://{host}");
    gateway
        .makes(Method::PUT, "/v1/secrets/key", &json!({"value": "a-secret", "hosts": [to]}))
        .await;
    let credentials = json!([{"host": to, "header": "x-key", "secret": "key"}]);
    let calling = json!({"outbound": [host], "credentials": credentials});
    gateway.deploy_with("t-outbound", &calling).await;
    gateway.deploy_with("t-env", &json!({"environment": {"A": "1"}})).await;
    gateway.patch("t-env", &json!({"settings": {"environment": {"A": "2"}}})).await;
    gateway.makes(Method::PUT, "/v1/functions/t-env/channels/old", &json!({"revision": 1})).await;
    gateway
        .makes(Method::PUT, "/v1/routes/r", &json!({"path": "/here", "function": "t-env"}))
        .await;
    gateway.makes(Method::PUT, "/v1/queues/q", &json!({})).await;
    let message = json!({"messages": [{"body": "still here"}]});
    gateway.makes(Method::POST, "/v1/queues/q/messages", &message).await;
    gateway.makes(Method::PUT, "/v1/stores/keyvalue/s", &json!({})).await;
    let entry = gateway.control(Method::PUT, "/v1/stores/keyvalue/s/entries/k").body("a value");
    assert!(matches!(entry.send().await.status(), 200..=204));
    gateway.deploy("t-logs").await;
    assert_eq!(gateway.get("/f/t-logs/").await.status(), 200);
    gateway.log_lines("t-logs", 1).await;
    let token = gateway.token();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup.tar");
    back_up(&gateway, &file).await;
    let paths = [
        "/v1/functions",
        "/v1/functions/t-env/revisions",
        "/v1/functions/t-env/channels",
        "/v1/functions/t-env/history",
        "/v1/routes",
        "/v1/queues/q/messages?state=due",
        "/v1/secrets",
        "/v1/functions/t-logs/logs",
        "/v1/tokens",
    ];
    let shown = async |gateway: &TestGateway| {
        let mut shown = Vec::new();
        for path in paths {
            let address = gateway.data().to_string();
            let text = gateway.api(path).await.text().replace(&address, "ADDRESS");
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            // How much of it is in memory.
            for function in answer["functions"].as_array_mut().into_iter().flatten() {
                function["state"] = Value::Null;
                function["instances"] = Value::Null;
            }
            shown.push(answer);
        }
        shown
    };
    let before = shown(&gateway).await;
    // What comes after the backup is not in it.
    gateway.control(Method::DELETE, "/v1/functions/t-env").send().await;
    gateway.deploy("c-hello").await;
    gateway.becomes_restored(&file).await;

    assert_eq!(gateway.token(), token);
    assert_eq!(shown(&gateway).await, before);
    let entry = gateway.api("/v1/stores/keyvalue/s/entries/k").await;
    assert_eq!(entry.plain(), (200, "a value"));
    assert_eq!(gateway.get("/f/t-env/").await.plain(), (200, "A=2\n"));
    assert_eq!(gateway.get("/f/t-env@old/").await.plain(), (200, "A=1\n"));
    assert_eq!(gateway.get("/here").await.plain(), (200, "A=2\n"));
    ask(&gateway, "t-outbound", &format!("to={host}")).await;
    let head = upstream.heads().pop().unwrap();
    assert!(head.contains("x-key: a-secret\r\n"), "{head}");
}

/// Case Z05.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_backup_under_load_is_in_it_and_works() {
    let mut gateway = TestGateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    gateway.makes(Method::PUT, "/v1/queues/q", &json!({})).await;
    let wasm = guest("c-hello");
    let mut at_backups = Vec::new();
    for n in 0..4 {
        let deploy = async |part: &str| {
            let name = format!("f{n}-{part}");
            let put = gateway.put(&name, crate::guests::distinct(&wasm, n)).send().await;
            assert_eq!(put.status(), 201, "{put:?}");
            let message = json!({"messages": [{"body": name}]});
            gateway.makes(Method::POST, "/v1/queues/q/messages", &message).await;
        };
        deploy("before").await;
        let file = dir.path().join(format!("{n}.tar"));
        let beside = async {
            for part in ["a", "b", "c"] {
                deploy(part).await;
            }
        };
        tokio::join!(back_up(&gateway, &file), beside);
        at_backups.push(file);
    }
    for (n, file) in at_backups.iter().enumerate() {
        gateway.becomes_restored(file).await;
        let functions = gateway.api("/v1/functions").await.json()["functions"].clone();
        let names: Vec<&str> =
            functions.as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
        assert!(names.contains(&&*format!("f{n}-before")) && names.len() > 4 * n, "{names:?}");
        for name in names {
            let answer = gateway.get(&format!("/f/{name}/")).await;
            assert_eq!(answer.plain(), (200, "hello from c\n"), "{name}");
        }
        let waiting = gateway.api("/v1/queues/q").await.json()["messages"]["waiting"].clone();
        assert!(waiting.as_u64().unwrap() as usize > 4 * n, "{waiting}");
    }
}

/// Case Z06.
#[tokio::test]
async fn a_backup_that_is_not_read_stops_nothing_and_ends_with_its_client() {
    let mut gateway = TestGateway::start().await;
    // More than sockets and channels hold.
    let lines = gateway.data_dir().join("logs.db");
    gateway.put("big", guest("js-hello")).send().await;
    assert!(lines.exists());
    let open = gateway.control(Method::GET, "/v1/backup").open().await;
    let second = gateway.api("/v1/backup").await;
    assert_eq!(second.problem(), (409, "backup-running"));
    assert_eq!(gateway.put("c", guest("c-hello")).send().await.status(), 201);
    drop(open);
    eventually("the copies are removed", async || {
        (!gateway.data_dir().join("backup").exists()).then_some(())
    })
    .await;
    assert!(gateway.metric_with("mayfly_backups_total", &[("outcome", "failed")]).await >= 1.0);

    let open = gateway.control(Method::GET, "/v1/backup").open().await;
    assert!(gateway.data_dir().join("backup").exists());
    gateway.kill();
    drop(open);
    gateway.start_again().await;
    assert!(!gateway.data_dir().join("backup").exists());
    let whole = gateway.api("/v1/backup?logs=false&keys=false").await;
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.header("content-type"), Some("application/x-tar"));
    let archive = String::from_utf8_lossy(whole.bytes());
    assert!(!archive.contains("admin.token") && !archive.contains(&gateway.token()));
    assert!(gateway.metric("mayfly_last_backup_timestamp_seconds").await > 1e9);
}

/// Case Z06.
#[tokio::test]
async fn a_backup_needs_the_scope_admin_and_room_on_the_disk() {
    let mut gateway = TestGateway::on_a_disk_of("16m").await;
    gateway.expect_errors();
    let wanted = json!({"name": "ci", "scopes": ["deploy"]});
    let made = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
    let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
    let refused = gateway.anonymous(Method::GET, "/v1/backup").header("authorization", &bearer);
    assert_eq!(refused.send().await.problem(), (403, "forbidden"));
    assert_eq!(gateway.api("/v1/backup?logs=perhaps").await.status(), 400);

    let filler = gateway.data_dir().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
    let refused = gateway.api("/v1/backup").await;
    assert_eq!(refused.problem(), (507, "no-space"), "{refused:?}");
    assert!(!gateway.data_dir().join("backup").exists());
    fs::remove_file(filler).unwrap();
    drop(file);
    eventually("there is room again", async || {
        (gateway.api("/v1/backup").await.status() == 200).then_some(())
    })
    .await;
}
