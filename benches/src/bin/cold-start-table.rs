//! Prints the tables of `docs/cold-start.md` from the results of `cargo bench`; with `--write FILE`
//! writes them into that file instead, between its two marks.

use std::{path::PathBuf, process::ExitCode};

use benches::{cold_start_table, report};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Prints the results of `cargo bench --workspace --bench cold_start` as tables")]
struct Cli {
    /// Directory with criterion's results [default: beside this program's directory]
    #[arg(long, value_name = "DIR")]
    criterion: Option<PathBuf>,
    /// Markdown file to update between its marks `<!-- measured:begin -->` and
    /// `<!-- measured:end -->`
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
