//! Releases: versions and labels of revisions, the history of a function, and going back.

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::FullResponse,
    guests::{guest, path},
    test_gateway::TestGateway,
};

async fn roll_back(gateway: &TestGateway, name: &str) -> FullResponse {
    gateway.control(Method::POST, &format!("/v1/functions/{name}/rollback")).send().await
}

/// Case R01.
#[tokio::test]
async fn a_revision_has_a_version_labels_and_who_deployed_it_from_where() {
    let gateway = TestGateway::start().await;
    let versioned = gateway
        .put("greet", guest("c-hello"))
        .header("mayfly-version", "1.2.3")
        .header("mayfly-labels", r#"{"commit":"4be1f0c"}"#);
    assert_eq!(versioned.send().await.status(), 201);
    let unversioned = gateway.put("greet", guest("hello-cgi")).send().await;
    assert_eq!(unversioned.status(), 201);

    let listed = gateway.api("/v1/functions/greet/revisions").await;
    let [second, first] = &listed.json()["revisions"].as_array().unwrap()[..] else { panic!() };
    assert_eq!(
        (&first["version"], &first["labels"]),
        (&json!("1.2.3"), &json!({"commit": "4be1f0c"}))
    );
    assert_eq!((&second["version"], &second["labels"]), (&Value::Null, &json!({})));
    let token = gateway.token();
    let id = token.strip_prefix("mfy_").unwrap().split_once('_').unwrap().0;
    assert_eq!((&first["deployed_by"], &first["deployed_from"]), (&json!(id), &json!("127.0.0.1")));
}

/// Case R01.
#[tokio::test]
async fn a_version_names_one_artifact_of_a_function() {
    let gateway = TestGateway::start().await;
    let put = async |version: &str, bytes: &str| {
        gateway.put("greet", guest(bytes)).header("mayfly-version", version).send().await
    };
    assert_eq!(put("1.0.0", "c-hello").await.status(), 201);
    assert_eq!(put("1.0.0", "c-hello").await.status(), 200, "the same again");
    let taken = put("1.0.0", "hello-cgi").await;
    assert_eq!(taken.problem(), (409, "version-taken"), "{taken:?}");
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));
    assert_eq!(put("1.0.1", "hello-cgi").await.status(), 201);
    let named = put("1.1.0", "hello-cgi").await;
    assert_eq!((named.status(), &named.json()["revision"]), (201, &json!(3)), "the same bytes");
}

/// Case R01.
#[tokio::test]
async fn a_version_or_label_that_cannot_be_is_refused_by_name() {
    let gateway = TestGateway::start().await;
    for (header, value) in [
        ("mayfly-version", "1.2"),
        ("mayfly-version", "v1.2.3"),
        ("mayfly-labels", "{"),
        ("mayfly-labels", r#"{"a":1}"#),
        ("mayfly-labels", r#"{"a b":"c"}"#),
    ] {
        let refused = gateway.put("greet", guest("c-hello")).header(header, value).send().await;
        assert_eq!(refused.problem(), (400, "bad-release"), "{header}: {value}");
        assert!(refused.detail().contains(header), "{refused:?}");
    }
    assert_eq!(gateway.show("greet").await.status(), 404);
}

/// Case R02.
#[tokio::test]
async fn a_roll_back_returns_to_the_revision_before_and_the_history_says_so() {
    let gateway = TestGateway::start().await;
    for name in ["c-hello", "hello-cgi"] {
        assert_eq!(gateway.put("greet", guest(name)).send().await.status(), 201);
    }
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from rust\n"));

    let back = roll_back(&gateway, "greet").await;
    assert_eq!((back.status(), &back.json()["revision"]), (200, &json!(1)));
    assert_eq!(gateway.get("/f/greet/").await.plain(), (200, "hello from c\n"));

    let further = roll_back(&gateway, "greet").await;
    assert_eq!(further.problem(), (409, "no-previous-revision"));
    assert_eq!(roll_back(&gateway, "absent").await.problem(), (404, "function-not-found"));

    let history = gateway.api("/v1/functions/greet/history").await;
    let steps: Vec<Value> = history.json()["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| json!([change["action"], change["from"], change["to"], change["made_from"]]))
        .collect();
    assert_eq!(
        steps,
        [
            json!(["rollback", 2, 1, "127.0.0.1"]),
            json!(["deploy", 1, 2, "127.0.0.1"]),
            json!(["deploy", null, 1, "127.0.0.1"]),
        ]
    );
    let page = gateway.api("/v1/functions/greet/history?limit=1&cursor=3").await;
    assert_eq!(page.json()["changes"][0]["change"], 2);
    assert_eq!(page.json()["next_cursor"], "2");
    let absent = gateway.api("/v1/functions/absent/history").await;
    assert_eq!(absent.problem(), (404, "function-not-found"));
}

/// Case R02.
#[tokio::test]
async fn a_roll_back_with_a_stale_etag_changes_nothing() {
    let gateway = TestGateway::start().await;
    let first = gateway.put("greet", guest("c-hello")).send().await;
    let stale = first.header("etag").unwrap().to_owned();
    assert_eq!(gateway.put("greet", guest("hello-cgi")).send().await.status(), 201);
    let target = "/v1/functions/greet/rollback";
    let refused = gateway.control(Method::POST, target).header("if-match", &stale).send().await;
    assert_eq!(refused.problem(), (412, "precondition-failed"));
    assert_eq!(gateway.show("greet").await.json()["revision"], 2);
}

/// Case R02.
#[tokio::test]
async fn releases_from_the_command_line() {
    let gateway = TestGateway::start().await;
    let (hello, other) = (path("c-hello"), path("hello-cgi"));
    let say = async |arguments: &[&str]| {
        let output = gateway.cli(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (file, version) in [(&hello, "1.0.0"), (&other, "1.1.0")] {
        let file = file.to_str().unwrap();
        let release = ["--version", version, "--label", "commit=4be1f0c", "--label", "by=grüß"];
        say(&[&["deploy", file, "--name", "greet"], &release[..]].concat()).await;
    }
    let revisions = say(&["revisions", "greet"]).await;
    let rows: Vec<Vec<&str>> =
        revisions.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["REVISION", "ACTIVE", "VERSION"]);
    assert_eq!(rows[1][..3], ["2", "yes", "1.1.0"]);
    assert_eq!(rows[2][..2], ["1", "1.0.0"]);
    let listed = gateway.api("/v1/functions/greet/revisions").await;
    assert_eq!(listed.json()["revisions"][0]["labels"]["by"], "grüß");

    assert_eq!(say(&["rollback", "greet"]).await, "greet is at revision 1\n");
    let history = say(&["history", "greet"]).await;
    let newest: Vec<&str> = history.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(newest[1..5], ["rollback", "default", "2", "1"]);
}

/// Case R03.
#[tokio::test]
async fn each_revision_answers_at_an_address_of_its_own() {
    let gateway = TestGateway::start().await;
    for name in ["c-hello", "hello-cgi", "t-cgi-env"] {
        assert_eq!(gateway.put("greet", guest(name)).send().await.status(), 201);
    }
    let by_host =
        async |host: &str| gateway.call(Method::GET, "/").header("host", host).send().await;
    for (revision, says) in [(1, "hello from c\n"), (2, "hello from rust\n")] {
        let by_path = gateway.get(&format!("/f/greet@{revision}/")).await;
        assert_eq!(by_path.plain(), (200, says));
        assert_eq!(by_host(&format!("r{revision}--greet.localhost")).await.plain(), (200, says));
    }
    let environment = gateway.get("/f/greet@3/a?b").await;
    assert!(environment.text().contains("SCRIPT_NAME=/f/greet@3\n"), "{environment:?}");
    assert!(environment.text().contains("PATH_INFO=/a\n"), "{environment:?}");

    for absent in ["/f/greet@4/", "/f/greet@4294967295/"] {
        assert_eq!(gateway.get(absent).await.problem(), (404, "revision-not-found"), "{absent}");
    }
    assert_eq!(gateway.get("/f/absent@1/").await.problem(), (404, "function-not-found"));
    assert_eq!(gateway.get("/f/greet@01/").await.problem(), (404, "no-route"));
    let host = by_host("r1--absent.localhost").await;
    assert_eq!(host.problem(), (404, "function-not-found"));

    let deleted = gateway.control(Method::DELETE, "/v1/functions/greet").send().await;
    assert_eq!(deleted.status(), 204);
    assert_eq!(gateway.get("/f/greet@1/").await.problem(), (404, "function-not-found"));
}

/// Case R03.
#[tokio::test]
async fn a_function_may_be_called_as_a_revision_of_another_would_be() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("greet", guest("c-hello")).send().await.status(), 201);
    assert_eq!(gateway.put("r1--greet", guest("hello-cgi")).send().await.status(), 201);
    let host = gateway.call(Method::GET, "/").header("host", "r1--greet.localhost").send().await;
    assert_eq!(host.plain(), (200, "hello from rust\n"), "the function itself");
    assert_eq!(gateway.get("/f/greet@1/").await.plain(), (200, "hello from c\n"));
}

/// Case R03.
#[tokio::test]
async fn an_owner_can_take_the_addresses_of_revisions_away() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("greet", guest("c-hello")).send().await.status(), 201);
    assert_eq!(gateway.get("/f/greet@1/").await.status(), 200);
    let changed = gateway.patch("greet", &json!({"settings": {"revision_urls": false}})).await;
    assert_eq!(changed.json()["settings"]["revision_urls"], false);
    for address in ["/f/greet@1/", "/f/greet@2/"] {
        let refused = gateway.get(address).await;
        assert_eq!(refused.problem(), (404, "revision-not-found"), "{address}");
        assert!(refused.text().contains("revision_urls"), "{refused:?}");
    }
    assert_eq!(gateway.get("/f/greet/").await.status(), 200);
}

/// Case N01.
#[tokio::test]
async fn a_private_function_answers_at_no_address_and_its_routes_still_reach_it() {
    let mut gateway = TestGateway::start().await;
    assert_eq!(gateway.put("greet", guest("c-hello")).send().await.status(), 201);
    let channel = gateway.control(Method::PUT, "/v1/functions/greet/channels/prod");
    assert!(channel.json(&json!({"revision": 1})).send().await.status() < 300);
    let at = json!({"host": "api.example.com", "path": "/*all", "function": "greet"});
    let route = gateway.control(Method::PUT, "/v1/routes/api").json(&at).send().await;
    assert_eq!(route.status(), 201, "{route:?}");
    let routed = async |gateway: &TestGateway| {
        gateway.call(Method::GET, "/").header("host", "api.example.com").send().await
    };
    let addresses = ["", "@1", "@2", "@prod", "@absent"];
    let hosts = ["", "r1--", "prod--", "absent--"];
    assert_eq!(gateway.get("/f/greet@prod/").await.status(), 200);

    let changed = gateway.patch("greet", &json!({"settings": {"private": true}})).await;
    assert_eq!(changed.json()["settings"]["private"], true);
    for restarted in [false, true] {
        if restarted {
            gateway.restart().await;
        }
        for at in addresses {
            let private = gateway.get(&format!("/f/greet{at}/")).await;
            let absent = gateway.get(&format!("/f/gruet{at}/")).await;
            assert_eq!(private.problem(), (404, "function-not-found"), "{at}");
            assert_eq!(without_id(&private, "greet"), without_id(&absent, "gruet"), "{at}");
        }
        for at in hosts {
            let by = |name: &str| {
                let host = format!("{at}{name}.localhost");
                gateway.call(Method::GET, "/").header("host", &host).send()
            };
            let (private, absent) = (by("greet").await, by("gruet").await);
            assert_eq!(private.problem(), (404, "function-not-found"), "{at}");
            assert_eq!(without_id(&private, "greet"), without_id(&absent, "gruet"), "{at}");
        }
        assert_eq!(routed(&gateway).await.plain(), (200, "hello from c\n"));
    }
    let back = gateway.cli(&["set", "greet", "private=false"]).await;
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    assert_eq!(gateway.get("/f/greet/").await.status(), 200);
}

/// A problem without the id of its request, and with the function's name left out.
fn without_id(response: &FullResponse, name: &str) -> Value {
    let mut problem = response.json().clone();
    problem.as_object_mut().unwrap().remove("request_id");
    serde_json::from_str(&problem.to_string().replace(name, "NAME")).unwrap()
}

/// Case R07.
#[tokio::test]
async fn two_revisions_differ_in_settings_imports_exports_and_size() {
    let gateway = TestGateway::start().await;
    let settings = json!({"cpu_ms": 500, "environment": {"PASSWORD": "hunter2"}}).to_string();
    let first = gateway.put("greet", guest("c-hello")).header("mayfly-settings", &settings);
    assert_eq!(first.send().await.status(), 201);
    let settings = json!({"cpu_ms": 600, "environment": {"PASSWORD": "swordfish"}}).to_string();
    let second = gateway.put("greet", guest("t-outbound")).header("mayfly-settings", &settings);
    assert_eq!(second.header("mayfly-version", "2.0.0").send().await.status(), 201);

    let diff = gateway.api("/v1/functions/greet/revisions/1/diff/2").await;
    assert_eq!(diff.status(), 200, "{diff:?}");
    let view = diff.json();
    assert_eq!((&view["from"], &view["to"]), (&json!(1), &json!(2)));
    assert_eq!((&view["same_artifact"], &view["version"]["to"]), (&json!(false), &json!("2.0.0")));
    assert_eq!(view["to_bytes"], guest("t-outbound").len());
    let added = view["imports"]["added"].as_array().unwrap();
    let outbound = |name: &Value| name.as_str().unwrap().starts_with("wasi:http/outgoing-handler");
    assert!(added.iter().any(outbound), "{view}");
    let settings = json!([
        {"setting": "cpu_ms", "from": 500, "to": 600},
        {"setting": "environment.PASSWORD", "from": "***", "to": "***"},
    ]);
    assert_eq!(view["settings"], settings);
    let text = view.to_string();
    assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");

    let same = gateway.api("/v1/functions/greet/revisions/2/diff/2").await;
    assert_eq!(
        (&same.json()["same_artifact"], &same.json()["settings"]),
        (&json!(true), &json!([]))
    );
    for (target, problem) in [
        ("greet/revisions/1/diff/9", (404, "revision-not-found")),
        ("absent/revisions/1/diff/2", (404, "function-not-found")),
        ("greet/revisions/x/diff/2", (400, "bad-query")),
    ] {
        let refused = gateway.api(&format!("/v1/functions/{target}")).await;
        assert_eq!(refused.problem(), problem, "{target}");
    }

    let printed = gateway.cli(&["revision", "diff", "greet", "1", "2"]).await;
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.contains("cpu_ms") && printed.contains("wasi:http/outgoing-handler"),
        "{printed}"
    );
    let same = gateway.cli(&["revision", "diff", "greet", "1", "1"]).await;
    assert_eq!(same.stdout, b"no difference\n");
}
