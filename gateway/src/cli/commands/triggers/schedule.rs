//! `mayfly schedule`: when functions are called, by the calendar.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use gateway_api::{
    CatchUpPolicy, ChangeSchedule, OverlapPolicy, ScheduleSpec, ScheduleView, ScheduledRequest,
    SchedulesView, StartedRun,
};
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::cli::{
    client::{Client, Remote, transport::escape, unreadable},
    commands::functions::PAGE,
    failure::Failure,
    output::{Output, print_line},
    printable::printable,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Set a schedule, e.g. `schedule set nightly --function report --cron '30 2 * * *' --time-zone Europe/Berlin`
    Set(Box<SetSchedule>),
    /// List the schedules
    List(ListSchedules),
    /// Show a schedule with its next due times and its last runs
    Show(NamedSchedule),
    /// Delete a schedule
    Delete(NamedSchedule),
    /// Run a schedule now
    Run(NamedSchedule),
    /// Pause a schedule: nothing is due until it is resumed
    Pause(NamedSchedule),
    /// Resume a schedule
    Resume(NamedSchedule),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetSchedule {
    /// Name of the schedule
    name: String,
    /// A file with the whole schedule as JSON, in place of all other options
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "function", "channel", "cron", "time_zone", "method", "path", "headers", "body",
            "overlap", "catch_up", "catch_up_runs", "catch_up_age_s", "paused",
        ]
    )]
    file: Option<PathBuf>,
    /// The function that is called
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    function: Option<String>,
    /// The channel of the function
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// When: minute, hour, day, month and day of the week; six fields begin with seconds, seven end
    /// with the year; or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "EXPRESSION", required_unless_present = "file")]
    cron: Option<String>,
    /// The time zone of the expression, e.g. Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// The method of the request
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// The path of the request, and its query
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// A header field of the request, e.g. content-type=application/json; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The body of the request: the text itself, or @FILE
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    body: Option<String>,
    /// What happens when a run is due and the one before it has not ended: skip or allow
    #[arg(long, value_name = "POLICY", default_value = "skip", value_parser = word::<OverlapPolicy>)]
    overlap: OverlapPolicy,
    /// Which due times run later that nothing could run on time: none, last or all
    #[arg(long, value_name = "POLICY", default_value = "last", value_parser = word::<CatchUpPolicy>)]
    catch_up: CatchUpPolicy,
    /// With --catch-up all: the most runs, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    catch_up_runs: u32,
    /// How long ago a due time may be that runs later, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    catch_up_age_s: u32,
    /// Nothing is due until it is resumed
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListSchedules {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NamedSchedule {
    /// Name of the schedule
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl ScheduleCommand {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Set(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Show(command) => command.show().await,
            Self::Delete(command) => command.delete().await,
            Self::Run(command) => command.run_now().await,
            Self::Pause(command) => command.pause(true).await,
            Self::Resume(command) => command.pause(false).await,
        }
    }
}

impl SetSchedule {
    async fn run(self) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let output = self.remote.output;
        let (name, spec) = (self.name.clone(), self.spec()?);
        let answer = client.put_json(&path(&name), &spec).await?;
        match output {
            Output::Json => answer.print_json()?,
            Output::Text => print_line(&printable(&next_line(&answer.parse()?)))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn spec(self) -> Result<ScheduleSpec, Failure> {
        if let Some(file) = &self.file {
            let text = fs::read(file).map_err(|error| unreadable(file, &error))?;
            return serde_json::from_slice(&text).map_err(|error| {
                Failure::usage(format!("{} is no schedule: {error}", file.display()))
            });
        }
        let body = match self.body {
            Some(body) => match body.strip_prefix('@').map(PathBuf::from) {
                Some(file) => {
                    fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?
                }
                None => body,
            },
            None => String::new(),
        };
        let headers: BTreeMap<_, _> = self.headers.into_iter().collect();
        Ok(ScheduleSpec {
            function: self.function.unwrap_or_default(),
            channel: self.channel,
            cron: self.cron.unwrap_or_default(),
            time_zone: self.time_zone,
            request: ScheduledRequest { method: self.method, path: self.path, headers, body },
            overlap: self.overlap,
            catch_up: self.catch_up,
            catch_up_runs: self.catch_up_runs,
            catch_up_age_s: self.catch_up_age_s,
            paused: self.paused,
        })
    }
}

impl ListSchedules {
    async fn run(self) -> Result<ExitCode, Failure> {
        let head = ["SCHEDULE", "CRON", "ZONE", "FUNCTION", "NEXT"];
        let rows = |page: SchedulesView| page.schedules.into_iter().map(row).collect();
        let client = Client::new(&self.remote)?;
        client.print_list(("/v1/schedules", PAGE), self.remote.output, &head, rows).await
    }
}

impl NamedSchedule {
    async fn show(self) -> Result<ExitCode, Failure> {
        // Its members are the same in both forms: a table would leave out most of them.
        Client::new(&self.remote)?.get(&path(&self.name)).await?.print_json()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn delete(self) -> Result<ExitCode, Failure> {
        let answer = Client::new(&self.remote)?.delete(&path(&self.name)).await?;
        answer.done(self.remote.output, "deleted", &self.name)
    }

    async fn run_now(self) -> Result<ExitCode, Failure> {
        let run = format!("{}/run", path(&self.name));
        let answer = Client::new(&self.remote)?.post(&run).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => {
                let StartedRun { invocation, .. } = answer.parse()?;
                print_line(&printable(&format!("{} runs as {invocation}", self.name)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn pause(self, paused: bool) -> Result<ExitCode, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = client.patch(&path(&self.name), &ChangeSchedule { paused }).await?;
        match self.remote.output {
            Output::Json => answer.print_json()?,
            Output::Text => print_line(&printable(&next_line(&answer.parse()?)))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(view: ScheduleView) -> Vec<String> {
    let next = due(&view);
    let ScheduleView { name, schedule, .. } = view;
    let function = match schedule.channel {
        Some(channel) => format!("{}@{channel}", schedule.function),
        None => schedule.function,
    };
    vec![name, schedule.cron, schedule.time_zone, function, next]
}

fn next_line(view: &ScheduleView) -> String {
    let ScheduleView { name, schedule, .. } = view;
    if schedule.paused {
        format!("{name} is paused")
    } else {
        format!("{name} calls {} next at {}", schedule.function, due(view))
    }
}

fn due(view: &ScheduleView) -> String {
    match view.next.first() {
        _ if view.schedule.paused => "paused".to_owned(),
        Some(next) => next.clone(),
        None => "never".to_owned(),
    }
}

fn path(name: &str) -> String {
    format!("/v1/schedules/{}", escape(name))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("expected NAME=VALUE, e.g. content-type=application/json")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A word of the API.
fn word<T: for<'de> serde::Deserialize<'de>>(text: &str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<ValueError>::new(text)).map_err(|error| error.to_string())
}
