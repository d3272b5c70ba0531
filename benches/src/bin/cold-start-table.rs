//! Prints the tables of `docs/cold-start.md` from what `cargo bench` has found; with `--write FILE`
//! puts them into that file instead, between its two marks.

use std::{path::PathBuf, process::ExitCode};

use benches::{cold_start_table, report};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Makes tables of what `cargo bench --workspace --bench cold_start` has found")]
struct Cli {
    /// Where criterion keeps its figures [default: beside this program's directory]
    #[arg(long, value_name = "DIR")]
    criterion: Option<PathBuf>,
    /// A Markdown file with a line `<!-- measured:begin -->` and one `<!-- measured:end -->`
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cold_start_table::publish(cli.criterion, cli.write.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("cold-start-table: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
