//! The compiler's child can reach nothing, and everybody can see that.

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
    // Landlock may be missing in this kernel; what is said of it must be true all the same.
    let mut stand = 2.0;
    if sandbox["landlock"] == true {
        stand += 1.0;
    }
    gateway.metric_becomes("mayfly_compile_sandbox", stand).await;
    eventually("it is in the log", async || {
        gateway.log().contains("compiler's sandbox").then_some(())
    })
    .await;
}

/// Case U08.
/// While it compiles, and while it runs a guest's start-up for a snapshot.
#[tokio::test]
async fn a_compile_worker_is_sandboxed_while_it_works() {
    let gateway = TestGateway::start().await;
    for (name, settings) in [("js-hello", "{}"), ("t-snapshot", r#"{"snapshot": true}"#)] {
        let put = gateway.put(name, guest(name)).header("mayfly-settings", settings);
        let upload = tokio::spawn(put.send());
        let pid = gateway.pid();
        let status = eventually("a worker has raised its barriers", async || {
            workers(pid).into_iter().find_map(|child| {
                let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
                let group = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
                // It has them all from one moment on, which comes soon after its start.
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
        // After the name in parentheses: state, parent, group.
        let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap();
        assert_eq!(group, child.to_string(), "{name}: a group of its own");
        assert!(!is_alive(child), "{name}: and gone with its work");
    }
    assert_eq!(gateway.call(Method::GET, "/f/t-snapshot/").send().await.status(), 200);
}
