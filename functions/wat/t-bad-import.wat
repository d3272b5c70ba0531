;; An HTTP handler that imports `acme:thing/widget@1.0.0`, which no host provides:
;; it compiles, but cannot be linked.
(module
  (import "acme:thing/widget@1.0.0" "turn" (func $turn))
  (memory (export "memory") 1)
  (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)
    call $turn))
