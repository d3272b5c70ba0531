//! A gate: what a warm request allocates stays below a ceiling. Counts are the same on every
//! machine, where times are not.

use std::process::Command;

use benches::{
    allocations::{Counting, PerRequest},
    gateway::GatewayOptions,
    guest::{self, Guest},
};

/// Requests that are counted together. Threads that work in the background add less than one
/// allocation to each at this number.
const REQUESTS: u32 = 100;

/// How often they are counted at most: what the background does once in a while, such as giving
/// memory back, is in some of the counts and not in all.
const COUNTS: u32 = 5;

/// The ceilings: allocations and bytes of one request. When a change lowers a count, lower its
/// ceiling with it, to a few allocations more. A change that has to raise one says in its commit
/// what the allocations buy.
const CEILINGS: [(&str, PerRequest); 5] = [
    ("c-hello", PerRequest { allocations: 63.0, bytes: 25_000.0 }),
    ("hello", PerRequest { allocations: 63.0, bytes: 30_000.0 }),
    ("c-hello-cgi", PerRequest { allocations: 78.0, bytes: 27_000.0 }),
    ("hello-p3", PerRequest { allocations: 140.0, bytes: 49_500.0 }),
    ("js-hello", PerRequest { allocations: 127.0, bytes: 268_000.0 }),
];

/// Builds the guest if it is missing.
fn guest(name: &str) -> Guest {
    let dist = guest::dist();
    if !dist.join(name).with_extension("wasm").is_file() {
        let build = dist.with_file_name("build");
        let output = Command::new(build).arg(name).output().expect("functions/build is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Guest::read(&dist, name).expect("the guest is built")
}

#[test]
fn a_warm_request_allocates_no_more_than_its_ceiling() {
    let dir = tempfile::tempdir().unwrap();
    let options = GatewayOptions {
        mayfly: Some(env!("CARGO_BIN_EXE_mayfly-counted").into()),
        settings: Vec::new(),
        scratch: None,
        dist: None,
    };
    let mut counting = Counting::start(&options, &dir.path().join("data")).unwrap();
    let mut above = Vec::new();
    for (name, ceiling) in CEILINGS {
        let guest = guest(name);
        let mut seen = Vec::new();
        let within = (0..COUNTS).any(|_| {
            let counted = counting.of(&guest, REQUESTS).unwrap();
            assert!(counted.allocations > 1.0, "nothing was counted: {counted:?}");
            seen.push(counted);
            counted.allocations <= ceiling.allocations && counted.bytes <= ceiling.bytes
        });
        if !within {
            above.push(format!("{name}: {seen:.1?}, at most {ceiling:.1?}"));
        }
    }
    counting.stop().unwrap();
    assert!(above.is_empty(), "more allocations than allowed:\n{}", above.join("\n"));
}
