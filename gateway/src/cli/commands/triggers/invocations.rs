//! `mayfly invocations`: calls that were enqueued, and what became of them.

use std::process::ExitCode;

use gateway_api::{ChangedInvocationsView, InvocationView, InvocationsView};

use crate::cli::{
    client::{Answer, Client, Remote, transport::escape},
    commands::functions::PAGE,
    failure::Failure,
    output::{Output, print_line},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum InvocationsCommand {
    /// List calls that were enqueued, the newest first
    List(ListInvocations),
    /// Show a call with what was sent and answered
    Show(OneInvocation),
    /// Run dead calls again, under their ids
    Redrive(RedriveInvocations),
    /// Remove calls, by default dead ones
    Purge(PurgeInvocations),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListInvocations {
    /// Only calls of this function
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only calls in this state: due, running, succeeded, dead or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneInvocation {
    /// Id of the call
    id: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RedriveInvocations {
    /// Id of the call
    #[arg(required_unless_present_any = ["function", "all"])]
    id: Option<String>,
    /// All dead calls of this function
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    function: Option<String>,
    /// All dead calls
    #[arg(long, conflicts_with_all = ["id", "function"])]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PurgeInvocations {
    /// Id of the call
    #[arg(required_unless_present_any = ["function", "all"])]
    id: Option<String>,
    /// Calls of this function
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    function: Option<String>,
    /// Calls of all functions
    #[arg(long, conflicts_with_all = ["id", "function"])]
    all: bool,
    /// Calls in this state
    #[arg(long, value_name = "STATE", default_value = "dead", conflicts_with = "id")]
    state: String,
    #[command(flatten)]
    remote: Remote,
}

impl InvocationsCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Redrive(command) => command.run().await,
            Self::Purge(command) => command.run().await,
        }
    }
}

impl ListInvocations {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["ID", "FUNCTION", "CAUSE", "STATE", "ATTEMPTS", "CREATED", "STATUS", "ERROR"];
        let rows = |page: InvocationsView| page.invocations.into_iter().map(row).collect();
        let query = query(&[("function", &self.function), ("state", &self.state)]);
        let query = format!("{PAGE}{query}");
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/invocations", &query), self.remote.output, &head, rows).await
    }
}

impl OneInvocation {
    async fn run(self) -> Result<ExitCode, Failure> {
        // Its members are the same in both forms: a table would leave out most of them.
        Client::new(&self.remote)?.get(&of(&self.id)).await?.print_json()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl RedriveInvocations {
    async fn run(self) -> Result<ExitCode, Failure> {
        let path = match &self.id {
            Some(id) => format!("{}/redrive", of(id)),
            None => path("/v1/invocations/redrive", &[("function", &self.function)]),
        };
        changed(&Client::new(&self.remote)?.post(&path).await?, self.remote.output, "due again")
    }
}

impl PurgeInvocations {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        if let Some(id) = &self.id {
            return client.delete(&of(id)).await?.done(self.remote.output, "removed", id);
        }
        let query = [("function", &self.function), ("state", &Some(self.state))];
        let answer = client.delete(&path("/v1/invocations", &query)).await?;
        changed(&answer, self.remote.output, "removed")
    }
}

fn changed(answer: &Answer, output: Output, what: &str) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => answer.print_json()?,
        Output::Text => {
            let count = answer.parse::<ChangedInvocationsView>()?.count;
            print_line(&format!("{what}: {count}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(view: InvocationView) -> Vec<String> {
    vec![
        view.id,
        view.function,
        view.cause,
        view.state,
        view.attempts.to_string(),
        view.created_at,
        view.status.map(|status| status.to_string()).unwrap_or_default(),
        view.error.unwrap_or_default(),
    ]
}

fn of(id: &str) -> String {
    format!("/v1/invocations/{}", escape(id))
}

/// A path with those parameters that are there.
fn path(path: &str, query: &[(&str, &Option<String>)]) -> String {
    format!("{path}?{}", self::query(query).trim_start_matches('&'))
}

/// Those parameters that are there, each after a `&`.
fn query(query: &[(&str, &Option<String>)]) -> String {
    let given = query.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
    given.map(|(key, value)| format!("&{key}={}", escape(value))).collect()
}
