//! Calls of preview1 that no C library makes: wrong descriptors, wrong addresses, wrong numbers.

use std::fmt::Write as _;

use serde_json::json;

use crate::test_gateway::TestGateway;

/// The functions that are called, with the types of their parameters.
const FUNCTIONS: [(&str, &str); 21] = [
    ("fd_advise", "i32 i64 i64 i32"),
    ("fd_allocate", "i32 i64 i64"),
    ("fd_close", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_flags", "i32 i32"),
    ("fd_filestat_set_times", "i32 i64 i64 i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_pwrite", "i32 i32 i32 i64 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_tell", "i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
];

/// What is in the memory: the answer, three paths, and two buffers.
const DATA: &str = r#"
    (data (i32.const 0) "\10\00\00\00\1b\00\00\00")
    (data (i32.const 16) "Content-Type: text/plain\n\nx")
    (data (i32.const 100) "a")
    (data (i32.const 110) "../x")
    (data (i32.const 120) "\ff")
    (data (i32.const 200) "\2c\01\00\00\0a\00\00\00")
    (data (i32.const 208) "\ff\ff\ff\ff\0a\00\00\00")"#;

/// A program that makes `calls`. It exits with the number of the first whose result is not the expected
/// one, and otherwise answers.
fn program(calls: &[(&str, &[i64], i32)]) -> Vec<u8> {
    let mut text = "(module\n".to_owned();
    for (name, types) in FUNCTIONS {
        writeln!(
            text,
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) (result i32)))"#
        )
        .unwrap();
    }
    writeln!(
        text,
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
           (memory (export "memory") 1) {DATA} (func (export "_start")"#
    )
    .unwrap();
    for (number, (name, arguments, expected)) in calls.iter().enumerate() {
        let types = FUNCTIONS.iter().find(|(known, _)| known == name).unwrap().1;
        let arguments =
            types.split(' ').zip(*arguments).fold(String::new(), |all, (kind, value)| {
                let value = if kind == "i32" { i64::from(*value as i32) } else { *value };
                format!("{all} ({kind}.const {value})")
            });
        writeln!(
            text,
            "(if (i32.ne (call ${name} {arguments}) (i32.const {expected}))
                (then (call $exit (i32.const {}))))",
            number + 1
        )
        .unwrap();
    }
    let answer = "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    writeln!(text, "{answer}))").unwrap();
    wat::parse_str(text).unwrap()
}

async fn deploy(gateway: &TestGateway, name: &str, program: Vec<u8>) {
    let settings = json!({"scratch_bytes": 1 << 20}).to_string();
    let deployed = gateway.put(name, program).header("mayfly-settings", &settings).send().await;
    assert_eq!(deployed.status(), 201, "{deployed:?}");
}

const OPEN_A: (&str, &[i64], i32) =
    ("path_open", &[3, 0, 100, 1, 1, 1 << 1 | 1 << 6, 0, 0, 400], 0);

#[tokio::test]
async fn calls_with_wrong_arguments_get_the_errors_of_a_unix() {
    const BAD_DESCRIPTOR: i32 = 8;
    const INVALID: i32 = 28;
    const NOT_PERMITTED: i32 = 63;
    const UNSUPPORTED: i32 = 58;
    let calls: &[(&str, &[i64], i32)] = &[
        OPEN_A,
        ("fd_write", &[4, 200, 1, 408], 0),
        ("path_open", &[4, 0, 100, 1, 0, 2, 0, 0, 400], 54),
        ("path_open", &[99, 0, 100, 1, 0, 2, 0, 0, 400], BAD_DESCRIPTOR),
        ("path_open", &[3, 0, 120, 1, 0, 2, 0, 0, 400], 25),
        ("path_open", &[3, 0, 100, -1, 0, 2, 0, 0, 400], 37),
        ("path_open", &[3, 0, 100, 0, 0, 2, 0, 0, 400], 44),
        ("path_create_directory", &[3, 110, 4], NOT_PERMITTED),
        ("path_rename", &[3, 100, 1, 3, 110, 4], NOT_PERMITTED),
        ("path_rename", &[3, 100, 1, 4, 100, 1], 54),
        ("path_symlink", &[100, 1, 3, 110, 4], NOT_PERMITTED),
        ("path_link", &[3, 0, 100, 1, 3, 110, 4], NOT_PERMITTED),
        ("path_readlink", &[3, 100, 1, 500, 10, 600], INVALID),
        ("fd_seek", &[4, -1, 0, 400], INVALID),
        ("fd_seek", &[4, i64::MIN, 1, 400], INVALID),
        ("fd_seek", &[4, 0, 3, 400], INVALID),
        ("fd_seek", &[4, i64::MAX, 0, 400], 0),
        ("fd_write", &[4, 200, 1, 408], 22),
        ("fd_read", &[4, 200, 1, 408], 0),
        ("fd_pwrite", &[4, 200, 1, -1, 408], 22),
        ("fd_read", &[3, 200, 1, 408], BAD_DESCRIPTOR),
        ("fd_write", &[3, 200, 1, 408], BAD_DESCRIPTOR),
        ("fd_write", &[-1, 200, 1, 408], BAD_DESCRIPTOR),
        ("fd_readdir", &[3, 500, 10, 0, 600], 0),
        ("fd_readdir", &[3, 500, 0, 0, 600], 0),
        ("fd_readdir", &[3, 500, 100, -1, 600], 0),
        ("fd_readdir", &[4, 500, 100, 0, 600], 54),
        ("fd_prestat_get", &[4, 500], BAD_DESCRIPTOR),
        ("fd_prestat_dir_name", &[3, 500, 3], 37),
        ("fd_fdstat_set_flags", &[3, 1], BAD_DESCRIPTOR),
        ("fd_fdstat_set_flags", &[4, 16], INVALID),
        ("fd_filestat_set_times", &[4, 0, 0, 3], INVALID),
        ("fd_filestat_set_times", &[4, -1, -1, 5], 0),
        ("fd_allocate", &[4, 0, 10], UNSUPPORTED),
        ("fd_advise", &[4, -1, -1, 99], 0),
        ("fd_renumber", &[4, 1], UNSUPPORTED),
        ("fd_renumber", &[1, 4], BAD_DESCRIPTOR),
        ("fd_renumber", &[4, 5], BAD_DESCRIPTOR),
        ("fd_renumber", &[4, 4], 0),
        // The directory itself becomes the file.
        ("fd_renumber", &[4, 3], 0),
        ("fd_tell", &[3, 400], 0),
        ("fd_tell", &[4, 400], BAD_DESCRIPTOR),
        ("fd_close", &[3], 0),
        ("fd_close", &[3], BAD_DESCRIPTOR),
        ("fd_prestat_get", &[3, 500], BAD_DESCRIPTOR),
        ("path_create_directory", &[3, 100, 1], BAD_DESCRIPTOR),
        // The standard streams are the library's.
        ("fd_fdstat_get", &[1, 512], 0),
        ("fd_seek", &[1, 0, 0, 400], 70),
        ("fd_close", &[0], 0),
        ("fd_close", &[0], BAD_DESCRIPTOR),
    ];
    let gateway = TestGateway::start().await;
    deploy(&gateway, "raw", program(calls)).await;
    let answer = gateway.get("/f/raw/").await;
    let lines = gateway.api("/v1/functions/raw/logs").await;
    assert_eq!(answer.plain(), (200, "x"), "{}", lines.text());
}

#[tokio::test]
async fn an_address_outside_of_the_memory_ends_the_guest() {
    let gateway = TestGateway::start().await;
    let calls: [(&str, &[i64]); 5] = [
        ("fd_write", &[4, -8, 1, 408]),
        // Its one buffer lies outside.
        ("fd_write", &[4, 208, 1, 408]),
        ("path_create_directory", &[3, -1, 1]),
        ("fd_fdstat_get", &[3, 65_530]),
        ("fd_readdir", &[3, 65_000, 1_000, 0, 600]),
    ];
    for (number, (name, arguments)) in calls.into_iter().enumerate() {
        let function = format!("trap-{number}");
        deploy(&gateway, &function, program(&[OPEN_A, (name, arguments, 0)])).await;
        let answer = gateway.get(&format!("/f/{function}/")).await;
        assert_eq!(answer.problem(), (502, "function-failed"), "{name}");
        let lines = gateway.log_lines(&function, 4).await;
        let named = |line: &serde_json::Value| {
            line["line"].as_str().is_some_and(|line| line.contains("outside of the guest's memory"))
        };
        assert!(lines.iter().any(named), "{name}: {lines:?}");
    }
}
