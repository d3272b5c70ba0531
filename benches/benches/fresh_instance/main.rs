//! What a fresh instance costs, and what bolder ways to make one would save (docs/adr/0015).
//!
//! `functions/build c-hello && functions/build hello && cargo bench --workspace --bench
//! fresh_instance [-- ROUNDS]`. With `serve GUEST ADDRESS` the variants answer over HTTP (`serve`).
//!
//! One pass makes a store and an instance, gives its handler a request, reads the response and drops
//! everything, on one thread and without a network. The variants take turns, so that a busy machine
//! slows all of them. A figure is the median of the thread's CPU time over the rounds.
//!
//! - `component`: as the gateway does it, with all limits and deadlines.
//! - `context made ahead`: the context of WASI is made for each instance, not when the guest asks.
//! - `no fiber`: the host's functions never wait, and a tick cannot interrupt the guest.
//! - `two modules`: the component is linked without the modules that pass calls on (C only).
//! - `kept`: the instance is made once and called again and again, and is never put back to its
//!   first state: less than this no way to put it back can cost.
//! - `module`: the component's core module alone, with lifting and lowering of our own in front of the
//!   library's functions.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]
#![expect(clippy::print_stdout, reason = "this is what the program is for")]

mod component;
mod engine;
mod host;
mod module;
mod serve;

use std::time::Duration;

use benches::guest;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::{Builder, Runtime},
    task::coop,
};

/// The allocator of `mayfly`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Components for `wasi:http` 0.2 that the variants can run.
const GUESTS: [&str; 2] = ["c-hello", "hello"];
/// Passes between two readings of the clock.
const PASSES: u32 = 2_000;

/// Answers a number of requests.
type Pass = Box<dyn Fn(&Runtime, u32)>;

/// A way to answer requests.
struct Variant {
    name: &'static str,
    pass: Pass,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some([_, guest, listen]) = arguments.windows(3).find(|arguments| arguments[0] == "serve")
    {
        serve::serve(&read(guest), listen.parse().unwrap());
        return;
    }
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(15);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    println!(
        "CPU time per request in µs, median (least to most) of {rounds} rounds of {PASSES}.\n"
    );
    println!("| guest | variant | µs | ratio |\n|---|---|---|---|");
    for name in GUESTS {
        let wasm = read(name);
        let mut variants = component::variants(&wasm);
        if name == "c-hello" {
            variants.push(component::two_modules());
        }
        variants.extend(module::variants(&wasm));
        let mut first = None;
        for (variant, mut times) in variants.iter().zip(rounds_of(&variants, &runtime, rounds)) {
            let (least, median, most) = spread(&mut times);
            let ratio = median / *first.get_or_insert(median);
            let name = format!("{name} | {}", variant.name);
            println!("| {name} | {median:.2} ({least:.2} to {most:.2}) | {ratio:.2} |");
        }
    }
}

fn read(name: &str) -> Vec<u8> {
    guest::Guest::read(&guest::dist(), name).unwrap().wasm
}

/// The times of each variant, in turns. The first round is for warming up.
fn rounds_of(variants: &[Variant], runtime: &Runtime, rounds: u32) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); variants.len()];
    for round in 0..=rounds {
        for (variant, times) in variants.iter().zip(&mut times) {
            let took = measure(runtime, variant);
            if round > 0 {
                times.push(took);
            }
        }
    }
    times
}

/// Runs a future to its end. Not within tokio's budget, which would make one that never waits wait.
fn run<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    runtime.block_on(coop::unconstrained(future))
}

fn measure(runtime: &Runtime, variant: &Variant) -> f64 {
    let before = thread_cpu();
    (variant.pass)(runtime, PASSES);
    (thread_cpu() - before).as_secs_f64() * 1e6 / f64::from(PASSES)
}

fn spread(times: &mut [f64]) -> (f64, f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2], times[times.len() - 1])
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
