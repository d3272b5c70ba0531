//! The program that the tests of `pool` start to compile guests: what `mayfly compile-worker` does,
//! without the gateway.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.split_first() {
        Some((subcommand, job)) if subcommand == "compile-worker" => {
            runtime_pool::compile_worker(job)
        }
        _ => ExitCode::FAILURE,
    }
}
