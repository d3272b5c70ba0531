//! `mayfly`: the gateway and its command line in one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::main()
}
