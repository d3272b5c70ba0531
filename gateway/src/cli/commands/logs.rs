//! `mayfly logs`.

use std::{process::ExitCode, time::Duration};

use crate::cli::{
    client::{
        Answer, Client, Remote,
        api::{LogLine, LogPage, Next, plain},
        transport::escape,
    },
    failure::Failure,
    output::{Output, print},
    printable::printable,
};

/// How often a follower asks whether there is more.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Name of the function
    name: String,
    /// Go on printing lines as they are written
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only the lines of one invocation
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,
    /// Lines to begin with
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

impl Logs {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let mut cursor: Option<String> = None;
        loop {
            let answer = client.get(&self.path(cursor.as_deref())).await?;
            let page: LogPage = answer.parse()?;
            self.print(&answer, &page)?;
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            // A full page is rarely the last one: only a shorter one is worth a pause.
            let more = page.lines.len() >= self.limit as usize;
            cursor = next_cursor(&answer, &page)?.or(cursor);
            if !more || page.lines.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    fn path(&self, after: Option<&str>) -> String {
        let mut path = format!("/v1/functions/{}/logs?limit={}", escape(&self.name), self.limit);
        for (name, value) in [("after", after), ("invocation", self.invocation.as_deref())] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escape(value)));
            }
        }
        path
    }

    fn print(&self, answer: &Answer, page: &LogPage) -> Result<(), Failure> {
        match self.remote.output {
            // A follower prints only pages with lines on them.
            Output::Json if self.follow && page.lines.is_empty() => Ok(()),
            Output::Json => answer.print_json(),
            Output::Text => {
                let text: String = page.lines.iter().map(show).collect();
                print(text.as_bytes())
            }
        }
    }
}

fn show(line: &LogLine) -> String {
    let (time, stream) = (printable(&line.time), printable(&line.stream));
    format!("{time} {stream:<6} {}\n", printable(line.line.trim_end_matches(['\r', '\n'])))
}

/// Where to go on: what the API says, else the last line seen.
fn next_cursor(answer: &Answer, page: &LogPage) -> Result<Option<String>, Failure> {
    let said = plain(&answer.parse::<Next>()?.next_cursor);
    Ok(said.or_else(|| page.lines.last().and_then(|line| plain(&line.cursor))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_guest_cannot_steer_the_terminal() {
        let line = LogLine {
            time: "2026-01-02T03:04:05Z".to_owned(),
            stream: "stderr".to_owned(),
            line: "\x1b]0;owned\x07 hello\r\n".to_owned(),
            ..LogLine::default()
        };
        assert_eq!(show(&line), "2026-01-02T03:04:05Z stderr \\u{1b}]0;owned\\u{7} hello\n");
    }
}
