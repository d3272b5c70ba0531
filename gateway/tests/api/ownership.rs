//! Files that other users of the machine could change or read.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use rcgen::generate_simple_self_signed;

use crate::test_gateway::{TestGateway, mayfly, run};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Starts a gateway that must refuse. Returns the reason.
async fn refused(data: &Path, settings: &[&str]) -> String {
    let mut serve = mayfly(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    serve.arg("--data-dir").arg(data);
    for setting in settings {
        serve.args(["--set", setting]);
    }
    let output = run(serve).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

/// Case A20.
#[tokio::test]
async fn a_data_directory_that_others_could_change_is_refused_with_the_remedy() {
    let temp = tempfile::tempdir().unwrap();
    let parent = temp.path().join("parent");
    let data = parent.join("data");
    fs::create_dir(&parent).unwrap();
    set_mode(&parent, 0o777);
    let said = refused(&data, &[]).await;
    assert!(said.contains(&format!("chmod go-w {}", parent.display())), "{said}");
    assert!(!data.exists(), "nothing was created");

    set_mode(&parent, 0o755);
    fs::create_dir(&data).unwrap();
    set_mode(&data, 0o777);
    let said = refused(&data, &[]).await;
    assert!(said.contains(&format!("chmod go-w {}", data.display())), "{said}");

    // Keys that somebody else may have put there.
    set_mode(&data, 0o700);
    fs::create_dir(data.join("code")).unwrap();
    let key = data.join("code/seal.key");
    fs::write(&key, [7; 32]).unwrap();
    set_mode(&key, 0o644);
    let said = refused(&data, &[]).await;
    assert!(said.contains(&format!("chmod go= {}", key.display())), "{said}");
    if rustix::process::geteuid().is_root() {
        set_mode(&key, 0o600);
        chown(&key, Some(65_534), None).unwrap();
        let said = refused(&data, &[]).await;
        assert!(said.contains(&format!("chown 0 {}", key.display())), "{said}");
    }
}

/// Case A20.
#[tokio::test]
async fn a_shared_data_directory_must_be_allowed_explicitly() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    set_mode(&gateway.data_dir(), 0o770);
    chown(gateway.data_dir(), None, Some(54_321)).unwrap_or_default();
    gateway.start_with(&["insecure_data_dir=true"]).await;
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
    assert!(gateway.log().contains("insecure_data_dir"));
}

/// Case A20.
#[tokio::test]
async fn a_private_key_that_others_could_read_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (cert, key) = (temp.path().join("cert.pem"), temp.path().join("key.pem"));
    let own = generate_simple_self_signed(vec!["one.test".to_owned()]).unwrap();
    fs::write(&cert, own.cert.pem()).unwrap();
    fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let settings = [
        format!("server.tls_cert={}", cert.display()),
        format!("server.tls_key={}", key.display()),
    ];
    let settings = [&*settings[0], &*settings[1]];
    for mode in [0o644, 0o602, 0o620] {
        set_mode(&key, mode);
        let said = refused(&temp.path().join("data"), &settings).await;
        assert!(said.contains(&format!("chmod u=rw,g=r,o= {}", key.display())), "{said}");
    }
    // A group may read keys.
    set_mode(&key, 0o640);
    drop(TestGateway::with(&settings).await);
}
