//! `mayfly deploy`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Seek as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use gateway_api::{ChangeFunction, FunctionView};
use http::{Method, StatusCode, header, request};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        client::{
            Answer, Client, Remote,
            body::{self, Consent, FileBody},
            build,
            transport::escape,
            unreadable,
        },
        commands::{files, patch, progress::Progress},
        failure::Failure,
        output::{Output, print_line, snapshot_line},
        printable::printable,
    },
    config::sizes,
};

/// The time for the upload on a slow line, the wait for a compiler and the compilation together. The
/// gateway has deadlines of its own for the last two.
pub(crate) const DEPLOY: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// The WebAssembly file: a component or a module
    file: PathBuf,
    /// Name of the function
    #[arg(long)]
    name: String,
    /// A variable of the function's environment; may be repeated. A value that others must not see
    /// in the list of processes: KEY=@FILE, or KEY=- for standard input
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Memory of one instance, e.g. 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// CPU time of one invocation, in milliseconds
    #[arg(long, value_name = "MS")]
    cpu_ms: Option<u64>,
    /// Wall-clock time of one invocation, in milliseconds
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Invocations that may run at the same time
    #[arg(long, value_name = "N")]
    concurrency: Option<u64>,
    /// Instances that stay warm without calls
    #[arg(long, value_name = "N")]
    min_warm: Option<u64>,
    /// The most instances that stay warm
    #[arg(long, value_name = "N")]
    max_warm: Option<u64>,
    /// Isolation of invocations: `request`, each has a fresh instance; `reuse`, they use one
    /// instance in turn
    #[arg(long, value_name = "MODE", value_parser = ["request", "reuse"])]
    isolation: Option<String>,
    /// A host that the function may call; may be repeated
    #[arg(long, value_name = "PATTERN")]
    allow_host: Vec<String>,
    /// Directory whose files the function can read; they belong to the revision
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Directory at which the function sees the files [default: that of the revision before, or /]
    #[arg(long, value_name = "PATH", requires = "files")]
    files_at: Option<String>,
    /// Start instances from a snapshot that is taken after a call of this export [default:
    /// wizer-initialize]; --snapshot=false ends that
    #[arg(long, value_name = "EXPORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    snapshot: Option<String>,
    /// A setting of the function, as `mayfly set` takes it, e.g. grants.keyvalue.default=carts; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Semantic version of the revision, e.g. 1.2.3
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// A label of the revision, e.g. commit=4be1f0c; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Description of the function
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn size(text: &str) -> Result<u64, String> {
    sizes::parse(text).ok_or_else(|| sizes::EXPECTED.to_owned())
}

impl Deploy {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let mut settings = self.settings()?;
        let client = Client::new(&self.remote)?;
        if let Some(directory) = &self.files {
            let tree = files::send(&client, directory, self.remote.output).await?;
            let at = self.files_at.as_deref().map(|at| ("at".to_owned(), at.into()));
            let files = [("tree".to_owned(), Value::from(tree))].into_iter().chain(at).collect();
            settings.insert("files".to_owned(), Value::Object(files));
        }
        let path = format!("/v1/functions/{}", escape(&self.name));
        let uploaded = self.upload(&client, &path, &settings).await?;
        // A second request: the description is not a setting, so the upload cannot carry it.
        let described = match &self.description {
            Some(text) => {
                let description = Some(Some(text.clone()));
                let change = ChangeFunction { description, settings: None };
                Some(client.patch(&path, &change).await?)
            }
            None => None,
        };
        let latest = described.as_ref().unwrap_or(&uploaded);
        match self.remote.output {
            Output::Json => latest.print_json()?,
            Output::Text => print_line(&summary(uploaded.status, &latest.parse()?))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The settings that the flags choose.
    fn settings(&self) -> Result<Map<String, Value>, Failure> {
        let mut settings = patch::settings_patch(&self.set)?;
        let integers = [
            ("memory_bytes", self.memory),
            ("cpu_ms", self.cpu_ms),
            ("timeout_ms", self.timeout_ms),
            ("concurrency", self.concurrency),
            ("min_warm", self.min_warm),
            ("max_warm", self.max_warm),
        ];
        for (key, value) in integers {
            if let Some(value) = value {
                settings.insert(key.to_owned(), value.into());
            }
        }
        if let Some(mode) = &self.isolation {
            settings.insert("isolation".to_owned(), json!({ "mode": mode }));
        }
        if !self.env.is_empty() {
            settings.insert("environment".to_owned(), patch::environment(&self.env)?);
        }
        if let Some(snapshot) = &self.snapshot {
            settings.insert("snapshot".to_owned(), patch::snapshot(snapshot));
        }
        if !self.allow_host.is_empty() {
            let hosts = patch::hosts(self.allow_host.iter().map(String::as_str));
            settings.insert("outbound".to_owned(), hosts);
        }
        Ok(settings)
    }

    async fn upload(
        &self,
        client: &Client,
        path: &str,
        settings: &Map<String, Value>,
    ) -> Result<Answer, Failure> {
        let failed = |error: &std::io::Error| unreadable(&self.file, error);
        let mut file = File::open(&self.file).map_err(|error| failed(&error))?;
        // The digest precedes the body, so the file is read twice. If it changes in between, the
        // gateway refuses the upload because of the digest.
        let (length, digest) = body::digest(&file).map_err(|error| failed(&error))?;
        file.rewind().map_err(|error| failed(&error))?;
        let mut request = client
            .request(Method::PUT, path)?
            .header(header::CONTENT_TYPE, "application/wasm")
            .header("repr-digest", body::repr_digest(&digest));
        if !settings.is_empty() {
            let json = patch::to_ascii(&Value::Object(settings.clone()));
            request = request.header("mayfly-settings", json);
        }
        if let Some(version) = &self.version {
            request = request.header("mayfly-version", version);
        }
        if !self.label.is_empty() {
            let labels: BTreeMap<_, _> = self.label.iter().cloned().collect();
            request = request.header("mayfly-labels", patch::to_ascii(&json!(labels)));
        }
        let artifact = ArtifactFile { path: &self.file, file, length };
        artifact.send(client, request, self.remote.output).await
    }
}

/// A file with an artifact, open at its beginning.
pub(crate) struct ArtifactFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) file: File,
    pub(crate) length: u64,
}

impl ArtifactFile<'_> {
    /// Sends it as the body of `request`, once the gateway agrees to take it.
    pub(crate) async fn send(
        self,
        client: &Client,
        request: request::Builder,
        output: Output,
    ) -> Result<Answer, Failure> {
        let Self { path, file, length } = self;
        let message = format!("sending {}", printable(&path.to_string_lossy()));
        let progress = Progress::upload(length, message, output);
        let consent = Consent::default();
        let body = FileBody::sized(file, length, progress.clone()).after(&consent);
        let mut request = build(request, body.boxed_unsync())?;
        consent.ask(&mut request);
        let outcome = client.send(request, DEPLOY).await;
        progress.clear();
        outcome
    }
}

fn summary(status: StatusCode, view: &FunctionView) -> String {
    let done = if status == StatusCode::CREATED { "deployed" } else { "unchanged:" };
    let url = printable(&view.url);
    let (name, kind) = (printable(&view.name), printable(&view.kind));
    let size = sizes::format(view.bytes);
    let mut text = format!("{done} {name}, revision {} ({kind}, {size})\n{url}", view.revision);
    if let Some(made) = view.inactive_revision {
        text = format!(
            "{done} {name}, revision {made}, which is not active: the channel `default` is at {}\n{url}",
            view.revision
        );
    }
    if let Some(snapshot) = &view.snapshot {
        text.push_str(&format!("\nsnapshot {}", printable(&snapshot_line(snapshot))));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::commands::functions::example;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        deploy: Deploy,
    }

    fn settings(flags: &[&str]) -> Value {
        let line = ["deploy", "a.wasm", "--name", "greet"].iter().chain(flags);
        Value::Object(Line::parse_from(line).deploy.settings().unwrap())
    }

    #[test]
    fn only_the_settings_of_the_flags_are_sent() {
        assert_eq!(settings(&[]), json!({}));
        assert_eq!(
            settings(&[
                "--memory",
                "64MiB",
                "--env",
                "A=1",
                "--env",
                "B=",
                "--allow-host",
                "x.example"
            ]),
            json!({
                "memory_bytes": 67_108_864,
                "environment": {"A": "1", "B": ""},
                "outbound": ["x.example"],
            })
        );
    }

    #[test]
    fn a_setting_without_a_flag_of_its_own_is_given_by_its_name() {
        assert_eq!(
            settings(&["--set", "grants.keyvalue.default=carts", "--set", "ungranted=deny"]),
            json!({"grants": {"keyvalue": {"default": "carts"}}, "ungranted": "deny"})
        );
    }

    #[test]
    fn a_snapshot_is_asked_for_with_or_without_a_name() {
        assert_eq!(settings(&["--snapshot"]), json!({"snapshot": true}));
        assert_eq!(settings(&["--snapshot=false"]), json!({"snapshot": false}));
        assert_eq!(settings(&["--snapshot=prepare"]), json!({"snapshot": "prepare"}));
    }

    #[test]
    fn the_summary_has_the_outcome_of_the_snapshot() {
        let snapshot = json!({"taken": true, "init_ms": 812, "bytes": 1024});
        let taken = example(json!({ "snapshot": snapshot }));
        let text = summary(StatusCode::CREATED, &taken);
        assert!(
            text.ends_with("\nsnapshot taken: saves 812 ms of start-up, 1 KiB of memory"),
            "{text}"
        );
        let snapshot = json!({"taken": false, "reason": "it asks\nfor the time"});
        let not = example(json!({ "snapshot": snapshot }));
        let text = summary(StatusCode::OK, &not);
        assert!(text.ends_with("\nsnapshot not taken: it asks\\nfor the time"), "{text}");
    }

    #[test]
    fn the_summary_tells_a_new_revision_from_an_old_one() {
        let view = example(json!({}));
        assert_eq!(
            summary(StatusCode::CREATED, &view),
            "deployed greet, revision 3 (http, 1.5 KiB)\nhttp://127.0.0.1:8080/f/greet"
        );
        assert!(summary(StatusCode::OK, &view).starts_with("unchanged: greet, revision 3"));
    }
}
