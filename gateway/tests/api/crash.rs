//! `kill -9` at bad moments: acknowledged changes survive, others are complete or absent.

mod clock;
mod damage;
mod disk;
mod every_nth;
mod faults;
mod points;
mod queue;
mod strace;
mod upgrade;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Method;
use tokio::time;

use crate::{
    client::{TestRequest, eventually},
    guests::{distinct, guest},
    test_gateway::TestGateway,
};

pub(crate) use self::strace::Strace;

/// The compile workers of a gateway that are compiling.
pub(crate) fn workers(pid: u32) -> Vec<u32> {
    let is_compiling = |child: &u32| {
        let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        // The gateway starts another worker only to probe its sandbox.
        line.contains("\0compile-worker\0") && !line.contains("\0probe\0")
    };
    children(pid).into_iter().filter(is_compiling).collect()
}

/// The child processes of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Asserts that the directories for work in progress are empty.
fn nothing_is_half_done(gateway: &TestGateway) {
    assert_eq!(gateway.files("tmp"), [] as [PathBuf; 0]);
    let code = gateway.files("code");
    let temporary = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with('.');
    assert!(!code.iter().any(temporary), "{code:?}");
}

/// Case C01.
#[tokio::test]
async fn a_kill_during_an_upload_leaves_nothing_behind() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let wasm = guest("hello");
    let (pieces, put) = gateway.control(Method::PUT, "/v1/functions/hello").pieces();
    let upload = tokio::spawn(put.try_send());
    // More than the memory buffer holds, so that a part of it is written to the file.
    pieces.send(vec![0; 1 << 20].into()).await.unwrap();
    let arrives = async || {
        let files = gateway.files("tmp");
        let written = fs::metadata(files.first()?).ok()?.len();
        (written > 0).then_some(())
    };
    eventually("a part of the upload is in a file", arrives).await;

    gateway.kill();
    assert!(upload.await.unwrap().is_err());
    assert_eq!(gateway.files("tmp").len(), 1, "the kill must leave a file behind");
    gateway.start_again().await;
    nothing_is_half_done(&gateway);
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.show("hello").await.problem(), (404, "function-not-found"));
    assert_eq!(gateway.put("hello", wasm).send().await.status(), 201);
}

/// Case C01.
#[tokio::test]
async fn a_kill_during_a_compilation_leaves_nothing_behind() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let upload = tokio::spawn(gateway.put("js-hello", guest("js-hello")).try_send());
    let pid = gateway.pid();
    let worker = eventually("a compile worker runs", async || workers(pid).first().copied()).await;

    gateway.kill();
    assert!(upload.await.unwrap().is_err());
    eventually("the worker has ended, too", async || (!is_alive(worker)).then_some(())).await;
    assert!(!gateway.files("tmp").is_empty(), "the kill must leave a file behind");
    gateway.start_again().await;
    nothing_is_half_done(&gateway);
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
    assert_eq!(gateway.show("js-hello").await.problem(), (404, "function-not-found"));
    assert_eq!(gateway.get("/f/js-hello/").await.problem(), (404, "function-not-found"));
}

/// Case U08.
#[tokio::test]
async fn a_killed_compile_worker_fails_only_its_own_deploy() {
    let gateway = TestGateway::start().await;
    let upload = tokio::spawn(gateway.put("js-hello", guest("js-hello")).send());
    let pid = gateway.pid();
    let worker = eventually("a compile worker runs", async || workers(pid).first().copied()).await;
    let worker = rustix::process::Pid::from_raw(i32::try_from(worker).unwrap()).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();

    assert_eq!(upload.await.unwrap().problem(), (422, "compile-limit"));
    gateway.no_uploads_left().await;
    nothing_is_half_done(&gateway);
    gateway.deploy("c-hello").await;
}

/// Pseudo-random numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }
}

/// Acknowledged revisions: name, number and digest.
type Acknowledged = Arc<Mutex<Vec<(String, u64, String)>>>;

/// Uploads different bytes under one name, one after the other, until the gateway is killed.
async fn upload_until_killed(puts: Vec<(String, TestRequest)>, acknowledged: Acknowledged) {
    for (name, put) in puts {
        let Ok(answer) = put.try_send().await else { return };
        assert_eq!(answer.status(), 201, "{answer:?}");
        let revision = answer.json()["revision"].as_u64().unwrap();
        let digest = answer.json()["digest"].as_str().unwrap().to_owned();
        acknowledged.lock().unwrap().push((name, revision, digest));
    }
}

/// Asserts that every acknowledged revision is stored and that the newest of each function answers.
async fn nothing_is_lost(gateway: &TestGateway, acknowledged: &Acknowledged, at: &str) {
    let mut newest = BTreeMap::new();
    for (name, revision, digest) in acknowledged.lock().unwrap().clone() {
        newest.insert(name, (revision, digest));
    }
    for (name, (revision, digest)) in newest {
        let answer = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(answer.plain(), (200, "hello from c\n"), "{at}: {name}");
        let revisions = gateway.api(&format!("/v1/functions/{name}/revisions")).await;
        let kept = revisions.json()["revisions"].as_array().unwrap().clone();
        let found = kept.iter().find(|kept| kept["revision"] == revision);
        assert_eq!(found.expect(at)["digest"], digest, "{at}: {name}");
        // A later revision may have been published without its response having arrived.
        let active = gateway.show(&name).await.json()["revision"].as_u64().unwrap();
        assert!(active >= revision, "{at}: {name}: {active} is active instead of {revision}");
    }
}

/// Case C01.
#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_acknowledged() {
    const ROUNDS: u32 = 24;
    const UPLOADERS: u32 = 4;
    let seed = 0x5eed_0000 + u64::from(std::process::id());
    let mut random = Random(seed);
    let mut gateway = TestGateway::start().await;
    let wasm = guest("c-hello-cgi");
    let acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        let mut uploads = Vec::new();
        for uploader in 0..UPLOADERS {
            let name = format!("f-{uploader}");
            let number = |n| (round * 1000 + n) * UPLOADERS + uploader;
            let put = |n| (name.clone(), gateway.put(&name, distinct(&wasm, number(n))));
            let puts = (0..50).map(put).collect();
            uploads.push(tokio::spawn(upload_until_killed(puts, Arc::clone(&acknowledged))));
        }
        // Waits for some more acknowledgements, and then for some steps of the next uploads.
        let some = acknowledged.lock().unwrap().len() + random.below(5) as usize;
        let are_there = async || (acknowledged.lock().unwrap().len() >= some).then_some(());
        eventually("uploads are acknowledged", are_there).await;
        time::sleep(Duration::from_millis(random.below(60))).await;
        gateway.kill();
        for upload in uploads {
            upload.await.unwrap();
        }
        gateway.start_again().await;
        nothing_is_half_done(&gateway);
        let at = format!("seed {seed}, round {round}");
        nothing_is_lost(&gateway, &acknowledged, &at).await;
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    for (name, revision, digest) in acknowledged {
        let activate = format!("/v1/functions/{name}/revisions/{revision}/activate");
        let activated = gateway.control(Method::POST, &activate).send().await;
        assert_eq!(activated.json()["digest"], digest, "seed {seed}: {activated:?}");
        let answer = gateway.get(&format!("/f/{name}/")).await;
        assert_eq!(answer.plain(), (200, "hello from c\n"), "seed {seed}: {name} {revision}");
    }
}

/// Case C06.
#[tokio::test]
async fn damaged_native_code_is_recompiled() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    for damage in [
        (|bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(100),
        Vec::clear,
    ] {
        for extension in ["cwasm", "json"] {
            gateway.terminate();
            assert!(gateway.exit().await.success());
            let files = gateway.files("code");
            let of_kind = |path: &&PathBuf| path.extension().is_some_and(|e| e == extension);
            let file = files.iter().find(of_kind).unwrap();
            let mut bytes = fs::read(file).unwrap();
            damage(&mut bytes);
            fs::write(file, bytes).unwrap();

            gateway.start_again().await;
            assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"));
            assert_eq!(gateway.metric("mayfly_compilations_total").await, 1.0, "{extension}");
        }
    }
    gateway.restart().await;
    assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
    assert_eq!(
        gateway.metric("mayfly_compilations_total").await,
        0.0,
        "the recompiled code is used"
    );
}

/// Case C06.
#[tokio::test]
async fn native_code_is_a_cache_that_may_be_deleted() {
    let mut gateway = TestGateway::with(&["compile.renew=false"]).await;
    gateway.deploy("c-hello").await;
    gateway.deploy("hello-p3").await;
    gateway.terminate();
    gateway.exit().await;
    fs::remove_dir_all(gateway.data_dir().join("code")).unwrap();

    gateway.start_again().await;
    let calls = (0..20).map(|_| gateway.call(Method::GET, "/f/c-hello/").send());
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.plain(), (200, "hello from c\n"));
    }
    assert_eq!(
        gateway.metric("mayfly_compilations_total").await,
        1.0,
        "one compilation for all calls"
    );
    assert_eq!(gateway.get("/f/hello-p3/").await.plain(), (200, "hello from rust\n"));
}
