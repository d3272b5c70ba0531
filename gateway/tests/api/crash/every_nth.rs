//! A disk on which every nth call fails, while owners change functions.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use http::Method;
use sha2::{Digest as _, Sha256};

use super::{Random, nothing_is_half_done, strace::Strace};
use crate::{
    client::FullResponse,
    guests::{distinct, guest},
    hostile_uploads::repetitions,
    test_gateway::TestGateway,
};

/// The system calls that write to the disk. `write` is not among them, because threads also wake
/// each other with it; failing writes of uploads are tested with the full disk.
const CALLS: &str = "pwrite64,fsync,fdatasync,rename,renameat,renameat2,mkdir,ftruncate";
const NAMES: [&str; 3] = ["a", "b", "c"];
const ARTIFACTS: u64 = 6;
const STEPS: u32 = 16;

/// The possible states of a function as far as the responses tell: a refused change may have
/// happened or not.
#[derive(Default)]
struct PossibleState {
    /// The digests that may be active. `None` stands for a deleted function.
    active: BTreeSet<Option<String>>,
    /// The acknowledged revisions since the last deletion.
    revisions: BTreeMap<u64, String>,
}

impl PossibleState {
    fn nothing() -> Self {
        Self { active: [None].into(), revisions: BTreeMap::new() }
    }

    fn acknowledged(&mut self, answer: &FullResponse) -> String {
        let digest = answer.json()["digest"].as_str().unwrap().to_owned();
        self.active = [Some(digest.clone())].into();
        self.revisions.insert(answer.json()["revision"].as_u64().unwrap(), digest.clone());
        digest
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Asserts that the disk is the cause of a refusal.
fn is_refused(answer: &FullResponse) -> bool {
    matches!(answer.problem(), (500, "internal") | (507, "no-space") | (503, "store-busy"))
}

struct FaultyWalk {
    gateway: TestGateway,
    random: Random,
    known: BTreeMap<&'static str, PossibleState>,
    acknowledged: u32,
    refused: u32,
}

impl FaultyWalk {
    async fn start(seed: u64) -> Self {
        let mut gateway = TestGateway::start().await;
        gateway.expect_errors();
        let known = NAMES.iter().map(|name| (*name, PossibleState::nothing())).collect();
        Self { gateway, random: Random(seed), known, acknowledged: 0, refused: 0 }
    }

    async fn step(&mut self, at: &str) {
        let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let known = self.known.get_mut(name).unwrap();
        let activated = known.revisions.keys().nth(self.random.below(3) as usize).copied();
        let refused = match (self.random.below(5), activated) {
            (0, _) => Self::delete(&self.gateway, name, known, at).await,
            (1 | 2, Some(revision)) => {
                Self::activate(&self.gateway, name, known, revision, at).await
            }
            _ => {
                let number = u32::try_from(self.random.below(ARTIFACTS)).unwrap();
                Self::deploy(&self.gateway, name, known, number, at).await
            }
        };
        *(if refused { &mut self.refused } else { &mut self.acknowledged }) += 1;
    }

    async fn deploy(
        gateway: &TestGateway,
        name: &str,
        known: &mut PossibleState,
        number: u32,
        at: &str,
    ) -> bool {
        let wasm = distinct(&guest("c-hello-cgi"), number);
        let sent = digest(&wasm);
        let answer = gateway.put(name, wasm).send().await;
        if matches!(answer.status(), 200 | 201) {
            assert_eq!(known.acknowledged(&answer), sent, "{at}: {answer:?}");
            return false;
        }
        assert!(is_refused(&answer), "{at}: {answer:?}");
        known.active.insert(Some(sent));
        true
    }

    async fn activate(
        gateway: &TestGateway,
        name: &str,
        known: &mut PossibleState,
        revision: u64,
        at: &str,
    ) -> bool {
        let target = format!("/v1/functions/{name}/revisions/{revision}/activate");
        let answer = gateway.control(Method::POST, &target).send().await;
        let meant = known.revisions[&revision].clone();
        if answer.status() == 200 {
            assert_eq!(known.acknowledged(&answer), meant, "{at}: {answer:?}");
            return false;
        }
        assert!(is_refused(&answer), "{at}: {answer:?}");
        known.active.insert(Some(meant));
        true
    }

    async fn delete(
        gateway: &TestGateway,
        name: &str,
        known: &mut PossibleState,
        at: &str,
    ) -> bool {
        let target = format!("/v1/functions/{name}");
        let answer = gateway.control(Method::DELETE, &target).send().await;
        match answer.status() {
            204 => *known = PossibleState::nothing(),
            404 => {
                assert!(known.active.contains(&None), "{at}: {answer:?}");
                *known = PossibleState::nothing();
            }
            _ => {
                assert!(is_refused(&answer), "{at}: {answer:?}");
                known.active.insert(None);
                known.revisions.clear();
                return true;
            }
        }
        false
    }

    /// Asserts that the gateway is in one of the possible states, and that every artifact is
    /// complete.
    async fn agrees(&self, at: &str) {
        for (name, known) in &self.known {
            let shown = self.gateway.show(name).await;
            let at = format!("{at}: {name}: {shown:?}");
            if shown.status() == 404 {
                assert!(known.active.contains(&None), "{at}");
                continue;
            }
            let active = shown.json()["digest"].as_str().unwrap().to_owned();
            assert!(known.active.contains(&Some(active)), "{at}: {:?}", known.active);
            let target = format!("/v1/functions/{name}/revisions");
            let revisions = self.gateway.api(&target).await.json()["revisions"].clone();
            let found: BTreeMap<u64, &str> = revisions
                .as_array()
                .unwrap()
                .iter()
                .map(|view| (view["revision"].as_u64().unwrap(), view["digest"].as_str().unwrap()))
                .collect();
            for (revision, digest) in &known.revisions {
                assert_eq!(found.get(revision), Some(&digest.as_str()), "{at}: {revision}");
            }
            for (revision, means) in found {
                let activate = format!("{target}/{revision}/activate");
                let activated = self.gateway.control(Method::POST, &activate).send().await;
                assert_eq!(activated.status(), 200, "{at}: {activated:?}");
                let artifact = self.gateway.api(&format!("/v1/functions/{name}/artifact")).await;
                assert_eq!(digest(artifact.bytes()), means, "{at}");
                let called = self.gateway.get(&format!("/f/{name}/")).await;
                assert_eq!(called.plain(), (200, "hello from c\n"), "{at}");
            }
        }
    }
}

/// Walks while every `n`th call fails, and checks the state after a crash.
async fn every_nth(n: u32, seed: u64) -> (u32, u32) {
    let errno = if n.is_multiple_of(2) { "EIO" } else { "ENOSPC" };
    let at = format!("every {n}th with {errno}, seed {seed}");
    let mut walk = FaultyWalk::start(seed).await;
    let inject = format!("inject={CALLS}:error={errno}:when={n}+{n}");
    let trace = format!("trace={CALLS}");
    let strace = Strace::attach(walk.gateway.pid(), &[&trace, &inject], None).await;
    for step in 0..STEPS {
        walk.step(&format!("{at}, step {step}")).await;
    }
    strace.detach();
    walk.gateway.no_uploads_left().await;
    walk.gateway.kill();
    walk.gateway.start_again().await;
    nothing_is_half_done(&walk.gateway);
    walk.agrees(&at).await;
    for name in NAMES {
        let again = walk.gateway.put(name, guest("c-hello-cgi")).send().await;
        assert!(matches!(again.status(), 200 | 201), "{at}: {again:?}");
    }
    (walk.acknowledged, walk.refused)
}

/// Case C03.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_every_nth_disk_call_fails() {
    let seed = 0x5eed_0000 + u64::from(std::process::id());
    let rounds = u64::from(repetitions(1, 20));
    let walks = (2..=20).flat_map(|n| (0..rounds).map(move |round| (n, seed + round)));
    let walks = walks.map(|(n, seed)| every_nth(n, seed));
    let counts: Vec<(u32, u32)> = stream::iter(walks).buffer_unordered(3).collect().await;
    let (acknowledged, refused) =
        counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert!(acknowledged > 50 && refused > 20, "{acknowledged} acknowledged, {refused} refused");
}
