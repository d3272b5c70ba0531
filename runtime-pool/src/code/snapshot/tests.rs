//! Small modules, some of them made up at random.

use proptest::prelude::*;
use wasmtime::{Engine, Instance, Linker, Module};

use super::*;
use crate::{code::inspect::inspect, limits::ArtifactLimits};

fn start_up() -> StartUp {
    StartUp { function: "wizer-initialize".into(), memory_bytes: 1 << 20 }
}

fn taken(text: &str) -> Result<SnapshotImage, SnapshotFailure> {
    take(&wat::parse_str(text).unwrap(), Kind::WasiPreview1, &start_up())
}

#[track_caller]
fn unfit(text: &str, why: &str) {
    match taken(text) {
        Err(SnapshotFailure::Unfit(reason)) => assert!(reason.contains(why), "{reason}"),
        Err(SnapshotFailure::Failed(reason)) => panic!("it failed: {reason}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[track_caller]
fn failed(text: &str, why: &str) {
    match taken(text) {
        Err(SnapshotFailure::Failed(reason)) => assert!(reason.contains(why), "{reason}"),
        Err(SnapshotFailure::Unfit(reason)) => panic!("it is unfit: {reason}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn writes_of_the_start_up_are_in_the_image() {
    let image = taken(
        r#"(module (memory (export "memory") 1) (func (export "_start"))
            (func (export "wizer-initialize") (i32.store (i32.const 70000) (i32.const 7))
                (drop (memory.grow (i32.const 1))))
            (func (export "grow") (drop (memory.grow (i32.const 1)))))"#,
    );
    assert!(matches!(image, Err(SnapshotFailure::Failed(_))), "it writes before it grows");
    let image = taken(
        r#"(module (memory (export "memory") 1) (func (export "_start"))
            (func (export "wizer-initialize") (drop (memory.grow (i32.const 1)))
                (i32.store (i32.const 70000) (i32.const 0x01020304))))"#,
    )
    .unwrap();
    let SnapshotOutcome::Taken { bytes, .. } = image.outcome else { panic!("{:?}", image.outcome) };
    assert_eq!(bytes, 4);
    assert!(image.wasm.windows(4).any(|bytes| bytes == [4, 3, 2, 1]));
}

#[test]
fn state_that_an_image_cannot_keep_is_named() {
    unfit(r#"(module (func (export "_start")))"#, "no function `wizer-initialize`");
    unfit(
        r#"(module (table 1 funcref) (func (export "wizer-initialize")
            (table.set (i32.const 0) (ref.null func))))"#,
        "table.set",
    );
    unfit(
        r#"(module (global (mut funcref) (ref.null func)) (func (export "wizer-initialize")))"#,
        "reference type",
    );
}

#[test]
fn calls_whose_answer_all_instances_would_share_are_named() {
    for (import, signature, arguments) in [
        ("random_get", "i32 i32", "(i32.const 0) (i32.const 8)"),
        ("clock_time_get", "i32 i64 i32", "(i32.const 0) (i64.const 0) (i32.const 8)"),
        ("environ_sizes_get", "i32 i32", "(i32.const 0) (i32.const 8)"),
        ("args_sizes_get", "i32 i32", "(i32.const 0) (i32.const 8)"),
        ("fd_read", "i32 i32 i32 i32", "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)"),
    ] {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "{import}"
                    (func $import (param {signature}) (result i32)))
                (memory (export "memory") 1) (func (export "_start"))
                (func (export "wizer-initialize") (drop (call $import {arguments}))))"#
        );
        unfit(&text, import);
    }
}

#[test]
fn a_start_up_that_ends_badly_has_failed() {
    failed(r#"(module (func (export "wizer-initialize") unreachable))"#, "unreachable");
    failed(
        r#"(module (func $again (export "wizer-initialize") (call $again)))"#,
        "call stack exhausted",
    );
    failed(
        r#"(module (memory 1) (func (export "wizer-initialize")
            (if (i32.eq (memory.grow (i32.const 20)) (i32.const -1)) (then unreachable))))"#,
        "memory_bytes",
    );
    failed(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "wizer-initialize") (call $exit (i32.const 7))))"#,
        "status 7",
    );
}

/// A statement of a start-up function: something that changes state, or must not be done.
fn statement() -> impl Strategy<Value = String> {
    let address = 0_u32..140_000;
    prop_oneof![
        6 => (address.clone(), any::<i32>())
            .prop_map(|(at, value)| format!("(i32.store (i32.const {at}) (i32.const {value}))")),
        4 => (address.clone(), any::<i64>())
            .prop_map(|(at, value)| format!("(i64.store $other (i32.const {at}) (i64.const {value}))")),
        2 => (address.clone(), any::<u8>(), address).prop_map(|(at, value, length)| format!(
            "(memory.fill (i32.const {at}) (i32.const {value}) (i32.const {length}))"
        )),
        2 => (0_i32..4).prop_map(|pages| format!("(drop (memory.grow (i32.const {pages})))")),
        2 => (0_i32..2).prop_map(|pages| format!("(drop (memory.grow $other (i32.const {pages})))")),
        2 => any::<i32>().prop_map(|value| format!("(global.set $number (i32.const {value}))")),
        2 => any::<u64>()
            .prop_map(|bits| format!("(global.set $float (f64.reinterpret_i64 (i64.const {bits})))")),
        1 => any::<u64>().prop_map(|low| format!("(global.set $vector (v128.const i64x2 {low} 1))")),
        1 => Just("(memory.init $passive (i32.const 9) (i32.const 0) (i32.const 3))".to_owned()),
        1 => Just("(call_indirect $table (i32.const 0))".to_owned()),
        1 => Just("(if (i32.load8_u (i32.const 1)) (then unreachable))".to_owned()),
        1 => Just("(data.drop $passive)".to_owned()),
        1 => Just("(table.set $table (i32.const 0) (ref.null func))".to_owned()),
        1 => Just("(call $now)".to_owned()),
    ]
}

fn module_with(statements: &[String], active: &[(u16, Vec<u8>)], start_section: bool) -> String {
    let data: String = active
        .iter()
        .map(|(at, bytes)| {
            let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
            format!("(data (i32.const {at}) \"{bytes}\")\n")
        })
        .collect();
    let start_section = if start_section { "(start $begin)" } else { "" };
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (import "wasi_snapshot_preview1" "clock_res_get"
                (func $clock (param i32 i32) (result i32)))
            (memory $main (export "memory") 1 8)
            (memory $other 1 2)
            (table $table 2 funcref)
            (elem (table $table) (i32.const 0) func $begin)
            (global $number (mut i32) (i32.const 1))
            (global $float (mut f64) (f64.const 1.5))
            (global $vector (mut v128) (v128.const i64x2 1 2))
            (global $constant i32 (i32.const 5))
            {data}
            (data $passive "abc")
            {start_section}
            (func $begin (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1))))
            (func $now (drop (call $clock (i32.const 0) (i32.const 0))))
            (func (export "_start"))
            (func (export "wizer-initialize") {start_up})
            (func (export "main-byte") (param i32) (result i32) (i32.load8_u (local.get 0)))
            (func (export "other-byte") (param i32) (result i32)
                (i32.load8_u $other (local.get 0)))
            (func (export "pages") (result i32 i32) (memory.size $main) (memory.size $other))
            (func (export "globals") (result i32 i64 i64)
                (global.get $number)
                (i64.reinterpret_f64 (global.get $float))
                (i64x2.extract_lane 0 (global.get $vector))))"#,
        start_up = statements.join("\n"),
    )
}

type Seen = ((i32, i32), (i32, i64, i64), Vec<i32>);

/// All that a module can show of its state. `None` if its start-up fails.
fn state(wasm: &[u8], start_up: bool) -> Option<Seen> {
    let engine = Engine::default();
    let module = Module::new(&engine, wasm).unwrap();
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&module).unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    let instance: Instance = linker.instantiate(&mut store, &module).unwrap();
    if start_up {
        let function = instance.get_typed_func::<(), ()>(&mut store, "wizer-initialize").unwrap();
        function.call(&mut store, ()).ok()?;
    }
    let pages = instance.get_typed_func::<(), (i32, i32)>(&mut store, "pages").unwrap();
    let pages = pages.call(&mut store, ()).unwrap();
    let globals = instance.get_typed_func::<(), (i32, i64, i64)>(&mut store, "globals").unwrap();
    let globals = globals.call(&mut store, ()).unwrap();
    let mut bytes = Vec::new();
    for (name, pages) in [("main-byte", pages.0), ("other-byte", pages.1)] {
        let byte = instance.get_typed_func::<i32, i32>(&mut store, name).unwrap();
        bytes.extend((0..pages << 16).step_by(7).map(|at| byte.call(&mut store, at).unwrap()));
    }
    Some((pages, globals, bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_image_is_in_the_state_that_its_start_up_leaves(
        statements in proptest::collection::vec(statement(), 0..6),
        active in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..3),
        start_section: bool,
    ) {
        // At the end of the memory, so that they fit.
        let active: Vec<_> =
            active.into_iter().map(|(at, bytes)| (at.min(u16::MAX - 9), bytes)).collect();
        let wasm = wat::parse_str(module_with(&statements, &active, start_section)).unwrap();
        match take(&wasm, Kind::WasiPreview1, &start_up()) {
            Ok(image) => {
                inspect(&image.wasm, &ArtifactLimits::default()).unwrap();
                prop_assert_eq!(state(&image.wasm, false), state(&wasm, true));
            }
            Err(SnapshotFailure::Failed(_)) => prop_assert!(state(&wasm, true).is_none()),
            Err(SnapshotFailure::Unfit(_)) => {}
        }
    }

    #[test]
    fn no_damage_to_a_binary_makes_it_panic(at in 8_usize..400, byte: u8) {
        let mut wasm = wat::parse_str(module_with(&[], &[], true)).unwrap();
        let length = wasm.len();
        wasm[at % length] = byte;
        // A snapshot is only taken of a binary that passes inspection.
        if inspect(&wasm, &ArtifactLimits::default()).is_ok() {
            drop(take(&wasm, Kind::WasiPreview1, &start_up()));
        }
    }
}
