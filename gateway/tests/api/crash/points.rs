//! `kill -9` before each step of a publish, and the state afterwards.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::{nothing_is_half_done, strace::Strace};
use crate::{guests::guest, hostile_uploads::repetitions, test_gateway::TestGateway};

/// A system call during an upload.
#[derive(Clone, Debug)]
pub(super) struct PublishStep {
    pub(super) name: &'static str,
    pub(super) call: &'static str,
    /// The number of the call, counted for each thread.
    pub(super) nth: &'static str,
    /// The file below the data directory; `None` for the first such call of all.
    pub(super) path: Option<PathBuf>,
    /// Whether the upload must exist after a crash. `None` where either is correct: while the row
    /// is being written.
    pub(super) published: Option<bool>,
}

impl PublishStep {
    /// Injects a fault at this step of a running gateway.
    pub(super) async fn inject(&self, gateway: &TestGateway, what: &str) -> Strace {
        let trace = format!("trace={}", self.call);
        let inject = format!("inject={}:{what}:when={}", self.call, self.nth);
        let path = self.path.as_ref().map(|path| gateway.data_dir().join(path));
        Strace::attach(gateway.pid(), &[&trace, &inject], path.as_deref()).await
    }
}

/// The upload of these tests.
pub(super) fn upload() -> Vec<u8> {
    guest("c-hello-cgi")
}

/// The steps of an upload in their order.
pub(super) async fn steps() -> Vec<PublishStep> {
    let digest: String =
        Sha256::digest(upload()).iter().map(|byte| format!("{byte:02x}")).collect();
    let shard = Path::new("artifacts").join(&digest[..2]);
    let code = code_name().await;
    let step = |name, call, nth, path: Option<PathBuf>, published| PublishStep {
        name,
        call,
        nth,
        path,
        published,
    };
    let sealed = |extension: &str| Some(Path::new("code").join(&code).with_extension(extension));
    let wal = || Some(PathBuf::from("mayfly.db-wal"));
    let (no, yes) = (Some(false), Some(true));
    vec![
        step("the bytes are flushed", "fsync", "1", None, no),
        step("the native code is named", "renameat", "1", sealed("cwasm"), no),
        step("its seal is named", "renameat", "1", sealed("json"), no),
        step("the native code is mapped", "openat", "1", sealed("cwasm"), no),
        step("the shard is made", "mkdir", "1", Some(shard.clone()), no),
        step("the artifact is named", "rename", "1", None, no),
        step("the shard is flushed", "fsync", "1", Some(shard), no),
        step("the shards are flushed", "fsync", "1", Some("artifacts".into()), no),
        step("the row is written", "pwrite64", "1", wal(), no),
        step("more of the row is written", "pwrite64", "3", wal(), None),
        step("the last of the row is written", "pwrite64", "8", wal(), None),
        step("the row is flushed", "fsync", "1", wal(), None),
        step("the answer is sent", "sendto,writev", "1", None, yes),
    ]
}

/// The file name of the upload's native code, which is the same in every gateway of this build.
async fn code_name() -> PathBuf {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("first", upload()).send().await.status(), 201);
    let files = gateway.files("code");
    let code = files.iter().find(|path| path.extension().is_some_and(|is| is == "cwasm"));
    code.unwrap().strip_prefix(gateway.data_dir().join("code")).unwrap().into()
}

async fn killed_at(step: PublishStep) {
    let at = step.name;
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let strace = step.inject(&gateway, "signal=KILL").await;
    let answer = gateway.put("greet", upload()).try_send().await;
    assert!(answer.is_err(), "{at}: {answer:?}");
    assert!(!gateway.exit().await.success(), "{at}: it was not killed");
    drop(strace);

    gateway.start_again().await;
    nothing_is_half_done(&gateway);
    assert_eq!(gateway.get("/f/c-hello/").await.plain(), (200, "hello from c\n"), "{at}");
    let shown = gateway.show("greet").await;
    let called = gateway.get("/f/greet/").await;
    match shown.status() {
        200 => assert_eq!(called.plain(), (200, "hello from c\n"), "{at}"),
        _ => assert_eq!(called.problem(), (404, "function-not-found"), "{at}"),
    }
    if let Some(published) = step.published {
        assert_eq!(shown.status() == 200, published, "{at}: {shown:?}");
    }
    let again = gateway.put("greet", upload()).send().await;
    assert!(matches!(again.status(), 200 | 201), "{at}: {again:?}");
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"), "{at}");
}

/// Case C01.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_a_publish_leaves_all_of_it_or_nothing() {
    let steps = steps().await;
    let all = (0..repetitions(1, 50)).flat_map(|_| steps.clone());
    stream::iter(all.map(killed_at)).buffer_unordered(3).collect::<()>().await;
}
