;; An HTTP handler that calls itself without end.
(module
  (memory (export "memory") 1)
  (func $handle (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)
    (call $handle (local.get 0) (local.get 1))))
