//! Whatever a guest passes, the host does not panic.

use proptest::{
    prelude::{Strategy, any, prop_oneof},
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;

/// Calls of one run; a long run has as many times more.
const CALLS: usize = 20_000;
const LONG: usize = 50;
/// Calls of one instance, unless it is ended before.
const CALLS_OF_AN_INSTANCE: usize = 60;

/// Handles, addresses, lengths, numbers of cases and words of any kind.
fn word() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0_i64..16,
        4 => (0_i64..256).prop_map(|at| at * 8),
        2 => 0_i64..131_072,
        2 => 131_060_i64..131_080,
        1 => any::<i64>(),
        1 => (0_i64..64).prop_map(|bits| (1 << bits) - 1),
    ]
}

/// Case G33.
#[test]
fn no_argument_and_no_memory_of_a_guest_makes_the_host_panic() {
    let callers = Callers::new();
    // Functions that wait for the clock ask for a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let times = if std::env::var_os("MAYFLY_LONG").is_some() { LONG } else { 1 };
    let (mut calls, mut answered, mut trapped) = (0, 0, 0);
    while calls < CALLS * times {
        let mut guest = callers.guest(&Limits::default());
        for _ in 0..CALLS_OF_AN_INSTANCE {
            calls += 1;
            let mut next = || word().new_tree(&mut runner).unwrap().current();
            let function = next().unsigned_abs() as usize;
            let (name, _) = callers.functions[(function + calls) % callers.functions.len()];
            let arguments: Vec<_> = (0..9).map(|_| next()).collect();
            let words: Vec<_> = (0..64).map(|_| next() as i32).collect();
            let how = if next() % 4 == 0 { (next() % 6) as i32 } else { WELL };
            let at = next();
            guest.write_words((at.unsigned_abs() % 2_000) as usize, &words);
            guest.allocate(how, next() as i32);
            match guest.try_call(name, &arguments) {
                Some(Ok(_)) => answered += 1,
                // An instance ends with a trap, and one that waits is not called again.
                Some(Err(_)) | None => {
                    trapped += 1;
                    break;
                }
            }
        }
    }
    // Both happen often enough to say something.
    assert!(answered > calls / 10 && trapped > calls / 100, "{answered} and {trapped} of {calls}");
}
