//! `mayfly backup` and `mayfly restore`: everything that a gateway has stored, as one file.

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use store::Restored;
use tempfile::NamedTempFile;

use crate::{
    cli::{
        client::{Client, Remote, transport::causes},
        commands::progress::Progress,
        failure::Failure,
        output::{Output, print, print_line},
        printable::printable,
    },
    config::sizes,
    telemetry::clock::rfc3339,
};

/// How long the gateway may take to copy its databases before it begins to answer.
const COPIES: Duration = Duration::from_secs(3_600);

#[derive(Debug, clap::Args)]
pub(crate) struct BackUp {
    /// The file to write, which takes the place of one of that name; or - for standard output
    file: PathBuf,
    /// Leave out the log lines of functions
    #[arg(long)]
    without_logs: bool,
    /// Leave out the key that secrets are encrypted with, and the administrator's token: keep
    /// `secrets.key` elsewhere then, because secrets cannot be read without it
    #[arg(long)]
    without_keys: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The file that `mayfly backup` wrote; or - for standard input
    file: PathBuf,
    /// The data directory to make; it must be empty, or not exist
    #[arg(long, value_name = "DIR", env = "MAYFLY_DATA_DIR")]
    data_dir: PathBuf,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl BackUp {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let to_stdout = self.file == Path::new("-");
        if to_stdout && io::stdout().is_terminal() {
            return Err(Failure::usage("a backup is not for a terminal; name a file"));
        }
        let client = Client::new(&self.remote)?;
        let output = if to_stdout { Output::Json } else { self.remote.output };
        let progress = Progress::spinner("copying databases", output);
        let (logs, keys) = (!self.without_logs, !self.without_keys);
        let archive = client.open(&format!("/v1/backup?logs={logs}&keys={keys}"), COPIES).await?;
        progress.say("receiving");
        if to_stdout {
            each_chunk(archive, print).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let checked = self.write(archive).await?;
        progress.clear();
        match self.remote.output {
            Output::Json => print_line(&described(&self.file, &checked).to_string())?,
            Output::Text => print_line(&summary("wrote", &self.file, &checked))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes the archive beside the file, checks it, and gives it the name of the file.
    async fn write(&self, archive: Incoming) -> Result<Restored, Failure> {
        let name = self.file.display();
        let failed = |error: &io::Error| Failure::failed(format!("writing {name}: {error}"));
        let directory = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        // Only for its owner: it holds keys.
        let mut file = NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
        each_chunk(archive, |bytes| file.write_all(bytes).map_err(|error| failed(&error))).await?;
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        let written = file.reopen().map_err(|error| failed(&error))?;
        let checked = store::check_backup(BufReader::new(written)).map_err(|error| {
            Failure::failed(format!("the backup did not arrive whole: {error}"))
        })?;
        file.persist(&self.file).map_err(|error| failed(&error.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|e| failed(&e))?;
        Ok(checked)
    }
}

impl Restore {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let restored = if self.file == Path::new("-") {
            store::restore(io::stdin().lock(), &self.data_dir)
        } else {
            let file = File::open(&self.file).map_err(|error| {
                Failure::failed(format!("reading {}: {error}", self.file.display()))
            })?;
            store::restore(BufReader::new(file), &self.data_dir)
        };
        let restored = restored.map_err(|error| {
            Failure::failed(format!("{} was not restored: {error}", self.file.display()))
        })?;
        match self.output {
            Output::Json => print_line(&described(&self.data_dir, &restored).to_string())?,
            Output::Text => {
                print_line(&summary("restored", &self.data_dir, &restored))?;
                for name in &restored.missing {
                    print_line(&format!(
                        "not in the backup, as it was lost before: {}",
                        printable(name)
                    ))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn each_chunk(
    mut archive: Incoming,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while let Some(frame) = archive.frame().await {
        let frame = frame.map_err(|error| {
            Failure::failed(format!("the backup ended early: {}", causes(&error)))
                .note("hint: the gateway's log has the reason")
        })?;
        if let Ok(bytes) = frame.into_data() {
            each(&bytes)?;
        }
    }
    Ok(())
}

fn described(path: &Path, restored: &Restored) -> serde_json::Value {
    let Restored { size, version, created_ms, missing } = restored;
    json!({
        "path": path.to_string_lossy(), "files": size.files, "bytes": size.bytes,
        "version": version, "created_at": rfc3339(*created_ms), "missing": missing,
    })
}

fn summary(done: &str, path: &Path, restored: &Restored) -> String {
    let Restored { size, version, created_ms, .. } = restored;
    format!(
        "{done} {}: {} files, {}, of mayfly {} at {}",
        printable(&path.to_string_lossy()),
        size.files,
        sizes::format(size.bytes),
        printable(version),
        rfc3339(*created_ms),
    )
}
