use super::*;

/// A component as tools make it: the main module, the callers and what fills their table.
const COMPONENT: &str = r#"(component
    (type $types (instance
        (export "incoming-request" (type (sub resource)))
        (export "response-outparam" (type (sub resource)))
        (type (own 0))
        (type (own 1))
        (type (func (param "request" 2) (result string)))
        (export "text" (func (type 4)))
        (type (func (param "text" string)))
        (export "other" (func (type 5)))
    ))
    (import "wasi:http/types@0.2.0" (instance $http (type $types)))
    (core module $main
        (import "wasi:http/types@0.2.0" "text" (func $text (param i32 i32)))
        (import "wasi:http/types@0.2.0" "[resource-drop]incoming-request" (func $drop (param i32)))
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 8)
        (func (export "other_realloc") (param i32 i32 i32 i32) (result i32) i32.const 8)
        (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)))
    (core module $callers
        (table (export "$imports") 1 1 funcref)
        (type (func (param i32 i32)))
        (func (export "0") (type 0)
            local.get 0 local.get 1 i32.const 0 call_indirect (type 0)))
    (core module $filler
        (import "" "0" (func $0 (param i32 i32)))
        (import "" "$imports" (table 1 1 funcref))
        (elem (i32.const 0) func $0))
    (core instance $callers (instantiate $callers))
    (alias core export $callers "0" (core func $called))
    (alias export $http "incoming-request" (type $request))
    (alias export $http "response-outparam" (type $outparam))
    (core func $drop (canon resource.drop $request))
    (core instance $imports
        (export "text" (func $called))
        (export "[resource-drop]incoming-request" (func $drop)))
    (core instance $main (instantiate $main
        (with "wasi:http/types@0.2.0" (instance $imports))))
    (alias core export $main "memory" (core memory $memory))
    (alias core export $main "cabi_realloc" (core func $realloc))
    (alias core export $main "other_realloc" (core func $other_realloc))
    (alias export $http "text" (func $text))
    (alias export $http "other" (func $other))
    (core func $lowered
        (canon lower (func $text) (memory $memory) (realloc $realloc) string-encoding=utf8))
    (core instance $filled
        (export "$imports" (table $callers "$imports"))
        (export "0" (func $lowered)))
    (core instance (instantiate $filler (with "" (instance $filled))))
    (alias core export $main "wasi:http/incoming-handler@0.2.0#handle" (core func $handle))
    (type $handle (func (param "request" (own $request)) (param "out" (own $outparam))))
    (func $handle (type $handle) (canon lift (core func $handle)))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler))
)"#;

fn is_served(interface: &str, name: &str) -> bool {
    interface == "wasi:http/types" && ["text", "[resource-drop]incoming-request"].contains(&name)
}

fn found(text: &str) -> bool {
    let component = wat::parse_str(text).unwrap();
    wasmparser::validate(&component).unwrap();
    let found = core_module(&component, &is_served);
    found.is_some_and(|module| {
        assert!(Parser::is_core_wasm(module.bytes));
        true
    })
}

#[track_caller]
fn changed(from: &str, to: &str) -> bool {
    assert!(COMPONENT.contains(from));
    found(&COMPONENT.replace(from, to))
}

#[test]
fn the_main_module_of_a_plain_component_can_run_alone() {
    assert!(found(COMPONENT));
    // The import may be of another patch version than the module's name for it.
    assert!(changed(
        "(import \"wasi:http/types@0.2.0\" (instance",
        "(import \"wasi:http/types@0.2.6\" (instance"
    ));
}

#[test]
fn a_component_that_is_wired_otherwise_runs_as_a_component() {
    let changes = [
        ("another function", "(canon lower (func $text)", "(canon lower (func $other)"),
        ("another allocator", "(realloc $realloc)", "(realloc $other_realloc)"),
        ("another encoding", "string-encoding=utf8", "string-encoding=utf16"),
        ("another resource", "(canon resource.drop $request)", "(canon resource.drop $outparam)"),
        (
            "another version",
            "(import \"wasi:http/types@0.2.0\" (instance",
            "(import \"wasi:http/types@0.3.0\" (instance",
        ),
        (
            "callers that change what they pass",
            "local.get 0 local.get 1",
            "local.get 1 local.get 0",
        ),
        ("callers of another slot", "i32.const 0 call_indirect", "i32.const 7 call_indirect"),
        (
            "a table that is filled from elsewhere",
            "(elem (i32.const 0) func $0)",
            "(elem (i32.const 1) func $0)",
        ),
        (
            "a filler that also starts",
            "(elem (i32.const 0) func $0)",
            "(func $s) (start $s) (elem (i32.const 0) func $0)",
        ),
        (
            "a memory that is not exported",
            "(memory (export \"memory\") 1)",
            "(memory 1) (memory (export \"memory\") 1)",
        ),
        (
            "another handler",
            "\"wasi:http/incoming-handler@0.2.0#handle\"",
            "\"wasi:http/incoming-handler@0.3.0#handle\"",
        ),
        (
            "a third small module",
            "(alias core export $main \"memory\"",
            "(core module $more) (core instance (instantiate $more)) (alias core export $main \"memory\"",
        ),
    ];
    for (what, from, to) in changes {
        assert!(!changed(from, to), "{what}");
    }
}

#[test]
fn a_function_that_is_not_served_keeps_the_component() {
    let component = wat::parse_str(COMPONENT).unwrap();
    assert_eq!(core_module(&component, &|_, name| name != "text"), None);
    assert_eq!(core_module(&component, &|_, _| false), None);
}

#[test]
fn bytes_that_are_cut_or_changed_never_panic() {
    let component = wat::parse_str(COMPONENT).unwrap();
    for length in 0..component.len() {
        core_module(&component[..length], &is_served);
    }
    for index in 0..component.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = component.clone();
            changed[index] = value;
            core_module(&changed, &is_served);
        }
    }
}
