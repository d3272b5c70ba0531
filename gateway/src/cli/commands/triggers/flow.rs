//! `mayfly flow`: functions that are called one after the other.

use std::{fs, path::PathBuf, process::ExitCode};

use gateway_api::{
    DurableRunView, DurableRunsView, FlowSpec, FlowStep, FlowView, FlowsView, StartFlow,
    StartedFlow,
};
use serde_json::Value;

use crate::cli::{
    client::{Client, Remote, transport::escape, unreadable},
    commands::{functions::PAGE, triggers::read_document},
    failure::Failure,
    output::{Output, print_line},
    printable::printable,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum FlowCommand {
    /// Set a flow from a file of JSON, e.g. `flow set checkout --file checkout.json`
    Set(SetFlow),
    /// List the flows
    List(ListFlows),
    /// Show a flow with its last runs
    Show(OneFlow),
    /// Delete a flow
    Delete(DeleteFlow),
    /// Start an asynchronous run
    Run(RunFlow),
    /// List the asynchronous runs of a flow, the newest first, or show one with its steps
    Runs(FlowRuns),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetFlow {
    /// Name of the flow
    name: String,
    /// The file with the flow
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListFlows {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneFlow {
    /// Name of the flow
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteFlow {
    /// Name of the flow
    name: String,
    /// Delete runs that are not done with it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunFlow {
    /// Name of the flow
    name: String,
    /// The input as JSON: the text itself, or @FILE
    #[arg(short = 'd', long = "data", value_name = "DATA", default_value = "null")]
    data: String,
    /// A name for the run, so that it can be started again
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FlowRuns {
    /// Name of the flow
    name: String,
    /// Id of a run, to show it with its steps
    id: Option<String>,
    /// Only runs in this state: due, running, succeeded, dead or cancelled
    #[arg(long, value_name = "STATE", conflicts_with = "id")]
    state: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl FlowCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Delete(command) => command.run().await,
            Self::Run(command) => command.run().await,
            Self::Runs(command) => command.run().await,
        }
    }
}

impl SetFlow {
    async fn run(self) -> Result<ExitCode, Failure> {
        let spec: FlowSpec = read_document(&self.file, "flow")?;
        let answer = Client::new(&self.remote)?.put_json(&path(&self.name), &spec).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let FlowView { name, flow, .. } = answer.parse()?;
                print_line(&printable(&format!("{name} runs {}", steps(&flow))))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ListFlows {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["FLOW", "STEPS", "WAITING", "RUNNING", "DEAD"];
        let rows = |page: FlowsView| page.flows.into_iter().map(row).collect();
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/flows", PAGE), self.remote.output, &head, rows).await
    }
}

impl OneFlow {
    async fn run(self) -> Result<ExitCode, Failure> {
        // Its members are the same in both forms: a table would leave out most of them.
        Client::new(&self.remote)?.get(&path(&self.name)).await?.print_json()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl DeleteFlow {
    async fn run(self) -> Result<ExitCode, Failure> {
        let force = if self.force { "?force=true" } else { "" };
        let delete = format!("{}{force}", path(&self.name));
        let answer = Client::new(&self.remote)?.delete(&delete).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

impl RunFlow {
    async fn run(self) -> Result<ExitCode, Failure> {
        let text = match self.data.strip_prefix('@').map(PathBuf::from) {
            Some(file) => fs::read(&file).map_err(|error| unreadable(&file, &error))?,
            None => self.data.into_bytes(),
        };
        let input: Value = serde_json::from_slice(&text)
            .map_err(|error| Failure::usage(format!("the input is no JSON: {error}")))?;
        let start = StartFlow { input, idempotency_key: self.idempotency_key };
        let runs = format!("{}/runs", path(&self.name));
        let answer = Client::new(&self.remote)?.post_json(&runs, &start).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let StartedFlow { id, .. } = answer.parse()?;
                print_line(&printable(&format!("{} runs as {id}", self.name)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl FlowRuns {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let runs = format!("{}/runs", path(&self.name));
        if let Some(id) = &self.id {
            client.get(&format!("{runs}/{}", escape(id))).await?.print_json()?;
            return Ok(ExitCode::SUCCESS);
        }
        let head = ["ID", "STATE", "ATTEMPTS", "CREATED", "STATUS", "ERROR"];
        let rows = |page: DurableRunsView| page.runs.into_iter().map(run_row).collect();
        let state = self.state.map(|state| format!("&state={}", escape(&state)));
        let query = format!("{PAGE}{}", state.unwrap_or_default());
        client.print_list((&runs, &query), self.remote.output, &head, rows).await
    }
}

/// The steps in a line: `a, (b, c), d`.
fn steps(flow: &FlowSpec) -> String {
    let name = |step: &FlowStep| {
        step.function.as_ref().or(step.flow.as_ref()).cloned().unwrap_or_default()
    };
    let each = flow.steps.iter().map(|step| match step.group.is_empty() {
        true => name(step),
        false => {
            let members: Vec<String> = step.group.iter().map(name).collect();
            format!("({})", members.join(", "))
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn row(view: FlowView) -> Vec<String> {
    let FlowView { name, flow, waiting, running, dead, .. } = view;
    vec![name, steps(&flow), waiting.to_string(), running.to_string(), dead.to_string()]
}

fn run_row(run: DurableRunView) -> Vec<String> {
    vec![
        run.id,
        run.state,
        run.attempts.to_string(),
        run.created_at,
        run.status.map(|status| status.to_string()).unwrap_or_default(),
        run.error.unwrap_or_default(),
    ]
}

fn path(name: &str) -> String {
    format!("/v1/flows/{}", escape(name))
}
