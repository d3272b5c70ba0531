//! `mayfly secret`: values that the gateway adds to requests of functions.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
};

use gateway_api::{PutSecret, SecretsView};

use crate::cli::{
    client::{Client, Remote, transport::escape},
    failure::Failure,
    output::{Output, print, table},
};

/// Far above the API's own limit; bounds the memory for wrong input.
const VALUE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SecretCommand {
    /// Store or replace a secret; the value is read from standard input
    Set(SetSecret),
    /// List the secrets, without their values
    List(ListSecrets),
    /// Delete a secret
    Delete(DeleteSecret),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetSecret {
    /// Name of the secret, by which functions' settings refer to it
    name: String,
    /// A host that it may be sent to, e.g. https://api.example.com, or '*' for every host in
    /// functions' settings; may be repeated
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// A function that may use it; may be repeated [default: every function]
    #[arg(long = "function", value_name = "NAME")]
    functions: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListSecrets {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteSecret {
    /// Name of the secret
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl SecretCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}

impl SetSecret {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        // Not an argument: other users of the machine see arguments, and shells record them.
        let value = read_value("the value")?;
        let functions = (!self.functions.is_empty()).then_some(self.functions);
        let secret = PutSecret { value, hosts: self.hosts, functions };
        let answer = client.put_json(&path(&self.name), &secret).await?;
        answer.done(self.remote.output, "stored", &self.name)
    }
}

impl ListSecrets {
    async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.get("/v1/secrets").await?;
        if self.remote.output == Output::Json {
            answer.print_json()?;
            return Ok(ExitCode::SUCCESS);
        }
        let page: SecretsView = answer.parse()?;
        let rows = page.secrets.into_iter().map(|secret| {
            let (hosts, functions) = (secret.hosts.join(","), secret.functions.join(","));
            vec![secret.name, hosts, functions, secret.created_at, secret.updated_at]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        print(table(&["NAME", "HOSTS", "FUNCTIONS", "CREATED", "UPDATED"], &rows).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl DeleteSecret {
    async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.delete(&path(&self.name)).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", escape(name))
}

/// Reads standard input, without a line break at its end.
pub(crate) fn read_value(what: &str) -> Result<String, Failure> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        // A closed standard error is not a failure.
        let _ = writeln!(io::stderr().lock(), "type {what}, then Ctrl-D; it is shown as you type");
    }
    let mut value = String::new();
    input
        .take(VALUE_BYTES_MAX)
        .read_to_string(&mut value)
        .map_err(|error| Failure::failed(format!("reading standard input: {error}")))?;
    let value = value
        .strip_suffix('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .unwrap_or(&value);
    Ok(value.to_owned())
}
