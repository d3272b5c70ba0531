//! Binaries that use what is switched off.

use crate::test_gateway::TestGateway;

#[tokio::test]
async fn g32_proposals_that_are_off_are_refused_by_name() {
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
