//! `mayfly apply`, `mayfly diff` and `mayfly schema`: all that a project has, in one file.

mod plan;
mod stored;

use std::{path::PathBuf, process::ExitCode};

use gateway_api::{Manifest, PlanView};
use http::Method;

use self::plan::{changes, deletions, summary};
use crate::cli::{
    client::{Answer, Client, Remote, problem_about},
    commands::deploy::DEPLOY,
    failure::Failure,
    manifest::{FILE_NAME, ManifestFile, schema},
    output::{Output, print, print_line},
    terminal,
};

/// The exit code of `mayfly diff` if the gateway is not as the manifest says. Failures have 1.
const DIFFERS: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct ApplyManifest {
    #[command(flatten)]
    project: ProjectOptions,
    /// Print the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete without asking
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DiffManifest {
    #[command(flatten)]
    project: ProjectOptions,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PrintSchema;

#[derive(Debug, clap::Args)]
struct ProjectOptions {
    /// The manifest
    #[arg(default_value = FILE_NAME)]
    file: PathBuf,
    /// Delete what the project has made before and the manifest does not name
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    remote: Remote,
}

impl ApplyManifest {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let output = self.project.remote.output;
        let mut project = Project::open(&self.project).await?;
        let answer = project.plan().await?;
        let planned: PlanView = answer.parse()?;
        if output == Output::Text {
            print(changes(&planned.steps).as_bytes())?;
        }
        if self.dry_run {
            match output {
                Output::Text => print_line(&summary(&planned))?,
                Output::Json => answer.print_json()?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let deleted = deletions(&planned.steps);
        if deleted > 0 && !self.yes && !confirmed(deleted)? {
            return Err(Failure::failed("nothing was changed"));
        }
        let answer = project.apply(planned.plan).await?;
        match output {
            Output::Text => print_line(&summary(&answer.parse()?))?,
            Output::Json => answer.print_json()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl DiffManifest {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Project::open(&self.project).await?.plan().await?;
        let planned: PlanView = answer.parse()?;
        match self.project.remote.output {
            Output::Text => {
                print(changes(&planned.steps).as_bytes())?;
                print_line(&summary(&planned))?;
            }
            Output::Json => answer.print_json()?,
        }
        let differs = planned.steps.iter().any(|step| step.action != "keep");
        Ok(if differs { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
    }
}

impl PrintSchema {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        print_line(&format!("{:#}", schema()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn confirmed(deleted: usize) -> Result<bool, Failure> {
    let things = if deleted == 1 { "1 thing" } else { &format!("{deleted} things") };
    terminal::ask(&format!("Apply this plan, which deletes {things}?"))?.ok_or_else(|| {
        Failure::usage(format!("cannot ask whether to delete {things} without a terminal"))
            .note("hint: add --yes")
    })
}

/// A manifest whose artifacts and files the gateway has.
struct Project {
    client: Client,
    file: ManifestFile,
    manifest: Manifest,
}

impl Project {
    /// Reads the manifest, and sends what the gateway does not have.
    async fn open(options: &ProjectOptions) -> Result<Self, Failure> {
        let file = ManifestFile::read(&options.file)?;
        let local = stored::read(&file)?;
        let client = Client::new(&options.remote)?;
        let stored = stored::send(&client, local, options.remote.output).await?;
        let manifest = Manifest { prune: options.prune, ..file.manifest(&stored)? };
        Ok(Self { client, file, manifest })
    }

    /// Asks what would change.
    async fn plan(&mut self) -> Result<Answer, Failure> {
        self.manifest.dry_run = true;
        self.post().await
    }

    /// Changes what the plan with this tag says, and nothing if there is another plan by now.
    async fn apply(mut self, tag: String) -> Result<Answer, Failure> {
        self.manifest.dry_run = false;
        self.manifest.plan = Some(tag);
        self.post().await
    }

    async fn post(&self) -> Result<Answer, Failure> {
        let request = self.client.json_request(Method::POST, "/v1/apply", &self.manifest)?;
        let answer = self.client.answer(request, DEPLOY).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let place = |path: &str, detail: &str| self.file.told(path, detail);
        Err(problem_about(answer.status, &answer.body, place))
    }
}
