;; A valid component that a gateway cannot call: it exports one function, `add`,
;; and neither an HTTP handler nor a command's `run`.
(module
  (func (export "add") (param i32 i32) (result i32)
    local.get 0
    local.get 1
    i32.add))
