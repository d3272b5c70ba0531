//! The sandbox of the compile worker, and its report.

use std::{fs, process::Command};

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::eventually,
    crash::{is_alive, workers},
    guests::guest,
    test_gateway::{MAYFLY, TestGateway, mayfly, run},
};

/// Case U08.
#[tokio::test]
async fn the_compile_worker_cannot_open_files_start_processes_or_connect() {
    let said = run(mayfly(&["compile-worker", "probe"])).await;
    assert!(said.status.success(), "{said:?}");
    let sandbox: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(sandbox["reached"], Value::Array(Vec::new()), "{sandbox}");
    assert_eq!((&sandbox["seccomp"], &sandbox["no_new_privs"]), (&true.into(), &true.into()));

    let gateway = TestGateway::start().await;
    // The kernel may lack Landlock; the report must be true all the same.
    let mut active = 2.0;
    if sandbox["landlock"] == true {
        active += 1.0;
    }
    gateway.metric_becomes("mayfly_compile_sandbox", active).await;
    eventually("the log reports the sandbox", async || {
        gateway.log().contains("compiler's sandbox").then_some(())
    })
    .await;
}

/// Case U08.
/// During a compilation, and during a guest's start-up for a snapshot.
#[tokio::test]
async fn a_compile_worker_is_sandboxed_while_it_works() {
    let gateway = TestGateway::start().await;
    for (name, settings) in [("js-hello", "{}"), ("t-snapshot", r#"{"snapshot": true}"#)] {
        let put = gateway.put(name, guest(name)).header("mayfly-settings", settings);
        let upload = tokio::spawn(put.send());
        let pid = gateway.pid();
        let status = eventually("a worker has entered its sandbox", async || {
            workers(pid).into_iter().find_map(|child| {
                let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
                let group = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
                // The worker enters its sandbox in one step, soon after its start.
                let line = |name: &str| status.lines().find(|line| line.starts_with(name));
                let two = line("Seccomp_filters:")?.ends_with("\t2");
                let oom = fs::read_to_string(format!("/proc/{child}/oom_score_adj")).ok()?;
                two.then(|| (child, status.clone(), group, oom))
            })
        });
        let upload_first = async {
            let answer = upload.await.unwrap();
            assert_eq!(answer.status(), 201, "{answer:?}");
        };
        let ((child, status, stat, oom), ()) = tokio::join!(status, upload_first);
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.lines().any(|found| found == line), "{name}: {status}");
        }
        // The fields after the name in parentheses: state, parent, group.
        let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap();
        assert_eq!(group, child.to_string(), "{name}: the worker has no process group of its own");
        // If memory runs out, the kernel ends it before the gateway and everything else.
        assert_eq!(oom.trim(), "1000", "{name}");
        assert!(!is_alive(child), "{name}: the worker is still running");
    }
    assert_eq!(gateway.call(Method::GET, "/f/t-snapshot/").send().await.status(), 200);
}

/// Case U08.
#[tokio::test]
async fn a_worker_whose_gateway_has_ended_does_nothing() {
    let gateway = TestGateway::start().await;
    let upload = tokio::spawn(gateway.put("js-hello", guest("js-hello")).send());
    let pid = gateway.pid();
    let line = eventually("a worker runs", async || {
        let child = workers(pid).pop()?;
        fs::read_to_string(format!("/proc/{child}/cmdline")).ok().filter(|line| !line.is_empty())
    })
    .await;
    // The same job, started by another process than it names.
    let arguments: Vec<_> = line.trim_end_matches('\0').split('\0').skip(1).collect();
    assert_eq!(arguments[1], pid.to_string());
    let orphan = run(mayfly(&arguments)).await;
    assert!(!orphan.status.success(), "{orphan:?}");
    let said = String::from_utf8_lossy(&orphan.stderr);
    assert!(said.contains("the gateway has ended"), "{said}");
    assert_eq!(upload.await.unwrap().status(), 201);
}

/// The binary on a kernel without Landlock.
fn without_landlock() -> Command {
    const WITHOUT: &str = "
import ctypes, os, struct, sys
# The system call 444 makes a ruleset; it does not exist (38).
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
program = Program(4, ctypes.addressof(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execve(sys.argv[1], sys.argv[1:], {})
";
    let mut command = Command::new("python3");
    command.args(["-c", WITHOUT, MAYFLY]);
    command
}

/// Case U08.
#[tokio::test]
async fn without_a_whole_sandbox_only_an_administrator_uploads_unless_the_operator_allows_it() {
    for (settings, expected) in
        [(&[][..], Err((503, "sandbox-missing"))), (&["compile.require_sandbox=false"], Ok(201))]
    {
        let gateway = TestGateway::by(without_landlock(), settings).await;
        let wanted = json!({"name": "ci", "scopes": ["deploy"]});
        let made = gateway.control(Method::POST, "/v1/tokens").json(&wanted).send().await;
        let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
        let put = gateway
            .anonymous(Method::PUT, "/v1/functions/c-hello-cgi")
            .header("authorization", &bearer)
            .body(guest("c-hello-cgi"));
        let answer = put.send().await;
        match expected {
            Ok(status) => assert_eq!(answer.status(), status, "{answer:?}"),
            Err(problem) => {
                assert_eq!(answer.problem(), problem);
                let hint = answer.json()["hint"].as_str().unwrap();
                assert!(hint.contains("compile.require_sandbox"), "{hint}");
            }
        }
        gateway.deploy("c-hello").await;
        assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
    }
}
