//! The order of the measurements: each round has each number of connections, and for each of those
//! every target in turn; first the closed loops, then the open loops at rates that depend on them.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use super::{
    ComparisonOptions, Rate,
    figures::{Point, Setting},
    target::Target,
};
use crate::{
    client::get_request,
    generator::{self, Load, Plan},
    process,
    report::{number, progress},
};

/// Pause before each measurement, in which the previous server closes its connections.
const SETTLE: Duration = Duration::from_millis(100);

/// One sentence about the measurements and their duration.
pub(super) fn plan(options: &ComparisonOptions, targets: usize) -> String {
    let points = points(options, targets);
    let each = options.seconds + Duration::from_millis(options.warm_up_ms) + SETTLE;
    let minutes = (points as f64 * each.as_secs_f64() / 60.0).ceil();
    let rates: Vec<String> = options.rates().map(|rate| rate.to_string()).collect();
    let rates = if rates.is_empty() { "none".into() } else { rates.join(", ") };
    let connections: Vec<String> = options.connections.iter().map(u16::to_string).collect();
    format!(
        "{points} measurements of {} s: {} rounds, {targets} targets, {} connections, a closed \
        loop and open loops ({rates}); about {minutes} minutes",
        options.seconds.as_secs_f64(),
        options.rounds,
        connections.join(", "),
    )
}

fn points(options: &ComparisonOptions, targets: usize) -> usize {
    let loops = options.connections.len() * (1 + options.rates().count());
    options.rounds as usize * loops * targets
}

/// Measures all points.
///
/// # Errors
/// When the load generator cannot be started.
pub(super) fn measure(
    targets: &[Target],
    options: &ComparisonOptions,
    complaints: &mut Vec<String>,
) -> anyhow::Result<Vec<Point>> {
    let all = points(options, targets.len());
    let begin = Instant::now();
    let mut points: Vec<Point> = Vec::new();
    for round in 1..=options.rounds {
        let first = points.len();
        let closed = options.connections.iter().map(|count| (*count, None));
        let open = options
            .connections
            .iter()
            .flat_map(|connections| options.rates().map(|rate| (*connections, Some(rate))));
        for (connections, rate) in closed.chain(open) {
            for (index, target) in targets.iter().enumerate() {
                let setting = Setting { connections, rate };
                let rate = rate.and_then(|rate| {
                    let closed = closed_rate(&points[first..], index, connections);
                    rate.per_second(closed, options.rate_max)
                });
                let (mut point, error) = point(target, options, setting, rate)?;
                (point.round, point.index) = (round, index);
                complaints.extend(error);
                points.push(point);
                announce(&points, all, begin, target);
            }
        }
    }
    Ok(points)
}

/// The rate of a target in the closed loop of a round.
fn closed_rate(round: &[Point], index: usize, connections: u16) -> f64 {
    let closed = Setting { connections, rate: None };
    let found = round.iter().find(|point| point.index == index && point.setting == closed);
    found.map_or(0.0, |point| point.requests_per_s)
}

fn point(
    target: &Target,
    options: &ComparisonOptions,
    setting: Setting,
    rate: Option<f64>,
) -> anyhow::Result<(Point, Option<String>)> {
    thread::sleep(SETTLE);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let plan = Plan {
        addr: target.addr,
        request: get_request(target.addr, &target.path),
        expected: target.expected.clone(),
        load: rate.map_or(Load::Closed, Load::Open),
        connections: setting.connections.into(),
        threads: options.threads.map_or(cores, NonZero::get),
        retries: 0,
        warm_up: Duration::from_millis(options.warm_up_ms),
        measure: options.seconds,
    };
    // The CPU time cannot be read when the server has ended; then it has answered nothing either.
    let (observed, before, after) = generator::run(plan, || process::cpu_seconds(target.pid()))?;
    let cpu_seconds = after.unwrap_or_default() - before.unwrap_or_default();
    let error = observed.first_error.as_ref().map(|error| {
        let Target { name, guest, .. } = target;
        let guest = guest.as_ref().map(|guest| format!(" with {guest}")).unwrap_or_default();
        format!("{name}{guest}, {setting}: {error}")
    });
    Ok((Point::new(target, setting, rate, &observed, cpu_seconds), error))
}

fn announce(points: &[Point], all: usize, begin: Instant, target: &Target) {
    let Some(last) = points.last() else { return };
    let done = points.len();
    let left = begin.elapsed().mul_f64((all - done) as f64 / done as f64);
    progress(&format!(
        "[{done}/{all}, {}:{:02} left] round {}, {}, {}{}: {} req/s, p99 {} µs, {} errors",
        left.as_secs() / 60,
        left.as_secs() % 60,
        last.round,
        last.setting,
        target.name,
        target.guest.as_ref().map(|guest| format!(" with {guest}")).unwrap_or_default(),
        number(last.requests_per_s, 0),
        number(last.p99_us, 0),
        last.errors + last.unanswered,
    ));
}

/// The number of connections for the summary: 64, or the next smaller one.
pub(super) fn quoted_connections(connections: impl Iterator<Item = u16>) -> Option<u16> {
    let mut all: Vec<u16> = connections.collect();
    all.sort_unstable();
    all.iter().rev().find(|count| **count <= 64).or(all.first()).copied()
}

/// The rate for the summary: half of the closed loop's, or the first.
pub(super) fn quoted_rate(rates: impl Iterator<Item = Rate>) -> Option<Rate> {
    let rates: Vec<Rate> = rates.collect();
    rates.iter().find(|rate| **rate == Rate::Share(0.5)).or(rates.first()).copied()
}
