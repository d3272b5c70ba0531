//! The sandbox of the compile worker, and its report.

use std::fs;

use http::Method;
use serde_json::Value;

use crate::{
    client::eventually,
    crash::{is_alive, workers},
    guests::guest,
    test_gateway::{TestGateway, mayfly, run},
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
                two.then(|| (child, status.clone(), group))
            })
        });
        let upload_first = async {
            let answer = upload.await.unwrap();
            assert_eq!(answer.status(), 201, "{answer:?}");
        };
        let ((child, status, stat), ()) = tokio::join!(status, upload_first);
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.lines().any(|found| found == line), "{name}: {status}");
        }
        // The fields after the name in parentheses: state, parent, group.
        let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap();
        assert_eq!(group, child.to_string(), "{name}: the worker has no process group of its own");
        assert!(!is_alive(child), "{name}: the worker is still running");
    }
    assert_eq!(gateway.call(Method::GET, "/f/t-snapshot/").send().await.status(), 200);
}
