//! The command line: its commands and their output.
//!
//! `mayfly serve`, and the client commands for the control plane.
//!
//! The client commands use the public API alone, in the types of `gateway_api`. `mayfly bench`,
//! `mayfly check` and `mayfly restore` need no server.
//! Exit codes: 0 success, 1 failure, 2 a wrong command or wrong settings; that of `mayfly diff` is 2
//! if anything differs.

mod bench;
mod check;
mod client;
pub(crate) mod commands;
mod failure;
mod manifest;
mod output;
mod printable;
mod terminal;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};

use self::failure::Failure;

#[derive(Debug, Parser)]
#[command(name = "mayfly", version, about = "A serverless gateway for WebAssembly")]
#[command(infer_subcommands = false, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Box<crate::cli::commands::node::serve::Serve>),
    /// Deploy a WebAssembly file as a function, or as a new revision of one
    Deploy(Box<crate::cli::commands::deploy::Deploy>),
    /// Make a gateway have what a manifest says: functions, channels, routes, schedules, queues, flows
    Apply(Box<crate::cli::commands::apply::ApplyManifest>),
    /// Print what `apply` would change: exit code 0 if nothing, 2 if anything
    Diff(crate::cli::commands::apply::DiffManifest),
    /// Print the JSON schema of `mayfly.toml`, for editors and other programs
    Schema(crate::cli::commands::apply::PrintSchema),
    /// Check whether a WebAssembly file can be deployed, and what it needs
    Check(check::Check),
    /// List the functions
    List(crate::cli::commands::functions::ListFunctions),
    /// Show one function with its settings and limits
    Show(crate::cli::commands::functions::ShowFunction),
    /// Delete a function with all its revisions
    Delete(crate::cli::commands::functions::DeleteFunction),
    /// Call a function and print its response
    Invoke(crate::cli::commands::invoke::Invoke),
    /// List, show, run again and remove calls that were enqueued
    #[command(subcommand)]
    Invocations(crate::cli::commands::triggers::invocations::InvocationsCommand),
    /// Print a function's log
    Logs(crate::cli::commands::logs::Logs),
    /// List the files that a function's guests can read
    Files(crate::cli::commands::files::FilesOf),
    /// List the revisions of a function
    Revisions(crate::cli::commands::releases::revisions::Revisions),
    /// Compare two revisions of a function
    #[command(subcommand)]
    Revision(crate::cli::commands::releases::diff::RevisionCommand),
    /// Make a revision the active one
    Activate(crate::cli::commands::releases::revisions::Activate),
    /// Go back to the revision that was active before
    Rollback(crate::cli::commands::releases::revisions::Rollback),
    /// List who changed the active revision of a function, when and from where
    History(crate::cli::commands::releases::revisions::History),
    /// Set, list and delete channels: named pointers to revisions, with weights
    #[command(subcommand)]
    Channel(crate::cli::commands::releases::channel::ChannelCommand),
    /// Set, list, show and delete routes: which requests go to which function
    #[command(subcommand)]
    Route(crate::cli::commands::releases::route::RouteCommand),
    /// Set, list, show, run, pause and delete schedules: when functions are called, by the calendar
    #[command(subcommand)]
    Schedule(crate::cli::commands::triggers::schedule::ScheduleCommand),
    /// Set, list, show and delete queues, and publish, peek, purge and redrive their messages
    #[command(subcommand)]
    Queue(crate::cli::commands::triggers::queue::QueueCommand),
    /// Set, list, show, run and delete flows: functions that are called one after the other
    #[command(subcommand)]
    Flow(crate::cli::commands::triggers::flow::FlowCommand),
    /// Make, list, show and delete stores, and read, write, export and import what is in them
    #[command(subcommand)]
    Store(crate::cli::commands::store::StoreCommand),
    /// Change settings of a function, e.g. `set greet cpu_ms=500 environment.LANG=de`
    Set(crate::cli::commands::functions::SetSettings),
    /// Store, list and delete secrets that the gateway adds to requests of functions
    #[command(subcommand)]
    Secret(crate::cli::commands::access::secret::SecretCommand),
    /// Store, list, show and delete certificates of hosts
    #[command(subcommand)]
    Certificate(crate::cli::commands::access::certificate::CertificateCommand),
    /// Create, list and revoke tokens for the control plane
    #[command(subcommand)]
    Token(crate::cli::commands::access::token::TokenCommand),
    /// Write everything that a gateway has stored to one file, while it runs
    Backup(crate::cli::commands::node::backup::BackUp),
    /// Make a data directory of a backup; no gateway runs on it yet
    Restore(crate::cli::commands::node::backup::Restore),
    /// Measure how fast functions start, and compare measurements
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Check or show the gateway's settings
    #[command(subcommand)]
    Config(crate::cli::commands::node::settings::SettingsCommand),
    /// Compile one artifact; only the gateway runs this
    #[command(hide = true)]
    CompileWorker {
        /// The artifact's digest and the worker's limits
        job: Vec<String>,
    },
}

/// Runs the command that this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed stream does not change the exit code.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        // First: the worker limits its own process, and threads that were started before would
        // escape those limits.
        Command::CompileWorker { job } => return runtime_pool::compile_worker(&job),
        Command::Serve(serve) => serve.run(),
        Command::Config(command) => command.run(),
        Command::Check(command) => client(command.run()),
        Command::Schema(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Deploy(command) => client(command.run()),
        Command::Apply(command) => client(command.run()),
        Command::Diff(command) => client(command.run()),
        Command::List(command) => client(command.run()),
        Command::Show(command) => client(command.run()),
        Command::Delete(command) => client(command.run()),
        Command::Invoke(command) => client(command.run()),
        Command::Invocations(command) => client(command.run()),
        Command::Logs(command) => client(command.run()),
        Command::Files(command) => client(command.run()),
        Command::Revisions(command) => client(command.run()),
        Command::Revision(command) => client(command.run()),
        Command::Activate(command) => client(command.run()),
        Command::Rollback(command) => client(command.run()),
        Command::History(command) => client(command.run()),
        Command::Channel(command) => client(command.run()),
        Command::Route(command) => client(command.run()),
        Command::Schedule(command) => client(command.run()),
        Command::Queue(command) => client(command.run()),
        Command::Flow(command) => client(command.run()),
        Command::Store(command) => client(command.run()),
        Command::Set(command) => client(command.run()),
        Command::Secret(command) => client(command.run()),
        Command::Certificate(command) => client(command.run()),
        Command::Token(command) => client(command.run()),
        Command::Backup(command) => client(command.run()),
        Command::Bench(command) => client(command.run()),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

/// Runs a client command, on one thread: it sends one request at a time.
fn client(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // Without waiting: a read from a terminal may never end.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_compile_worker_is_hidden_but_there() {
        let cli = Cli::try_parse_from(["mayfly", "compile-worker", "1", "2", "3", "4"]).unwrap();
        assert!(matches!(cli.command, Command::CompileWorker { .. }));
        assert!(!Cli::command().render_help().to_string().contains("compile-worker"));
    }
}
