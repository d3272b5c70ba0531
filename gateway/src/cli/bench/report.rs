//! A measurement as a JSON file, for `compare` and for plots.

use std::{collections::HashSet, fs, num::NonZero, path::Path, thread};

use serde::{Deserialize, Serialize};

use super::{
    super::failure::Failure,
    statistics::{OBSERVATIONS_MAX, median, median_interval, p99},
};

/// The version of the format. It changes with every change that an older `compare` would misread.
const FORMAT: &str = "mayfly-cold-start/1";

/// A measurement: the machine, the request, and all samples.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    format: String,
    /// The version of this program.
    pub(crate) mayfly: String,
    pub(crate) measured_at: String,
    pub(crate) machine: Machine,
    /// Method and path of the request.
    pub(crate) request: String,
    pub(crate) rows: Vec<Row>,
}

/// The machine of the measurement. Times of different machines cannot be compared.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// Load averages at the beginning, over 1, 5 and 15 minutes.
    pub(crate) load_average: String,
}

/// One function started from one tier.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) kind: String,
    pub(crate) tier: String,
    /// The samples of each round: microseconds to the first byte of the response.
    pub(crate) rounds_us: Vec<Vec<f64>>,
    /// The phases of the start.
    pub(crate) phases: Vec<MedianPhase>,
}

/// One phase of a start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MedianPhase {
    pub(crate) name: String,
    /// The median over all samples.
    pub(crate) median_us: f64,
}

impl Report {
    pub(crate) fn new(request: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            mayfly: env!("CARGO_PKG_VERSION").to_owned(),
            measured_at: format!("{:.0}", jiff::Timestamp::now()),
            machine: Machine::observe(),
            request,
            rows: Vec::new(),
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        fs::write(path, self.to_json()?)
            .map_err(|error| Failure::failed(format!("writing {}: {error}", path.display())))
    }

    /// The content of the file.
    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string(self)
            .map_err(|error| Failure::failed(format!("writing the measurement: {error}")))
    }

    /// Reads a file that [`Self::write`] has written. Any other file is a wrong command.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path)
            .map_err(|error| Failure::usage(format!("reading {}: {error}", path.display())))?;
        let wrong = |why: String| {
            Failure::usage(format!("{} is no measurement: {why}", path.display()))
                .note("hint: `mayfly bench cold-start FILE --json OUT` makes one")
        };
        let report: Self =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        report.check().map_err(wrong)?;
        Ok(report)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("`format` is `{}`, not `{FORMAT}`", self.format));
        }
        if self.rows.is_empty() {
            return Err("`rows` is empty".to_owned());
        }
        let mut seen = HashSet::new();
        for row in &self.rows {
            let what = format!("the row `{} {}`", row.name, row.tier);
            if !seen.insert((&row.name, &row.tier)) {
                return Err(format!("{what} is there twice"));
            }
            if row.rounds_us.is_empty() || row.rounds_us.len() > OBSERVATIONS_MAX {
                return Err(format!("{what} has no rounds, or more than {OBSERVATIONS_MAX}"));
            }
            let positive = |&sample: &f64| sample.is_finite() && sample > 0.0;
            if row.rounds_us.iter().any(|round| round.is_empty() || !round.iter().all(positive)) {
                return Err(format!("{what} has a round without samples, or one not above zero"));
            }
        }
        Ok(())
    }
}

impl Row {
    /// One per round.
    pub(crate) fn observations(&self) -> Vec<f64> {
        self.rounds_us.iter().map(|round| median(round)).collect()
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.observations())
    }

    /// The interval that contains the true median with 95 % confidence.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        median_interval(&self.observations())
    }

    pub(crate) fn p99(&self) -> f64 {
        p99(&self.rounds_us.concat())
    }

    pub(crate) fn samples(&self) -> usize {
        self.rounds_us.iter().map(Vec::len).sum()
    }
}

impl Machine {
    fn observe() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let processor = processor.and_then(|line| line.split_once(':'));
        let load = read("/proc/loadavg");
        Self {
            cores: thread::available_parallelism().map_or(1, NonZero::get),
            processor: processor.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    /// Whether times of both machines can be compared.
    pub(crate) fn resembles(&self, other: &Self) -> bool {
        (self.cores, &self.processor) == (other.cores, &other.processor)
    }
}

/// A time with a unit and three significant digits.
pub(crate) fn time(us: f64) -> String {
    let (value, unit) = match us {
        _ if us < 1e3 => (us, "µs"),
        _ if us < 1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let decimals = match value {
        _ if value < 10.0 => 2,
        _ if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rounds_us: Vec<Vec<f64>>) -> Row {
        Row {
            name: "hello".to_owned(),
            digest: String::new(),
            kind: String::new(),
            tier: "cold".to_owned(),
            rounds_us,
            phases: Vec::new(),
        }
    }

    fn report(rows: Vec<Row>) -> Report {
        Report { rows, ..Report::new("GET /".to_owned()) }
    }

    #[test]
    fn a_round_is_one_observation() {
        let row = row(vec![vec![1.0, 9.0, 2.0], vec![5.0], vec![4.0, 4.0]]);
        assert_eq!(row.observations(), [2.0, 5.0, 4.0]);
        assert_eq!((row.median(), row.p99(), row.samples()), (4.0, 9.0, 6));
        assert_eq!(row.interval(), None);
    }

    #[test]
    fn a_report_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let written = report(vec![row(vec![vec![1.25]; 6])]);
        written.write(&path).unwrap();
        let read = Report::read(&path).unwrap();
        assert_eq!((read.machine, read.measured_at), (written.machine, written.measured_at));
        assert_eq!(read.rows[0].rounds_us, written.rows[0].rounds_us);
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_the_place() {
        let good = || row(vec![vec![1.0]; 6]);
        for (rows, says) in [
            (vec![], "`rows` is empty"),
            (vec![good(), good()], "`hello cold` is there twice"),
            (vec![row(vec![])], "no rounds"),
            (vec![row(vec![vec![]])], "without samples"),
            (vec![row(vec![vec![0.0]])], "not above zero"),
            (vec![row(vec![vec![1.0]; 61])], "more than 60"),
        ] {
            let error = report(rows).check().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let other = Report { format: "x/9".to_owned(), ..report(vec![good()]) };
        assert!(other.check().unwrap_err().contains("`x/9`"));
    }

    #[test]
    fn times_have_a_fitting_unit() {
        let times = [9.5, 28.34, 281.2, 1_424.0, 58_600.0, 5_100_000.0].map(time);
        assert_eq!(times, ["9.50 µs", "28.3 µs", "281 µs", "1.42 ms", "58.6 ms", "5.10 s"]);
    }
}
