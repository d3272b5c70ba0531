//! `mayfly revision diff`: what differs between two revisions of a function.

use std::process::ExitCode;

use gateway_api::{FilesDiff, NamesDiff, RevisionDiff, TextDiff};
use serde_json::Value;

use crate::{
    cli::{
        client::{Client, Remote, transport::escape},
        failure::Failure,
        output::{Output, print, print_line, table},
    },
    config::sizes,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RevisionCommand {
    /// Compare two revisions: settings, imports, exports and size, e.g. `revision diff greet 7 8`
    Diff(Diff),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Name of the function
    name: String,
    /// Number of the revision to compare from
    from: u32,
    /// Number of the revision to compare to
    to: u32,
    #[command(flatten)]
    remote: Remote,
}

impl RevisionCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let Self::Diff(Diff { name, from, to, remote }) = self;
        let path = format!("/v1/functions/{}/revisions/{from}/diff/{to}", escape(&name));
        let answer = Client::new(&remote)?.get(&path).await?;
        if remote.output == Output::Json {
            answer.print_json()?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = rows(answer.parse()?);
        match rows.is_empty() {
            true => print_line("no difference")?,
            false => print(table(&["WHAT", "FROM", "TO"], &rows).as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One row for each thing that differs. What one revision lacks is empty there.
fn rows(diff: RevisionDiff) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |what: &str, from: String, to: String| rows.push(vec![what.to_owned(), from, to]);
    let mut text = |what, diff: Option<TextDiff>| {
        if let Some(TextDiff { from, to }) = diff {
            row(what, from.unwrap_or_default(), to.unwrap_or_default());
        }
    };
    text("version", diff.version);
    text("kind", diff.kind);
    if !diff.same_artifact {
        row("size", sizes::format(diff.from_bytes), sizes::format(diff.to_bytes));
    }
    let mut names = |what, NamesDiff { added, removed }| {
        removed.into_iter().for_each(|name| row(what, name, String::new()));
        added.into_iter().for_each(|name| row(what, String::new(), name));
    };
    names("import", diff.imports);
    names("export", diff.exports);
    let FilesDiff { added, removed, changed, more } = diff.files;
    names("file", NamesDiff { added, removed });
    for path in changed {
        row("file", path.clone(), path);
    }
    if more {
        row("file", "…".to_owned(), "…".to_owned());
    }
    let value = |value: Option<Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    for setting in diff.settings {
        row(&setting.setting, value(setting.from), value(setting.to));
    }
    rows
}
