//! Files that functions are given: sending them at a deploy, and `mayfly files`.

pub(crate) mod archive;

use std::{io::Seek as _, path::Path, process::ExitCode, time::Duration};

use gateway_api::{FunctionView, OtherSettings, RevisionsView, TreePageView, TreeView};
use http::{Method, header};
use http_body_util::BodyExt as _;

use self::archive::Archived;
use crate::{
    cli::{
        client::{Client, Remote, body::FileBody, build, transport::escape},
        commands::progress::Progress,
        failure::Failure,
        output::Output,
        printable::printable,
    },
    config::sizes,
};

/// The time for an upload on a slow line, and for unpacking it.
const SEND: Duration = Duration::from_secs(30 * 60);

/// List the files that a function's guests can read.
#[derive(Debug, clap::Args)]
pub(crate) struct FilesOf {
    /// Name of the function
    name: String,
    /// Revision whose files are listed [default: the active one]
    #[arg(long, value_name = "N")]
    revision: Option<u32>,
    #[command(flatten)]
    remote: Remote,
}

impl FilesOf {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let settings = self.settings(&client).await?;
        let Some(files) = settings.files else {
            let name = printable(&self.name);
            return Err(Failure::failed(format!("{name} is given no files"))
                .note("hint: `mayfly deploy FILE --name NAME --files DIR` gives it some"));
        };
        let path = format!("/v1/files/{}", escape(&files.tree));
        let rows = |page: TreePageView| {
            let entries = page.entries.into_iter().map(|entry| match (entry.digest, entry.bytes) {
                (Some(digest), Some(bytes)) => vec![entry.path, sizes::format(bytes), digest],
                _ => vec![entry.path + "/", String::new(), String::new()],
            });
            entries.collect()
        };
        let head = ["PATH", "SIZE", "DIGEST"];
        client.print_list((&path, "limit=1000"), self.remote.output, &head, rows).await
    }

    async fn settings(&self, client: &Client) -> Result<OtherSettings, Failure> {
        let path = format!("/v1/functions/{}", escape(&self.name));
        let Some(number) = self.revision else {
            return Ok(client.get(&path).await?.parse::<FunctionView>()?.settings.others);
        };
        // The list goes down from below the cursor.
        let before = u64::from(number) + 1;
        let cursor =
            u32::try_from(before).map_or_else(|_| String::new(), |n| format!("&cursor={n}"));
        let answer = client.get(&format!("{path}/revisions?limit=1{cursor}")).await?;
        let found = answer.parse::<RevisionsView>()?.revisions.into_iter().next();
        match found.filter(|revision| revision.revision == number) {
            Some(revision) => Ok(revision.settings.others),
            None => {
                let name = printable(&self.name);
                Err(Failure::failed(format!("{name} has no revision {number}")))
            }
        }
    }
}

/// Stores the files in and below a directory, unless the gateway has them, and returns the digest of
/// their tree.
pub(crate) async fn send(
    client: &Client,
    directory: &Path,
    output: Output,
) -> Result<String, Failure> {
    let Archived { mut file, digest } = archive::archive(directory)?;
    let path = format!("/v1/files/{digest}?limit=1");
    if client.has(&path).await? {
        return Ok(digest);
    }
    let failed = |error: std::io::Error| Failure::failed(format!("reading an archive: {error}"));
    let length = file.metadata().map_err(failed)?.len();
    file.rewind().map_err(failed)?;
    let message = format!("sending {}", printable(&directory.to_string_lossy()));
    let progress = Progress::upload(length, message, output);
    let body = FileBody::sized(file, length, progress.clone());
    let request = client
        .request(Method::POST, "/v1/files")?
        .header(header::CONTENT_TYPE, "application/x-tar")
        .header(header::CONTENT_ENCODING, "zstd");
    let sent = client.send(build(request, body.boxed_unsync())?, SEND).await;
    progress.clear();
    let stored: TreeView = sent?.parse()?;
    if stored.digest != digest {
        return Err(Failure::failed(format!(
            "the gateway has stored other files than those in {}: {} instead of {digest}",
            printable(&directory.to_string_lossy()),
            printable(&stored.digest)
        )));
    }
    Ok(digest)
}
