//! `mayfly token`: access to the control plane.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use gateway_api::{CreateToken, FreshTokenView, TokensView};

use crate::cli::{
    client::{Client, Remote, transport::escape},
    failure::Failure,
    output::{Output, print, print_line, table},
    printable::printable,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print it; it cannot be printed again
    Create(CreateTokenCommand),
    /// List the tokens, without their texts
    List(ListTokens),
    /// Revoke a token
    Revoke(RevokeToken),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateTokenCommand {
    /// Description of the token
    name: String,
    /// Scope of the token: read, deploy or admin; may be repeated [default: deploy]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Time until it expires, e.g. 12h or 30d [default: it does not expire]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires_in: Option<u32>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListTokens {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeToken {
    /// The token's id, as `token list` shows it
    id: String,
    #[command(flatten)]
    remote: Remote,
}

impl TokenCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Revoke(command) => command.run().await,
        }
    }
}

impl CreateTokenCommand {
    async fn run(self) -> Result<ExitCode, Failure> {
        let scopes = Some(self.scopes).filter(|scopes| !scopes.is_empty());
        let token = CreateToken { name: self.name, scopes, expires_in_s: self.expires_in };
        let client = Client::new(&self.remote)?;
        let answer = client.post_json("/v1/tokens", &token).await?;
        if self.remote.output == Output::Json {
            answer.print_json()?;
            return Ok(ExitCode::SUCCESS);
        }
        let made: FreshTokenView = answer.parse()?;
        // Only the token goes to standard output, so that it can be piped.
        print_line(&made.token)?;
        let expiry = made.row.expires_at.map_or_else(String::new, |at| format!(", expires {at}"));
        let note = format!(
            "id {}{}; the token is not shown again",
            printable(&made.row.id),
            printable(&expiry)
        );
        // A closed standard error is not a failure.
        let _ = writeln!(io::stderr().lock(), "{note}");
        Ok(ExitCode::SUCCESS)
    }
}

impl ListTokens {
    async fn run(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.get("/v1/tokens").await?;
        if self.remote.output == Output::Json {
            answer.print_json()?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = answer
            .parse::<TokensView>()?
            .tokens
            .into_iter()
            .map(|token| {
                vec![
                    token.id,
                    token.name,
                    token.scopes.join(","),
                    token.created_at,
                    token.expires_at.unwrap_or_else(|| "never".to_owned()),
                    token.revoked_at.unwrap_or_default(),
                ]
            })
            .collect();
        let head = ["ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "REVOKED"];
        print(table(&head, &rows).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl RevokeToken {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = client.delete(&format!("/v1/tokens/{}", escape(&self.id))).await?;
        answer.done(self.remote.output, "revoked", &self.id)
    }
}

/// Parses `90s`, `15m`, `12h` or `30d`.
fn seconds(text: &str) -> Result<u32, String> {
    let expected = || "expected a number with s, m, h or d, e.g. 12h or 30d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(expected()),
    };
    text[..text.len() - 1]
        .parse::<u32>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        for text in ["", "30", "d", "0d", "-1d", "1w", "1.5h", "99999999999999999999d", "5ü"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
