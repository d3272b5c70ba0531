//! The commands that read and change functions: list, show, delete, set.

use std::process::ExitCode;

use gateway_api::{FunctionView, FunctionsView};
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{
        client::{Answer, Client, Remote, transport::escape},
        commands::patch,
        failure::Failure,
        output::{Output, plain, print, snapshot_line},
        printable::printable,
        terminal,
    },
    config::sizes,
};

/// The size of a page.
pub(crate) const PAGE: &str = "limit=100";

#[derive(Debug, clap::Args)]
pub(crate) struct ListFunctions {
    #[command(flatten)]
    remote: Remote,
}

impl ListFunctions {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["NAME", "REVISION", "KIND", "SIZE", "STATE", "UPDATED", "URL"];
        let rows = |page: FunctionsView| page.functions.into_iter().map(row).collect();
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/functions", PAGE), self.remote.output, &head, rows).await
    }
}

fn row(view: FunctionView) -> Vec<String> {
    let size = sizes::format(view.bytes);
    let revision = view.revision.to_string();
    vec![view.name, revision, view.kind, size, view.state, view.updated_at, view.url]
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowFunction {
    /// Name of the function
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl ShowFunction {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = client.get(&format!("/v1/functions/{}", escape(&self.name))).await?;
        print_view(&answer, self.remote.output)
    }
}

fn print_view(answer: &Answer, output: Output) -> Result<ExitCode, Failure> {
    match output {
        Output::Json => answer.print_json()?,
        Output::Text => print(describe(&answer.parse()?).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(view: &FunctionView) -> String {
    let size = sizes::format(view.bytes);
    let mut lines = vec![
        ("name", view.name.clone()),
        ("url", view.url.clone()),
        ("revision", view.revision.to_string()),
        ("state", view.state.clone()),
        ("kind", view.kind.clone()),
        ("size", format!("{size} ({} bytes)", view.bytes)),
        ("digest", view.digest.clone()),
        ("created", view.created_at.clone()),
        ("updated", view.updated_at.clone()),
    ];
    lines.insert(1, ("description", view.description.clone()));
    if let Some(snapshot) = &view.snapshot {
        lines.push(("snapshot", snapshot_line(snapshot)));
    }
    let mut text = String::new();
    for (name, value) in lines {
        text.push_str(&format!("{name:<12} {}\n", printable(&value)));
    }
    section(&mut text, "settings (chosen by the owner)", &view.settings);
    section(&mut text, "limits (in effect)", &view.limits);
    text
}

fn section(text: &mut String, title: &str, values: &impl Serialize) {
    let Ok(Value::Object(values)) = serde_json::to_value(values) else { return };
    let shown = values.iter().filter_map(|(key, value)| plain(value).map(|value| (key, value)));
    let mut title = Some(title);
    for (key, value) in shown {
        if let Some(title) = title.take() {
            text.push_str(&format!("{title}:\n"));
        }
        text.push_str(&format!("  {:<18} {}\n", printable(key), printable(&value)));
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteFunction {
    /// Name of the function
    name: String,
    /// Delete without asking
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    remote: Remote,
}

impl DeleteFunction {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        if !self.yes && !confirmed(&self.name)? {
            return Err(Failure::failed("nothing was deleted"));
        }
        let answer = client.delete(&format!("/v1/functions/{}", escape(&self.name))).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

fn confirmed(name: &str) -> Result<bool, Failure> {
    let question = format!("Delete {} with all its revisions?", printable(name));
    terminal::ask(&question)?.ok_or_else(|| {
        Failure::usage(format!("cannot ask whether to delete {name} without a terminal"))
            .note("hint: add --yes")
    })
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetSettings {
    /// Name of the function
    name: String,
    /// Settings, e.g. memory_bytes=64MiB, environment.LANG=de, environment.PASSWORD=@FILE (or `-`
    /// for standard input) or outbound=a.example,b.example; an empty value resets one
    #[arg(required = true, value_name = "KEY=VALUE")]
    pairs: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

impl SetSettings {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let patch = patch::function_patch(&self.pairs)?;
        let client = Client::new(&self.remote)?;
        let answer = client.patch(&format!("/v1/functions/{}", escape(&self.name)), &patch).await?;
        print_view(&answer, self.remote.output)
    }
}

/// An example with these members replaced.
#[cfg(test)]
pub(crate) fn example(members: Value) -> FunctionView {
    let mut view = serde_json::json!({
        "name": "greet",
        "revision": 3,
        "digest": "sha256:0",
        "kind": "http",
        "bytes": 1536,
        "url": "http://127.0.0.1:8080/f/greet",
        "description": "",
        "state": "cold",
        "isolation": "request",
        "instances": {"running": 0, "waiting": 0},
        "settings": {},
        "limits": {},
        "created_at": "",
        "updated_at": "",
    });
    let (Value::Object(view), Value::Object(members)) = (&mut view, members) else {
        panic!("both are objects");
    };
    view.extend(members);
    serde_json::from_value(Value::Object(view.clone())).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_described_with_its_settings_and_its_limits() {
        let view = example(serde_json::json!({
            "bytes": 2048,
            "description": "says\nhello",
            "settings": {"cpu_ms": 5, "queue": null, "environment": {"A": "1"}},
            "limits": {"queue": 7},
            "a_field_of_a_later_version": true,
        }));
        let text = describe(&view);
        assert!(text.starts_with("name         greet\ndescription  says\\nhello\n"), "{text}");
        assert!(text.contains("size         2 KiB (2048 bytes)\n"));
        assert!(text.contains(
            "settings (chosen by the owner):\n  cpu_ms             5\n  environment        \
             {\"A\":\"1\"}\nlimits (in effect):\n"
        ));
        assert!(text.contains("\n  queue              7\n"), "{text}");
    }
}
