//! The figures of single measurements (points), and their summary over all rounds (rows).

use std::fmt;

use serde::{Serialize, Serializer};

use super::{
    Rate,
    peer::WASMTIME_SERVE,
    target::{BARE, Target},
};
use crate::{generator::Observed, process::Memory, report::Spread};

/// The load of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Setting {
    pub(super) connections: u16,
    /// The rate of an open loop; `None` for a closed loop.
    #[serde(rename = "open_loop_rate", serialize_with = "as_text")]
    pub(super) rate: Option<Rate>,
}

fn as_text<S: Serializer>(rate: &Option<Rate>, serializer: S) -> Result<S::Ok, S::Error> {
    rate.map(|rate| rate.to_string()).serialize(serializer)
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, rate } = self;
        match rate {
            None => write!(f, "{connections} connections, closed loop"),
            Some(rate) => write!(f, "{connections} connections, open loop at {rate}"),
        }
    }
}

/// A target, and its memory use before and after all rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Footprint {
    pub(super) target: String,
    pub(super) guest: Option<String>,
    pub(super) version: String,
    pub(super) isolation: String,
    pub(super) command: String,
    pub(super) idle: Memory,
    pub(super) after_load: Memory,
}

impl Footprint {
    /// Whether the target belongs to the comparison for this guest.
    pub(super) fn is_compared_for(&self, guest: &str) -> bool {
        self.guest.as_deref().is_none_or(|own| own == guest)
    }
}

/// One target under one load in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    pub(super) round: u32,
    /// The index of the target.
    #[serde(skip)]
    pub(super) index: usize,
    target: String,
    guest: Option<String>,
    #[serde(flatten)]
    pub(super) setting: Setting,
    /// The requested rate of an open loop, in requests a second.
    asked_per_s: Option<f64>,
    requests: u64,
    pub(super) requests_per_s: f64,
    cpu_s_per_1000: f64,
    p50_us: f64,
    pub(super) p99_us: f64,
    p999_us: f64,
    pub(super) errors: u64,
    pub(super) unanswered: u64,
}

impl Point {
    pub(super) fn new(
        target: &Target,
        setting: Setting,
        asked_per_s: Option<f64>,
        observed: &Observed,
        cpu_seconds: f64,
    ) -> Self {
        let answered = observed.answered as f64;
        Self {
            round: 0,
            index: 0,
            target: target.name.clone(),
            guest: target.guest.clone(),
            setting,
            asked_per_s,
            requests: observed.latency.count(),
            requests_per_s: answered / observed.elapsed.as_secs_f64(),
            cpu_s_per_1000: cpu_seconds * 1_000.0 / answered.max(1.0),
            p50_us: observed.latency.quantile_us(0.5),
            p99_us: observed.latency.quantile_us(0.99),
            p999_us: observed.latency.quantile_us(0.999),
            errors: observed.failures(),
            unanswered: observed.unanswered,
        }
    }
}

/// All rounds of one target under one load.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The comparison that this row belongs to; targets that run no guest are in each.
    pub(super) guest: String,
    #[serde(flatten)]
    pub(super) setting: Setting,
    pub(super) target: String,
    pub(super) asked_per_s: Option<Spread>,
    pub(super) requests: u64,
    pub(super) requests_per_s: Spread,
    pub(super) requests_to_bare_axum: Option<Spread>,
    pub(super) requests_to_wasmtime_serve: Option<Spread>,
    pub(super) cpu_s_per_1000: Spread,
    pub(super) cpu_to_bare_axum: Option<Spread>,
    pub(super) cpu_to_wasmtime_serve: Option<Spread>,
    pub(super) p50_us: Spread,
    pub(super) p99_us: Spread,
    pub(super) p999_us: Spread,
    /// The difference of the median to that of the bare axum server.
    pub(super) p50_added_us: Option<Spread>,
    pub(super) errors: u64,
    pub(super) unanswered: u64,
}

/// The rows for each guest in turn, in the order of the measurements.
pub(super) fn rows(points: &[Point], targets: &[Footprint], guests: &[String]) -> Vec<Row> {
    let mut settings: Vec<Setting> = Vec::new();
    for point in points {
        if !settings.contains(&point.setting) {
            settings.push(point.setting);
        }
    }
    let mut rows = Vec::new();
    for guest in guests {
        let beside: Vec<usize> =
            (0..targets.len()).filter(|index| targets[*index].is_compared_for(guest)).collect();
        let index_of = |name| beside.iter().copied().find(|index| targets[*index].target == name);
        for setting in &settings {
            let of = |index: usize| -> Vec<&Point> {
                let wanted = |point: &&Point| point.index == index && point.setting == *setting;
                points.iter().filter(wanted).collect()
            };
            let bare = index_of(BARE).map(of).unwrap_or_default();
            let serve = index_of(WASMTIME_SERVE).map(of).unwrap_or_default();
            rows.extend(beside.iter().filter_map(|index| row(guest, &of(*index), &bare, &serve)));
        }
    }
    rows
}

fn row(guest: &str, rounds: &[&Point], bare: &[&Point], serve: &[&Point]) -> Option<Row> {
    type Figure = fn(&Point) -> f64;
    let first = rounds.first()?;
    let spread = |figure: Figure| Spread::of(rounds.iter().map(|point| figure(point)));
    let requests: Figure = |point| point.requests_per_s;
    let cpu: Figure = |point| point.cpu_s_per_1000;
    let p50: Figure = |point| point.p50_us;
    let ratio = |figure: Figure, to: &[&Point]| by_round(rounds, to, figure, |a, b| a / b);
    Some(Row {
        guest: guest.to_owned(),
        setting: first.setting,
        target: first.target.clone(),
        asked_per_s: first
            .asked_per_s
            .map(|_| Spread::of(rounds.iter().filter_map(|point| point.asked_per_s))),
        requests: rounds.iter().map(|point| point.requests).sum(),
        requests_per_s: spread(requests),
        requests_to_bare_axum: ratio(requests, bare),
        requests_to_wasmtime_serve: ratio(requests, serve),
        cpu_s_per_1000: spread(cpu),
        cpu_to_bare_axum: ratio(cpu, bare),
        cpu_to_wasmtime_serve: ratio(cpu, serve),
        p50_us: spread(p50),
        p99_us: spread(|point| point.p99_us),
        p999_us: spread(|point| point.p999_us),
        p50_added_us: by_round(rounds, bare, p50, |a, b| a - b),
        errors: rounds.iter().map(|point| point.errors).sum(),
        unanswered: rounds.iter().map(|point| point.unanswered).sum(),
    })
}

/// Combines a figure of each round with that of another target in the same round. Skips rounds in
/// which one of the two answered nothing.
fn by_round(
    rounds: &[&Point],
    others: &[&Point],
    figure: fn(&Point) -> f64,
    both: fn(f64, f64) -> f64,
) -> Option<Spread> {
    let pairs = rounds.iter().filter_map(|point| {
        let other = others.iter().find(|other| other.round == point.round)?;
        let (a, b) = (figure(point), figure(other));
        (a > 0.0 && b > 0.0).then(|| both(a, b))
    });
    let all: Vec<f64> = pairs.collect();
    (!all.is_empty()).then(|| Spread::of(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(target: &str, guest: Option<&str>) -> Footprint {
        Footprint {
            target: target.into(),
            guest: guest.map(ToOwned::to_owned),
            version: String::new(),
            isolation: String::new(),
            command: String::new(),
            idle: Memory::default(),
            after_load: Memory::default(),
        }
    }

    fn point(round: u32, index: usize, target: &Footprint, requests_per_s: f64) -> Point {
        Point {
            round,
            index,
            target: target.target.clone(),
            guest: target.guest.clone(),
            setting: Setting { connections: 1, rate: None },
            asked_per_s: None,
            requests: 10,
            requests_per_s,
            cpu_s_per_1000: 1.0 / requests_per_s,
            p50_us: 10.0,
            p99_us: 20.0,
            p999_us: 30.0,
            errors: 1,
            unanswered: 0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_a_guest() {
        let targets = [
            footprint(BARE, None),
            footprint("mayfly", Some("a")),
            footprint(WASMTIME_SERVE, Some("a")),
            footprint("mayfly", Some("b")),
        ];
        // The machine is half as fast in the second round.
        let speeds = [(1, 1.0), (2, 0.5)];
        let points: Vec<Point> = speeds
            .iter()
            .flat_map(|(round, speed)| {
                let all = targets.iter().zip([100.0, 50.0, 10.0, 0.0]).enumerate();
                all.map(move |(index, (target, rate))| point(*round, index, target, rate * speed))
            })
            .collect();
        let rows = rows(&points, &targets, &["a".into(), "b".into()]);
        let names: Vec<_> = rows.iter().map(|row| (&*row.guest, &*row.target)).collect();
        let a = [("a", BARE), ("a", "mayfly"), ("a", WASMTIME_SERVE)];
        assert_eq!(names, [a.as_slice(), &[("b", BARE), ("b", "mayfly")]].concat());

        let ratios = |row: &Row| (row.requests_to_bare_axum, row.requests_to_wasmtime_serve);
        let even = |value| Some(Spread { median: value, min: value, max: value });
        assert_eq!(ratios(&rows[1]), (even(0.5), even(5.0)));
        assert_eq!(rows[1].cpu_to_bare_axum, even(2.0));
        assert_eq!(rows[1].requests_per_s, Spread { median: 37.5, min: 25.0, max: 50.0 });
        assert_eq!((rows[1].requests, rows[1].errors), (20, 2));
        // A target that answers nothing has no ratio; no target has a ratio to one that is missing.
        assert_eq!(ratios(&rows[4]), (None, None));
        assert_eq!(ratios(&rows[3]), (even(1.0), None));
    }
}
