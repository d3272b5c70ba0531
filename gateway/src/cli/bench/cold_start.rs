//! `mayfly bench cold-start`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use runtime_pool::Tier;

use crate::cli::{
    bench::{
        measurement::{Bench, Question, Series},
        report::{Report, Row, time},
        rounds::Plan,
        statistics::OBSERVATIONS_MIN,
        subject::{self, Subject},
    },
    client::Remote,
    commands::{invoke::parse_header, progress::Progress},
    failure::Failure,
    output::{Output, print, print_line, table},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ColdStart {
    /// WebAssembly files to measure
    #[arg(value_name = "FILE", required_unless_present = "function")]
    files: Vec<PathBuf>,
    /// A function of a running gateway: its artifact is downloaded and measured here, with its
    /// settings; may be repeated
    #[arg(long, value_name = "NAME")]
    function: Vec<String>,
    /// Tiers to measure, separated by commas
    #[arg(
        long,
        value_name = "TIERS",
        value_delimiter = ',',
        default_value = "frozen,cold,loaded,warm"
    )]
    tiers: Vec<MeasuredTier>,
    /// Time for each tier of each file; slow ones take longer, to have at least six samples
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Maximum number of samples of each tier of each file
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = iterations())]
    iterations: u32,
    /// File to write all samples to, for `mayfly bench compare`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Directory of native code, to keep it between measurements; not that of a running gateway
    /// [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    code_dir: Option<PathBuf>,
    #[command(flatten)]
    request: RequestOptions,
    #[command(flatten)]
    remote: Remote,
}

/// The request to measure with. The response must have status 200.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Request")]
struct RequestOptions {
    /// Path and query
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = path)]
    path: String,
    /// Method [default: GET, or POST with --data]
    #[arg(long, short = 'X')]
    method: Option<Method>,
    /// A header; may be repeated
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The body
    #[arg(long, short = 'd', value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,
}

/// A tier on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MeasuredTier {
    /// The function is compiled first
    Frozen,
    /// The function is loaded from native code first
    Cold,
    /// The function is in memory; an instance is made
    Loaded,
    /// A warm instance is used
    Warm,
}

impl MeasuredTier {
    fn tier(self) -> Tier {
        match self {
            Self::Frozen => Tier::Frozen,
            Self::Cold => Tier::Cold,
            Self::Loaded => Tier::Loaded,
            Self::Warm => Tier::Warm,
        }
    }
}

fn iterations() -> impl clap::builder::TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(OBSERVATIONS_MIN as i64..=100_000)
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("must begin with `/`".to_owned()) }
}

impl RequestOptions {
    fn question(self) -> Question {
        let body = self.data.map(Bytes::from);
        let default = if body.is_some() { Method::POST } else { Method::GET };
        let method = self.method.unwrap_or(default);
        Question { method, path: self.path, headers: self.header, body }
    }
}

impl ColdStart {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        let dir = tempfile::tempdir()
            .map_err(|error| Failure::failed(format!("making a directory: {error}")))?;
        let code_dir = self.code_dir.clone().unwrap_or_else(|| dir.path().join("code"));
        let question = self.request.clone().question();
        let mut report = Report::new(format!("{} {}", question.method, question.path));
        let subjects = subject::find(&self.files, &self.function, &self.remote, dir.path()).await?;
        let bench = Bench::new(&code_dir, question)?;
        let plan = Plan::new(self.iterations as usize, Duration::from_secs(self.seconds));
        let tiers: Vec<Tier> = self.tiers.iter().map(|wanted| wanted.tier()).collect();
        let progress = Progress::spinner("compiling", self.remote.output);
        report.rows = measure(&bench, &subjects, &tiers, plan, &progress).await?;
        if let Some(path) = &self.json {
            report.write(path)?;
        }
        match self.remote.output {
            Output::Text => print(to_text(&report).as_bytes())?,
            Output::Json => print_line(&report.to_json()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A row for each subject and tier.
async fn measure(
    bench: &Bench,
    subjects: &[Subject],
    tiers: &[Tier],
    plan: Plan,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let mut series = Vec::new();
    for subject in subjects {
        let kind = bench.prepare(subject).await?;
        // Each once, in the order of the tiers.
        for tier in Tier::ALL.into_iter().rev().filter(|tier| tiers.contains(tier)) {
            series.push(Series::new(subject, kind, tier));
        }
    }
    for round in 1..=plan.rounds() {
        progress.say(format!("round {round} of {}", plan.rounds()));
        let mut measured = false;
        for one in &mut series {
            measured |= one.round(bench, &plan).await?;
        }
        if !measured {
            break;
        }
    }
    progress.clear();
    Ok(series.into_iter().map(Series::into_row).collect())
}

/// The medians of a few starts of one file for `GET /`, in microseconds, each after its tier.
pub(in crate::cli) async fn estimate(
    file: &Path,
    output: Output,
) -> Result<Vec<(String, f64)>, Failure> {
    let dir = tempfile::tempdir()
        .map_err(|error| Failure::failed(format!("making a directory: {error}")))?;
    let question =
        Question { method: Method::GET, path: "/".to_owned(), headers: Vec::new(), body: None };
    let bench = Bench::new(dir.path(), question)?;
    let plan = Plan::new(OBSERVATIONS_MIN, Duration::from_secs(1));
    let tiers = [Tier::Frozen, Tier::Cold, Tier::Loaded];
    let progress = Progress::spinner("compiling", output);
    let rows = measure(&bench, &[Subject::of_file(file)?], &tiers, plan, &progress).await.map_err(
        |failure| failure.note("hint: `mayfly bench cold-start` measures other requests"),
    )?;
    Ok(rows.into_iter().map(|row| (row.tier.clone(), row.median())).collect())
}

fn to_text(report: &Report) -> String {
    let head = ["NAME", "TIER", "MEDIAN", "95 % INTERVAL", "P99", "SAMPLES", "PHASES"];
    let rows: Vec<Vec<String>> = report.rows.iter().map(cells).collect();
    let machine = &report.machine;
    format!(
        "mayfly {}, {}, {} cores ({}), load average {}\n\n{}",
        report.mayfly,
        report.request,
        machine.cores,
        machine.processor,
        machine.load_average,
        table(&head, &rows)
    )
}

fn cells(row: &Row) -> Vec<String> {
    let interval = row
        .interval()
        .map_or_else(|| "-".to_owned(), |(low, high)| format!("{}..{}", time(low), time(high)));
    let phases = row.phases.iter().map(|phase| format!("{} {}", phase.name, time(phase.median_us)));
    vec![
        row.name.clone(),
        row.tier.clone(),
        time(row.median()),
        interval,
        time(row.p99()),
        row.samples().to_string(),
        phases.collect::<Vec<_>>().join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        command: ColdStart,
    }

    fn parse(arguments: &[&str]) -> Result<ColdStart, String> {
        let line = ["cold-start"].iter().chain(arguments);
        Line::try_parse_from(line).map(|line| line.command).map_err(|error| error.to_string())
    }

    #[test]
    fn something_must_be_named() {
        assert!(parse(&[]).unwrap_err().contains("<FILE>"));
        assert!(parse(&["a.wasm"]).is_ok() && parse(&["--function", "a"]).is_ok());
        assert!(parse(&["a.wasm", "--iterations", "5"]).unwrap_err().contains("6..=100000"));
        assert!(parse(&["a.wasm", "--path", "x"]).unwrap_err().contains("begin with `/`"));
        assert!(parse(&["a.wasm", "--tiers", "cold,hot"]).unwrap_err().contains("hot"));
    }

    #[test]
    fn a_request_with_a_body_is_a_post() {
        let question = |arguments: &[&str]| parse(arguments).unwrap().request.question();
        assert_eq!(question(&["a.wasm"]).method, Method::GET);
        let post = question(&["a.wasm", "-d", "x", "--path", "/p?q"]);
        assert_eq!((post.method, post.path.as_str()), (Method::POST, "/p?q"));
        assert_eq!(question(&["a.wasm", "-d", "x", "-X", "PUT"]).method, Method::PUT);
    }
}
