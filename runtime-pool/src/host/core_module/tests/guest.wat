(memory (export "memory") 2)
(global $how (export "how") (mut i32) (i32.const 0))
(global $at (export "at") (mut i32) (i32.const 0))
(global $next (mut i32) (i32.const 65536))
(func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $given i32)
    (if (i32.eq (global.get $how) (i32.const 1)) (then (return (global.get $at))))
    (if (i32.eq (global.get $how) (i32.const 2)) (then
        (drop (memory.grow (i32.const 1)))
        ;; The last of the pages.
        (return (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)))))
    (if (i32.eq (global.get $how) (i32.const 3)) (then (drop (call $f0))))
    (if (i32.eq (global.get $how) (i32.const 4)) (then (unreachable)))
    (global.set $next (i32.and
        (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
        (i32.xor (i32.sub (local.get 2) (i32.const 1)) (i32.const -1))))
    (local.set $given (global.get $next))
    (global.set $next (i32.add (global.get $next) (local.get 3)))
    ;; Begins again before the end.
    (if (i32.gt_u (global.get $next) (i32.const 120000))
        (then (global.set $next (i32.const 65536))))
    (local.get $given))
