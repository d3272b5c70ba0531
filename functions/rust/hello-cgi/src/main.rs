//! A function that is an ordinary program, by the rules of CGI: the request is
//! in the environment and on standard input, the answer goes to standard output.
//!
//! Kind: core module for WASI preview 1 (`hello-cgi`), or, from the very same
//! source, a `wasi:cli/command` component (`hello-command`).
//! Build: `cargo build --release --target wasm32-wasip1` (or `wasm32-wasip2`)

fn main() {
    print!("Content-Type: text/plain\n\nhello from rust\n");
}
