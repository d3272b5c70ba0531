//! `mayfly logs`.

use std::{process::ExitCode, time::Duration};

use gateway_api::{LineView, LogView};

use crate::cli::{
    client::{Answer, Client, Remote, transport::escape},
    failure::Failure,
    output::{Output, print},
    printable::printable,
};

/// The interval at which `--follow` polls.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Name of the function
    name: String,
    /// Keep printing new lines
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only the lines of one invocation
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,
    /// Number of lines to print
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

impl Logs {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let mut cursor: Option<i64> = None;
        loop {
            let answer = client.get(&self.path(cursor)).await?;
            let page: LogView = answer.parse()?;
            self.print(&answer, &page)?;
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            // No pause after a full page: the next one has probably been written already.
            let more = page.lines.len() >= self.limit as usize;
            cursor = page.next_cursor.or(cursor);
            if !more || page.lines.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    fn path(&self, after: Option<i64>) -> String {
        let mut path = format!("/v1/functions/{}/logs?limit={}", escape(&self.name), self.limit);
        if let Some(after) = after {
            path.push_str(&format!("&after={after}"));
        }
        if let Some(invocation) = &self.invocation {
            path.push_str(&format!("&invocation={}", escape(invocation)));
        }
        path
    }

    fn print(&self, answer: &Answer, page: &LogView) -> Result<(), Failure> {
        match self.remote.output {
            // `--follow` prints no empty pages.
            Output::Json if self.follow && page.lines.is_empty() => Ok(()),
            Output::Json => answer.print_json(),
            Output::Text => {
                let text: String = page.lines.iter().map(show).collect();
                print(text.as_bytes())
            }
        }
    }
}

fn show(line: &LineView) -> String {
    let (time, stream) = (printable(&line.time), printable(&line.stream));
    format!("{time} {stream:<6} {}\n", printable(line.line.trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_guest_cannot_steer_the_terminal() {
        let line = LineView {
            cursor: 1,
            invocation: String::new(),
            revision: 1,
            time: "2026-01-02T03:04:05Z".to_owned(),
            stream: "stderr".to_owned(),
            line: "\x1b]0;owned\x07 hello\r\n".to_owned(),
        };
        assert_eq!(show(&line), "2026-01-02T03:04:05Z stderr \\u{1b}]0;owned\\u{7} hello\n");
    }
}
