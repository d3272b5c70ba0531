//! Valid, small binaries whose compilation takes minutes or gigabytes.

use serde_json::Value;
use wasm_encoder::{
    BlockType, CodeSection, Component, ConstExpr, DataSection, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, ImportSection, Instruction, MemorySection,
    MemoryType, Module, ModuleSection, TableSection, TableType, TypeSection, ValType,
};

use super::Canary;
use crate::test_gateway::TestGateway;

/// A command with `functions` empty functions besides its start.
fn functions(functions: u32) -> Vec<u8> {
    command(functions, |_| {}, |_| {})
}

/// A command with `segments` data segments.
fn data_segments(segments: u32) -> Vec<u8> {
    command(0, one_memory, |module| {
        let mut data = DataSection::new();
        for segment in 0..segments {
            let offset = ConstExpr::i32_const((segment * 8 % 65_536).cast_signed());
            data.active(0, &offset, [1, 2, 3, 4]);
        }
        module.section(&data);
    })
}

/// A command with one function of `instructions` interdependent instructions.
fn enormous_function(instructions: u32) -> Vec<u8> {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    module.section(&types);
    let mut functions = FunctionSection::new();
    functions.function(0);
    module.section(&functions);
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0);
    module.section(&exports);
    let mut body = Function::new([(200, ValType::I64)]);
    for n in 0..instructions {
        // Each reads the results of two others, on either side of a branch.
        let (a, b) = (n % 200, n * 7 % 200);
        body.instruction(&Instruction::LocalGet(a));
        body.instruction(&Instruction::LocalGet(b));
        body.instruction(&Instruction::I64Mul);
        body.instruction(&Instruction::LocalTee(b));
        body.instruction(&Instruction::I64Eqz);
        body.instruction(&Instruction::If(BlockType::Empty));
        body.instruction(&Instruction::LocalGet(b));
        body.instruction(&Instruction::LocalSet(a));
        body.instruction(&Instruction::End);
    }
    body.instruction(&Instruction::End);
    let mut code = CodeSection::new();
    code.function(&body);
    module.section(&code);
    module.finish()
}

fn memories(count: u32) -> Vec<u8> {
    command(
        0,
        |module| {
            many_memories(module, count);
        },
        |_| {},
    )
}

fn tables(count: u32) -> Vec<u8> {
    let many = |module: &mut Module| {
        let mut tables = TableSection::new();
        for _ in 0..count {
            tables.table(TableType {
                element_type: wasm_encoder::RefType::FUNCREF,
                table64: false,
                minimum: 1,
                maximum: None,
                shared: false,
            });
        }
        module.section(&tables);
    };
    command(0, many, |_| {})
}

fn one_memory(module: &mut Module) {
    many_memories(module, 1);
}

fn many_memories(module: &mut Module, count: u32) {
    let mut memories = MemorySection::new();
    for _ in 0..count {
        memories.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
    }
    module.section(&memories);
}

/// A core module that exports `_start`, with additional sections before the exports and at the end.
fn command(
    empty_functions: u32,
    before: impl FnOnce(&mut Module),
    last: impl FnOnce(&mut Module),
) -> Vec<u8> {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    module.section(&types);
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for _ in 0..=empty_functions {
        functions.function(0);
        let mut body = Function::new([]);
        body.instruction(&Instruction::End);
        code.function(&body);
    }
    module.section(&functions);
    before(&mut module);
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0);
    module.section(&exports);
    module.section(&code);
    last(&mut module);
    module.finish()
}

/// A component that instantiates one empty module `count` times.
fn core_instances(count: u32) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(&Module::new()));
    let mut instances = wasm_encoder::InstanceSection::new();
    for _ in 0..count {
        instances.instantiate::<_, &str>(0, []);
    }
    component.section(&instances);
    component.finish()
}

/// A command that imports `count` functions.
fn imports(count: u32) -> Vec<u8> {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    module.section(&types);
    let mut imports = ImportSection::new();
    for n in 0..count {
        imports.import("wasi_snapshot_preview1", &format!("f{n}"), EntityType::Function(0));
    }
    module.section(&imports);
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0);
    module.section(&exports);
    module.finish()
}

/// Cases U08, U11.
#[tokio::test]
async fn an_upload_over_a_static_limit_is_refused_before_it_is_compiled() {
    let gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    let before = gateway.resident_bytes();
    let canary = Canary::start(&gateway);
    for (setting, bomb, says) in [
        ("functions", functions(200_000), "200001 functions; at most 100000"),
        ("data_segments", data_segments(100_001), "100001 data segments; at most 100000"),
        ("memories", memories(100), "100 linear memories; at most 4"),
        ("tables", tables(1_000), "1000 tables; at most 16"),
        ("core_instances", core_instances(1_000), "1000 core instances; at most 64"),
        ("imports", imports(5_000), "5000 imports; at most 1000"),
    ] {
        let refused = gateway.put("bomb", bomb).send().await;
        assert_eq!(refused.problem(), (422, "artifact-limit"), "{refused:?}");
        assert!(refused.detail().contains(says), "{refused:?}");
        assert!(refused.detail().contains(&format!("uploads.{setting})")), "{refused:?}");
    }
    canary.ends_unharmed().await;
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "the gateway grew by {grown} bytes");
    gateway.no_uploads_left().await;
    assert_eq!(gateway.metric("mayfly_uploads_refused_total").await, 6.0);
}

/// Case U11.
#[tokio::test]
async fn the_operator_sets_the_static_limits_of_artifacts() {
    let settings = ["uploads.memories=8", "uploads.tables=20", "uploads.functions=50"];
    let gateway = TestGateway::with(&settings).await;
    // More than an engine allows by default: the engines follow the settings, too.
    for (name, artifact) in [("memories", memories(8)), ("tables", tables(20))] {
        let deployed = gateway.put(name, artifact).send().await;
        assert_eq!(deployed.status(), 201, "{deployed:?}");
    }
    for (setting, artifact) in
        [("memories", memories(9)), ("tables", tables(21)), ("functions", functions(50))]
    {
        let refused = gateway.put("more", artifact).send().await;
        assert_eq!(refused.problem(), (422, "artifact-limit"), "{refused:?}");
        assert!(refused.detail().contains(&format!("uploads.{setting})")), "{refused:?}");
    }
    assert_eq!(gateway.metric("mayfly_uploads_refused_total").await, 3.0);
}

/// Case U08.
/// The static limits do not bound the cost of a compilation. The kernel enforces its limits on the
/// worker.
#[tokio::test]
async fn an_expensive_compilation_ends_its_worker_and_disturbs_no_caller() {
    let bombs: [(&str, &str, Vec<u8>, &str); 3] = [
        ("functions", "compile.cpu_s=1", functions(99_000), "1 s of CPU time (compile.cpu_s)"),
        (
            "enormous",
            "compile.cpu_s=1",
            enormous_function(300_000),
            "1 s of CPU time (compile.cpu_s)",
        ),
        (
            "segments",
            "compile.memory_bytes=600MiB",
            data_segments(49_000),
            "629145600 bytes of memory (compile.memory_bytes)",
        ),
    ];
    let mut gateway = TestGateway::start().await;
    gateway.deploy("c-hello").await;
    for (name, setting, bomb, says) in bombs {
        gateway.terminate();
        gateway.exit().await;
        gateway.start_with(&[setting]).await;
        // The first call maps the native code.
        assert_eq!(gateway.get("/f/c-hello/").await.status(), 200);
        let before = gateway.resident_bytes();
        let canary = Canary::start(&gateway);
        let refused = gateway.put(name, bomb).send().await;
        assert_eq!(refused.problem(), (422, "compile-limit"), "{name}: {refused:?}");
        assert!(refused.detail().contains(says), "{name}: {refused:?}");
        assert_eq!(refused.json()["fault"], Value::from("caller"), "{name}");
        canary.ends_unharmed().await;
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{name}: the gateway grew by {grown} bytes");
        gateway.no_uploads_left().await;
        let temporary = |path: &std::path::PathBuf| {
            path.file_name().unwrap().to_str().unwrap().starts_with(".tmp")
        };
        assert!(!gateway.files("code").iter().any(temporary), "{name}");
    }
}
