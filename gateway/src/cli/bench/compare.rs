//! `mayfly bench compare`: better, worse or no change, with an exit code for CI.

use std::{path::PathBuf, process::ExitCode};

use super::{
    super::{
        failure::Failure,
        output::{print, print_line, table},
    },
    report::{Report, Row, time},
    statistics::chance,
};

/// The significance level: a difference counts if chance alone causes it less often than this. One
/// in a hundred, because a measurement has many rows, each with its own probability of error.
const CHANCE_MAX: f64 = 0.01;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Compare {
    /// The measurement to compare with, as `mayfly bench cold-start --json` wrote it
    old: PathBuf,
    /// The measurement to judge
    new: PathBuf,
    /// Smallest difference of the median that counts
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    threshold: f64,
    /// Condition for exit code 1
    #[arg(long, value_enum, value_name = "WHAT", default_value = "worse")]
    fail_on: FailOn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// A row that is worse, or that the new measurement does not have
    Worse,
    /// Never
    Nothing,
}

/// The result of comparing a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Worse,
    Better,
    NoChange,
    /// Only the old measurement has it.
    Missing,
    /// Only the new measurement has it.
    New,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Better => "better",
            Self::NoChange => "no change",
            Self::Missing => "missing",
            Self::New => "new",
        }
    }

    /// Whether the comparison fails. A missing row fails: an empty measurement must not pass.
    fn fails(self) -> bool {
        match self {
            Self::Worse | Self::Missing => true,
            Self::Better | Self::NoChange | Self::New => false,
        }
    }

    /// Compares two rows. A difference counts if it is both large enough and significant.
    fn of(old: &Row, new: &Row, threshold: f64) -> Self {
        let ratio = new.median() / old.median();
        let real = chance(&old.observations(), &new.observations()) < CHANCE_MAX;
        match ratio {
            _ if !real => Self::NoChange,
            _ if ratio > 1.0 + threshold => Self::Worse,
            _ if ratio < 1.0 / (1.0 + threshold) => Self::Better,
            _ => Self::NoChange,
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100_000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected a percentage from 0% up, e.g. 5%".to_owned()),
    }
}

impl Compare {
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        let (old, new) = (Report::read(&self.old)?, Report::read(&self.new)?);
        let verdicts = compare(&old, &new, self.threshold);
        print(table_of(&verdicts).as_bytes())?;
        for note in notes(&old, &new) {
            print_line(&format!("note: {note}"))?;
        }
        let fails = verdicts.iter().any(|(_, _, verdict)| verdict.fails());
        Ok(match self.fail_on {
            FailOn::Worse if fails => ExitCode::FAILURE,
            FailOn::Worse | FailOn::Nothing => ExitCode::SUCCESS,
        })
    }
}

type Compared<'a> = (Option<&'a Row>, Option<&'a Row>, Verdict);

/// The rows of both in the order of the old measurement, then the rows that only the new one has.
fn compare<'a>(old: &'a Report, new: &'a Report, threshold: f64) -> Vec<Compared<'a>> {
    let same = |a: &Row, b: &Row| (&a.name, &a.tier) == (&b.name, &b.tier);
    let known = old.rows.iter().map(|before| {
        let after = new.rows.iter().find(|after| same(before, after));
        let verdict = after.map_or(Verdict::Missing, |after| Verdict::of(before, after, threshold));
        (Some(before), after, verdict)
    });
    let more = new.rows.iter().filter(|after| !old.rows.iter().any(|before| same(before, after)));
    known.chain(more.map(|after| (None, Some(after), Verdict::New))).collect()
}

fn table_of(verdicts: &[Compared<'_>]) -> String {
    let rows: Vec<Vec<String>> = verdicts
        .iter()
        .map(|&(old, new, verdict)| {
            let named = old.or(new);
            let text =
                |text: fn(&Row) -> &String| named.map_or_else(String::new, |r| text(r).clone());
            let median =
                |row: Option<&Row>| row.map_or_else(|| "-".to_owned(), |row| time(row.median()));
            let (change, chance) = match (old, new) {
                (Some(old), Some(new)) => (
                    format!("{:+.1} %", (new.median() / old.median() - 1.0) * 100.0),
                    probability(chance(&old.observations(), &new.observations())),
                ),
                _ => ("-".to_owned(), "-".to_owned()),
            };
            vec![
                text(|row| &row.name),
                text(|row| &row.tier),
                median(old),
                median(new),
                change,
                chance,
                verdict.as_str().to_owned(),
            ]
        })
        .collect();
    table(&["NAME", "TIER", "OLD", "NEW", "CHANGE", "P", "VERDICT"], &rows)
}

fn probability(chance: f64) -> String {
    if chance < 0.001 { "<0.001".to_owned() } else { format!("{chance:.3}") }
}

/// Differences between the measurements that limit the comparison.
fn notes(old: &Report, new: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if !old.machine.resembles(&new.machine) {
        notes.push(format!(
            "measured on different machines: {} cores ({}) and {} cores ({})",
            old.machine.cores, old.machine.processor, new.machine.cores, new.machine.processor
        ));
    }
    if old.request != new.request {
        notes.push(format!("different requests: {} and {}", old.request, new.request));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thirty rounds of one sample each, `us` and a few percent more.
    fn row(name: &str, us: f64) -> Row {
        Row {
            name: name.to_owned(),
            digest: String::new(),
            kind: String::new(),
            tier: "cold".to_owned(),
            rounds_us: (0..30).map(|n| vec![us * (1.0 + f64::from(n) / 1_000.0)]).collect(),
            phases: Vec::new(),
        }
    }

    fn report(rows: Vec<Row>) -> Report {
        let mut report = Report::new("GET /".to_owned());
        report.rows = rows;
        report
    }

    #[test]
    fn a_difference_must_be_both_large_and_certain() {
        let old = row("a", 100.0);
        for (us, verdict) in [
            (100.0, Verdict::NoChange),
            (104.0, Verdict::NoChange),
            (106.0, Verdict::Worse),
            (96.0, Verdict::NoChange),
            (94.0, Verdict::Better),
        ] {
            assert_eq!(Verdict::of(&old, &row("a", us), 0.05), verdict, "{us}");
        }
        let (mut few, mut fewer) = (row("a", 100.0), row("a", 200.0));
        few.rounds_us.truncate(3);
        fewer.rounds_us.truncate(3);
        assert_eq!(Verdict::of(&few, &fewer, 0.05), Verdict::NoChange, "chance does that");
    }

    #[test]
    fn a_row_that_is_gone_fails_and_a_new_one_does_not() {
        let old = report(vec![row("a", 1.0), row("b", 1.0)]);
        let new = report(vec![row("b", 1.0), row("c", 1.0)]);
        let compared = compare(&old, &new, 0.05);
        let verdicts: [Verdict; 3] = std::array::from_fn(|row| compared[row].2);
        assert_eq!(verdicts, [Verdict::Missing, Verdict::NoChange, Verdict::New]);
        assert_eq!(verdicts.map(Verdict::fails), [true, false, false]);
        let table = table_of(&compared);
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("a     cold  1.01 µs  -"), "{table}");
    }

    #[test]
    fn a_different_machine_or_request_is_noted() {
        let (old, mut new) = (report(vec![row("a", 1.0)]), report(vec![row("a", 1.0)]));
        assert!(notes(&old, &new).is_empty());
        new.machine.cores += 1;
        new.request = "POST /".to_owned();
        assert_eq!(notes(&old, &new).len(), 2);
    }

    #[test]
    fn a_threshold_is_a_percentage() {
        assert_eq!(percent("5%"), Ok(0.05));
        assert_eq!(percent("12.5 %"), Ok(0.125));
        assert_eq!(percent("900"), Ok(9.0));
        for wrong in ["", "x", "-1%", "nan", "inf"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
