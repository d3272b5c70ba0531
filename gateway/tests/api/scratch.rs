//! The scratch directory of a call: files in memory, under `/tmp`.

mod raw;

use std::collections::BTreeSet;

use serde_json::json;

use crate::test_gateway::TestGateway;

const MIB: usize = 1 << 20;
/// What an empty file takes, and the unit in which content does.
const ENTRY_BYTES: usize = 1 << 10;
const PAGE_BYTES: usize = 4 << 10;

/// The same program as a module of preview 1 and as a component.
const PROGRAMS: [&str; 2] = ["t-files-cgi", "t-files"];
/// A command that uses the interfaces of WASI 0.3.
const ASYNC_PROGRAM: &str = "t-files-p3";

/// A gateway with the programs, whose scratch directories have `bytes`.
async fn with_scratch(bytes: usize) -> TestGateway {
    let gateway = TestGateway::start().await;
    for name in PROGRAMS.into_iter().chain([ASYNC_PROGRAM]) {
        let settings = json!({"scratch_bytes": bytes, "cpu_ms": 30_000});
        gateway.deploy_with(name, &settings).await;
    }
    gateway
}

async fn answer(gateway: &TestGateway, name: &str, path: &str) -> String {
    let answer = gateway.get(&format!("/f/{name}{path}")).await;
    assert_eq!(answer.status(), 200, "{name}{path}: {answer:?}");
    answer.text().trim_end().to_owned()
}

#[tokio::test]
async fn programs_work_with_files_under_tmp() {
    let gateway = with_scratch(16 * MIB).await;
    for name in PROGRAMS {
        assert_eq!(answer(&gateway, name, "/all").await, "all is well", "{name}");
        assert_eq!(answer(&gateway, name, "/remove").await, "removed", "{name}");
    }
    assert_eq!(answer(&gateway, ASYNC_PROGRAM, "/all").await, "all is well");
}

#[tokio::test]
async fn no_path_and_no_link_leads_out_of_the_directory() {
    let gateway = with_scratch(MIB).await;
    for name in PROGRAMS {
        let refused = ["refused"; 13].join(" ");
        assert_eq!(answer(&gateway, name, "/escape").await, refused, "{name}");
    }
    let refused = ["refused"; 7].join(" ");
    assert_eq!(answer(&gateway, ASYNC_PROGRAM, "/escape").await, refused);
    let files: BTreeSet<_> = gateway.files("").into_iter().collect();
    assert!(files.iter().all(|path| !path.ends_with("escaped")), "{files:?}");
}

#[tokio::test]
async fn a_full_directory_is_an_error_of_the_guest_and_its_log_names_the_setting() {
    let gateway = with_scratch(MIB).await;
    for name in PROGRAMS {
        let pages = (MIB - ENTRY_BYTES) / PAGE_BYTES * PAGE_BYTES;
        let expected = format!("{pages} {pages} {pages}");
        assert_eq!(answer(&gateway, name, "/fill").await, expected, "{name}");
        let entries = (MIB / ENTRY_BYTES).to_string();
        assert_eq!(answer(&gateway, name, "/many").await, entries, "{name}");
        let lines = gateway.log_lines(name, 2).await;
        for line in &lines {
            assert_eq!(line["stream"], "system", "{line}");
            assert!(line["line"].as_str().unwrap().contains("scratch_bytes"), "{line}");
        }
    }
    // A file that the host appends to itself, without any code of the guest in between.
    let full = answer(&gateway, ASYNC_PROGRAM, "/fill").await;
    let pages = (MIB - ENTRY_BYTES) / PAGE_BYTES * PAGE_BYTES;
    assert_eq!(full, format!("{pages} ErrorCode::InsufficientSpace"));
    let hits = gateway.metric_with("mayfly_limit_hits_total", &[("limit", "scratch_bytes")]).await;
    assert!((hits - 5.0).abs() < 0.5, "{hits}");
    gateway.metric_becomes("mayfly_memory_bytes", 0.0).await;
}

#[tokio::test]
async fn files_and_linear_memory_share_the_limit_of_the_call() {
    let gateway = TestGateway::start().await;
    for name in PROGRAMS {
        let settings = json!({"scratch_bytes": 32 * MIB, "memory_bytes": 32 * MIB});
        gateway.deploy_with(name, &settings).await;
        let all: usize = answer(&gateway, name, "/memory").await.parse().unwrap();
        let rest: usize = answer(&gateway, name, "/memory?bytes=10000000").await.parse().unwrap();
        // The program holds a copy of the file's content, too, when it writes it.
        assert!((15..32).contains(&all), "{name}: {all}");
        assert!((all - 12..=all - 8).contains(&rest), "{name}: {rest} of {all}");
        // All of the memory, and then there is none for a file.
        let full = answer(&gateway, name, "/fill").await;
        let bytes: usize = full.split(' ').next().unwrap().parse().unwrap();
        assert!((20 * MIB..32 * MIB).contains(&bytes), "{name}: {bytes}");
    }
    gateway.metric_becomes("mayfly_memory_bytes", 0.0).await;
}

#[tokio::test]
async fn a_hole_takes_no_memory_and_a_file_ends_at_the_limit() {
    let gateway = with_scratch(MIB).await;
    for name in PROGRAMS {
        assert_eq!(answer(&gateway, name, "/far").await, "500001", "{name}");
    }
}

#[tokio::test]
async fn names_paths_and_open_files_are_limited() {
    let gateway = with_scratch(MIB).await;
    for name in PROGRAMS {
        let names = answer(&gateway, name, "/names").await;
        let refused = names.strip_prefix("made, ").unwrap_or_else(|| panic!("{names}"));
        assert!(refused.split(", ").all(|name| name == "invalid filename"), "{names}");
    }
    let open = answer(&gateway, "t-files-cgi", "/open").await;
    // All but the directory itself.
    assert!(open.starts_with("16383 "), "{open}");
    let open = gateway.get("/f/t-files/open").await;
    assert_eq!(open.problem(), (502, "resource-limit"), "{open:?}");
}

#[tokio::test]
async fn each_call_begins_with_an_empty_directory() {
    let gateway = with_scratch(MIB).await;
    for name in PROGRAMS.into_iter().chain([ASYNC_PROGRAM]) {
        for _ in 0..3 {
            assert_eq!(answer(&gateway, name, "/left").await, "[] [108, 101, 102, 116]", "{name}");
        }
    }
}

#[tokio::test]
async fn an_instance_that_serves_several_calls_has_an_empty_directory_in_each() {
    let gateway = TestGateway::start().await;
    let settings = json!({"scratch_bytes": MIB, "isolation": {"mode": "reuse"}});
    gateway.deploy_with("t-counter", &settings).await;
    for n in 1..=3 {
        let answer = gateway.get("/f/t-counter/?files").await;
        assert_eq!(answer.plain(), (200, &*format!("{n}\nOk([])\n")));
    }
    // One with an open file serves no other call.
    assert_eq!(gateway.get("/f/t-counter/?open").await.plain(), (200, "4\n"));
    assert_eq!(gateway.get("/f/t-counter/?files").await.plain(), (200, "1\nOk([])\n"));
}

#[tokio::test]
async fn without_the_setting_there_is_no_directory() {
    let gateway = TestGateway::start().await;
    for name in PROGRAMS.into_iter().chain([ASYNC_PROGRAM]) {
        gateway.deploy(name).await;
        let left = answer(&gateway, name, "/left").await;
        assert!(left.starts_with("failed: "), "{name}: {left}");
        let refused = json!({"settings": {"scratch_bytes": 257 << 20}});
        let refused = gateway.patch(name, &refused).await;
        assert_eq!(refused.status(), 422, "{refused:?}");
        assert!(refused.text().contains("ceilings.scratch_bytes"), "{refused:?}");
        gateway.patch(name, &json!({"settings": {"scratch_bytes": MIB}})).await;
        assert!(answer(&gateway, name, "/left").await.starts_with("[] "), "{name}");
        gateway.patch(name, &json!({"settings": {"scratch_bytes": 0}})).await;
        assert!(answer(&gateway, name, "/left").await.starts_with("failed: "), "{name}");
    }
}
