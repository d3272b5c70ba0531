//! The command line against a running gateway: JSON for scripts and text for people.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{
    client::eventually,
    guests::path,
    terminal::in_a_terminal,
    test_gateway::{MAYFLY, TestGateway, mayfly, run},
};

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs a command that must succeed and parses its JSON.
async fn json(gateway: &TestGateway, arguments: &[&str]) -> Value {
    let output = gateway.cli(&[arguments, &["--output", "json"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

/// Runs a command that must fail. Returns its exit code and its standard error.
async fn failure(gateway: &TestGateway, arguments: &[&str]) -> (i32, String) {
    let output = gateway.cli(arguments).await;
    assert_eq!(stdout(&output), "", "{arguments:?}: errors belong on standard error");
    (output.status.code().unwrap(), stderr(&output).to_owned())
}

#[tokio::test]
async fn commands_print_json_over_the_life_of_a_function() {
    let gateway = TestGateway::start().await;
    let hello = path("c-hello");
    let env = path("t-env");
    let (hello, env) = (hello.to_str().unwrap(), env.to_str().unwrap());

    let made = json(&gateway, &["deploy", hello, "--name", "greet"]).await;
    assert_eq!((&made["name"], &made["revision"]), (&"greet".into(), &1.into()));
    assert_eq!(json(&gateway, &["deploy", hello, "--name", "greet"]).await, made);
    let deploy = ["deploy", env, "--name", "greet", "--env", "A=grüß", "--memory", "64MiB"];
    let made = json(&gateway, &[&deploy[..], &["--description", "tells"]].concat()).await;
    assert_eq!((&made["revision"], &made["description"]), (&2.into(), &"tells".into()));
    assert_eq!(made["settings"], json!({"environment": {"A": "grüß"}, "memory_bytes": 64 << 20}));

    assert_eq!(json(&gateway, &["show", "greet"]).await, made);
    assert_eq!(json(&gateway, &["list"]).await["functions"], json!([made]));
    let revisions = json(&gateway, &["revisions", "greet"]).await;
    assert_eq!(revisions["revisions"].as_array().unwrap().len(), 2);

    let output = gateway.cli(&["invoke", "greet"]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "A=grüß\n"));
    let set = ["set", "greet", "cpu_ms=500", "environment.A=", "environment.B=2", "description="];
    let changed = json(&gateway, &set).await;
    assert_eq!(changed["settings"]["environment"], json!({"B": "2"}));
    assert_eq!((&changed["limits"]["cpu_ms"], &changed["description"]), (&500.into(), &"".into()));

    let activated = json(&gateway, &["activate", "greet", "1"]).await;
    assert_eq!(activated["revision"], 1);
    assert_eq!(stdout(&gateway.cli(&["invoke", "greet"]).await), "hello from c\n");
    let output = gateway.cli(&["delete", "greet", "--yes", "--output", "json"]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), ""));
    assert_eq!(json(&gateway, &["list"]).await["functions"], json!([]));
}

#[tokio::test]
async fn commands_print_text_over_the_life_of_a_function() {
    let gateway = TestGateway::start().await;
    let hello = path("c-hello");
    let deploy = ["deploy", hello.to_str().unwrap(), "--name", "greet"];
    let url = format!("http://{}/f/greet/", gateway.data());
    for (arguments, expected) in [
        (&deploy[..], &["deployed greet, revision 1 (wasi-http-0.2, 7.2 KiB)", &url][..]),
        (&deploy, &["unchanged: greet, revision 1"]),
        (&["list"], &["NAME", "greet", "wasi-http-0.2", &url]),
        (&["show", "greet"], &["greet", "sha256:", &url, "cpu_ms"]),
        (&["set", "greet", "cpu_ms=500"], &["500"]),
        (&["revisions", "greet"], &["REVISION", "wasi-http-0.2"]),
        (&["activate", "greet", "1"], &["greet is at revision 1"]),
        (&["delete", "greet", "-y"], &["deleted greet"]),
    ] {
        let output = gateway.cli(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        for text in expected {
            assert!(stdout(&output).contains(text), "{text}: {}", stdout(&output));
        }
        assert!(!stdout(&output).contains('\x1b'), "a pipe gets no colours: {output:?}");
    }
}

#[tokio::test]
async fn a_function_is_called_with_method_path_headers_and_body() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo").await;
    gateway.deploy("t-trap").await;
    let invoke = ["invoke", "echo", "some/path?x=1", "--include", "--header", "x-test-a: 1"];
    let output = gateway.cli(&[&invoke[..], &["--data", "a body"]].concat()).await;
    let said = stdout(&output);
    assert!(said.contains(" 200 OK\n") && said.ends_with("\n\na body"), "{said}");
    for header in ["x-echo-method: POST\n", "x-echo-path: /some/path?x=1\n", "x-test-a: 1\n"] {
        assert!(said.contains(header), "{header}: {said}");
    }
    let hello = path("c-hello");
    let file = format!("@{}", hello.display());
    let output = gateway.cli(&["invoke", "echo", "--data", &file]).await;
    assert!(output.stdout == std::fs::read(hello).unwrap(), "the response differs from the file");

    let failed = gateway.cli(&["invoke", "t-trap", "trap"]).await;
    assert_eq!(failed.status.code(), Some(1));
    assert!(stdout(&failed).contains("urn:mayfly:problem:function-failed"), "{failed:?}");
}

#[tokio::test]
async fn a_functions_log_is_printed() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-logs").await;
    let answer = gateway.get("/f/t-logs/?n=2").await;
    gateway.log_lines("t-logs", 4).await;
    let page = json(&gateway, &["logs", "t-logs"]).await;
    assert_eq!(page["lines"].as_array().unwrap().len(), 4);
    let id = answer.header("mayfly-request-id").unwrap();
    let output = gateway.cli(&["logs", "t-logs", "--invocation", id]).await;
    assert_eq!(stdout(&output).lines().count(), 4);
    assert!(stdout(&output).contains("stderr stderr line 1\n"), "{}", stdout(&output));
}

#[tokio::test]
async fn tokens_are_created_listed_and_revoked() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let create = ["token", "create", "ci", "--scope", "read", "--expires-in", "12h"];
    let made = json(&gateway, &create).await;
    let (id, text) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let tokens = json(&gateway, &["token", "list"]).await;
    let listed = tokens["tokens"].as_array().unwrap();
    let listed_token = listed.iter().find(|token| token["id"] == id).unwrap();
    assert_eq!((&listed_token["name"], &listed_token["scopes"]), (&"ci".into(), &json!(["read"])));

    let show = async || {
        let mut command = mayfly(&["show", "c-hello"]);
        command.env("MAYFLY_TOKEN", text);
        command.env("MAYFLY_SERVER", format!("http://{}", gateway.control_address()));
        run(command).await
    };
    assert_eq!(show().await.status.code(), Some(0));
    let revoked = gateway.cli(&["token", "revoke", id]).await;
    assert_eq!(stdout(&revoked), format!("revoked {id}\n"));
    let refused = show().await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("Valid token required"), "{refused:?}");

    let piped = gateway.cli(&["token", "create", "other"]).await;
    assert!(stdout(&piped).starts_with("mfy_") && stdout(&piped).lines().count() == 1);
}

#[tokio::test]
async fn a_response_steers_no_terminal_and_bytes_are_printed_when_asked_for() {
    let gateway = TestGateway::start().await;
    gateway.deploy("echo").await;
    let dir = tempfile::tempdir().unwrap();
    let (text, bytes) = (dir.path().join("text"), dir.path().join("bytes"));
    fs::write(&text, "\x1b]0;owned\x07 grüß \u{202e}\u{9b}2J\n").unwrap();
    fs::write(&bytes, b"\x89PNG\0\x1b[2J").unwrap();
    let invoke = |file: &Path, more: &[&str], typed: &str| {
        let mut command = in_a_terminal(MAYFLY, typed);
        command.args(["invoke", "echo", "-d", &format!("@{}", file.display())]).args(more);
        command.env("MAYFLY_DATA_DIR", gateway.data_dir()).stdin(Stdio::null());
        run(command)
    };
    let shown = invoke(&text, &["-i"], "").await;
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let escaped = "\\u{1b}]0;owned\\u{7} grüß \\u{202e}\\u{9b}2J";
    assert!(stdout(&shown).contains(escaped), "{shown:?}");
    assert!(!stdout(&shown).contains('\x1b') && stdout(&shown).contains("HTTP/1.1 200"));

    let asks = "not text. Write its bytes to the terminal? [y/N]";
    let no = invoke(&bytes, &[], "n\n").await;
    assert_eq!(no.status.code(), Some(1), "{no:?}");
    assert!(stdout(&no).contains(asks) && stdout(&no).contains("--raw"), "{no:?}");
    assert!(!stdout(&no).contains('\x1b'), "{no:?}");
    let contains = |output: &Output| output.stdout.windows(5).any(|part| part == b"\x89PNG\0");
    let yes = invoke(&bytes, &[], "y\n").await;
    assert_eq!((yes.status.code(), contains(&yes)), (Some(0), true), "{yes:?}");
    let raw = invoke(&bytes, &["--raw"], "").await;
    assert_eq!((raw.status.code(), contains(&raw)), (Some(0), true), "{raw:?}");
    assert!(!String::from_utf8_lossy(&raw.stdout).contains(asks), "{raw:?}");

    // Elsewhere, the bytes are those of the response.
    let data = format!("@{}", bytes.display());
    let piped = gateway.cli(&["invoke", "echo", "-d", &data]).await;
    assert_eq!(piped.stdout, fs::read(&bytes).unwrap());
}

/// Case A12.
#[tokio::test]
async fn the_value_of_a_variable_is_read_from_a_file_or_standard_input() {
    let gateway = TestGateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("value");
    fs::write(&file, "s3cr3t\n").unwrap();
    let env = path("t-env");
    let from_file = format!("A=@{}", file.display());
    let deploy = ["deploy", env.to_str().unwrap(), "--name", "greet", "--env", &from_file];
    assert_eq!(json(&gateway, &deploy).await["settings"], json!({"environment": {"A": "s3cr3t"}}));

    let mut set = mayfly(&["set", "greet", "environment.B=-"]);
    set.env("MAYFLY_DATA_DIR", gateway.data_dir()).stdin(fs::File::open(&file).unwrap());
    assert_eq!(run(set).await.status.code(), Some(0));
    let output = gateway.cli(&["invoke", "greet"]).await;
    assert_eq!(stdout(&output), "A=s3cr3t\nB=s3cr3t\n");
}

/// Case A11.
#[tokio::test]
async fn the_socket_needs_no_token_and_is_for_its_owner_alone() {
    let mut gateway = TestGateway::start().await;
    let socket = gateway.data_dir().join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_file(gateway.data_dir().join("admin.token")).unwrap();
    // An operation for administrators.
    let made = gateway.cli(&["token", "create", "ci", "--scope", "read"]).await;
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let said = format!("\"local_user\":{}", rustix::process::geteuid().as_raw());
    eventually("the log names the user", async || gateway.log().contains(&said).then_some(()))
        .await;

    // A token that is sent along counts: this one may only read.
    let curl = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--unix-socket"]).arg(&socket);
        curl.args(more).stdin(Stdio::null());
        run(curl)
    };
    let header = format!("authorization: Bearer {}", stdout(&made).trim());
    let tokens = "http://localhost/v1/tokens";
    assert!(stdout(&curl(&["-H", &header, tokens]).await).contains("urn:mayfly:problem:forbidden"));
    assert!(stdout(&curl(&[tokens]).await).contains("\"ci\""));
    assert!(stdout(&curl(&["http://evil.example/v1/tokens"]).await).contains("foreign-host"));

    // Another user is refused even where the modes would let it in.
    if rustix::process::geteuid().is_root() {
        let data = gateway.data_dir();
        let allow = |modes: [u32; 3]| {
            for (path, mode) in
                [socket.as_path(), &data, data.parent().unwrap()].into_iter().zip(modes)
            {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        allow([0o777; 3]);
        let mut other = Command::new("curl");
        other.args(["--silent", "--max-time", "60", "--unix-socket"]).arg(&socket).arg(tokens);
        other.current_dir("/").env_clear().uid(65_534).gid(65_534).stdin(Stdio::null());
        let refused = run(other).await;
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
        let closed = [("plane", "control"), ("reason", "user")];
        let text = stdout(&curl(&["http://localhost/metrics"]).await).to_owned();
        let line = text.lines().find(|line| {
            closed.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
        });
        assert!(line.unwrap().ends_with(" 1"), "{line:?}");
        allow([0o600, 0o700, 0o700]);
    }

    // After a crash, a command says that the gateway is not running, and sends nothing elsewhere.
    gateway.kill();
    let output = gateway.cli(&["list"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("mayfly serve"), "{output:?}");
    gateway.start_again().await;
    assert_eq!(gateway.cli(&["list"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn an_error_names_the_problem_and_the_remedy() {
    let gateway = TestGateway::start().await;
    let refused = path("t-bad-import");
    let refused = refused.to_str().unwrap();
    for (arguments, code, expected) in [
        (
            &["show", "no-such-function"][..],
            1,
            &["no function is called \"no-such-function\"", "hint:", "request id:"][..],
        ),
        (&["invoke", "no-such-function"], 1, &["no-such-function"]),
        (&["deploy", "/nowhere.wasm", "--name", "x"], 1, &["/nowhere.wasm", "No such file"]),
        (&["deploy", refused, "--name", "x"], 1, &["acme:thing/widget@1.0.0"]),
        (&["deploy", refused, "--name", "../x"], 1, &["a function's name has"]),
        (&["deploy", refused], 2, &["--name"]),
        (&["set", "no-such-function", "colour=red"], 2, &["unknown setting `colour`"]),
        (&["delete", "no-such-function"], 2, &["--yes"]),
        (&["delete", "no-such-function", "--yes"], 1, &["no-such-function"]),
        (&["no-such-command"], 2, &["no-such-command"]),
        (&["show", "x", "--token-file", "/nowhere"], 1, &["/nowhere", "admin.token"]),
        (&["list", "--server", "http://127.0.0.1:1"], 1, &["127.0.0.1:1", "hint:"]),
        (&["list", "--server", "http://192.0.2.1:9090"], 2, &["192.0.2.1", "--insecure"]),
        (&["list", "--server", "ftp://127.0.0.1:1"], 2, &["https"]),
    ] {
        let (found, said) = failure(&gateway, arguments).await;
        assert_eq!(found, code, "{arguments:?}: {said}");
        for text in expected {
            assert!(said.contains(text), "{arguments:?}: {text}: {said}");
        }
    }
}

#[tokio::test]
async fn an_invalid_token_is_reported_as_invalid() {
    let gateway = TestGateway::start().await;
    let mut command = mayfly(&["list"]);
    command.env("MAYFLY_TOKEN", "mfy_0_0");
    command.env("MAYFLY_SERVER", format!("http://{}", gateway.control_address()));
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the token is not valid"), "{output:?}");
    assert!(!stderr(&output).contains("mfy_0_0"), "{output:?}");
}

#[tokio::test]
async fn a_settings_error_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mayfly.toml");
    let check = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(mayfly(&["config", "check", file.to_str().unwrap()])).await
    };
    let right = check("listen = \"127.0.0.1:1\"\n[limits]\ncpu_ms = 100\n").await;
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    for (text, line, says) in [
        ("[limits]\n\ncpu_m = 100\n", ":3:", "cpu_ms"),
        ("listen = \"127.0.0.1:1\"\nlimit = 1\n", ":2:", "limit"),
        ("[limits]\ncpu_ms = \"fast\"\n", ":2:", "cpu_ms"),
        ("[limits\n", ":1:", "toml"),
    ] {
        let wrong = check(text).await;
        assert_eq!(wrong.status.code(), Some(2), "{text}: {wrong:?}");
        assert!(stderr(&wrong).contains(line) && stderr(&wrong).contains(says), "{wrong:?}");
    }
    // The gateway refuses to start with this file, too.
    let serve = run(mayfly(&["serve", "--config", file.to_str().unwrap()])).await;
    assert_eq!(serve.status.code(), Some(2), "{serve:?}");
}

#[tokio::test]
async fn a_misspelt_variable_is_refused() {
    let mut command = mayfly(&["config", "check"]);
    command.env("MAYFLY_LIMITS_CPU_M", "100");
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("MAYFLY_LIMITS_CPU_MS"), "{output:?}");
}
