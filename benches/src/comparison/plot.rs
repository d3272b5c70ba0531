//! The report's plots: SVG that is readable on light and on dark pages.

use super::{
    Report,
    figures::{Row, Setting},
    schedule::{quoted_connections, quoted_rate},
    target::{BARE, MAYFLY},
};
use crate::chart::{Chart, Colour, Line, Panel, Scale};

/// The names and contents of the files for one guest.
pub(super) fn all(report: &Report, guest: &str) -> anyhow::Result<Vec<(String, String)>> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.guest == guest).collect();
    let mut connections: Vec<u16> = rows.iter().map(|row| row.setting.connections).collect();
    connections.sort_unstable();
    connections.dedup();
    let closed: Vec<Setting> = connections
        .iter()
        .map(|connections| Setting { connections: *connections, rate: None })
        .collect();
    let quoted = quoted_connections(connections.iter().copied());
    let rate = quoted_rate(rows.iter().filter_map(|row| row.setting.rate));
    let open: Vec<Setting> = quoted
        .into_iter()
        .flat_map(|quoted| {
            rows.iter().map(|row| row.setting).filter(move |s| s.connections == quoted)
        })
        .filter(|setting| setting.rate.is_some())
        .fold(Vec::new(), |mut all, setting| {
            if !all.contains(&setting) {
                all.push(setting);
            }
            all
        });

    let mut charts = vec![
        (
            "throughput",
            Chart {
                title: format!("{guest}: requests a second, closed loop (more is better)"),
                scale: Scale::FromZero,
                panels: panels(&rows, &closed, |row| bar(row, row.requests_per_s.into())),
            },
        ),
        (
            "cpu",
            Chart {
                title: format!("{guest}: CPU µs a request, closed loop (less is better)"),
                scale: Scale::FromZero,
                panels: panels(&rows, &closed, |row| {
                    // Seconds per 1,000 requests are milliseconds per request.
                    let [low, middle, high] = <[f64; 3]>::from(row.cpu_s_per_1000);
                    bar(row, [low, middle, high].map(|value| value * 1_000.0))
                }),
            },
        ),
        (
            "latency-closed",
            Chart {
                title: format!("{guest}: p50, p99, p99.9, closed loop (less is better)"),
                scale: Scale::Logarithmic,
                panels: panels(&rows, &closed, dots),
            },
        ),
    ];
    if rate.is_some() {
        charts.push((
            "latency-open",
            Chart {
                title: format!(
                    "{guest}: p50, p99, p99.9, open loop at a share of the target's own \
                     closed-loop rate"
                ),
                scale: Scale::Logarithmic,
                panels: panels(&rows, &open, dots),
            },
        ));
    }
    charts.push(("memory", memory(report, guest)));
    let drawn =
        charts.into_iter().map(|(name, chart)| Ok((format!("{guest}.{name}.svg"), chart.draw()?)));
    drawn.collect()
}

/// One panel for each setting, with one line for each target.
fn panels(rows: &[&Row], settings: &[Setting], line: impl Fn(&Row) -> Line) -> Vec<Panel> {
    let panel = |setting: &Setting| Panel {
        title: match setting.rate {
            None => format!("connections: {}", setting.connections),
            Some(rate) => format!("connections: {}, rate: {rate}", setting.connections),
        },
        lines: rows.iter().filter(|row| row.setting == *setting).map(|row| line(row)).collect(),
    };
    settings.iter().map(panel).collect()
}

fn bar(row: &Row, range: [f64; 3]) -> Line {
    Line {
        label: row.target.clone(),
        colour: colour(&row.target),
        range: Some(range),
        dots: vec![],
    }
}

fn dots(row: &Row) -> Line {
    let dots = vec![row.p50_us.median, row.p99_us.median, row.p999_us.median];
    Line { label: row.target.clone(), colour: colour(&row.target), range: None, dots }
}

fn memory(report: &Report, guest: &str) -> Chart {
    let lines = |mb: fn(&super::figures::Footprint) -> f64| {
        let beside = report.targets.iter().filter(|target| target.is_compared_for(guest));
        let line = beside.map(|target| Line {
            label: target.target.clone(),
            colour: colour(&target.target),
            range: Some([mb(target); 3]),
            dots: vec![],
        });
        line.collect()
    };
    Chart {
        title: format!("{guest}: memory in MB, proportional set size (less is better)"),
        scale: Scale::FromZero,
        panels: vec![
            Panel { title: "before".into(), lines: lines(|target| target.idle.pss_mb) },
            Panel { title: "after load".into(), lines: lines(|target| target.after_load.pss_mb) },
        ],
    }
}

fn colour(target: &str) -> Colour {
    match target {
        BARE => Colour::Yardstick,
        _ if target.starts_with(MAYFLY) => Colour::Gateway,
        _ => Colour::Peer,
    }
}
