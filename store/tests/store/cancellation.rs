//! Futures that are dropped at each of their awaits.

use std::{future::poll_fn, pin::pin, task::Poll};

use store::{Digest, Error};

use crate::support::{MAX_BYTES, TestStore, new, ours, publish, settings};

/// Polls `future` at most `polls` times. If it is not ready by then, drops it when it would be
/// polled again.
async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_dropped_at_any_await_is_whole_or_absent() {
    let test = TestStore::new().await;
    let mut finished = false;
    for polls in 0..200 {
        let name = format!("f{polls}");
        let bytes = name.as_bytes();
        let outcome = drop_after(polls, publish(&test.store, new(&name), bytes)).await;
        // This would remove the file of a row that commits after the future was dropped.
        test.store.collect_garbage(i64::MAX).await.unwrap();
        // This waits for everything in progress on the connection that writes.
        test.store.describe(&ours(), "none", "", 0).await.unwrap();

        match test.store.function(&ours(), &name).await.unwrap() {
            Some(active) => {
                assert_eq!(active.revision.digest, Digest::of(bytes));
                let file = test.store.open_artifact(&active.revision.digest).await.unwrap();
                assert!(file.is_some(), "dropped after {polls} polls");
            }
            None => assert!(outcome.is_none(), "finished after {polls} polls"),
        }
        finished |= outcome.is_some();
        if finished && polls > 40 {
            break;
        }
    }
    assert!(finished);
    test.until_no_upload_is_left().await;
    test.publish("after", b"all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_dropped_at_any_await_happens_whole_or_not_at_all() {
    let test = TestStore::new().await;
    test.publish("f", b"x").await;
    for polls in 0..40 {
        let before = test.store.function(&ours(), "f").await.unwrap().unwrap().revision.number;
        let change = test.store.change_settings(settings("f", before, polls as u64));
        let outcome = drop_after(polls, change).await;
        test.store.describe(&ours(), "none", "", 0).await.unwrap();

        let after = test.store.function(&ours(), "f").await.unwrap().unwrap().revision;
        match outcome {
            Some(done) => assert_eq!(done.unwrap().unwrap().revision, after),
            None => assert!(after.number - before <= 1, "{before} to {}", after.number),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_write_was_dropped_accepts_no_more_and_leaves_nothing() {
    let test = TestStore::new().await;
    let chunk = vec![1; 1 << 20];
    // A blocking thread may be so quick that the write is ready at the first poll.
    let upload = loop {
        let mut upload = test.store.begin_upload(MAX_BYTES).await.unwrap();
        if drop_after(1, upload.write(&chunk)).await.is_none() {
            break upload;
        }
    };

    let refused = upload.finish().await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    test.until_no_upload_is_left().await;
}
