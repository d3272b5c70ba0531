;; `functions/c/hello.c` as a component of two core modules instead of three: the first has the memory
;; that the host's functions need, so that they exist before the second is instantiated, and no module
;; is needed that passes calls on through a table. Made by hand from the text of `c-hello.wasm`.
(component
  (type $ty-wasi:io/error@0.2.0 (;0;)
    (instance
      (export (;0;) "error" (type (sub resource)))
    )
  )
  (import "wasi:io/error@0.2.0" (instance $wasi:io/error@0.2.0 (;0;) (type $ty-wasi:io/error@0.2.0)))
  (alias export $wasi:io/error@0.2.0 "error" (type $error (;1;)))
  (type $ty-wasi:io/streams@0.2.0 (;2;)
    (instance
      (export (;0;) "output-stream" (type (sub resource)))
      (alias outer 1 $error (type (;1;)))
      (export (;2;) "error" (type (eq 1)))
      (type (;3;) (own 2))
      (type (;4;) (variant (case "last-operation-failed" 3) (case "closed")))
      (export (;5;) "stream-error" (type (eq 4)))
      (type (;6;) (borrow 0))
      (type (;7;) (list u8))
      (type (;8;) (result (error 5)))
      (type (;9;) (func (param "self" 6) (param "contents" 7) (result 8)))
      (export (;0;) "[method]output-stream.blocking-write-and-flush" (func (type 9)))
    )
  )
  (import "wasi:io/streams@0.2.0" (instance $wasi:io/streams@0.2.0 (;1;) (type $ty-wasi:io/streams@0.2.0)))
  (alias export $wasi:io/streams@0.2.0 "output-stream" (type $output-stream (;3;)))
  (type $ty-wasi:http/types@0.2.0 (;4;)
    (instance
      (export (;0;) "incoming-request" (type (sub resource)))
      (export (;1;) "fields" (type (sub resource)))
      (type (;2;) (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
      (export (;3;) "header-error" (type (eq 2)))
      (export (;4;) "outgoing-response" (type (sub resource)))
      (export (;5;) "outgoing-body" (type (sub resource)))
      (export (;6;) "response-outparam" (type (sub resource)))
      (type (;7;) (option string))
      (type (;8;) (option u16))
      (type (;9;) (record (field "rcode" 7) (field "info-code" 8)))
      (export (;10;) "DNS-error-payload" (type (eq 9)))
      (type (;11;) (option u8))
      (type (;12;) (record (field "alert-id" 11) (field "alert-message" 7)))
      (export (;13;) "TLS-alert-received-payload" (type (eq 12)))
      (type (;14;) (option u32))
      (type (;15;) (record (field "field-name" 7) (field "field-size" 14)))
      (export (;16;) "field-size-payload" (type (eq 15)))
      (type (;17;) (option u64))
      (type (;18;) (option 16))
      (type (;19;) (variant (case "DNS-timeout") (case "DNS-error" 10) (case "destination-not-found") (case "destination-unavailable") (case "destination-IP-prohibited") (case "destination-IP-unroutable") (case "connection-refused") (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout") (case "connection-write-timeout") (case "connection-limit-reached") (case "TLS-protocol-error") (case "TLS-certificate-error") (case "TLS-alert-received" 13) (case "HTTP-request-denied") (case "HTTP-request-length-required") (case "HTTP-request-body-size" 17) (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long") (case "HTTP-request-header-section-size" 14) (case "HTTP-request-header-size" 18) (case "HTTP-request-trailer-section-size" 14) (case "HTTP-request-trailer-size" 16) (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" 14) (case "HTTP-response-header-size" 16) (case "HTTP-response-body-size" 17) (case "HTTP-response-trailer-section-size" 14) (case "HTTP-response-trailer-size" 16) (case "HTTP-response-transfer-coding" 7) (case "HTTP-response-content-coding" 7) (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected") (case "configuration-error") (case "internal-error" 7)))
      (export (;20;) "error-code" (type (eq 19)))
      (alias outer 1 $output-stream (type (;21;)))
      (export (;22;) "output-stream" (type (eq 21)))
      (type (;23;) (list u8))
      (type (;24;) (tuple string 23))
      (type (;25;) (list 24))
      (type (;26;) (own 1))
      (type (;27;) (result 26 (error 3)))
      (type (;28;) (func (param "entries" 25) (result 27)))
      (export (;0;) "[static]fields.from-list" (func (type 28)))
      (type (;29;) (own 6))
      (type (;30;) (own 4))
      (type (;31;) (result 30 (error 20)))
      (type (;32;) (func (param "param" 29) (param "response" 31)))
      (export (;1;) "[static]response-outparam.set" (func (type 32)))
      (type (;33;) (func (param "headers" 26) (result 30)))
      (export (;2;) "[constructor]outgoing-response" (func (type 33)))
      (type (;34;) (borrow 4))
      (type (;35;) (own 5))
      (type (;36;) (result 35))
      (type (;37;) (func (param "self" 34) (result 36)))
      (export (;3;) "[method]outgoing-response.body" (func (type 37)))
      (type (;38;) (borrow 5))
      (type (;39;) (own 22))
      (type (;40;) (result 39))
      (type (;41;) (func (param "self" 38) (result 40)))
      (export (;4;) "[method]outgoing-body.write" (func (type 41)))
      (type (;42;) (option 26))
      (type (;43;) (result (error 20)))
      (type (;44;) (func (param "this" 35) (param "trailers" 42) (result 43)))
      (export (;5;) "[static]outgoing-body.finish" (func (type 44)))
    )
  )
  (import "wasi:http/types@0.2.0" (instance $wasi:http/types@0.2.0 (;2;) (type $ty-wasi:http/types@0.2.0)))
  (core module $provider (memory (export "memory") 1)
    (data (;0;) (i32.const 4096) ")\10\00\00\0c\00\00\00\1e\10\00\00\0a\00\00\00hello from c\0a\00text/plain\00content-type\00")
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 4160))
  (core instance $p (instantiate $provider))
  (alias core export $p "memory" (core memory $memory))
  (alias core export $p "cabi_realloc" (core func $cabi_realloc))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32)))
    (type (;2;) (func (param i32) (result i32)))
    (type (;3;) (func (param i32 i32)))
    (type (;4;) (func (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (type (;5;) (func (param i32 i32 i32 i32)))
    (type (;6;) (func (param i32 i32 i32 i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "wasi:http/types@0.2.0" "[resource-drop]incoming-request" (func (;0;) (type 0) (param i32)))
    (import "wasi:http/types@0.2.0" "[static]fields.from-list" (func (;1;) (type 1) (param i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func (;2;) (type 2) (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func (;3;) (type 3) (param i32 i32)))
    (import "wasi:http/types@0.2.0" "[static]response-outparam.set" (func (;4;) (type 4) (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func (;5;) (type 3) (param i32 i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func (;6;) (type 5) (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func (;7;) (type 0) (param i32)))
    (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func (;8;) (type 5) (param i32 i32 i32 i32)))
    (global (;0;) (mut i32) i32.const 4096)
    (export "wasi:http/incoming-handler@0.2.0#handle" (func 9))
    (export "cabi_realloc" (func 10))
    (func (;9;) (type 3) (param i32 i32)
      (local i32 i32)
      global.get 0
      i32.const 48
      i32.sub
      local.tee 2
      global.set 0
      local.get 0
      call 0
      i32.const 4096
      i32.const 1
      local.get 2
      i32.const 40
      i32.add
      call 1
      block ;; label = @1
        local.get 2
        i32.load8_u offset=40
        br_if 0 (;@1;)
        local.get 2
        i32.load offset=44
        call 2
        local.tee 3
        local.get 2
        i32.const 40
        i32.add
        call 3
        local.get 2
        i32.load8_u offset=40
        br_if 0 (;@1;)
        local.get 2
        i32.load offset=44
        local.set 0
        local.get 1
        i32.const 0
        local.get 3
        i32.const 0
        i64.const 0
        i32.const 0
        i32.const 0
        i32.const 0
        i32.const 0
        call 4
        local.get 0
        local.get 2
        i32.const 40
        i32.add
        call 5
        local.get 2
        i32.load8_u offset=40
        br_if 0 (;@1;)
        local.get 2
        i32.load offset=44
        local.tee 1
        i32.const 4112
        i32.const 13
        local.get 2
        call 6
        local.get 1
        call 7
        local.get 0
        i32.const 0
        i32.const 0
        local.get 2
        call 8
        local.get 2
        i32.const 48
        i32.add
        global.set 0
        return
      end
      unreachable
    )
    (func (;10;) (type 6) (param i32 i32 i32 i32) (result i32)
      block ;; label = @1
        block ;; label = @2
          local.get 0
          br_if 0 (;@2;)
          local.get 1
          br_if 0 (;@2;)
          local.get 2
          i32.const 8
          i32.gt_u
          br_if 0 (;@2;)
          local.get 3
          i32.const 1025
          i32.lt_u
          br_if 1 (;@1;)
        end
        unreachable
      end
      i32.const 4160
    )
  )
  (alias export $wasi:http/types@0.2.0 "incoming-request" (type $incoming-request))
  (alias export $wasi:http/types@0.2.0 "response-outparam" (type $response-outparam))
  (alias export $wasi:io/streams@0.2.0 "output-stream" (type $os))
  (alias export $wasi:http/types@0.2.0 "[static]fields.from-list" (func $f0))
  (core func $l0 (canon lower (func $f0) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias export $wasi:http/types@0.2.0 "[constructor]outgoing-response" (func $f1))
  (core func $l1 (canon lower (func $f1) ))
  (alias export $wasi:http/types@0.2.0 "[method]outgoing-response.body" (func $f2))
  (core func $l2 (canon lower (func $f2) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias export $wasi:http/types@0.2.0 "[static]response-outparam.set" (func $f3))
  (core func $l3 (canon lower (func $f3) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias export $wasi:http/types@0.2.0 "[method]outgoing-body.write" (func $f4))
  (core func $l4 (canon lower (func $f4) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias export $wasi:http/types@0.2.0 "[static]outgoing-body.finish" (func $f5))
  (core func $l5 (canon lower (func $f5) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias export $wasi:io/streams@0.2.0 "[method]output-stream.blocking-write-and-flush" (func $f6))
  (core func $l6 (canon lower (func $f6) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (core func $d0 (canon resource.drop $incoming-request))
  (core func $d1 (canon resource.drop $os))
  (core instance $hi (export "[resource-drop]incoming-request" (func $d0))
    (export "[static]fields.from-list" (func $l0))
    (export "[constructor]outgoing-response" (func $l1))
    (export "[method]outgoing-response.body" (func $l2))
    (export "[static]response-outparam.set" (func $l3))
    (export "[method]outgoing-body.write" (func $l4))
    (export "[static]outgoing-body.finish" (func $l5))
  )
  (core instance $si (export "[resource-drop]output-stream" (func $d1)) (export "[method]output-stream.blocking-write-and-flush" (func $l6)))
  (core instance $main (instantiate $main
      (with "env" (instance $p))
      (with "wasi:http/types@0.2.0" (instance $hi))
      (with "wasi:io/streams@0.2.0" (instance $si))
    )
  )
  (type $oi (own $incoming-request))
  (type $or (own $response-outparam))
  (type $hf (func (param "request" $oi) (param "response-out" $or)))
  (alias core export $main "wasi:http/incoming-handler@0.2.0#handle" (core func $wasi:http/incoming-handler@0.2.0#handle (;16;)))
  (func $handle (type $hf) (canon lift (core func $wasi:http/incoming-handler@0.2.0#handle)))
  (component $wasi:http/incoming-handler@0.2.0-shim-component (;0;)
    (import "import-type-incoming-request" (type (;0;) (sub resource)))
    (import "import-type-response-outparam" (type (;1;) (sub resource)))
    (import "import-type-incoming-request0" (type (;2;) (eq 0)))
    (type (;3;) (own 2))
    (import "import-type-response-outparam0" (type (;4;) (eq 1)))
    (type (;5;) (own 4))
    (type (;6;) (func (param "request" 3) (param "response-out" 5)))
    (import "import-func-handle" (func (;0;) (type 6)))
    (export (;7;) "incoming-request" (type 0))
    (export (;8;) "response-outparam" (type 1))
    (type (;9;) (own 7))
    (type (;10;) (own 8))
    (type (;11;) (func (param "request" 9) (param "response-out" 10)))
    (export (;1;) "handle" (func 0) (func (type 11)))
  )
  (instance $wasi:http/incoming-handler@0.2.0-shim-instance (;3;) (instantiate $wasi:http/incoming-handler@0.2.0-shim-component
      (with "import-func-handle" (func $handle))
      (with "import-type-incoming-request" (type $incoming-request))
      (with "import-type-response-outparam" (type $response-outparam))
      (with "import-type-incoming-request0" (type $incoming-request))
      (with "import-type-response-outparam0" (type $response-outparam))
    )
  )
  (export $wasi:http/incoming-handler@0.2.0 (;4;) "wasi:http/incoming-handler@0.2.0" (instance $wasi:http/incoming-handler@0.2.0-shim-instance))
)
