//! The commands about the revisions of a function: revisions, activate, rollback, history.

use std::process::ExitCode;

use gateway_api::{ChangeView, FunctionView, HistoryView, RevisionView, RevisionsView};

use crate::{
    cli::{
        client::{Answer, Client, Remote, transport::escape},
        commands::functions::PAGE,
        failure::Failure,
        output::{Output, print_line},
        printable::printable,
    },
    config::sizes,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Revisions {
    /// Name of the function
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Revisions {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["REVISION", "ACTIVE", "VERSION", "KIND", "SIZE", "CREATED", "DIGEST"];
        let rows = |page: RevisionsView| page.revisions.into_iter().map(revision_row).collect();
        let path = format!("/v1/functions/{}/revisions", escape(&self.name));
        let client = Client::new(&self.remote)?;
        client.print_list((&path, PAGE), self.remote.output, &head, rows).await
    }
}

fn revision_row(view: RevisionView) -> Vec<String> {
    vec![
        view.revision.to_string(),
        if view.active { "yes" } else { "" }.to_owned(),
        view.version.unwrap_or_default(),
        view.kind,
        sizes::format(view.bytes),
        view.created_at,
        view.digest,
    ]
}

#[derive(Debug, clap::Args)]
pub(crate) struct Activate {
    /// Name of the function
    name: String,
    /// Number of the revision
    revision: u64,
    #[command(flatten)]
    remote: Remote,
}

impl Activate {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let (name, revision) = (escape(&self.name), self.revision);
        let answer =
            client.post(&format!("/v1/functions/{name}/revisions/{revision}/activate")).await?;
        print_revision(&answer, self.remote.output)
    }
}

fn print_revision(answer: &Answer, output: Output) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => answer.print_json()?,
        Output::Text => {
            let view: FunctionView = answer.parse()?;
            print_line(&format!("{} is at revision {}", printable(&view.name), view.revision))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Name of the function
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Rollback {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let path = format!("/v1/functions/{}/rollback", escape(&self.name));
        print_revision(&client.post(&path).await?, self.remote.output)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Name of the function
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl History {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["TIME", "ACTION", "CHANNEL", "FROM", "TO", "BY", "ADDRESS", "DETAIL"];
        let rows = |page: HistoryView| page.changes.into_iter().map(change_row).collect();
        let path = format!("/v1/functions/{}/history", escape(&self.name));
        let client = Client::new(&self.remote)?;
        client.print_list((&path, PAGE), self.remote.output, &head, rows).await
    }
}

fn change_row(view: ChangeView) -> Vec<String> {
    let summary = view.detail.as_ref().and_then(|detail| detail["summary"].as_str());
    let summary = summary.unwrap_or_default().to_owned();
    vec![
        view.made_at,
        view.action,
        view.channel,
        view.from.map(|from| from.to_string()).unwrap_or_default(),
        view.to.to_string(),
        view.made_by,
        view.made_from,
        summary,
    ]
}
