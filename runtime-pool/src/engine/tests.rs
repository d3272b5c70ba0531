//! Reads every setting of the engines back: from what they say of themselves, or by what they do.
//! Those of the stores are read back in `host`.

use std::fmt::Debug;

use wasmtime::{Engine, Instance, Linker, MemoryType, Module, SharedMemory, Store, component};

use super::*;

/// The value of a setting in what an engine or its pool says of itself.
fn setting(described: &impl Debug, name: &str) -> String {
    let text = format!("{described:?}").replace('{', "{ ");
    let (_, rest) = text.split_once(&format!(" {name}: ")).unwrap_or_else(|| panic!("{name}"));
    rest.split([',', '}']).next().unwrap().trim().to_owned()
}

/// The proposals that are on.
fn proposals(engine: &Engine) -> Vec<String> {
    let text = format!("{:?}", engine.config());
    let settings = text.split(", ").filter_map(|setting| setting.split_once(": "));
    let on = settings.filter(|(name, value)| name.contains("wasm_") && *value == "true");
    let mut on: Vec<_> =
        on.map(|(name, _)| name.trim_start_matches("Config { ").to_owned()).collect();
    on.sort();
    on
}

fn small() -> EngineConfig {
    EngineConfig {
        instances: 3,
        memory_bytes_max: 128 << 10,
        keep_bytes: 12_345,
        artifact: ArtifactLimits {
            core_instances: 6,
            memories: 2,
            tables: 5,
            ..Default::default()
        },
        guest: GuestLimits { table_elements: 11, ..Default::default() },
        ..Default::default()
    }
}

#[test]
fn every_setting_of_the_pool_reaches_wasmtime() {
    let pool = pooling(&small());
    let mut settings = vec![
        ("total_component_instances", "3"),
        ("total_core_instances", "6"),
        ("total_memories", "3"),
        ("total_tables", "6"),
        ("total_stacks", "6"),
        ("max_core_instances_per_component", "6"),
        ("max_memories_per_component", "2"),
        ("max_tables_per_component", "5"),
        ("max_memories_per_module", "2"),
        ("max_tables_per_module", "5"),
        ("component_instance_size", "1048576"),
        ("core_instance_size", "1048576"),
        ("table_elements", "11"),
        ("max_memory_size", "131072"),
    ];
    settings.extend(match reset_strategy() {
        "pagemap scan" => [
            ("pagemap_scan", "Yes"),
            ("linear_memory_keep_resident", "12345"),
            ("table_keep_resident", "65536"),
        ],
        _ => [
            ("pagemap_scan", "No"),
            ("linear_memory_keep_resident", "0"),
            ("decommit_batch_size", "128"),
        ],
    });
    for (name, value) in settings {
        assert_eq!(setting(&pool, name), value, "{name}");
    }
}

#[test]
fn every_setting_of_the_engines_reaches_wasmtime() {
    for (kind, asynchronous) in [(EngineKind::Lean, false), (EngineKind::Concurrent, true)] {
        let engine = pooled_engine(kind, &small()).unwrap();
        let (asynchronous, name) = (asynchronous.to_string(), format!("{kind:?}"));
        for (key, value) in [
            ("epoch_interruption", "true"),
            ("memory_init_cow", "true"),
            ("generate_address_map", "false"),
            // Set by way of the details in backtraces.
            ("parse_wasm_debuginfo", "false"),
            ("concurrency_support", &asynchronous),
            ("wasm_cm_async", &asynchronous),
            ("strategy", "Some(Cranelift)"),
        ] {
            assert_eq!(setting(engine.config(), key), value, "{name}: {key}");
        }
        assert_eq!(proposals(&engine), expected_proposals(kind), "{name}");
        assert!(engine.pooling_allocator_metrics().is_some(), "{name}");
        assert!(SharedMemory::new(&engine, MemoryType::shared(1, 1)).is_err(), "{name}");
        let module = engine.precompile_module(&wat::parse_str("(module (func))").unwrap());
        let frames = b".eh_frame";
        let unwinds = module.unwrap().windows(frames.len()).any(|bytes| bytes == frames);
        assert!(!unwinds, "{name}: native code with unwind information");
    }
}

fn expected_proposals(kind: EngineKind) -> Vec<String> {
    let mut on = vec![
        "bulk_memory",
        "bulk_memory_opt",
        "call_indirect_overlong",
        "component_model",
        "extended_const",
        "floats",
        "multi_memory",
        "multi_value",
        "mutable_global",
        "reference_types",
        "relaxed_simd",
        "saturating_float_to_int",
        "sign_extension",
        "simd",
        "tail_call",
    ];
    if kind == EngineKind::Concurrent {
        on.push("cm_async");
    }
    on.sort_unstable();
    on.into_iter().map(|name| format!("wasm_{name}")).collect()
}

#[test]
fn the_engine_for_snapshots_is_deterministic_and_reserves_little() {
    let engine = initialising_engine(EngineKind::Lean).unwrap();
    for (name, value) in [
        ("epoch_interruption", "false"),
        ("memory_init_cow", "false"),
        ("memory_reservation", "0"),
        ("memory_reservation_for_growth", "67108864"),
        ("memory_guard_size", "0"),
        ("guard_before_linear_memory", "false"),
        ("memory_may_move", "true"),
        ("relaxed_simd_deterministic", "true"),
        ("\"enable_nan_canonicalization\"", "(\"true\""),
    ] {
        assert_eq!(setting(engine.config(), name), value, "{name}");
    }
    assert!(engine.pooling_allocator_metrics().is_none());
}

/// How deep a function can call itself.
fn depth(stack_bytes: usize) -> i32 {
    let guest = GuestLimits { stack_bytes, ..GuestLimits::default() };
    let engine = pooled_engine(EngineKind::Lean, &EngineConfig { guest, ..small() }).unwrap();
    let (mut store, instance) = instance(
        &engine,
        r#"(module (global $depth (export "depth") (mut i32) (i32.const 0))
            (func $deeper (export "run")
                (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
                (call $deeper)
                (global.set $depth (global.get $depth))))"#,
    )
    .unwrap();
    let trap = run(&mut store, &instance).unwrap_err();
    assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::StackOverflow));
    instance.get_global(&mut store, "depth").unwrap().get(&mut store).unwrap_i32()
}

#[test]
fn the_stack_is_as_large_as_the_setting() {
    // The last is more than a fiber has unless it is told.
    let depths = [64 << 10, 512 << 10, 4 << 20].map(depth);
    for pair in depths.windows(2) {
        let times = f64::from(pair[1]) / f64::from(pair[0]);
        assert!((7.0..10.0).contains(&times), "{depths:?}");
    }
}

#[test]
fn the_engines_hold_artifacts_and_instances_to_the_settings() {
    for kind in [EngineKind::Lean, EngineKind::Concurrent] {
        let engine = pooled_engine(kind, &small()).unwrap();
        for (fits, is_too_much) in [
            ("(memory 1)".repeat(2), "(memory 1)".repeat(3)),
            ("(table 1 funcref)".repeat(5), "(table 1 funcref)".repeat(6)),
            ("(table 11 funcref)".into(), "(table 12 funcref)".into()),
            ("(memory 2)".into(), "(memory 3)".into()),
        ] {
            assert!(instance(&engine, &format!("(module {fits})")).is_ok(), "{kind:?}: {fits}");
            let refused = instance(&engine, &format!("(module {is_too_much})"));
            assert!(refused.is_err(), "{kind:?}: {is_too_much}");
        }
        let component = |instances: usize| {
            let instances = "(core instance (instantiate $m))".repeat(instances);
            let text = format!("(component (core module $m) {instances})");
            component::Component::new(&engine, wat::parse_str(text).unwrap())
        };
        assert!(component(6).is_ok(), "{kind:?}");
        assert!(component(7).is_err(), "{kind:?}");

        let one = component(1).unwrap();
        let linker = component::Linker::<()>::new(&engine);
        let make = || {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(u64::MAX / 2);
            let made = block_on(linker.instantiate_async(&mut store, &one));
            made.map(|_| store)
        };
        let living: Vec<_> = (0..3).map(|_| make().unwrap()).collect();
        assert!(make().is_err(), "{kind:?}: more instances than there may be");
        let metrics = engine.pooling_allocator_metrics().unwrap();
        assert_eq!(metrics.component_instances(), 3, "{kind:?}");
        drop(living);
        assert_eq!(metrics.component_instances(), 0, "{kind:?}");
    }
}

#[test]
fn the_clock_ticks_as_often_as_the_setting() {
    let forever = r#"(module (func (export "run") (loop (br 0))))"#;
    let a_while = r#"(module (func (export "run") (local i32)
        (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1)))
            (i32.const 50_000_000))))))"#;
    let outcome = |tick, text: &str| {
        let guest = GuestLimits { tick, ..GuestLimits::default() };
        let engine = pooled_engine(EngineKind::Lean, &EngineConfig { guest, ..small() }).unwrap();
        let (mut store, instance) = instance(&engine, text).unwrap();
        // The first tick comes when the clock starts, be it before this or after it.
        store.set_epoch_deadline(2);
        run(&mut store, &instance)
    };
    let ended = outcome(Duration::from_millis(1), forever).unwrap_err();
    assert_eq!(ended.downcast_ref(), Some(&wasmtime::Trap::Interrupt));
    assert!(outcome(Duration::from_hours(1), a_while).is_ok());
}

/// Case C07.
#[test]
fn every_change_of_an_engine_makes_other_native_code() {
    let lean = code_config(EngineKind::Lean, GuestLimits::default().stack_bytes);
    let engine = |change: fn(&mut Config) -> &mut Config| {
        let mut config = lean.clone();
        change(&mut config);
        wasmtime::Engine::new(&config).unwrap()
    };
    let ours = engine(|config| config);
    let names = |other: &wasmtime::Engine| compatibility([other, &ours], &[]);
    assert_eq!(names(&ours), names(&compiling_engine(EngineKind::Lean).unwrap()));
    for other in [
        engine(|config| config.epoch_interruption(false)),
        engine(|config| config.wasm_simd(false).wasm_relaxed_simd(false)),
        engine(|config| config.memory_guard_size(0)),
        engine(|config| config.cranelift_nan_canonicalization(true)),
        engine(|config| {
            config
                .module_version(wasmtime::ModuleVersionStrategy::Custom(
                    "another release".to_owned(),
                ))
                .unwrap()
        }),
        compiling_engine(EngineKind::Concurrent).unwrap(),
    ] {
        assert_ne!(names(&other), names(&ours));
    }
}

fn instance(engine: &Engine, text: &str) -> wasmtime::Result<(Store<()>, Instance)> {
    let module = Module::new(engine, wat::parse_str(text)?)?;
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(u64::MAX / 2);
    let linker = Linker::new(engine);
    let instance = block_on(linker.instantiate_async(&mut store, &module))?;
    Ok((store, instance))
}

fn run(store: &mut Store<()>, instance: &Instance) -> wasmtime::Result<()> {
    let run = instance.get_typed_func::<(), ()>(&mut *store, "run")?;
    block_on(run.call_async(&mut *store, ()))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// An instance that has written `value` all over its memory of one page.
fn instance_with(module: &Module, value: u8) -> (Store<()>, wasmtime::Memory) {
    let mut store = Store::new(module.engine(), ());
    store.set_epoch_deadline(1_000_000);
    let instance = Instance::new(&mut store, module, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    memory.data_mut(&mut store).fill(value);
    (store, memory)
}

#[test]
fn unused_slots_give_their_memory_back_and_used_ones_keep_it() {
    let text = r#"(module (memory (export "memory") 1) (data (i32.const 0) "image"))"#;
    let wasm = wat::parse_str(text).unwrap();
    for kind in [EngineKind::Lean, EngineKind::Concurrent] {
        let config = EngineConfig { instances: 8, keep_bytes: 64 << 10, ..small() };
        let engine = pooled_engine(kind, &config).unwrap();
        let module = Module::new(&engine, &wasm).unwrap();
        let mut used = instance_with(&module, 1);
        drop([2, 3, 4].map(|value| instance_with(&module, value)));
        let kept = || engine.pooling_allocator_metrics().unwrap().unused_memory_bytes_resident();
        if reset_strategy() == "pagemap scan" {
            assert_eq!(kept(), 3 * (64 << 10), "{kind:?}");
        }
        let engines = [engine.clone()];
        let give_back = |slots, go_on: &(dyn Fn() -> bool + Sync)| {
            idle_slots::give_back(&engines, slots, config.memory_bytes_max, go_on)
        };
        assert_eq!(give_back(8, &|| false), 0, "{kind:?}");
        assert_eq!(give_back(2, &|| true), 0, "{kind:?}: too few are free");
        assert!(give_back(8, &|| true) >= 3, "{kind:?}");
        assert_eq!(kept(), 0, "{kind:?}");
        let (store, memory) = &mut used;
        assert!(memory.data(&store).iter().all(|byte| *byte == 1), "{kind:?}");
        // The slots hold what the module says, and nothing else.
        for mut fresh in [5, 6, 7].map(|_| Store::new(&engine, ())) {
            let instance = Instance::new(&mut fresh, &module, &[]).unwrap();
            let memory = instance.get_memory(&mut fresh, "memory").unwrap();
            let data = memory.data(&fresh);
            assert!(data.starts_with(b"image") && data[5..].iter().all(|byte| *byte == 0));
        }
    }
}
