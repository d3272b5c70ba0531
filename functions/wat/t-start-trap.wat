;; A component that fails before its handler can be called: its start function
;; traps, so each instantiation does.
(module
  (memory (export "memory") 1)
  (func $start unreachable)
  (start $start)
  (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)))
