//! `mayfly` with an allocator that counts: what a request allocates, and from where.
//!
//! The command line is that of `mayfly`. While the gateway runs, lines on standard input control
//! the count, and each is answered on standard output by a line that begins with `counted`:
//!
//! - `begin`: counts from here on.
//! - `begin FRAMES FILE`: also keeps that many callers of each allocation for FILE.
//! - `end`: says how many allocations there were and of how many bytes, and writes FILE.
//!
//! See `benches::allocations`.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() -> ExitCode {
    // A compile worker limits its own process before it starts threads.
    if env::args().nth(1).as_deref() == Some("serve") {
        // It ends with the process, or when standard input is closed.
        thread::spawn(count);
    }
    gateway::cli::main()
}

fn count() {
    let mut profiler = None;
    for line in io::stdin().lines().map_while(Result::ok) {
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["begin"] => {
                // The fewest callers that it can find: they are not shown.
                let builder = dhat::Profiler::builder().testing().trim_backtraces(Some(0));
                profiler = Some(builder.build());
                String::from("begun")
            }
            ["begin", frames, file] => {
                let builder = dhat::Profiler::builder().trim_backtraces(frames.parse().ok());
                profiler = Some(builder.file_name(file).build());
                String::from("begun")
            }
            ["end"] if profiler.is_some() => {
                let stats = dhat::HeapStats::get();
                // Writes the file, if there is one.
                profiler = None;
                format!("{} {}", stats.total_blocks, stats.total_bytes)
            }
            _ => String::from("not understood"),
        };
        if writeln!(io::stdout(), "counted {answer}").is_err() {
            return;
        }
    }
}
