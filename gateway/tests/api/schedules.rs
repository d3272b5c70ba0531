//! Schedules, over HTTP and from the command line.

use std::{collections::BTreeMap, fs, path::Path};

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, eventually},
    crash::Strace,
    test_gateway::TestGateway,
};

async fn put(gateway: &TestGateway, name: &str, schedule: Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/schedules/{name}")).json(&schedule).send().await
}

async fn set(gateway: &TestGateway, name: &str, schedule: Value) -> Value {
    let made = put(gateway, name, schedule).await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
    made.json().clone()
}

async fn show(gateway: &TestGateway, name: &str) -> Value {
    let shown = gateway.api(&format!("/v1/schedules/{name}")).await;
    assert_eq!(shown.status(), 200, "{shown:?}");
    shown.json().clone()
}

async fn pause(gateway: &TestGateway, name: &str, paused: bool) -> Value {
    let change = gateway.control(Method::PATCH, &format!("/v1/schedules/{name}"));
    let changed = change.json(&json!({"paused": paused})).send().await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    changed.json().clone()
}

/// A schedule of the guest that writes the gateway's own header fields to its log.
fn logged(cron: &str, more: Value) -> Value {
    let mut schedule = json!({"function": "t-cgi-env", "cron": cron, "request": {"path": "/?log"}});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    schedule.as_object_mut().unwrap().extend(more);
    schedule
}

/// The runs with an outcome, oldest first: due time and whether it was asked for.
fn outcomes(shown: &Value, outcome: &str) -> Vec<String> {
    let runs = shown["runs"].as_array().unwrap().iter().rev();
    let runs = runs.filter(|run| run["outcome"] == outcome);
    runs.map(|run| run["due_at"].as_str().unwrap().to_owned()).collect()
}

/// How many due times had an outcome.
fn count(shown: &Value, outcome: &str) -> u64 {
    let runs = shown["runs"].as_array().unwrap().iter();
    let runs = runs.filter(|run| run["outcome"] == outcome);
    runs.map(|run| 1 + run["others"].as_u64().unwrap()).sum()
}

/// The lines that a schedule's runs wrote, by their due time.
async fn lines(
    gateway: &TestGateway,
    schedule: &str,
    least: usize,
) -> BTreeMap<String, Vec<Value>> {
    eventually("the runs of the schedule are in the log", async || {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let log = gateway.api("/v1/functions/t-cgi-env/logs?limit=1000").await;
        for line in log.json()["lines"].as_array().unwrap() {
            let text = line["line"].as_str().unwrap();
            let field = |name: &str| {
                text.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            };
            if field("SCHEDULE") == Some(schedule) {
                let due = field("DUE_TIME").unwrap().to_owned();
                found.entry(due).or_default().push(line.clone());
            }
        }
        (found.len() >= least).then_some(found)
    })
    .await
}

/// Case V01.
#[tokio::test]
async fn a_function_is_called_when_its_schedule_is_due() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let channel = gateway.control(Method::PUT, "/v1/functions/t-cgi-env/channels/old");
    assert_eq!(channel.json(&json!({"revision": 1})).send().await.status(), 200);
    let changed = gateway.patch("t-cgi-env", &json!({"settings": {"timeout_ms": 9_000}})).await;
    assert_eq!(changed.status(), 200, "{changed:?}");

    let made = set(&gateway, "ticks", logged("* * * * * *", json!({}))).await;
    assert_eq!(made["next"].as_array().unwrap().len(), 5, "{made}");
    assert_eq!(made["schedule"]["time_zone"], "UTC");
    set(&gateway, "old-ticks", logged("*/2 * * * * *", json!({"channel": "old"}))).await;
    for restarted in [false, true] {
        if restarted {
            gateway.restart().await;
        }
        let before = lines(&gateway, "ticks", 0).await.len();
        let found = lines(&gateway, "ticks", before + 3).await;
        for (due, lines) in &found {
            assert_eq!(lines.len(), 1, "{due}: {lines:?}");
            assert_eq!(lines[0]["revision"], 2, "{lines:?}");
        }
    }
    let found = lines(&gateway, "old-ticks", 2).await;
    assert!(found.values().all(|lines| lines[0]["revision"] == 1), "{found:?}");
    assert!(
        found.keys().all(|due| due.ends_with("0Z")
            || due.ends_with("2Z")
            || due.ends_with("4Z")
            || due.ends_with("6Z")
            || due.ends_with("8Z")),
        "{found:?}"
    );

    let shown = show(&gateway, "ticks").await;
    assert!(count(&shown, "succeeded") >= 3, "{shown}");
    let queued = [("outcome", "queued")];
    assert!(gateway.metric_with("mayfly_schedule_runs_total", &queued).await >= 3.0);
    assert_eq!(gateway.metric("mayfly_schedules").await, 2.0);

    // Without the function, a due time is refused.
    let deleted = gateway.control(Method::DELETE, "/v1/functions/t-cgi-env").send().await;
    assert_eq!(deleted.status(), 204);
    eventually("a run is refused", async || {
        (count(&show(&gateway, "ticks").await, "refused") > 0).then_some(())
    })
    .await;
}

/// Case V01.
#[tokio::test]
async fn what_cannot_be_a_schedule_names_the_member_and_changes_nothing() {
    let gateway = TestGateway::with(&["quotas.schedules=2"]).await;
    gateway.deploy("t-cgi-env").await;
    let kept = set(&gateway, "kept", logged("@yearly", json!({}))).await;
    for (more, member) in [
        (json!({"cron": "0 0 30 2 *"}), "cron: "),
        (json!({"cron": "61 * * * *"}), "cron: "),
        (json!({"time_zone": "Europe/Nowhere"}), "time_zone: "),
        (json!({"function": "missing"}), "function: "),
        (json!({"channel": "missing"}), "channel: "),
        (json!({"catch_up_runs": 0}), "catch_up_runs: "),
        (json!({"catch_up_age_s": 2_592_001}), "catch_up_age_s: "),
        (json!({"request": {"path": "no"}}), "request.path: "),
        (json!({"request": {"method": "TRACE"}}), "request.method: "),
        (json!({"request": {"headers": {"mayfly-schedule": "x"}}}), "request.headers: "),
        (json!({"request": {"body": "x".repeat((64 << 10) + 1)}}), "request.body: "),
    ] {
        let refused = put(&gateway, "kept", logged("@yearly", more.clone())).await;
        assert_eq!(refused.problem(), (422, "bad-schedule"), "{more}: {refused:?}");
        let detail = refused.json()["detail"].as_str().unwrap();
        assert!(detail.starts_with(member), "{more}: {detail}");
    }
    for (more, status) in [
        (json!({"overlap": "maybe"}), 400),
        (json!({"catch_up": "some"}), 400),
        (json!({"unknown": 1}), 400),
        (json!({"catch_up_runs": 1e2}), 200),
    ] {
        let answer = put(&gateway, "kept", logged("@yearly", more.clone())).await;
        assert_eq!(answer.status(), status, "{more}: {answer:?}");
    }
    assert_eq!(put(&gateway, "No", logged("@daily", json!({}))).await.problem().1, "bad-schedule");
    assert_eq!(show(&gateway, "kept").await["schedule"], kept["schedule"]);

    set(&gateway, "second", logged("@yearly", json!({}))).await;
    let full = put(&gateway, "third", logged("@yearly", json!({}))).await;
    assert_eq!(full.problem(), (409, "schedule-quota"));
    let listed = gateway.api("/v1/schedules?limit=1").await;
    assert_eq!(listed.json()["schedules"][0]["name"], "kept");
    let cursor = listed.json()["next_cursor"].as_str().unwrap();
    let listed = gateway.api(&format!("/v1/schedules?limit=1&cursor={cursor}")).await;
    assert_eq!(listed.json()["schedules"][0]["name"], "second");

    for (method, target) in [
        (Method::GET, "/v1/schedules/missing"),
        (Method::DELETE, "/v1/schedules/missing"),
        (Method::POST, "/v1/schedules/missing/run"),
    ] {
        let missing = gateway.control(method, target).send().await;
        assert_eq!(missing.problem(), (404, "schedule-not-found"), "{target}");
    }
    let change = gateway.control(Method::PATCH, "/v1/schedules/missing");
    let missing = change.json(&json!({"paused": true})).send().await;
    assert_eq!(missing.problem(), (404, "schedule-not-found"));
}

/// Case V06.
#[tokio::test]
async fn a_due_time_is_skipped_while_an_earlier_run_goes_on() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-sleep").await;
    let sleeper = |overlap: &str| {
        json!({"function": "t-sleep", "cron": "* * * * * *", "overlap": overlap,
            "request": {"method": "GET", "path": "/?ms=4000"}})
    };
    set(&gateway, "skips", sleeper("skip")).await;
    let shown = eventually("due times are skipped", async || {
        let shown = show(&gateway, "skips").await;
        (count(&shown, "skipped") >= 3).then_some(shown)
    })
    .await;
    assert!(count(&shown, "running") + count(&shown, "succeeded") >= 1, "{shown}");
    let together = count(&shown, "running") + count(&shown, "queued");
    assert!(together <= 1, "{shown}");
    let skipped = [("outcome", "skipped")];
    assert!(gateway.metric_with("mayfly_schedule_runs_total", &skipped).await >= 3.0);
    pause(&gateway, "skips", true).await;

    set(&gateway, "allows", sleeper("allow")).await;
    eventually("runs go on beside each other", async || {
        let shown = show(&gateway, "allows").await;
        assert_eq!(count(&shown, "skipped"), 0, "{shown}");
        (count(&shown, "running") >= 2).then_some(())
    })
    .await;
}

/// Case V07.
#[tokio::test]
async fn a_schedule_is_paused_resumed_and_run_at_once() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    set(&gateway, "ticks", logged("* * * * * *", json!({"paused": true}))).await;
    let paused = show(&gateway, "ticks").await;
    assert_eq!((&paused["next"], &paused["runs"]), (&json!([]), &json!([])));

    let run = gateway.control(Method::POST, "/v1/schedules/ticks/run").send().await;
    assert_eq!(run.status(), 202, "{run:?}");
    let due = run.json()["due_at"].as_str().unwrap();
    let found = lines(&gateway, "ticks", 1).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), [due]);
    let shown = eventually("the run has ended", async || {
        let shown = show(&gateway, "ticks").await;
        (count(&shown, "succeeded") == 1).then_some(shown)
    })
    .await;
    assert_eq!(shown["runs"][0]["manual"], true, "{shown}");
    assert_eq!(shown["runs"][0]["invocation"], run.json()["invocation"]);

    let resumed = pause(&gateway, "ticks", false).await;
    assert_eq!(resumed["schedule"]["paused"], false);
    lines(&gateway, "ticks", 3).await;
    pause(&gateway, "ticks", true).await;
    gateway.restart().await;
    let paused = show(&gateway, "ticks").await;
    let (last, before) =
        (paused["updated_at"].as_str().unwrap().to_owned(), paused["runs"].clone());
    let resumed = pause(&gateway, "ticks", false).await;
    let since = resumed["updated_at"].as_str().unwrap().to_owned();
    let after = eventually("it runs again", async || {
        let shown = show(&gateway, "ticks").await;
        (shown["runs"][0]["due_at"] != before[0]["due_at"]).then_some(shown)
    })
    .await;
    // Without the last letter, so that a time with a fraction is after the same second without one.
    let plain = |time: &str| time.trim_end_matches('Z').to_owned();
    let between = |due: &String| plain(due) > plain(&last) && plain(due) < plain(&since);
    let runs = [outcomes(&after, "succeeded"), outcomes(&after, "missed")].concat();
    assert!(!runs.iter().any(between), "{last} {since} {after}");
}

/// The calls that were enqueued, by schedule and due time.
async fn enqueued(gateway: &TestGateway, schedule: &str) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = gateway.api(&format!("/v1/invocations?limit=1000{cursor}")).await;
        assert_eq!(page.status(), 200, "{page:?}");
        for call in page.json()["invocations"].as_array().unwrap() {
            if call["source"] == schedule {
                let due = call["due_at"].as_str().unwrap().to_owned();
                found.entry(due).or_default().push(call.clone());
            }
        }
        match page.json()["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The seconds of texts of the form of RFC 3339.
fn seconds<'a>(times: impl IntoIterator<Item = &'a String>) -> Vec<i64> {
    times.into_iter().map(|time| time.parse::<jiff::Timestamp>().unwrap().as_second()).collect()
}

/// Kills a gateway at a system call on the queue's write-ahead log: while a run is enqueued, claimed or
/// finished.
async fn killed_at(call: &str, nth: u32) {
    let at = format!("{call} {nth}");
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let all = json!({"overlap": "allow", "catch_up": "all"});
    set(&gateway, "ticks", logged("* * * * * *", all)).await;
    lines(&gateway, "ticks", 1).await;
    let path = gateway.data_dir().join("queue.db-wal");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let what = [&*format!("trace={call}"), &*inject];
    let strace = Strace::attach(gateway.pid(), &what, Some(&path)).await;
    assert!(!gateway.exit().await.success(), "{at}: it was not killed");
    drop(strace);
    gateway.start_again().await;
    let before = enqueued(&gateway, "ticks").await.len();
    eventually("more runs are enqueued", async || {
        (enqueued(&gateway, "ticks").await.len() > before + 1).then_some(())
    })
    .await;
    pause(&gateway, "ticks", true).await;
    let runs = eventually("all runs have ended", async || {
        let runs = enqueued(&gateway, "ticks").await;
        let ended = runs.values().flatten().all(|call| call["state"] == "succeeded");
        ended.then_some(runs)
    })
    .await;
    assert!(runs.values().all(|calls| calls.len() == 1), "{at}: {runs:?}");
    let due = seconds(runs.keys());
    let each: Vec<i64> = (due[0]..=due[due.len() - 1]).collect();
    assert_eq!(due, each, "{at}: one for each second");
    // A run that was killed may come again, under the same due time. No other has run.
    let found = lines(&gateway, "ticks", 2).await;
    assert!(found.keys().all(|due| runs.contains_key(due)), "{at}: {found:?} {runs:?}");
}

/// Case V04.
#[tokio::test(flavor = "multi_thread")]
async fn each_due_time_runs_once_whichever_step_is_killed() {
    let writes = (1..=16).map(|nth| ("pwrite64", nth));
    let flushes = (1..=4).map(|nth| ("fdatasync,fsync", nth));
    let steps = writes.chain(flushes).map(|(call, nth)| killed_at(call, nth));
    stream::iter(steps).buffer_unordered(3).collect::<()>().await;
}

fn set_clock(offset: &Path, to: &str) {
    fs::write(offset, to).unwrap();
}

/// Case V04.
#[tokio::test]
async fn each_due_time_runs_once_though_the_clock_is_set_back_and_forward() {
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    set_clock(&offset, "+0");
    let mut gateway = TestGateway::with_a_clock_from(&offset).await;
    gateway.deploy("t-cgi-env").await;
    let none = json!({"overlap": "allow", "catch_up": "none"});
    set(&gateway, "ticks", logged("* * * * * *", none)).await;
    lines(&gateway, "ticks", 3).await;
    set_clock(&offset, "-3600s");
    // Another schedule shows that time goes on.
    set(&gateway, "others", logged("* * * * * *", json!({"overlap": "allow"}))).await;
    let before = enqueued(&gateway, "ticks").await.len();
    lines(&gateway, "others", 3).await;
    gateway.restart().await;
    let others = lines(&gateway, "others", 0).await.len();
    lines(&gateway, "others", others + 3).await;
    assert_eq!(enqueued(&gateway, "ticks").await.len(), before, "nothing was due again");
    set_clock(&offset, "+3600s");
    eventually("it runs again", async || {
        (enqueued(&gateway, "ticks").await.len() >= before + 3).then_some(())
    })
    .await;
    let runs = enqueued(&gateway, "ticks").await;
    assert!(runs.values().all(|calls| calls.len() == 1), "{runs:?}");
    let due = seconds(runs.keys());
    let gaps: Vec<i64> = due.windows(2).map(|two| two[1] - two[0]).filter(|gap| *gap > 1).collect();
    assert_eq!(gaps.len(), 1, "one jump: {due:?}");
    assert!((3_500..3_700).contains(&gaps[0]), "{gaps:?}");
    let shown = show(&gateway, "ticks").await;
    assert!(count(&shown, "missed") >= 100, "{shown}");
}

/// Case V04.
#[tokio::test]
async fn a_schedule_that_is_set_again_knows_nothing_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    set_clock(&offset, "+400d");
    let gateway = TestGateway::with_a_clock_from(&offset).await;
    gateway.deploy("t-cgi-env").await;
    set(&gateway, "ticks", logged("* * * * * *", json!({}))).await;
    lines(&gateway, "ticks", 2).await;
    set_clock(&offset, "+0");
    let deleted = gateway.control(Method::DELETE, "/v1/schedules/ticks").send().await;
    assert_eq!(deleted.status(), 204);
    let before = lines(&gateway, "ticks", 2).await.len();
    set(&gateway, "ticks", logged("* * * * * *", json!({}))).await;
    lines(&gateway, "ticks", before + 2).await;
    let shown = show(&gateway, "ticks").await;
    let today = seconds(&outcomes(&shown, "succeeded"));
    let year = jiff::Timestamp::now().as_second() + 365 * 86_400;
    assert!(today.iter().all(|due| *due < year), "{shown}");
}

/// Case V05.
#[tokio::test]
async fn due_times_that_were_missed_are_caught_up_with() {
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    set_clock(&offset, "+0");
    let mut gateway = TestGateway::with_a_clock_from(&offset).await;
    gateway.deploy("t-cgi-env").await;
    // Half an hour away from now, in each hour.
    let minute = (jiff::Timestamp::now().as_second() / 60 + 30) % 60;
    let cron = format!("{minute} * * * *");
    for (name, policy) in [("none", "none"), ("last", "last"), ("all", "all"), ("two", "all")] {
        let mut more = json!({"catch_up": policy, "overlap": "allow"});
        if name == "two" {
            more["catch_up_runs"] = json!(2);
        }
        set(&gateway, name, logged(&cron, more)).await;
    }
    set(&gateway, "paused", logged(&cron, json!({"catch_up": "all", "paused": true}))).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    set_clock(&offset, "+3h");
    gateway.start_again().await;
    pause(&gateway, "paused", false).await;
    for (name, runs, missed) in
        [("none", 0, 3), ("last", 1, 2), ("all", 3, 0), ("two", 2, 1), ("paused", 0, 0)]
    {
        let shown = eventually(name, async || {
            let shown = show(&gateway, name).await;
            (count(&shown, "succeeded") == runs && count(&shown, "missed") == missed)
                .then_some(shown)
        })
        .await;
        let found = lines(&gateway, name, runs as usize).await;
        assert_eq!(found.len(), runs as usize, "{name}: {found:?}");
        assert!(found.keys().all(|due| due.contains(&format!(":{minute:02}:00"))), "{shown}");
    }
    let missed = [("outcome", "missed")];
    assert_eq!(gateway.metric_with("mayfly_schedule_runs_total", &missed).await, 6.0);
}

/// Case V07.
#[tokio::test]
async fn schedules_from_the_command_line() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let run = async |arguments: &[&str]| {
        let output = gateway.cli(&[&["schedule"], arguments].concat()).await;
        let (out, errors) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
        (output.status.code(), out, String::from_utf8(errors).unwrap())
    };
    let nightly = ["set", "nightly", "--function", "t-cgi-env", "--cron", "30 2 * * *"];
    let more = [
        "--time-zone",
        "Europe/Berlin",
        "--path",
        "/?log",
        "--overlap",
        "allow",
        "--catch-up",
        "none",
        "--header",
        "x-a=b",
        "--body",
        "text",
    ];
    let (code, out, errors) = run(&[&nightly[..], &more[..]].concat()).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.starts_with("nightly calls t-cgi-env next at 20"), "{out}");
    let (_, listed, _) = run(&["list"]).await;
    assert!(listed.contains("nightly   30 2 * * *  Europe/Berlin  t-cgi-env  20"), "{listed}");
    assert_eq!(run(&["pause", "nightly"]).await.1, "nightly is paused\n");
    let (_, ran, _) = run(&["run", "nightly"]).await;
    assert!(ran.starts_with("nightly runs as "), "{ran}");
    lines(&gateway, "nightly", 1).await;
    assert!(run(&["resume", "nightly"]).await.1.contains("next at"));
    let (_, shown, _) = run(&["show", "nightly"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["schedule"]["request"]["body"], "text", "{shown}");
    assert_eq!(shown["schedule"]["catch_up"], "none");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schedule.json");
    fs::write(&file, shown["schedule"].to_string()).unwrap();
    let (code, ..) = run(&["set", "copy", "--file", file.to_str().unwrap()]).await;
    assert_eq!(code, Some(0));
    assert_eq!(show(&gateway, "copy").await["schedule"], shown["schedule"]);
    let (code, _, errors) =
        run(&["set", "x", "--function", "t-cgi-env", "--cron", "0 0 30 2 *"]).await;
    assert!(code != Some(0) && errors.contains("cron: "), "{errors}");
    assert_eq!(run(&["delete", "copy"]).await.0, Some(0));
    assert_ne!(run(&["delete", "copy"]).await.0, Some(0));
}
