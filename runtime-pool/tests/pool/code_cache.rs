//! Native code on disk: a file that cannot be trusted is recompiled and does not run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use runtime_pool::{FunctionSpec, Tier};

use crate::{
    program::{another_program, program},
    support::{TestPool, answers, key},
};

/// A pool whose directory has the native code of one artifact, and that artifact.
async fn with_native_code() -> (TestPool, FunctionSpec) {
    let test = TestPool::new();
    let spec = test.spec(&program());
    assert_eq!(test.tier(key(1), &spec).await, Tier::Frozen);
    (test, spec)
}

/// The files below a directory whose names end like this.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

fn only_file(test: &TestPool, end: &str) -> PathBuf {
    let files = files(&test.code_dir(), end);
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

fn flip_a_bit(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[track_caller]
fn assert_recompiled(tier: Tier, test: &TestPool, compilations: f64) {
    assert_eq!((tier, test.compilations()), (Tier::Frozen, compilations));
}

/// Case C06.
#[tokio::test]
async fn native_code_with_a_flipped_bit_is_recompiled_after_a_restart() {
    let (mut test, spec) = with_native_code().await;
    for at in [0, 1_000, 10_000, 100_000] {
        flip_a_bit(&only_file(&test, ".cwasm"), at);
        test = test.restart();
        let (function, start) = test.load(key(1), &spec).await;
        assert_recompiled(start.tier, &test, 1.0);
        answers(&function).await;
    }
    let test = test.restart();
    assert_eq!(test.tier(key(1), &spec).await, Tier::Cold);
}

/// Case C06.
#[tokio::test]
async fn native_code_that_changes_while_the_pool_runs_is_recompiled() {
    let (test, spec) = with_native_code().await;
    flip_a_bit(&only_file(&test, ".cwasm"), 10_000);
    test.pool.evict(&key(1)).await;
    let (function, start) = test.load(key(1), &spec).await;
    assert_recompiled(start.tier, &test, 2.0);
    answers(&function).await;
}

#[tokio::test]
async fn native_code_that_is_removed_while_the_pool_runs_is_recompiled() {
    let (test, spec) = with_native_code().await;
    fs::remove_file(only_file(&test, ".cwasm")).unwrap();
    test.pool.evict(&key(1)).await;
    assert_recompiled(test.tier(key(1), &spec).await, &test, 2.0);
}

#[tokio::test]
async fn native_code_without_its_seal_is_recompiled() {
    let (test, spec) = with_native_code().await;
    fs::remove_file(only_file(&test, ".json")).unwrap();
    let test = test.restart();
    assert_recompiled(test.tier(key(1), &spec).await, &test, 1.0);
}

/// Case C06.
#[tokio::test]
async fn native_code_that_was_sealed_with_another_key_is_recompiled() {
    let (test, spec) = with_native_code().await;
    fs::write(test.code_dir().join("seal.key"), [7; 32]).unwrap();
    let test = test.restart();
    assert_recompiled(test.tier(key(1), &spec).await, &test, 1.0);

    // A key of another length is replaced.
    fs::write(test.code_dir().join("seal.key"), [7; 31]).unwrap();
    let test = test.restart();
    assert_recompiled(test.tier(key(1), &spec).await, &test, 1.0);
}

/// Case C06.
#[tokio::test]
async fn native_code_of_another_artifact_is_recompiled_even_with_its_own_seal() {
    let (test, spec) = with_native_code().await;
    let (code, seal) = (only_file(&test, ".cwasm"), only_file(&test, ".json"));
    let others: Vec<_> = [&code, &seal].map(|path| path.with_added_extension("mine")).into();
    fs::rename(&code, &others[0]).unwrap();
    fs::rename(&seal, &others[1]).unwrap();
    let another = test.spec(&another_program(1));
    test.load(key(2), &another).await;
    fs::rename(&others[0], only_file(&test, ".cwasm")).unwrap();
    fs::rename(&others[1], only_file(&test, ".json")).unwrap();

    let test = test.restart();
    assert_recompiled(test.tier(key(2), &another).await, &test, 1.0);
    assert_recompiled(test.tier(key(1), &spec).await, &test, 2.0);
}

#[tokio::test]
async fn a_start_removes_what_an_interrupted_compilation_left() {
    let (test, spec) = with_native_code().await;
    let left = test.code_dir().join(".tmpAbC123");
    fs::write(&left, "half of it").unwrap();
    let test = test.restart();
    assert!(!left.exists());
    assert_eq!(test.tier(key(1), &spec).await, Tier::Cold);
}

#[tokio::test]
async fn native_code_of_a_forgotten_artifact_is_gone() {
    let (test, spec) = with_native_code().await;
    test.pool.evict(&key(1)).await;
    test.pool.forget_artifact(spec.digest).await;
    assert!(files(&test.code_dir(), ".cwasm").is_empty());
    assert_recompiled(test.tier(key(1), &spec).await, &test, 2.0);
}

#[tokio::test]
async fn a_start_lists_missing_native_code_until_the_code_is_noted_as_complete() {
    let (test, spec) = with_native_code().await;
    let another = test.spec(&another_program(1));
    let active = || vec![spec.clone(), another.clone()];
    let missing = test.pool.missing_code(active()).await.unwrap();
    let digests: Vec<_> = missing.iter().map(|spec| spec.digest).collect();
    assert_eq!(digests, [another.digest]);

    test.pool.compile_in_background(&another).await.unwrap();
    assert!(test.pool.missing_code(active()).await.unwrap().is_empty());
    test.pool.mark_code_complete().await.unwrap();

    let test = test.restart();
    // The code is noted as complete, so the pool looks at no file.
    files(&test.code_dir(), ".cwasm").iter().for_each(|file| fs::remove_file(file).unwrap());
    assert!(test.pool.missing_code(active()).await.unwrap().is_empty());
}
