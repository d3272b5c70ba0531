//! Results of measurements: medians with their range, tables, JSON.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::Machine;

/// A figure that was measured several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of these figures; zero when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(values);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
            return Self::default();
        };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self { median, min: *min, max: *max }
    }

    /// The cell of a table: `median (min..max)`.
    #[must_use]
    pub fn cell(&self, decimals: usize) -> String {
        let number = |value| number(value, decimals);
        if self.min == self.max {
            return number(self.median);
        }
        format!("{} ({}..{})", number(self.median), number(self.min), number(self.max))
    }
}

impl From<Spread> for [f64; 3] {
    /// A bar's range: minimum, median, maximum.
    fn from(spread: Spread) -> Self {
        [spread.min, spread.median, spread.max]
    }
}

/// The quantiles of single times.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    /// The number of times.
    pub count: usize,
    /// The least.
    pub min_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The greatest.
    pub max_ms: f64,
}

impl Quantiles {
    /// The quantiles of these times; zero when there are none.
    #[must_use]
    pub fn of(times: &[Duration]) -> Self {
        let sorted = sorted(times.iter().map(|time| time.as_secs_f64() * 1_000.0));
        let rank = |share: f64| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
        };
        Self {
            count: sorted.len(),
            min_ms: rank(0.0),
            p50_ms: rank(0.5),
            p99_ms: rank(0.99),
            max_ms: rank(1.0),
        }
    }

    /// Cells of a table: p50, p99, min..max.
    #[must_use]
    pub fn cells(&self) -> [String; 3] {
        let range = format!("{:.3}..{:.3}", self.min_ms, self.max_ms);
        [format!("{:.3}", self.p50_ms), format!("{:.3}", self.p99_ms), range]
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// A number with a thousands separator.
#[must_use]
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let digits = text.find('.').unwrap_or(text.len());
    let mut out = String::new();
    for (index, digit) in text.chars().enumerate() {
        let inside = index > 0 && index < digits && !out.ends_with('-');
        if inside && (digits - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A Markdown table.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// The results of a scenario.
#[derive(Debug)]
pub struct Findings {
    /// The report.
    pub markdown: String,
    /// The figures as JSON.
    pub figures: Value,
    /// Errors of the measurement, and warnings and errors in the gateway's log.
    pub complaints: Vec<String>,
}

/// Prints the findings, and writes them as JSON to `file` if there is one.
///
/// # Errors
/// When the output cannot be written.
pub fn publish(machine: &Machine, found: &Findings, file: Option<&Path>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n{}", machine.markdown(), found.markdown)?;
    if !found.complaints.is_empty() {
        writeln!(out, "Warnings and errors ({}):\n", found.complaints.len())?;
        for complaint in found.complaints.iter().take(10) {
            writeln!(out, "- {complaint}")?;
        }
    }
    if let Some(file) = file {
        let all = json!({
            "machine": machine,
            "figures": found.figures,
            "complaints": found.complaints,
        });
        fs::write(file, format!("{all:#}\n"))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Prints a line about the progress to standard error.
pub fn progress(text: &str) {
    // A closed standard error must not end the measurement.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_range() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread.cell(1), "2.0 (1.0..3.0)");
        assert_eq!(Spread::of([1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of([]).cell(0), "0");
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        let quantiles = Quantiles::of(&times);
        assert_eq!(quantiles.cells(), ["50.000", "99.000", "1.000..100.000"]);
        assert_eq!(Quantiles::of(&[]).count, 0);
    }

    #[test]
    fn thousands_have_a_separator() {
        assert_eq!(number(1_234_567.891, 2), "1,234,567.89");
        assert_eq!(number(123.0, 0), "123");
        assert_eq!(number(-123_456.0, 0), "-123,456");
    }
}
