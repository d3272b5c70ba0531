//! Routes of owners, over HTTP.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{FullResponse, TestRequest, eventually},
    test_gateway::TestGateway,
};

const HOST: &str = "api.example.com";

async fn put(gateway: &TestGateway, name: &str, route: Value) -> FullResponse {
    gateway.control(Method::PUT, &format!("/v1/routes/{name}")).json(&route).send().await
}

async fn set(gateway: &TestGateway, name: &str, route: Value) {
    let made = put(gateway, name, route).await;
    assert!([200, 201].contains(&made.status()), "{made:?}");
}

fn call(gateway: &TestGateway, host: &str, target: &str) -> TestRequest {
    gateway.call(Method::GET, target).header("host", host)
}

/// What the guest that shows its environment says about one variable.
fn variable<'a>(response: &'a FullResponse, name: &str) -> Option<&'a str> {
    let mut lines = response.text().lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// Case P01.
#[tokio::test]
async fn the_longest_path_of_the_closest_host_wins() {
    let mut gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let routes = [
        ("any", json!({"path": "/*all"})),
        ("below", json!({"host": "*.example.com", "path": "/*all"})),
        ("host", json!({"host": HOST, "path": "/*all"})),
        ("users", json!({"host": HOST, "path": "/users/:id"})),
        ("me", json!({"host": HOST, "path": "/users/me"})),
        ("files", json!({"host": HOST, "path": "/users/:id/files/*rest"})),
    ];
    for (name, mut route) in routes {
        route["function"] = json!("t-cgi-env");
        set(&gateway, name, route).await;
    }
    let cases = [
        (HOST, "/users/me", "me"),
        (HOST, "/users/you", "users"),
        (HOST, "/users/you/files/a/b", "files"),
        (HOST, "/users/you/files", "files"),
        (HOST, "/users/you/more", "host"),
        (HOST, "/", "host"),
        ("API.example.com.", "/users/me", "me"),
        ("a.b.example.com", "/users/me", "below"),
        ("example.com", "/users/me", "any"),
        ("example.org", "/", "any"),
    ];
    for restarted in [false, true] {
        if restarted {
            gateway.restart().await;
        }
        for (host, path, expected) in cases {
            let answer = call(&gateway, host, path).send().await;
            let route = variable(&answer, "HTTP_MAYFLY_ROUTE");
            assert_eq!(route, Some(expected), "{host}{path}: {answer:?}");
        }
        // The addresses of functions come before routes for any host, and after those of their own.
        let own = gateway.get("/f/t-cgi-env/").await;
        assert_eq!(variable(&own, "HTTP_MAYFLY_ROUTE"), None, "{own:?}");
        let host = call(&gateway, HOST, "/f/t-cgi-env/").send().await;
        assert_eq!(variable(&host, "HTTP_MAYFLY_ROUTE"), Some("host"));
    }
}

/// Case P02.
#[tokio::test]
async fn a_function_sees_the_segments_and_the_path_as_its_route_says() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let route = |strip: bool| {
        json!({
            "host": HOST, "path": "/api/:id/*rest", "function": "t-cgi-env", "strip": strip,
            "request_headers": {"remove": ["x-gone"], "set": {"x-set": "by the route"}},
            "response_headers": {"set": {"x-answer": "1"}, "remove": ["content-type"]},
        })
    };
    for (strip, mount, below) in [(false, "", "/api/7/a/b"), (true, "/api", "/7/a/b")] {
        set(&gateway, "api", route(strip)).await;
        let request = call(&gateway, HOST, "/api/7/a/b?q=1").header("x-gone", "1");
        // No client can say these itself.
        let request = request.header("mayfly-param-id", "forged").header("mayfly-param-more", "x");
        let answer = request.send().await;
        let seen = |name| variable(&answer, name);
        assert_eq!(seen("HTTP_MAYFLY_PARAM_ID"), Some("7"), "{answer:?}");
        assert_eq!(seen("HTTP_MAYFLY_PARAM_REST"), Some("a/b"));
        assert_eq!(seen("HTTP_MAYFLY_PARAM_MORE"), None);
        assert_eq!((seen("SCRIPT_NAME"), seen("PATH_INFO")), (Some(mount), Some(below)));
        assert_eq!(seen("QUERY_STRING"), Some("q=1"));
        assert_eq!((seen("HTTP_X_GONE"), seen("HTTP_X_SET")), (None, Some("by the route")));
        assert_eq!((answer.header("x-answer"), answer.header("content-type")), (Some("1"), None));
    }
}

/// Case P03.
#[tokio::test]
async fn conditions_and_priority_choose_among_equal_paths() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let base = |more: Value| {
        let mut route = json!({"host": HOST, "path": "/x", "function": "t-cgi-env"});
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    };
    set(&gateway, "plain", base(json!({}))).await;
    set(&gateway, "post", base(json!({"methods": ["POST", "PUT"]}))).await;
    set(&gateway, "beta", base(json!({"methods": ["GET"], "headers": {"x-beta": "1"}}))).await;
    set(&gateway, "first", base(json!({"headers": {"x-first": "*"}, "priority": 1}))).await;
    let route = async |method: Method, fields: &[(&str, &str)]| {
        let request = gateway.call(method, "/x").header("host", HOST);
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(name, value));
        variable(&request.send().await, "HTTP_MAYFLY_ROUTE").unwrap().to_owned()
    };
    assert_eq!(route(Method::GET, &[]).await, "plain");
    assert_eq!(route(Method::POST, &[]).await, "post");
    assert_eq!(route(Method::GET, &[("x-beta", "1")]).await, "beta");
    assert_eq!(route(Method::GET, &[("x-beta", "2")]).await, "plain");
    assert_eq!(route(Method::POST, &[("x-first", "any"), ("x-beta", "1")]).await, "first");

    // Which of two would take a request must be clear.
    let same = put(&gateway, "other", base(json!({"methods": ["PUT"]}))).await;
    assert_eq!(same.problem(), (409, "route-conflict"));
    assert!(same.detail().contains("\"post\""), "{same:?}");
    let named =
        put(&gateway, "other", json!({"host": HOST, "path": "/x", "answer": {"status": 204}}));
    assert_eq!(named.await.problem(), (409, "route-conflict"));
    set(&gateway, "other", base(json!({"methods": ["PUT"], "priority": 2}))).await;
    assert_eq!(route(Method::PUT, &[]).await, "other");
    set(&gateway, "get", base(json!({"methods": ["GET"]}))).await;
}

/// Case P04.
#[tokio::test]
async fn redirects_and_answers_call_no_function() {
    let gateway = TestGateway::start().await;
    let redirect = |location: &str| json!({"host": HOST, "path": "/old/:id/*rest", "redirect": {"location": location}});
    set(&gateway, "old", redirect("https://new.example.com/u/{id}/{rest}")).await;
    let answer = call(&gateway, HOST, "/old/7/a/b?q=1").send().await;
    let location = answer.header("location");
    assert_eq!((answer.status(), location), (308, Some("https://new.example.com/u/7/a/b?q=1")));
    assert_eq!(answer.header("mayfly-outcome"), Some("platform"));

    // No client chooses where it leads.
    set(&gateway, "old", redirect("/{rest}")).await;
    let answer = call(&gateway, HOST, "/old/7//evil.example.com/").send().await;
    assert_eq!(answer.header("location"), Some("/evil.example.com/"));
    for location in [
        "{rest}",
        "https://{rest}/",
        "//evil",
        "https://x{id}.example.com/",
        "evil",
        "/{no}",
        "javascript:alert(1)",
    ] {
        let refused = put(&gateway, "old", redirect(location)).await;
        assert_eq!(refused.problem(), (422, "bad-route"), "{location}");
        assert!(refused.detail().starts_with("redirect.location: "), "{refused:?}");
    }

    let fixed = json!({
        "host": HOST, "path": "/robots.txt",
        "answer": {"status": 200, "headers": {"content-type": "text/plain"}, "body": "User-agent: *\n"},
    });
    set(&gateway, "robots", fixed).await;
    let answer = call(&gateway, HOST, "/robots.txt").send().await;
    assert_eq!(answer.plain(), (200, "User-agent: *\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let head = gateway.call(Method::HEAD, "/robots.txt").header("host", HOST).send().await;
    assert_eq!((head.status(), head.bytes().len()), (200, 0));
}

/// Case P05.
#[tokio::test]
async fn pages_of_other_origins_may_do_what_the_route_says() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let app = "https://app.example.com";
    let cors = json!({
        "origins": [app], "methods": ["GET", "PUT"], "headers": ["x-token"], "expose": ["x-id"],
        "credentials": true, "max_age_s": 60,
    });
    let route = json!({"host": HOST, "path": "/x", "function": "t-cgi-env", "methods": ["GET", "PUT"], "cors": cors});
    set(&gateway, "x", route.clone()).await;
    let preflight = |origin: &str| {
        let request = gateway.call(Method::OPTIONS, "/x").header("host", HOST);
        request.header("origin", origin).header("access-control-request-method", "PUT")
    };
    let answer = preflight(app).send().await;
    assert_eq!((answer.status(), answer.bytes().len()), (204, 0));
    let allowed = |answer: &FullResponse, name: &str| {
        answer.header(&format!("access-control-allow-{name}")).map(ToOwned::to_owned)
    };
    assert_eq!(allowed(&answer, "origin").as_deref(), Some(app));
    assert_eq!(allowed(&answer, "methods").as_deref(), Some("GET, PUT"));
    assert_eq!(allowed(&answer, "headers").as_deref(), Some("x-token"));
    assert_eq!(allowed(&answer, "credentials").as_deref(), Some("true"));
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    assert_eq!(answer.header("vary"), Some("origin"));
    let other = preflight("https://evil.example.com").send().await;
    assert_eq!((other.status(), allowed(&other, "origin")), (204, None));

    let answer = call(&gateway, HOST, "/x").header("origin", app).send().await;
    assert_eq!(variable(&answer, "HTTP_ORIGIN"), Some(app));
    assert_eq!(allowed(&answer, "origin").as_deref(), Some(app));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-id"));
    let plain = call(&gateway, HOST, "/x").send().await;
    assert_eq!((plain.status(), allowed(&plain, "origin")), (200, None));

    let mut every = route;
    every["cors"] = json!({"origins": ["*"], "credentials": true});
    assert_eq!(put(&gateway, "x", every.clone()).await.problem(), (422, "bad-route"));
    every["cors"] = json!({"origins": ["app.example.com"]});
    assert_eq!(put(&gateway, "x", every).await.problem(), (422, "bad-route"));
}

/// Case P06.
#[tokio::test]
async fn what_cannot_be_a_route_names_the_member_and_changes_nothing() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let wrong = [
        (json!({"path": "x", "function": "c-hello"}), "path: "),
        (json!({"path": "/a/../b", "function": "c-hello"}), "path: "),
        (json!({"path": "/*a/b", "function": "c-hello"}), "path: "),
        (json!({"path": "/", "function": "absent"}), "function: "),
        (json!({"path": "/", "function": "c-hello", "channel": "absent"}), "channel: "),
        (json!({"path": "/", "host": "Example.com", "function": "c-hello"}), "host: "),
        (json!({"path": "/", "host": "c-hello.localhost", "function": "c-hello"}), "host: "),
        (json!({"path": "/", "host": "a.*.b", "function": "c-hello"}), "host: "),
        (json!({"path": "/", "methods": ["TRACE"], "function": "c-hello"}), "methods: "),
        (json!({"path": "/", "priority": 1_001, "function": "c-hello"}), "priority: "),
        (json!({"path": "/"}), "give exactly one"),
        (
            json!({"path": "/", "function": "c-hello", "answer": {"status": 200}}),
            "give exactly one",
        ),
        (json!({"path": "/", "answer": {"status": 199}}), "answer.status: "),
        (
            json!({"path": "/", "answer": {"status": 200, "headers": {"content-length": "9"}}}),
            "answer.headers: ",
        ),
        (
            json!({"path": "/", "function": "c-hello", "request_headers": {"set": {"mayfly-x": "1"}}}),
            "request_headers.set: ",
        ),
        (
            json!({"path": "/", "function": "c-hello", "response_headers": {"remove": ["transfer-encoding"]}}),
            "response_headers.remove: ",
        ),
    ];
    for (route, why) in wrong {
        let refused = put(&gateway, "x", route.clone()).await;
        assert_eq!(refused.problem(), (422, "bad-route"), "{route}");
        assert!(refused.detail().starts_with(why), "{route}: {refused:?}");
    }
    let unknown =
        put(&gateway, "x", json!({"path": "/", "function": "c-hello", "hots": "x"})).await;
    assert_eq!(unknown.problem(), (400, "bad-json"));
    assert_eq!(
        put(&gateway, "X", json!({"path": "/", "function": "c-hello"})).await.problem(),
        (422, "bad-route")
    );
    assert_eq!(gateway.api("/v1/routes").await.json()["routes"], json!([]));
    assert_eq!(gateway.api("/v1/routes/x").await.problem(), (404, "route-not-found"));
}

/// Case P06.
#[tokio::test]
async fn the_number_of_routes_is_limited_and_a_route_outlives_its_function() {
    let gateway = TestGateway::with(&["quotas.routes=2"]).await;
    gateway.deploy("c-hello").await;
    let route = |path: &str| json!({"host": HOST, "path": path, "function": "c-hello"});
    for name in ["a", "b"] {
        set(&gateway, name, route(&format!("/{name}"))).await;
    }
    let third = put(&gateway, "c", route("/c")).await;
    assert_eq!(third.problem(), (409, "route-quota"));
    assert!(third.json()["hint"].as_str().unwrap().contains("quotas.routes"), "{third:?}");
    set(&gateway, "b", route("/other")).await;
    assert_eq!(call(&gateway, HOST, "/other").send().await.status(), 200);
    assert_eq!(call(&gateway, HOST, "/b").send().await.problem(), (404, "no-route"));

    assert_eq!(gateway.control(Method::DELETE, "/v1/functions/c-hello").send().await.status(), 204);
    let gone = call(&gateway, HOST, "/other").send().await;
    assert_eq!(gone.problem(), (404, "function-not-found"));
    assert!(gone.json()["hint"].as_str().unwrap().contains("route \"b\""), "{gone:?}");
    for (status, name) in [(204, "b"), (404, "b")] {
        let deleted = gateway.control(Method::DELETE, &format!("/v1/routes/{name}")).send().await;
        assert_eq!(deleted.status(), status);
    }
    let page = gateway.api("/v1/routes?limit=1").await;
    assert_eq!(
        (&page.json()["routes"][0]["name"], &page.json()["next_cursor"]),
        (&json!("a"), &json!("a"))
    );
    assert_eq!(gateway.api("/v1/routes?limit=1&cursor=a").await.json()["routes"], json!([]));
}

/// Case P07. A hundred changes, one after the other, while clients call: every answer is that of one
/// table or the other, and after an acknowledgement only the new one's.
#[tokio::test]
async fn no_call_fails_while_routes_change() {
    let gateway = Arc::new(TestGateway::start().await);
    let fixed = |text: &str| json!({"host": HOST, "path": "/moving", "answer": {"status": 200, "body": text}});
    set(&gateway, "moving", fixed("0")).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (gateway, stop, calls) =
                (Arc::clone(&gateway), Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut last = 0;
                while !stop.load(Relaxed) {
                    let answer = call(&gateway, HOST, "/moving").send().await;
                    assert_eq!(answer.status(), 200, "{answer:?}");
                    let seen: u32 = answer.text().parse().unwrap();
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                    calls.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=100 {
        let number = number.to_string();
        set(&gateway, "moving", fixed(&number)).await;
        assert_eq!(call(&gateway, HOST, "/moving").send().await.text(), number);
        set(&gateway, "beside", json!({"path": format!("/{number}"), "answer": {"status": 204}}))
            .await;
    }
    eventually("calls beside the changes", async || (calls.load(Relaxed) > 20).then_some(())).await;
    stop.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

/// Case P08.
#[tokio::test]
async fn routes_from_the_command_line() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    let set = [
        "route",
        "set",
        "users",
        "--host",
        HOST,
        "--path",
        "/users/:id",
        "--function",
        "t-cgi-env",
    ];
    let output = gateway
        .cli(&[&set[..], &["--method", "GET", "--header", "x-beta=1", "--strip"]].concat())
        .await;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "api.example.com/users/:id leads to t-cgi-env\n");
    let answer = call(&gateway, HOST, "/users/7").header("x-beta", "1").send().await;
    assert_eq!(variable(&answer, "PATH_INFO"), Some("/7"), "{answer:?}");
    let moved = ["route", "set", "old", "--path", "/old", "--redirect", "/new", "--status", "302"];
    assert!(gateway.cli(&moved).await.status.success());
    let list = String::from_utf8(gateway.cli(&["route", "list"]).await.stdout).unwrap();
    for part in ["users", "GET", "*/old", "/new (302)"] {
        assert!(list.contains(part), "{list}");
    }
    let shown: Value =
        serde_json::from_slice(&gateway.cli(&["route", "show", "users"]).await.stdout).unwrap();
    assert_eq!(shown["route"]["headers"], json!({"x-beta": "1"}));
    let file = gateway.data_dir().join("route.json");
    std::fs::write(&file, shown["route"].to_string()).unwrap();
    let again = gateway.cli(&["route", "set", "users", "--file", file.to_str().unwrap()]).await;
    assert!(again.status.success(), "{again:?}");
    assert!(gateway.cli(&["route", "delete", "users"]).await.status.success());
    assert!(!gateway.cli(&["route", "delete", "users"]).await.status.success());
}

/// Case P09.
#[tokio::test]
async fn a_route_with_keys_lets_nobody_in_without_one() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-cgi-env").await;
    // printf %s 'the key of the shop' | sha256sum
    let shop = "c338c606a276a3166e01d913b4c17adceebae6a569cae8bb567bb01b953f8a0c";
    let route = |keys: Value| {
        json!({
            "host": HOST, "path": "/x", "function": "t-cgi-env", "api_keys": keys,
            "cors": {"origins": ["https://app.example.com"]},
        })
    };
    set(&gateway, "x", route(json!({"sha256": {"shop": shop}}))).await;
    let with = async |name: &str, key: &str| {
        call(&gateway, HOST, "/x").header(name, key).header("mayfly-api-key", "forged").send().await
    };
    let answer = with("x-api-key", "the key of the shop").await;
    assert_eq!(variable(&answer, "HTTP_MAYFLY_API_KEY"), Some("shop"), "{answer:?}");
    assert_eq!(variable(&answer, "HTTP_X_API_KEY"), None);
    gateway.metric_becomes("mayfly_requests_total", 1.0).await;
    for (name, key) in [
        ("x-api-key", "another"),
        ("x-api-key", ""),
        ("x-api-key", shop),
        ("authorization", "Bearer the key of the shop"),
        ("mayfly-api-key", "shop"),
    ] {
        let refused = with(name, key).await;
        assert_eq!(refused.problem(), (401, "api-key-required"), "{name}: {key}");
        assert_eq!(refused.header("www-authenticate"), Some("ApiKey"));
    }
    assert_eq!(gateway.metric("mayfly_requests_total").await, 1.0);
    // Browsers ask before they send a key.
    let preflight = gateway.call(Method::OPTIONS, "/x").header("host", HOST);
    let preflight = preflight.header("origin", "https://app.example.com");
    let preflight = preflight.header("access-control-request-method", "GET").send().await;
    assert_eq!(preflight.status(), 204);

    let bearer = json!({"sha256": {"shop": shop}, "header": "authorization"});
    set(&gateway, "x", route(bearer)).await;
    let answer = with("authorization", "Bearer the key of the shop").await;
    assert_eq!(variable(&answer, "HTTP_MAYFLY_API_KEY"), Some("shop"), "{answer:?}");
    let refused = with("x-api-key", "the key of the shop").await;
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{refused:?}");
    for wrong in
        [json!({"sha256": {}}), json!({"sha256": {"shop": "abc"}}), json!({"sha256": {"S": shop}})]
    {
        assert_eq!(put(&gateway, "x", route(wrong)).await.problem(), (422, "bad-route"));
    }
}

/// Case P10. The windows are an hour long, so that nothing comes back while the test runs.
#[tokio::test]
async fn a_route_takes_as_many_requests_of_a_caller_as_its_rate_says() {
    let gateway = TestGateway::with(&["server.trusted_proxies=127.0.0.1"]).await;
    let route = |by: &str| {
        json!({
            "host": HOST, "path": format!("/{}", &by[..5]), "answer": {"status": 204},
            "rate": {"requests": 2, "window_s": 3_600, "by": by},
        })
    };
    for (index, by) in ["client", "route", "header:x-user"].into_iter().enumerate() {
        set(&gateway, &format!("r{index}"), route(by)).await;
    }
    let status = async |path: &str, fields: &[(&str, &str)]| {
        let request = call(&gateway, HOST, path);
        fields
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value))
            .send()
            .await
    };
    let (one, other) = (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2"));
    for expected in [204, 204, 429] {
        assert_eq!(status("/clien", &[one]).await.status(), expected);
    }
    assert_eq!(status("/clien", &[other]).await.status(), 204);
    let refused = status("/clien", &[one]).await;
    assert_eq!(refused.problem(), (429, "rate-limited"));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"route\";q=2;w=3600"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_700..1_900).contains(&wait), "{wait}");

    for (client, expected) in [(one, 204), (other, 204), (one, 429)] {
        assert_eq!(status("/route", &[client]).await.status(), expected);
    }
    let user = |name| ("x-user", name);
    for (name, expected) in [("a", 204), ("a", 204), ("b", 204), ("a", 429), ("b", 204), ("b", 429)]
    {
        assert_eq!(status("/heade", &[user(name)]).await.status(), expected, "{name}");
    }
    let mut wrong = route("client");
    for rate in [
        json!({"requests": 0}),
        json!({"requests": 1, "by": "key"}),
        json!({"requests": 1, "window_s": 9_999}),
        json!({"requests": 1, "by": "ip"}),
    ] {
        wrong["rate"] = rate;
        assert_eq!(put(&gateway, "r0", wrong.clone()).await.problem(), (422, "bad-route"));
    }
}
