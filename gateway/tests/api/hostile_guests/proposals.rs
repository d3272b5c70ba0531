//! Binaries that use disabled proposals.

use crate::test_gateway::TestGateway;

/// Case G32.
#[tokio::test]
async fn proposals_that_are_off_are_refused_by_name() {
    let gateway = TestGateway::start().await;
    for (says, wat) in [
        ("gc", "(module (type (struct (field i32))) (func (export \"_start\")))"),
        (
            "reference types",
            "(module (type $f (func)) (func (param (ref null $f))) (func (export \"_start\")))",
        ),
        ("exceptions", "(module (tag) (func (export \"_start\")))"),
        ("threads", "(module (memory 1 1 shared) (func (export \"_start\")))"),
        (
            "threads",
            "(module (memory 1) (func (export \"_start\") (drop (i32.atomic.load (i32.const 0)))))",
        ),
        ("memory64", "(module (memory i64 1) (func (export \"_start\")))"),
        ("stack", "(module (type $f (func)) (type $c (cont $f)) (func (export \"_start\")))"),
        ("custom page", "(module (memory 1 (pagesize 1)) (func (export \"_start\")))"),
    ] {
        let wasm = wat::parse_str(wat).unwrap();
        let refused = gateway.put("uses-it", wasm).send().await;
        assert_eq!(refused.problem(), (422, "invalid-wasm"), "{wat}: {refused:?}");
        let detail = refused.detail().to_ascii_lowercase();
        assert!(detail.contains(says), "{says}: {detail}");
    }
    let wasm = crate::guests::guest("t-bad-import");
    let refused = gateway.put("uses-it", wasm).send().await;
    assert_eq!(refused.problem(), (422, "unknown-imports"));
    assert!(refused.detail().contains("acme:thing/widget@1.0.0"), "{refused:?}");
}

/// A command without output that contains these definitions.
fn command_with(definitions: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
                (func (export "none"))
                (func (export "take") (param i32))
                (func (export "take_two") (param i32 i32))
                (func (export "called_back") (param i32 i32 i32) (result i32) i32.const 0)
                (func (export "run") (result i32) i32.const 0))
            (core instance $core (instantiate $module))
            (alias core export $core "memory" (core memory $memory))
            (alias core export $core "realloc" (core func $realloc))
            {definitions}
            (func $run (result (result)) (canon lift (core func $core "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exported)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{definitions}: {error}"))
}

/// Case G32.
#[tokio::test]
async fn features_that_wasi_0_2_components_may_not_use_are_refused_by_name() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.put("plain", command_with("")).send().await.status(), 201);
    for (says, definitions) in [
        // Component-model async, which only the engine for WASI 0.3 supports.
        ("async", "(type $s (stream u8)) (core func (canon stream.new $s))"),
        ("async", "(type $f (future u8)) (core func (canon future.new $f))"),
        ("async", "(core func (canon waitable-set.new))"),
        ("async", "(core func (canon task.cancel))"),
        ("async", "(core func (canon subtask.drop))"),
        ("async", "(func async (canon lift (core func $core \"none\") async))"),
        (
            "async",
            "(alias core export $core \"called_back\" (core func $callback))
            (func async (canon lift (core func $core \"run\") async (callback $callback)))",
        ),
        // No engine supports these.
        ("error", "(core func (canon error-context.drop))"),
        ("thread", "(core func (canon thread.index))"),
        ("map", "(type (map string u8))"),
        ("fixed", "(type (list u8 4))"),
        ("value", "(import \"v\" (value string))"),
    ] {
        let refused = gateway.put("uses-it", command_with(definitions)).send().await;
        assert_eq!(refused.problem(), (422, "invalid-wasm"), "{definitions}: {refused:?}");
        let detail = refused.detail().to_ascii_lowercase();
        assert!(detail.contains(says), "{says}: {detail}");
    }
}

/// Case G06.
#[tokio::test]
async fn the_nesting_of_value_types_is_limited() {
    let gateway = TestGateway::start().await;
    let deep = "nesting is too deep";
    for (nested, take, depth, refused) in [
        ("(list $)", "take_two", 99, None),
        ("(list $)", "take_two", 101, Some(deep)),
        ("(list $)", "take_two", 100_000, Some(deep)),
        ("(tuple $)", "take", 99, None),
        ("(tuple $)", "take", 101, Some(deep)),
        ("(option $)", "take", 99, None),
        ("(option $)", "take", 101, Some(deep)),
        // The size doubles with each step.
        ("(tuple $ $)", "take", 10, None),
        ("(tuple $ $)", "take", 99, Some("type size exceeds the limit")),
        ("(record (field \"a\" $) (field \"b\" $))", "take", 10, None),
        ("(record (field \"a\" $) (field \"b\" $))", "take", 99, Some("type size exceeds")),
    ] {
        let mut types = "(type $t0 u8)".to_owned();
        for n in 1..=depth {
            let inner = nested.replace('$', &format!("$t{}", n - 1));
            types += &format!("(type $t{n} {inner})");
        }
        let wasm = command_with(&format!(
            r#"{types} (func (param "x" $t{depth})
                (canon lift (core func $core "{take}") (memory $memory) (realloc $realloc)))"#
        ));
        let answer = gateway.put("nested", wasm).send().await;
        match refused {
            None => assert_eq!(answer.status(), 201, "{nested} {depth}: {answer:?}"),
            Some(why) => {
                assert_eq!(answer.problem(), (422, "invalid-wasm"), "{nested} {depth}");
                assert!(answer.detail().contains(why), "{nested} {depth}: {answer:?}");
            }
        }
    }
}
