//! `kill -9` and full disks while files are stored.

use std::{fs, io::Write as _};

use super::{SITE, TestGateway, archive};
use crate::{client::eventually, crash::Strace};

/// The steps of an upload by their system calls: each is killed before it happens.
const STEPS: [(&str, &str, &str); 6] = [
    ("the archive is flushed", "fsync", "1"),
    ("the first file is flushed", "fsync", "2"),
    ("the first file is named", "rename,renameat,renameat2", "1"),
    ("the last file is named", "rename,renameat,renameat2", "5"),
    ("a row is written", "pwrite64", "1"),
    ("the answer is sent", "sendto,writev", "1"),
];

/// Case Y19.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_leaves_all_of_a_tree_or_nothing() {
    for (step, call, nth) in STEPS {
        let mut gateway = TestGateway::start().await;
        gateway.store_files(&[("before", b"before")]).await;
        let (trace, inject) =
            (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
        let strace = Strace::attach(gateway.pid(), &[&trace, &inject], None).await;
        let post = gateway
            .control(http::Method::POST, "/v1/files")
            .header("content-type", "application/x-tar")
            .body(archive(SITE));
        let answer = post.try_send().await;
        assert!(answer.is_err(), "{step}: {answer:?}");
        assert!(!gateway.exit().await.success(), "{step}: it was not killed");
        drop(strace);
        gateway.start_again().await;
        assert!(gateway.files("tmp").is_empty(), "{step}");

        let tree = gateway.store_files(SITE).await;
        let deployed = gateway.deploy_files("site", "site", &tree, "/").await;
        assert_eq!(deployed.status(), 201, "{step}: {deployed:?}");
        gateway.kill();
        gateway.start_again().await;
        assert_eq!(gateway.get("/f/site/about/").await.plain(), (200, "<h1>about</h1>"), "{step}");
    }
}

/// Case Y19.
#[tokio::test]
async fn a_kill_right_after_the_answer_loses_nothing() {
    let mut gateway = TestGateway::start().await;
    let many: Vec<(String, Vec<u8>)> = (0..200)
        .map(|n| (format!("d{}/{n}", n % 7), format!("content {n}").into_bytes()))
        .collect();
    let many: Vec<(&str, &[u8])> =
        many.iter().map(|(path, content)| (&**path, &**content)).collect();
    let tree = gateway.store_files(&many).await;
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(gateway.deploy_files("f", "t-given", &tree, "/").await.status(), 201);
    gateway.kill();
    gateway.start_again().await;
    assert_eq!(gateway.get_path("f", "/d3/199").await.plain(), (200, "content 199"));
}

/// Case Y20.
#[tokio::test]
async fn a_full_disk_refuses_files_serves_those_that_are_there_and_recovers() {
    let mut gateway = TestGateway::on_a_disk_of("16m").await;
    gateway.expect_errors();
    let tree = gateway.store_files(SITE).await;
    gateway.deploy_files("site", "site", &tree, "/").await;
    assert_eq!(gateway.get("/f/site/").await.status(), 200);
    let filler = gateway.data_dir().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    drop(file);
    let large: &[(&str, &[u8])] = &[("large", &[7; 2 << 20])];
    for _ in 0..3 {
        let refused = gateway.post_files(archive(large), None).await;
        assert_eq!(refused.problem(), (507, "no-space"), "{refused:?}");
        assert_eq!(gateway.get("/f/site/about/").await.plain(), (200, "<h1>about</h1>"));
    }
    fs::remove_file(filler).unwrap();
    gateway.store_files(large).await;
    gateway.no_uploads_left().await;
}

#[tokio::test]
async fn an_upload_that_its_client_gives_up_leaves_nothing() {
    let gateway = TestGateway::start().await;
    let post = gateway.control(http::Method::POST, "/v1/files");
    let (pieces, post) = post.header("content-type", "application/x-tar").pieces();
    let upload = tokio::spawn(post.try_send());
    pieces.send(vec![7; 1 << 20].into()).await.unwrap();
    let arrives = async || (!gateway.files("tmp").is_empty()).then_some(());
    eventually("the upload has a file", arrives).await;
    upload.abort();
    drop(pieces);
    gateway.no_uploads_left().await;
}
