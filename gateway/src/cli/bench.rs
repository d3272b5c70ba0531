//! `mayfly bench`: how fast functions start, and whether that has changed.

mod cold_start;
mod compare;
mod measurement;
mod report;
mod rounds;
mod statistics;
mod subject;

use std::process::ExitCode;

pub(super) use self::{cold_start::estimate, report::time};
use super::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure how fast functions answer from each tier: frozen, cold, loaded, warm
    ColdStart(Box<cold_start::ColdStart>),
    /// Compare two measurements: exit code 1 if anything is worse
    Compare(compare::Compare),
}

impl BenchCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            // Boxed: the future contains all settings.
            Self::ColdStart(command) => Box::pin(command.run()).await,
            Self::Compare(command) => command.run(),
        }
    }
}
