//! `mayfly certificate`: certificates of owners' hosts.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gateway_api::{CertificateView, CertificatesView, PutCertificate};

use crate::cli::{
    client::{Client, Remote, transport::escape, unreadable},
    failure::Failure,
    output::{Output, print_line},
    printable::printable,
};

/// Far above the API's own limit; bounds the memory for wrong input.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum CertificateCommand {
    /// Store or replace a certificate with its key, e.g.
    /// `certificate set shop --chain fullchain.pem --key privkey.pem`
    Set(SetCertificate),
    /// List the certificates, without their keys
    List(ListCertificates),
    /// Show one certificate, without its key
    Show(ShowCertificate),
    /// Delete a certificate
    Delete(DeleteCertificate),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetCertificate {
    /// Name of the certificate
    name: String,
    /// PEM file with the certificate and those that have signed it
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// PEM file with the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListCertificates {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowCertificate {
    /// Name of the certificate
    name: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteCertificate {
    /// Name of the certificate
    name: String,
    /// Also while a route has one of its hosts
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

impl CertificateCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}

impl SetCertificate {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let certificate = PutCertificate { chain: read(&self.chain)?, key: read(&self.key)? };
        let answer = client.put_json(&path(&self.name), &certificate).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => print_line(&summary(&answer.parse()?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ListCertificates {
    async fn run(self) -> Result<ExitCode, Failure> {
        let rows = |page: CertificatesView| {
            let certificates = page.certificates.into_iter();
            let rows = certificates.map(|one| vec![one.name, one.hosts.join(","), one.not_after]);
            rows.collect()
        };
        let list = ("/v1/certificates", "limit=1000");
        let head = ["NAME", "HOSTS", "EXPIRES"];
        Client::new(&self.remote)?.print_list(list, self.remote.output, &head, rows).await
    }
}

impl ShowCertificate {
    async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.get(&path(&self.name)).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => print_line(&summary(&answer.parse()?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl DeleteCertificate {
    async fn run(self) -> Result<ExitCode, Failure> {
        let query = if self.force { "?force=true" } else { "" };
        let path = path(&self.name) + query;
        let answer = Client::new(&self.remote)?.delete(&path).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

fn summary(view: &CertificateView) -> String {
    let (name, hosts) = (printable(&view.name), view.hosts.join(", "));
    let (hosts, end) = (printable(&hosts), printable(&view.not_after));
    format!("{name}: for {hosts}, until {end}\nfingerprint {}", printable(&view.fingerprint))
}

fn path(name: &str) -> String {
    format!("/v1/certificates/{}", escape(name))
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| unreadable(path, &error))?;
    Ok(text)
}
