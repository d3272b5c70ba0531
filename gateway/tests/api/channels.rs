//! Channels over HTTP: what a call reaches, while what it reaches changes.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use http::Method;
use serde_json::{Value, json};
use tokio::time;

use crate::{
    client::FullResponse,
    guests::{guest, path},
    test_gateway::TestGateway,
};

const OLD: &str = "hello from c\n";
const NEW: &str = "hello from rust\n";

/// A gateway whose function `greet` has revision 1, which says [`OLD`], and 2, which says [`NEW`].
async fn two_revisions() -> TestGateway {
    let gateway = TestGateway::start().await;
    for (name, version) in [("c-hello", "1.0.0"), ("hello-cgi", "1.1.0")] {
        let put = gateway.put("greet", guest(name)).header("mayfly-version", version);
        assert_eq!(put.send().await.status(), 201);
    }
    gateway
}

async fn set(gateway: &TestGateway, channel: &str, to: Value) -> FullResponse {
    let target = format!("/v1/functions/greet/channels/{channel}");
    gateway.control(Method::PUT, &target).json(&to).send().await
}

/// Case R04.
#[tokio::test]
async fn a_channel_answers_at_its_addresses_and_survives_a_restart() {
    let mut gateway = two_revisions().await;
    let made = set(&gateway, "prod", json!({"revision": 1})).await;
    assert_eq!(made.status(), 200, "{made:?}");
    let url = format!("http://{}/f/greet@prod/", gateway.data());
    assert_eq!((&made.json()["url"], &made.json()["follows"]), (&json!(url), &json!("revision")));
    let next = set(&gateway, "next", json!({"range": ">=1.1.0"})).await;
    assert_eq!(next.json()["revision"], 2);

    for restarted in [false, true] {
        if restarted {
            gateway.restart().await;
        }
        assert_eq!(gateway.get("/f/greet@prod/").await.plain(), (200, OLD));
        assert_eq!(gateway.get("/f/greet@next/").await.plain(), (200, NEW));
        assert_eq!(gateway.get("/f/greet@default/").await.plain(), (200, NEW));
        let host = gateway.call(Method::GET, "/").header("host", "prod--greet.localhost");
        assert_eq!(host.send().await.plain(), (200, OLD));
    }
    let absent = gateway.get("/f/greet@beta/").await;
    assert_eq!(absent.problem(), (404, "channel-not-found"));

    let target = "/v1/functions/greet/channels/prod";
    assert_eq!(gateway.control(Method::DELETE, target).send().await.status(), 204);
    assert_eq!(gateway.get("/f/greet@prod/").await.problem(), (404, "channel-not-found"));
    let again = gateway.control(Method::DELETE, target).send().await;
    assert_eq!(again.problem(), (404, "channel-not-found"));
}

/// Case R04.
#[tokio::test]
async fn a_tied_default_channel_lets_a_deploy_wait_for_its_owner() {
    let gateway = two_revisions().await;
    assert_eq!(set(&gateway, "default", json!({"revision": 2})).await.status(), 200);
    let waiting = gateway.put("greet", guest("t-env")).send().await;
    assert_eq!(waiting.status(), 201);
    let view = waiting.json();
    assert_eq!((&view["revision"], &view["inactive_revision"]), (&json!(2), &json!(3)));
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, NEW));
    assert_eq!(gateway.get("/f/greet@3/").await.status(), 200, "to try it");

    let target = "/v1/functions/greet/channels/default";
    assert_eq!(gateway.control(Method::DELETE, target).send().await.status(), 204);
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, NEW), "it stays where it is");
    let deployed = gateway.put("greet", guest("c-hello")).send().await;
    assert_eq!(deployed.json()["revision"], 4);
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, OLD));
}

/// Case R04.
#[tokio::test]
async fn a_deploy_that_waits_already_changes_nothing() {
    let gateway = two_revisions().await;
    assert_eq!(set(&gateway, "default", json!({"revision": 2})).await.status(), 200);
    assert_eq!(gateway.put("greet", guest("t-env")).send().await.status(), 201);
    for key in [None, Some("again"), Some("again")] {
        let mut again = gateway.put("greet", guest("t-env"));
        if let Some(key) = key {
            again = again.header("idempotency-key", key);
        }
        let again = again.send().await;
        assert_eq!(again.status(), 200, "it waits already: {again:?}");
        assert_eq!(again.json()["revision"], 2);
    }
    let again = gateway.put("greet", guest("t-env")).send().await;
    assert_eq!(again.json()["inactive_revision"], 3);
    let revisions = gateway.api("/v1/functions/greet/revisions").await;
    assert_eq!(revisions.json()["revisions"].as_array().unwrap().len(), 3);
    let path = path("t-env");
    let printed = gateway.cli(&["deploy", path.to_str().unwrap(), "--name", "greet"]).await;
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.starts_with("unchanged: greet, revision 3, which is not active"), "{printed}");

    // Where nothing is tied, as after a roll-back, the same bytes become active again.
    let target = "/v1/functions/greet/channels/default";
    assert_eq!(gateway.control(Method::DELETE, target).send().await.status(), 204);
    let again = gateway.put("greet", guest("t-env")).send().await;
    assert_eq!((again.status(), &again.json()["revision"]), (201, &json!(4)));
}

/// Case R05.
#[tokio::test]
async fn weights_share_the_requests_as_they_say() {
    let gateway = two_revisions().await;
    let to = json!({"revision": 1, "weights": [{"revision": 2, "percent": 20}]});
    assert_eq!(set(&gateway, "default", to).await.status(), 200);
    let mut counts = BTreeMap::new();
    for _ in 0..500 {
        let answer = gateway.get("/f/greet/").await;
        let revision = answer.header("mayfly-revision").unwrap().to_owned();
        let says = if revision == "1" { OLD } else { NEW };
        assert_eq!(answer.plain(), (200, says), "{answer:?}");
        *counts.entry(revision).or_insert(0) += 1;
    }
    // 500 draws of 20 percent: 100, with a standard deviation of 9. Six of them in either direction
    // are missed once in 500 million runs.
    assert!((46..=154).contains(&counts["2"]), "{counts:?}");
    assert_eq!(gateway.get("/f/greet@1/").await.header("mayfly-revision"), None);
}

/// Case R05.
#[tokio::test]
async fn a_caller_stays_with_a_revision_by_its_address_a_header_or_a_cookie() {
    let gateway = two_revisions().await;
    for (sticky, header) in
        [("client", None), ("header:X-User", Some("x-user")), ("cookie:sid", Some("cookie"))]
    {
        let weights = json!([{"revision": 2, "percent": 50}]);
        let to = json!({"revision": 1, "weights": weights, "sticky": sticky});
        let made = set(&gateway, "default", to).await;
        assert_eq!(made.status(), 200, "{made:?}");
        let mut seen = BTreeMap::new();
        for caller in 1..=24u8 {
            let mut own = Vec::new();
            for _ in 0..3 {
                let mut call = gateway.call(Method::GET, "/f/greet/");
                call = match header {
                    None => call.from(IpAddr::from([127, 0, 0, caller])),
                    Some("cookie") => call.header("cookie", &format!("a=b; sid={caller}")),
                    Some(name) => call.header(name, &caller.to_string()),
                };
                let answer = call.send().await;
                own.push(answer.header("mayfly-revision").unwrap().to_owned());
            }
            own.dedup();
            assert_eq!(own.len(), 1, "{sticky}: caller {caller} has seen {own:?}");
            *seen.entry(own.remove(0)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 2, "{sticky}: {seen:?}");
    }
}

/// Case R04.
#[tokio::test]
async fn what_cannot_be_a_channel_names_the_member_and_changes_nothing() {
    let gateway = two_revisions().await;
    for (channel, to, says) in [
        ("prod", json!({}), "either `revision` or `range`"),
        ("prod", json!({"revision": 9}), "no revision 9"),
        ("prod", json!({"range": "~7"}), "no revision of the function has a version in it"),
        ("prod", json!({"range": "x.y"}), "range: "),
        ("r7", json!({"revision": 1}), "cannot be the name of a channel"),
        ("prod", json!({"revision": 1, "sticky": "ip"}), "sticky: "),
        ("prod", json!({"revision": 1, "weights": [{"revision": 2, "percent": 101}]}), "weights: "),
    ] {
        let refused = set(&gateway, channel, to.clone()).await;
        assert_eq!(refused.problem(), (422, "bad-channel"), "{channel} {to}");
        assert!(refused.detail().contains(says), "{refused:?}");
    }
    let misspelt = set(&gateway, "prod", json!({"revison": 1})).await;
    assert_eq!(misspelt.problem(), (400, "bad-json"));
    let target = "/v1/functions/absent/channels/prod";
    let absent = gateway.control(Method::PUT, target).json(&json!({"revision": 1})).send().await;
    assert_eq!(absent.problem(), (404, "function-not-found"));
    let channels = gateway.api("/v1/functions/greet/channels").await;
    let names: Vec<&Value> =
        channels.json()["channels"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["default"]);
}

/// Case R04.
#[tokio::test]
async fn the_channels_of_a_function_are_limited() {
    let gateway = TestGateway::with(&["quotas.channels_per_function=2"]).await;
    assert_eq!(gateway.put("greet", guest("c-hello")).send().await.status(), 201);
    for channel in ["a", "b", "a"] {
        assert_eq!(set(&gateway, channel, json!({"revision": 1})).await.status(), 200);
    }
    let refused = set(&gateway, "c", json!({"revision": 1})).await;
    assert_eq!(refused.problem(), (409, "channel-quota"));
}

/// Case R06.
#[tokio::test]
async fn no_call_fails_while_a_channel_moves_and_none_is_stale_after_the_answer() {
    let gateway = two_revisions().await;
    let address = gateway.data();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut connection = crate::client::Http1::open(address).await;
                let mut calls = 0;
                while !*stopped.borrow() {
                    let answer = connection.get("/f/greet/").await;
                    assert!([(200, OLD), (200, NEW)].contains(&answer.plain()), "{answer:?}");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for round in 0..20 {
        let to = match round % 4 {
            0 => json!({"revision": 1}),
            1 => json!({"revision": 1, "weights": [{"revision": 2, "percent": 100}]}),
            2 => json!({"range": "~1.0"}),
            _ => json!({"revision": 2}),
        };
        assert_eq!(set(&gateway, "default", to).await.status(), 200);
        let says = [OLD, NEW, OLD, NEW][round % 4];
        assert_eq!(gateway.get("/f/greet/").await.plain(), (200, says), "round {round}");
        time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(true).unwrap();
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}

/// Case R04.
#[tokio::test]
async fn channels_from_the_command_line() {
    let gateway = two_revisions().await;
    let say = async |arguments: &[&str]| {
        let output = gateway.cli(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let tied = say(&["channel", "set", "greet", "default", "--revision", "1"]).await;
    assert_eq!(tied, "greet default is at 1\n");
    let (env, name) = (path("t-env"), ["--name", "greet", "--version", "2.0.0"]);
    let deployed = say(&[&["deploy", env.to_str().unwrap()], &name[..]].concat()).await;
    assert!(deployed.starts_with("deployed greet, revision 3, which is not active"), "{deployed}");
    let canary = ["channel", "set", "greet", "default", "--revision", "1", "--weight", "3=10"];
    let canary = say(&[&canary[..], &["--sticky", "client"]].concat()).await;
    assert_eq!(canary, "greet default is at 1 (90 %), 3 (10 %)\n");
    say(&["channel", "set", "greet", "prod", "--range", "1"]).await;
    let listed = say(&["channel", "list", "greet"]).await;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split("  ").collect()).collect();
    assert!(rows[1][0] == "default" && listed.contains("1 (90 %), 3 (10 %)"), "{listed}");
    assert!(listed.contains("/f/greet@prod/"), "{listed}");
    assert_eq!(say(&["channel", "delete", "greet", "prod"]).await, "deleted prod\n");
    let history = say(&["history", "greet"]).await;
    assert!(history.contains("channel-deleted") && history.contains("prod"), "{history}");
}

/// Case R08.
#[tokio::test]
async fn a_channel_has_settings_of_its_own_and_the_revision_keeps_its_own() {
    let mut gateway = TestGateway::start().await;
    let own = json!({"environment": {"A": "1", "B": "2"}, "isolation": {"mode": "reuse"}});
    let put = gateway.put("greet", guest("t-env")).header("mayfly-settings", &own.to_string());
    assert_eq!(put.send().await.status(), 201);
    let patch = json!({"environment": {"A": null, "B": "x", "C": "3"}, "request_bytes": 4});
    let made = set(&gateway, "prod", json!({"revision": 1, "settings": patch})).await;
    assert_eq!((made.status(), &made.json()["settings"]), (200, &patch), "{made:?}");
    for restarted in [false, true] {
        if restarted {
            gateway.restart().await;
        }
        // Alternately: an instance that one of them leaves behind is not for the other.
        for _ in 0..3 {
            assert_eq!(gateway.get("/f/greet@prod/").await.plain(), (200, "B=x\nC=3\n"));
            for own in ["/f/greet@1/", "/f/greet/", "/f/greet@default/"] {
                assert_eq!(gateway.get(own).await.plain(), (200, "A=1\nB=2\n"), "{own}");
            }
        }
    }
    let post = async |target: &str| gateway.call(Method::POST, target).body("12345").send().await;
    assert_eq!(post("/f/greet@prod/").await.problem(), (413, "request-too-large"));
    assert_eq!(post("/f/greet@1/").await.status(), 200);

    // The next call sees new settings, of the default channel and of revisions with weights, too.
    let patch = json!({"environment": {"B": "y"}});
    let weights = json!([{"revision": 2, "percent": 100}]);
    assert_eq!(gateway.patch("greet", &json!({"settings": {"cpu_ms": 999}})).await.status(), 200);
    let to = json!({"revision": 1, "weights": weights, "settings": patch});
    for (channel, target) in [("prod", "/f/greet@prod/"), ("default", "/f/greet/")] {
        assert_eq!(set(&gateway, channel, to.clone()).await.status(), 200);
        assert_eq!(gateway.get(target).await.plain(), (200, "A=1\nB=y\n"));
    }
    assert_eq!(gateway.get("/f/greet@2/").await.plain(), (200, "A=1\nB=2\n"));
    let history = gateway.api("/v1/functions/greet/history").await;
    assert_eq!(history.json()["changes"][0]["detail"]["settings"], json!(["environment.B"]));
}

/// Case R08.
#[tokio::test]
async fn settings_of_a_channel_are_checked_like_those_of_a_deploy() {
    let gateway = TestGateway::with(&["ceilings.cpu_ms=1000", "quotas.settings_bytes=1KiB"]).await;
    assert_eq!(gateway.put("greet", guest("t-env")).send().await.status(), 201);
    let credential = json!({"host": "a.example", "header": "x", "secret": "k".repeat(2_000)});
    for (settings, problem, says) in [
        (json!({"outbound": ["a.example"]}), "bad-channel", "not `outbound`"),
        (json!({"cpu_m": 1}), "bad-channel", "did you mean `cpu_ms`"),
        (json!({"cpu_ms": 1001}), "bad-settings", "ceilings.cpu_ms"),
        (json!({"cpu_ms": "1"}), "bad-settings", "settings: "),
        (json!({"environment": {"A=": "1"}}), "bad-settings", "environment: "),
        (json!({"credentials": [credential]}), "bad-settings", "quotas.settings_bytes"),
    ] {
        let to = json!({"revision": 1, "settings": settings});
        let refused = set(&gateway, "prod", to.clone()).await;
        assert_eq!(refused.problem(), (422, problem), "{to}");
        assert!(refused.detail().contains(says), "{refused:?}");
    }
    // Too little for an instance to start.
    let to = json!({"revision": 1, "settings": {"memory_bytes": 65_536}});
    assert_eq!(set(&gateway, "prod", to).await.status(), 422);
    let channels = gateway.api("/v1/functions/greet/channels").await;
    assert_eq!(channels.json()["channels"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, ""));
}

/// Case R08.
#[tokio::test]
async fn settings_of_a_channel_from_the_command_line_are_hidden_from_readers() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("greet", guest("t-env")).send().await.status(), 201);
    let base = ["channel", "set", "greet", "prod", "--revision", "1"];
    let set = [&base[..], &["--set", "environment.KEY=hunter2", "--set", "cpu_ms=700"]].concat();
    let output = gateway.cli(&set).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(gateway.get("/f/greet@prod/").await.plain(), (200, "KEY=hunter2\n"));
    let listed = gateway.api("/v1/functions/greet/channels").await;
    let shown = &listed.json()["channels"][1]["settings"];
    assert_eq!(*shown, json!({"cpu_ms": 700, "environment": {"KEY": "hunter2"}}));
    let scopes = json!({"name": "reader", "scopes": ["read"]});
    let made = gateway.control(Method::POST, "/v1/tokens").json(&scopes).send().await;
    let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
    let list = gateway.anonymous(Method::GET, "/v1/functions/greet/channels");
    let listed = list.header("authorization", &bearer).send().await;
    let shown = &listed.json()["channels"][1]["settings"];
    assert_eq!(*shown, json!({"cpu_ms": 700, "environment": {"KEY": "***"}}));
    let refused = gateway.cli(&[&base[..], &["--set", "description=x"]].concat()).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

/// Case R09.
#[tokio::test]
async fn a_tester_names_a_revision_of_the_channel() {
    let gateway = two_revisions().await;
    assert_eq!(gateway.put("greet", guest("t-headers")).send().await.status(), 201);
    let weights = json!([{"revision": 2, "percent": 1}, {"revision": 3, "percent": 1}]);
    let to = json!({"revision": 1, "weights": weights, "tester_header": "X-Revision"});
    let made = set(&gateway, "default", to).await;
    assert_eq!((made.status(), &made.json()["tester_header"]), (200, &json!("x-revision")));
    let call = async |revision: &str| {
        gateway.call(Method::GET, "/f/greet/").header("x-revision", revision).send().await
    };
    for _ in 0..10 {
        let answer = call("2").await;
        assert_eq!(answer.plain(), (200, NEW));
        assert_eq!(answer.header("mayfly-revision"), Some("2"));
        assert_eq!(answer.header("vary"), Some("x-revision"));
        assert_eq!(call("1").await.plain(), (200, OLD));
    }
    let seen = call("3").await;
    assert!(!seen.text().contains("x-revision"), "{seen:?}");
    let other = gateway.call(Method::GET, "/f/greet@3/").header("x-revision", "1").send().await;
    assert!(other.text().contains("x-revision"), "no channel: {other:?}");
    for wrong in ["4", "", "prod"] {
        let refused = call(wrong).await;
        assert_eq!(refused.problem(), (404, "revision-not-in-channel"), "{wrong}");
        assert!(refused.detail().contains("1, 2, 3"), "{refused:?}");
    }
    assert_eq!(set(&gateway, "default", json!({"revision": 1})).await.status(), 200);
    assert_eq!(call("2").await.plain(), (200, OLD), "it was switched off");
}

/// Case R10.
#[tokio::test]
async fn requests_are_counted_by_channel_until_it_is_deleted() {
    let gateway = TestGateway::with(&["metrics.channels=1"]).await;
    for name in ["c-hello", "t-trap", "t-status"] {
        assert_eq!(gateway.put("greet", guest(name)).send().await.status(), 201);
    }
    let counted = async |channel: &str, role: &str, outcome: &str| {
        let labels = [("channel", channel), ("role", role), ("outcome", outcome)];
        gateway.metric_with("mayfly_channel_requests_total", &labels).await
    };
    let weights = |revision: u32| json!([{"revision": revision, "percent": 100}]);
    assert_eq!(set(&gateway, "prod", json!({"revision": 1})).await.status(), 200);
    assert_eq!(gateway.get("/f/greet@prod/").await.status(), 200);
    assert_eq!(counted("prod", "own", "ok").await, 1.0);
    let to = json!({"revision": 1, "weights": weights(2)});
    assert_eq!(set(&gateway, "prod", to).await.status(), 200);
    let failed = gateway.get("/f/greet@prod/trap").await;
    assert_eq!(failed.problem().1, "function-failed", "{failed:?}");
    assert_eq!(counted("prod", "weight", "failed").await, 1.0);
    let to = json!({"revision": 3});
    assert_eq!(set(&gateway, "next", to).await.status(), 200);
    assert_eq!(gateway.get("/f/greet@next/?status=503").await.status(), 503);
    assert_eq!(counted("other", "own", "error").await, 1.0, "there is one label");
    // No channel was set, and a revision's own address is none.
    gateway.get("/f/greet/").await;
    gateway.get("/f/greet@1/").await;
    let metrics = gateway.api("/metrics").await;
    let series = metrics.text().lines().filter(|line| line.starts_with("mayfly_channel_"));
    assert_eq!(series.count(), 3, "{metrics:?}");

    let target = "/v1/functions/greet/channels/prod";
    assert_eq!(gateway.control(Method::DELETE, target).send().await.status(), 204);
    for _ in 0..300 {
        if !gateway.api("/metrics").await.text().contains("channel=\"prod\"") {
            return;
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the series of a deleted channel stay");
}
