//! `mayfly store`: what functions keep.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use gateway_api::{
    EntriesView, EntryKeyView, ImportedView, StoreBackend, StoreQuotaView, StoreSpec, StoreView,
    StoresView,
};
use http::{Method, header};
use http_body_util::BodyExt as _;

use crate::{
    cli::{
        client::{
            Answer, Client, Remote,
            body::{FileBody, read_argument},
            build,
            transport::{self, escape},
            unreadable,
        },
        commands::functions::PAGE,
        failure::Failure,
        output::{self, Output, print_line},
        printable::printable,
    },
    config::sizes,
};

/// The time for an export or an import on a slow line.
const TRANSFER: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum StoreCommand {
    /// Make a store, or change its quota, e.g. `store set carts --bytes 10485760`
    Set(SetStore),
    /// List the stores with what is in them
    List(ListStores),
    /// Show a store with what is in it
    Show(OneStore),
    /// Delete a store with all that is in it
    Delete(DeleteStore),
    /// List the keys of a store
    Entries(ListEntries),
    /// Print the value of an entry
    Get(OneEntry),
    /// Write an entry, e.g. `store put carts customer/17 '{"items":3}'`
    Put(PutEntry),
    /// Remove an entry
    Remove(OneEntry),
    /// Write all entries to a file or to standard output, a line of JSON for each
    Export(ExportStore),
    /// Write the entries of such lines into a store, in place of those with the same keys
    Import(ImportStore),
}

/// Where the data of a store is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Backend {
    /// In a file of the gateway
    Embedded,
    /// In the gateway's memory, until it ends
    Memory,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetStore {
    /// Name of the store
    name: String,
    /// Where its data is; it stays there
    #[arg(long, value_enum, default_value = "embedded")]
    backend: Backend,
    /// Bytes of all keys, values and metadata [default: as the operator has set it]
    #[arg(long, value_name = "BYTES")]
    bytes: Option<u64>,
    /// Keys [default: as the operator has set it]
    #[arg(long, value_name = "NUMBER")]
    keys: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListStores {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneStore {
    /// Name of the store
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteStore {
    /// Name of the store
    name: String,
    /// Delete it also while functions may open it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListEntries {
    /// Name of the store
    name: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneEntry {
    /// Name of the store
    name: String,
    /// The key
    key: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutEntry {
    /// Name of the store
    name: String,
    /// The key
    key: String,
    /// The value: the text itself, @FILE, or - for standard input
    #[arg(value_name = "DATA")]
    value: String,
    /// Seconds after which it expires
    #[arg(long, value_name = "SECONDS")]
    ttl_s: Option<u64>,
    /// A text to keep with it
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportStore {
    /// Name of the store
    name: String,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportStore {
    /// Name of the store
    name: String,
    /// The file to read, or - for standard input
    file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

impl StoreCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.show().await,
            Self::Delete(command) => command.run().await,
            Self::Entries(command) => command.run().await,
            Self::Get(command) => command.get().await,
            Self::Put(command) => command.run().await,
            Self::Remove(command) => command.remove().await,
            Self::Export(command) => command.run().await,
            Self::Import(command) => command.run().await,
        }
    }
}

impl SetStore {
    async fn run(self) -> Result<ExitCode, Failure> {
        let backend = match self.backend {
            Backend::Embedded => StoreBackend::Embedded,
            Backend::Memory => StoreBackend::Memory,
        };
        let quota = StoreQuotaView { bytes: self.bytes, keys: self.keys };
        let client = Client::new(&self.remote)?;
        let answer = client.put_json(&path(&self.name), &StoreSpec { backend, quota }).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let StoreView { name, usage, quota, .. } = answer.parse()?;
                let (bytes, most) = (sizes::format(usage.bytes), sizes::format(quota.bytes));
                let line = format!(
                    "{name} has {bytes} of {most}, and {} of {} keys",
                    usage.keys, quota.keys
                );
                print_line(&printable(&line))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ListStores {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["STORE", "KIND", "BACKEND", "KEYS", "SIZE", "QUOTA"];
        let rows = |page: StoresView| page.stores.into_iter().map(row).collect();
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/stores", PAGE), self.remote.output, &head, rows).await
    }
}

impl OneStore {
    async fn show(self) -> Result<ExitCode, Failure> {
        // Its members are the same in both forms: a table would leave out most of them.
        Client::new(&self.remote)?.get(&path(&self.name)).await?.print_json()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl DeleteStore {
    async fn run(self) -> Result<ExitCode, Failure> {
        let force = if self.force { "?force=true" } else { "" };
        let delete = format!("{}{force}", path(&self.name));
        let answer = Client::new(&self.remote)?.delete(&delete).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

impl ListEntries {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["KEY", "EXPIRES", "METADATA"];
        let rows = |page: EntriesView| page.entries.into_iter().map(entry_row).collect();
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let query = format!("{PAGE}&prefix={}", escape(prefix));
        let entries = format!("{}/entries", path(&self.name));
        let client = Client::new(&self.remote)?;
        client.print_list((&entries, &query), self.remote.output, &head, rows).await
    }
}

impl OneEntry {
    async fn get(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.get(&entry_path(&self.name, &self.key)).await?;
        print_value(&answer)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn remove(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.delete(&entry_path(&self.name, &self.key)).await?;
        answer.done(self.remote.output, "removed", &self.key)
    }
}

impl PutEntry {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let mut query = Vec::new();
        query.extend(self.ttl_s.map(|seconds| format!("ttl_s={seconds}")));
        query.extend(self.metadata.map(|text| format!("metadata={}", escape(&text))));
        let target = format!("{}?{}", entry_path(&self.name, &self.key), query.join("&"));
        let request = client
            .request(Method::PUT, target.trim_end_matches('?'))?
            .header(header::CONTENT_TYPE, "application/octet-stream");
        let value = transport::full(read_argument(&self.value)?);
        let answer = client.send(build(request, value)?, TRANSFER).await?;
        answer.done(self.remote.output, "written", &self.key)
    }
}

impl ExportStore {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let export = format!("{}/export", path(&self.name));
        let Some(to) = &self.to else {
            client.download(&export, output::print).await?;
            return Ok(ExitCode::SUCCESS);
        };
        let unwritable = |error: io::Error| {
            Failure::failed(format!("writing {}: {error}", printable(&to.to_string_lossy())))
        };
        let mut file = File::create(to).map_err(unwritable)?;
        client.download(&export, |lines| file.write_all(lines).map_err(unwritable)).await?;
        file.sync_all().map_err(unwritable)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ImportStore {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let body = match self.file == Path::new("-") {
            true => FileBody::stdin(),
            false => FileBody::open(&self.file),
        };
        let body = body.map_err(|error| unreadable(&self.file, &error))?.boxed_unsync();
        let request = client
            .request(Method::POST, &format!("{}/import", path(&self.name)))?
            .header(header::CONTENT_TYPE, "application/x-ndjson");
        let answer = client.send(build(request, body)?, TRANSFER).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let ImportedView { entries } = answer.parse()?;
                print_line(&format!("written: {entries}"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a value unchanged, but for a terminal as text that it does not obey.
fn print_value(answer: &Answer) -> Result<(), Failure> {
    match str::from_utf8(&answer.body) {
        Ok(text) if io::stdout().is_terminal() => print_line(&printable(text)),
        Err(_) if io::stdout().is_terminal() => Err(Failure::failed("the value is not text")
            .note("hint: send it to a file: `mayfly store get NAME KEY > FILE`")),
        Ok(_) | Err(_) => output::print(&answer.body),
    }
}

fn row(view: StoreView) -> Vec<String> {
    let StoreView { kind, name, backend, quota, usage, .. } = view;
    let backend = match backend {
        StoreBackend::Embedded => "embedded",
        StoreBackend::Memory => "memory",
    };
    let (size, most) = (sizes::format(usage.bytes), sizes::format(quota.bytes));
    vec![name, kind, backend.to_owned(), usage.keys.to_string(), size, most]
}

fn entry_row(view: EntryKeyView) -> Vec<String> {
    vec![view.key, view.expires_at.unwrap_or_default(), view.metadata.unwrap_or_default()]
}

fn path(name: &str) -> String {
    format!("/v1/stores/keyvalue/{}", escape(name))
}

fn entry_path(name: &str, key: &str) -> String {
    format!("{}/entries/{}", path(name), escape(key))
}
