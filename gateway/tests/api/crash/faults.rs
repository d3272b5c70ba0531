//! A disk that fails at each step of a publish, and the order of the steps.

use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::{
    nothing_is_half_done,
    points::{PublishStep, steps, upload},
    strace::Strace,
};
use crate::test_gateway::TestGateway;

async fn failing_at(step: PublishStep, errno: &'static str) {
    let at = format!("{errno}: {}", step.name);
    let mut gateway = TestGateway::start().await;
    gateway.expect_errors();
    gateway.deploy("c-hello").await;
    let every_time = PublishStep { nth: "1+", ..step };
    let strace = every_time.inject(&gateway, &format!("error={errno}")).await;
    let answer = gateway.put("greet", upload()).send().await;
    let expected = if errno == "ENOSPC" { (507, "no-space") } else { (500, "internal") };
    // The database does not report every failed flush as a full disk.
    let is_expected = answer.problem() == expected || answer.problem() == (500, "internal");
    assert!(is_expected, "{at}: {answer:?}");
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"), "{at}");
    let seen = strace.detach();
    assert!(seen.iter().any(|line| line.contains("(INJECTED)")), "{at}: the step was not reached");

    // The gateway recovers without a restart, and the next acknowledged upload survives.
    let again = gateway.put("greet", upload()).send().await;
    assert_eq!(again.status(), 201, "{at}: {again:?}");
    gateway.no_uploads_left().await;
    gateway.kill();
    gateway.start_again().await;
    nothing_is_half_done(&gateway);
    for name in ["greet", "c-hello"] {
        let called = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(called.plain(), (200, "hello from c\n"), "{at}");
    }
}

/// Case C03.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_failure_at_any_step_is_reported_and_nothing_is_acknowledged() {
    let steps = steps().await;
    let on_disk = steps.into_iter().filter(|step| step.published != Some(true) && step.nth == "1");
    let faults = on_disk.flat_map(|step| [(step.clone(), "EIO"), (step, "ENOSPC")]);
    // Opening a file does not fail with the error of a full disk.
    let faults = faults.filter(|(step, errno)| step.call != "openat" || *errno == "EIO");
    let faults = faults.map(|(step, errno)| failing_at(step, errno));
    stream::iter(faults).buffer_unordered(3).collect::<()>().await;
}

/// The position in the log at which the first call with all of `parts` has returned.
fn end_of(log: &[String], parts: &[&str]) -> usize {
    let is_it = |line: &String| parts.iter().all(|part| line.contains(part));
    let begin = log.iter().position(is_it).unwrap_or_else(|| panic!("{parts:?}: {log:#?}"));
    if !log[begin].contains("<unfinished ...>") {
        return begin;
    }
    let thread = log[begin].split(' ').next().unwrap();
    let resumed =
        log[begin..].iter().position(|line| line.starts_with(thread) && line.contains("resumed>"));
    begin + resumed.unwrap()
}

fn begin_of(log: &[String], parts: &[&str]) -> usize {
    log.iter()
        .position(|line| parts.iter().all(|part| line.contains(part)))
        .unwrap_or_else(|| panic!("{parts:?}: {log:#?}"))
}

/// Case C09.
#[tokio::test]
async fn the_artifact_is_flushed_before_its_row_and_the_row_before_the_response() {
    let gateway = TestGateway::start().await;
    let calls = "trace=fsync,rename,renameat,renameat2,pwrite64,sendto,writev";
    let strace = Strace::attach(gateway.pid(), &[calls], None).await;
    assert_eq!(gateway.put("greet", upload()).send().await.status(), 201);
    let log = strace.detach();

    let digest: String =
        Sha256::digest(upload()).iter().map(|byte| format!("{byte:02x}")).collect();
    let artifact = format!("{digest}.wasm");
    let shard = format!("artifacts/{}>", &digest[..2]);
    let bytes = end_of(&log, &["fsync(", "data/tmp/"]);
    let named = (begin_of(&log, &["rename", &artifact]), end_of(&log, &["rename", &artifact]));
    let in_shard = (begin_of(&log, &["fsync(", &shard]), end_of(&log, &["fsync(", &shard]));
    let shards =
        (begin_of(&log, &["fsync(", "/artifacts>"]), end_of(&log, &["fsync(", "/artifacts>"]));
    let row = (begin_of(&log, &["pwrite64(", "-wal>"]), end_of(&log, &["fsync(", "-wal>"]));
    let answer = begin_of(&log, &["HTTP/1.1 201"]);
    assert!(bytes < named.0, "{log:#?}");
    assert!(named.1 < in_shard.0, "{log:#?}");
    assert!(in_shard.1 < shards.0, "{log:#?}");
    assert!(shards.1 < row.0, "{log:#?}");
    assert!(row.1 < answer, "{log:#?}");
}
