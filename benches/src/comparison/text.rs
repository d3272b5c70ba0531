//! The report as Markdown.

use std::fmt::Write as _;

use super::{
    Report,
    figures::{Row, Setting},
    schedule::{quoted_connections, quoted_rate},
};
use crate::report::{Spread, number, table};

const BEGIN: &str = "<!-- comparison:begin -->";
const END: &str = "<!-- comparison:end -->";

/// The whole report, with these plots.
pub(super) fn report(report: &Report, guests: &[String], plots: &[String]) -> String {
    let mut text = format!(
        "# Comparison\n\nWritten by `load report` on {}. [README.md](README.md) describes the \
        method and the columns.\nThe same figures as JSON: \
        [comparison.json](comparison.json).\n\n{}- plan: {}\n\n{}\n",
        report.date,
        report.machine.markdown(),
        report.plan,
        targets(report),
    );
    for guest in guests {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.guest == *guest).collect();
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {guest}\n\n{}\n", in_short(report, guest));
        for plot in plots.iter().filter(|plot| plot.starts_with(&format!("{guest}."))) {
            let _ = writeln!(text, "![{}]({plot})\n", plot.trim_end_matches(".svg"));
        }
        let closed: Vec<&Row> =
            rows.iter().copied().filter(|row| row.setting.rate.is_none()).collect();
        let open: Vec<&Row> =
            rows.iter().copied().filter(|row| row.setting.rate.is_some()).collect();
        let _ = write!(text, "### Closed loop\n\n{}\n{}\n", speed(&closed), latency(&closed));
        if !open.is_empty() {
            let _ = write!(text, "### Open loop\n\n{}\n", open_loop(&open));
        }
    }
    let _ = write!(text, "## Memory\n\n{}\n{}", memory(report), remarks(report));
    text
}

/// The part of the report for `docs/benchmarks/README.md`: the machine, and the short tables.
pub(super) fn summary(report: &Report, guests: &[String]) -> String {
    let machine = report.machine.markdown();
    let tables = tables_in_short(report, guests);
    format!("On {}, by `load report`:\n\n{machine}\n{tables}", report.date)
}

/// One table for each guest, with all targets at one number of connections.
pub(super) fn tables_in_short(report: &Report, guests: &[String]) -> String {
    let tables: Vec<String> = guests.iter().map(|guest| in_short(report, guest)).collect();
    tables.join("\n")
}

/// The text with the new summary between its two marks.
pub(super) fn replace_summary(text: &str, summary: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", summary.trim()))
}

fn in_short(report: &Report, guest: &str) -> String {
    let rows = || report.rows.iter().filter(|row| row.guest == guest);
    let settings = || rows().map(|row| row.setting);
    let Some(connections) = quoted_connections(settings().map(|setting| setting.connections))
    else {
        return String::new();
    };
    let closed = Setting { connections, rate: None };
    let rate = quoted_rate(settings().filter_map(|setting| setting.rate));
    let open = rate.map(|rate| Setting { connections, rate: Some(rate) });
    let of = |setting: Setting, target: &str| {
        rows().find(|row| row.setting == setting && row.target == target)
    };
    let open_header = rate.map_or("open loop p99 µs".into(), |rate| format!("p99 µs at {rate}"));
    let header = [
        "target",
        "req/s",
        "÷ bare axum",
        "÷ wasmtime serve",
        "CPU × bare axum",
        "CPU × wasmtime serve",
        &open_header,
        "RSS MB after",
        "errors",
    ];
    let cells =
        report.targets.iter().filter(|target| target.is_compared_for(guest)).filter_map(|target| {
            let row = of(closed, &target.target)?;
            let open = open.and_then(|setting| of(setting, &target.target));
            let errors = rows().filter(|row| row.target == target.target);
            let errors: u64 = errors.map(|row| row.errors + row.unanswered).sum();
            Some(vec![
                target.target.clone(),
                row.requests_per_s.cell(0),
                cell(row.requests_to_bare_axum, 3),
                cell(row.requests_to_wasmtime_serve, 2),
                cell(row.cpu_to_bare_axum, 2),
                cell(row.cpu_to_wasmtime_serve, 2),
                cell(open.map(|row| row.p99_us), 0),
                number(target.after_load.rss_mb, 0),
                errors.to_string(),
            ])
        });
    format!(
        "`{guest}`, connections: {connections}. Closed loop, except for the p99. Figures are \
        medians of all rounds (minimum..maximum); ratios compare figures of the same round.\n\n{}",
        table(&header, &cells.collect::<Vec<_>>())
    )
}

fn targets(report: &Report) -> String {
    let header = ["target", "version", "isolation", "started as"];
    let mut seen: Vec<&str> = Vec::new();
    let mut cells = Vec::new();
    for target in &report.targets {
        if !seen.contains(&target.target.as_str()) {
            seen.push(&target.target);
            cells.push(vec![
                target.target.clone(),
                target.version.clone(),
                target.isolation.clone(),
                format!("`{}`", target.command.replace('|', "\\|")),
            ]);
        }
    }
    cells.extend(report.missing.iter().map(|missing| {
        vec![
            missing.name.clone(),
            "not measured".into(),
            missing.reason.replace('|', "\\|"),
            String::new(),
        ]
    }));
    table(&header, &cells)
}

fn speed(rows: &[&Row]) -> String {
    let header = [
        "connections",
        "target",
        "req/s",
        "÷ bare axum",
        "÷ wasmtime serve",
        "CPU s per 1,000 req",
        "× bare axum",
        "× wasmtime serve",
    ];
    let cells = rows.iter().map(|row| {
        vec![
            row.setting.connections.to_string(),
            row.target.clone(),
            row.requests_per_s.cell(0),
            cell(row.requests_to_bare_axum, 3),
            cell(row.requests_to_wasmtime_serve, 2),
            row.cpu_s_per_1000.cell(4),
            cell(row.cpu_to_bare_axum, 2),
            cell(row.cpu_to_wasmtime_serve, 2),
        ]
    });
    table(&header, &cells.collect::<Vec<_>>())
}

fn latency(rows: &[&Row]) -> String {
    let header = [
        "connections",
        "target",
        "p50 µs",
        "p50 over bare axum's",
        "p99 µs",
        "p99.9 µs",
        "requests",
        "errors",
        "unanswered",
    ];
    let cells = rows.iter().map(|row| {
        vec![
            row.setting.connections.to_string(),
            row.target.clone(),
            row.p50_us.cell(0),
            cell(row.p50_added_us, 0),
            row.p99_us.cell(0),
            row.p999_us.cell(0),
            number(row.requests as f64, 0),
            row.errors.to_string(),
            row.unanswered.to_string(),
        ]
    });
    table(&header, &cells.collect::<Vec<_>>())
}

fn open_loop(rows: &[&Row]) -> String {
    let header = [
        "connections",
        "rate",
        "target",
        "asked req/s",
        "answered req/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU s per 1,000 req",
        "× bare axum",
        "× wasmtime serve",
        "errors",
        "unanswered",
    ];
    let cells = rows.iter().map(|row| {
        vec![
            row.setting.connections.to_string(),
            row.setting.rate.map(|rate| rate.to_string()).unwrap_or_default(),
            row.target.clone(),
            cell(row.asked_per_s, 0),
            row.requests_per_s.cell(0),
            row.p50_us.cell(0),
            row.p99_us.cell(0),
            row.p999_us.cell(0),
            row.cpu_s_per_1000.cell(4),
            cell(row.cpu_to_bare_axum, 2),
            cell(row.cpu_to_wasmtime_serve, 2),
            row.errors.to_string(),
            row.unanswered.to_string(),
        ]
    });
    table(&header, &cells.collect::<Vec<_>>())
}

fn memory(report: &Report) -> String {
    let header =
        ["target", "guest", "RSS before MB", "RSS after MB", "PSS before MB", "PSS after MB"];
    let cells = report.targets.iter().map(|target| {
        let (idle, after) = (target.idle, target.after_load);
        let sizes = [idle.rss_mb, after.rss_mb, idle.pss_mb, after.pss_mb];
        let guest = target.guest.clone().unwrap_or_else(|| "its own hello".into());
        [target.target.clone(), guest]
            .into_iter()
            .chain(sizes.map(|size| number(size, 1)))
            .collect()
    });
    table(&header, &cells.collect::<Vec<_>>())
}

fn remarks(report: &Report) -> String {
    if report.complaints.is_empty() {
        return "No errors.\n".into();
    }
    let mut text = format!("Warnings and errors ({}):\n\n", report.complaints.len());
    for complaint in report.complaints.iter().take(20) {
        let _ = writeln!(text, "- {complaint}");
    }
    text
}

fn cell(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or_else(|| "–".into(), |spread| spread.cell(decimals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let text = format!("one\n{BEGIN}\nold\n{END}\ntwo\n");
        let once = replace_summary(&text, "new\n").unwrap();
        assert_eq!(once, format!("one\n{BEGIN}\nnew\n{END}\ntwo\n"));
        assert_eq!(replace_summary(&once, "new\n").unwrap(), once);
        assert_eq!(replace_summary("one\n", "new\n"), None);
    }
}
