//! Schedules, and what they have done.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use store::{
    CallState, DueRun, EnqueueLimits, Error, InvocationFilter, MissedRuns, NextState, PutSchedule,
    Quota, RunOutcome, ScheduleTurn, Store, StoreConfig,
};

use crate::{
    invocations::{NO_LIMITS, call, claim, finished},
    support::{TestStore, ours, tenant},
};

/// A turn of the schedule 1 with these due times, the calls of which are named by them.
fn turn(due: &[i64]) -> ScheduleTurn {
    let run = |due_ms: &i64| DueRun { due_ms: *due_ms, call: Some(call(&format!("at-{due_ms}"))) };
    ScheduleTurn {
        schedule: 1,
        runs: due.iter().map(run).collect(),
        skip_overlap: false,
        missed: None,
        until_ms: *due.last().unwrap(),
    }
}

/// What became of the runs of the schedule 1, the oldest first.
async fn runs(store: &Store) -> Vec<(i64, RunOutcome, u64, Option<CallState>)> {
    let runs = store.schedule_runs(1).await.unwrap().into_iter().rev();
    runs.map(|run| (run.due_ms, run.outcome, run.others, run.state)).collect()
}

#[tokio::test]
async fn a_schedule_is_read_as_it_was_set_and_its_id_is_never_used_again() {
    let test = TestStore::new().await;
    let put = async |tenant, name: &str, document: &str, since_ms| {
        let (name, document) = (name.to_owned(), document.to_owned());
        let (seed, now_ms) = (format!("seed {since_ms}"), 5_000 + since_ms);
        let put = PutSchedule { tenant, name, document, seed, since_ms, now_ms };
        test.store.put_schedule(put, 3).await
    };
    let (first, is_new) = put(ours(), "a", "one", 1).await.unwrap();
    assert!(is_new);
    let (changed, is_new) = put(ours(), "a", "two", 2).await.unwrap();
    assert!(!is_new);
    assert_eq!((changed.id, changed.since_ms, &*changed.document), (first.id, 2, "two"));
    assert_eq!(changed.seed, first.seed);
    assert_eq!((changed.created_ms, changed.updated_ms), (5_001, 5_002));
    put(ours(), "b", "", 3).await.unwrap();
    put(tenant("other"), "a", "theirs", 4).await.unwrap();
    let full = put(ours(), "c", "", 5).await;
    assert!(matches!(full, Err(Error::Quota { quota: Quota::Schedules, max: 3 })), "{full:?}");
    put(ours(), "b", "again", 3).await.unwrap();

    let page = test.store.schedules(&ours(), "a", 9).await.unwrap();
    assert_eq!(page.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(test.store.all_schedules().await.unwrap().len(), 3);
    assert_eq!(test.store.schedule(&ours(), "a").await.unwrap(), Some(changed.clone()));
    assert_eq!(test.store.schedule_by_id(changed.id).await.unwrap(), Some(changed));
    let last = test.store.all_schedules().await.unwrap().iter().map(|one| one.id).max().unwrap();
    for (tenant, name) in [(ours(), "a"), (ours(), "b"), (tenant("other"), "a")] {
        assert!(test.store.delete_schedule(&tenant, name).await.unwrap());
        assert!(!test.store.delete_schedule(&tenant, name).await.unwrap());
    }
    let test = test.reopen().await;
    let again = test.store.put_schedule(
        PutSchedule {
            tenant: ours(),
            name: "a".to_owned(),
            document: String::new(),
            seed: "another".to_owned(),
            since_ms: 0,
            now_ms: 0,
        },
        3,
    );
    let (again, _) = again.await.unwrap();
    assert!(again.id > last);
    assert_eq!((&*first.seed, &*again.seed), ("seed 1", "another"));
}

/// Case V04.
#[tokio::test]
async fn a_due_time_is_enqueued_once_with_the_progress_of_its_schedule() {
    let test = TestStore::new().await;
    let queued = RunOutcome::Queued;
    let taken = test.store.take_turn(turn(&[100, 200]), NO_LIMITS).await.unwrap();
    assert_eq!(taken, [(100, queued), (200, queued)]);
    // Again, and with one more: only that.
    assert_eq!(test.store.take_turn(turn(&[100, 200]), NO_LIMITS).await.unwrap(), []);
    let taken = test.store.take_turn(turn(&[100, 200, 300]), NO_LIMITS).await.unwrap();
    assert_eq!(taken, [(300, queued)]);
    assert_eq!(test.store.schedules_done_until().await.unwrap(), [(1, 300)].into());

    // A full queue changes nothing.
    let full = EnqueueLimits { lane_calls: 3, bytes: 1 << 30 };
    let missed = Some(MissedRuns { last_ms: 350, count: 5 });
    let refused = test.store.take_turn(ScheduleTurn { missed, ..turn(&[400]) }, full).await;
    assert!(matches!(refused, Err(Error::Quota { .. })), "{refused:?}");
    assert_eq!(test.store.schedules_done_until().await.unwrap(), [(1, 300)].into());
    assert_eq!(runs(&test.store).await.len(), 3);

    let taken = test.store.take_turn(ScheduleTurn { missed, ..turn(&[400]) }, NO_LIMITS).await;
    assert_eq!(taken.unwrap(), [(400, queued)]);
    let due = Some(CallState::Due);
    let all = [
        (100, queued, 0, due),
        (200, queued, 0, due),
        (300, queued, 0, due),
        (350, RunOutcome::Missed, 4, None),
        (400, queued, 0, due),
    ];
    assert_eq!(runs(&test.store).await, all);
    let calls = test.store.invocations(&ours(), &InvocationFilter::default(), None, 99).await;
    assert_eq!(calls.unwrap().len(), 4);

    test.store.forget_schedule(1).await.unwrap();
    assert_eq!(runs(&test.store).await, []);
    assert_eq!(test.store.schedules_done_until().await.unwrap(), [].into());
}

/// Case V06.
#[tokio::test]
async fn an_overlap_is_skipped_and_remembered() {
    let test = TestStore::new().await;
    let skip = async |due: &[i64]| {
        let turn = ScheduleTurn { skip_overlap: true, ..turn(due) };
        test.store.take_turn(turn, NO_LIMITS).await.unwrap()
    };
    let (queued, skipped) = (RunOutcome::Queued, RunOutcome::Skipped);
    assert_eq!(skip(&[100, 200]).await, [(100, queued), (200, skipped)]);
    assert_eq!(skip(&[300]).await, [(300, skipped)]);
    // While it runs, too, and while it waits for another attempt.
    let claimed = test.store.claim(claim(1, 1_000)).await.unwrap().concat();
    assert_eq!(skip(&[400]).await, [(400, skipped)]);
    let again = NextState::Retry { due_ms: 9_000 };
    test.store.finish(vec![finished(&claimed[0].id, 1, again)]).await.unwrap();
    assert_eq!(skip(&[500]).await, [(500, skipped)]);
    let claimed = test.store.claim(claim(1, 9_000)).await.unwrap().concat();
    let done = finished(&claimed[0].id, 2, NextState::Succeeded);
    test.store.finish(vec![done]).await.unwrap();
    assert_eq!(skip(&[600]).await, [(600, queued)]);
    // What was asked for counts as a run.
    test.store.run_schedule(1, 650, call("asked-for"), NO_LIMITS).await.unwrap();
    assert_eq!(skip(&[700]).await, [(700, skipped)]);
    let all = [
        (100, queued, 0, Some(CallState::Succeeded)),
        (500, skipped, 3, None),
        (600, queued, 0, Some(CallState::Due)),
        (650, queued, 0, Some(CallState::Due)),
        (700, skipped, 0, None),
    ];
    assert_eq!(runs(&test.store).await, all);
}

#[tokio::test]
async fn the_last_runs_are_remembered_and_a_call_that_cannot_be_made_is_refused() {
    let test = TestStore::new().await;
    for due in 1..=30 {
        test.store.take_turn(turn(&[due * 100]), NO_LIMITS).await.unwrap();
    }
    let without =
        ScheduleTurn { runs: vec![DueRun { due_ms: 4_000, call: None }], ..turn(&[4_000]) };
    let refused = test.store.take_turn(without, NO_LIMITS).await.unwrap();
    assert_eq!(refused, [(4_000, RunOutcome::Refused)]);
    let runs = runs(&test.store).await;
    assert_eq!((runs.len(), runs[0].0, runs[19].0), (20, 1_200, 4_000));
}

/// The file that gives [`ticker`] its work.
const ORDER: &str = "tick-until-killed";

/// Not a test of its own: `a_killed_ticker_…` starts it in another process, in a directory with that
/// file. It takes turns from where the store is, and says so.
#[tokio::test]
async fn ticker() {
    if fs::read_to_string(ORDER).is_err() {
        return;
    }
    let store = Store::open(&StoreConfig::new("store")).await.unwrap();
    let mut out = std::io::stdout();
    let mut done = store.schedules_done_until().await.unwrap().get(&1).copied().unwrap_or(0);
    loop {
        // Its last turn, too, as if it did not know that it has had it.
        let turn = turn(&[done.max(1), done + 1, done + 2]);
        store.take_turn(turn, NO_LIMITS).await.unwrap();
        done += 2;
        out.write_all(format!("\nturn {done}\n").as_bytes()).unwrap();
    }
}

/// Case V04.
#[tokio::test]
async fn a_killed_ticker_loses_no_due_time_and_repeats_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(ORDER), "").unwrap();
    let mut said = 0;
    for round in 0..6 {
        let mut ticker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "schedules::ticker", "--nocapture"])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(ticker.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut turns = lines.filter_map(|line| line.strip_prefix("turn ")?.parse::<i64>().ok());
        turns.by_ref().take(3 + round).for_each(|turn| said = turn);
        ticker.kill().unwrap();
        turns.for_each(|turn| said = turn);
        ticker.wait().unwrap();
    }
    let store = Store::open(&StoreConfig::new(dir.path().join("store"))).await.unwrap();
    let done = store.schedules_done_until().await.unwrap()[&1];
    assert!(done >= said && said >= 6 * 3 * 2, "{done} {said}");
    let calls = store.invocations(&ours(), &InvocationFilter::default(), None, 10_000).await;
    let mut due: Vec<i64> = calls
        .unwrap()
        .iter()
        .map(|call| call.id.strip_prefix("at-").unwrap().parse().unwrap())
        .collect();
    due.sort_unstable();
    assert_eq!(due, (1..=done).collect::<Vec<_>>());
}
