//! Results of the benchmark `cold_start` as tables, with the ratios to processes and containers.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{
    machine::{field, load_average, read},
    report::table,
};

const BEGIN: &str = "<!-- measured:begin -->\n";
const END: &str = "<!-- measured:end -->";

/// Guests whose cold starts are compared with the baselines: the smallest, an ordinary one, and one
/// that contains a JavaScript engine.
const YARDSTICKS: [&str; 3] = ["c-hello", "hello", "js-hello"];

/// Descriptions of the baselines.
const BASELINES: [(&str, &str); 6] = [
    ("fork-exec-static-hello", "`fork` and `exec` of a static hello in C"),
    ("namespaces-static-hello", "the same in all namespaces (`unshare`)"),
    ("crun", "`crun run`, empty root, no control groups"),
    ("runc", "`runc run`, empty root"),
    ("wasmtime", "`wasmtime run hello-cgi.wasm`"),
    ("node", "`node -e 0`"),
];

/// The median of a benchmark, in nanoseconds, as criterion stores it.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

/// Medians by group, then by function, then by parameter (empty where there is none).
type Found = BTreeMap<[String; 3], Estimate>;

/// Prints the tables, or writes them into a file.
///
/// # Errors
/// When nothing was measured, or the file has no place for tables.
pub fn publish(criterion: Option<PathBuf>, write: Option<&Path>) -> anyhow::Result<()> {
    let dir = criterion.map_or_else(criterion_dir, Ok)?;
    let mut found = Found::new();
    for group in ["cold_start", "phase", "engine", "baseline"] {
        collect(&dir, group, &mut found)?;
    }
    ensure!(
        !found.is_empty(),
        "no results in {}; run first: cargo bench --workspace --bench cold_start",
        dir.display()
    );
    let text = tables(&found);
    let Some(file) = write else {
        return Ok(std::io::stdout().lock().write_all(text.as_bytes())?);
    };
    let before = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let after = replaced(&before, &text)
        .with_context(|| format!("{} lacks the two marks for the tables", file.display()))?;
    fs::write(file, after).with_context(|| file.display().to_string())
}

/// The directory of criterion's results: in the target directory, two levels above this program.
fn criterion_dir() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    let target = this.ancestors().nth(2).context("this program is not in a target directory")?;
    Ok(target.join("criterion"))
}

/// Reads `<group>/<function>/[<parameter>/]new/estimates.json`.
fn collect(dir: &Path, group: &str, found: &mut Found) -> anyhow::Result<()> {
    for function in directories(&dir.join(group))? {
        let path = dir.join(group).join(&function);
        for parameter in directories(&path)?.into_iter().chain([String::new()]) {
            let file = path.join(&parameter).join("new/estimates.json");
            let Ok(bytes) = fs::read(&file) else { continue };
            let estimates: Estimates =
                serde_json::from_slice(&bytes).with_context(|| file.display().to_string())?;
            found.insert([group.to_owned(), function.clone(), parameter], estimates.median);
        }
    }
    Ok(())
}

fn directories(path: &Path) -> anyhow::Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn replaced(text: &str, tables: &str) -> Option<String> {
    let (head, rest) = text.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}{tables}{END}{tail}"))
}

fn tables(found: &Found) -> String {
    let get = |group: &str, function: &str, parameter: &str| {
        found.get(&[group.to_owned(), function.to_owned(), parameter.to_owned()])
    };
    let matrix = |group: &'static str, corner: &'static str, columns: &[&'static str]| {
        let mut rows: Vec<&String> =
            found.keys().filter(|key| key[0] == group).map(|key| &key[2]).collect();
        rows.sort_by_key(|row| (row.len(), *row));
        rows.dedup();
        let header: Vec<&str> = [corner].into_iter().chain(columns.iter().copied()).collect();
        let lines = rows.into_iter().map(|row| {
            let cells = columns.iter().map(|column| cell(get(group, column, row)));
            [row.clone()].into_iter().chain(cells).collect()
        });
        table(&header, &lines.collect::<Vec<Vec<String>>>())
    };
    let tiers = matrix("cold_start", "guest", &["frozen", "cold", "loaded", "warm"]);
    let phases = matrix("phase", "guest", &["load", "link", "instantiate", "guest", "rest"]);
    let engines = matrix(
        "engine",
        "guest",
        &[
            "on-demand",
            "pooling-defaults",
            "pooling-decommit-batch",
            "pooling-scan",
            "unlimited",
            "limited",
            "concurrent",
        ],
    );
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    format!(
        "{cores} cores ({}), Linux {}, load average {} when it ended. Medians, with the interval \
         that holds the true one with 95 % confidence (criterion's bootstrap).\n\n\
         From each tier to the end of the answer, in process:\n\n{tiers}\n\
         From the start of a process or container to its end, and how many cold starts of a \
         function take as long:\n\n{}\n\
         What the time goes into (`load` and `link` in the tier cold, the others in the \
         tier loaded):\n\n{phases}\n\
         Wasmtime alone, by the way instances are held (the gateway uses `pooling-scan` where the \
         kernel has it, else `pooling-decommit-batch`; `concurrent` for WASI 0.3; `limited` is that \
         way with every limit and deadline of an invocation, `unlimited` without):\n\n{engines}",
        field(&read("/proc/cpuinfo"), "model name"),
        read("/proc/sys/kernel/osrelease"),
        load_average(),
        baselines(found),
    )
}

fn baselines(found: &Found) -> String {
    let get = |key: [&str; 3]| found.get(&key.map(str::to_owned));
    let ratios = YARDSTICKS.map(|guest| format!("÷ {guest}"));
    let header: Vec<&str> =
        ["start", "median"].into_iter().chain(ratios.iter().map(String::as_str)).collect();
    let rows = BASELINES.iter().map(|(name, title)| {
        let baseline = get(["baseline", name, ""]);
        let ratios = YARDSTICKS.map(|guest| match (baseline, get(["cold_start", "cold", guest])) {
            (Some(baseline), Some(cold)) => {
                let ratio = baseline.point_estimate / cold.point_estimate;
                if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
            }
            _ => "-".to_owned(),
        });
        [(*title).to_owned(), cell(baseline)].into_iter().chain(ratios).collect()
    });
    table(&header, &rows.collect::<Vec<Vec<String>>>())
}

/// `median unit (low..high)`, all in the median's unit.
fn cell(estimate: Option<&Estimate>) -> String {
    let Some(estimate) = estimate else { return "-".to_owned() };
    let (unit, size) = match estimate.point_estimate {
        ns if ns < 1e6 => ("µs", 1e3),
        ns if ns < 1e9 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    let decimals = match estimate.point_estimate / size {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let number = |ns: f64| format!("{:.decimals$}", ns / size);
    let Interval { lower_bound, upper_bound } = estimate.confidence_interval;
    let median = number(estimate.point_estimate);
    format!("{median} {unit} ({}..{})", number(lower_bound), number(upper_bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, path: &str, ns: f64) {
        let dir = dir.join(path).join("new");
        fs::create_dir_all(&dir).unwrap();
        let interval = serde_json::json!({"lower_bound": ns * 0.9, "upper_bound": ns * 1.1});
        let median = serde_json::json!({"point_estimate": ns, "confidence_interval": interval});
        fs::write(dir.join("estimates.json"), format!("{{\"median\":{median}}}")).unwrap();
    }

    #[test]
    fn a_containers_start_is_compared_with_a_functions() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "cold_start/cold/hello", 300e3);
        write(dir.path(), "cold_start/loaded/hello", 22e3);
        write(dir.path(), "baseline/crun", 6e6);
        let file = dir.path().join("cold-start.md");
        fs::write(&file, format!("before\n{BEGIN}stale\n{END}\nafter\n")).unwrap();
        publish(Some(dir.path().to_owned()), Some(&file)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
        assert!(
            text.contains("| hello | - | 300 µs (270..330) | 22.0 µs (19.8..24.2) | - |"),
            "{text}"
        );
        assert!(text.contains("| 6.00 ms (5.40..6.60) | - | 20 | - |"), "{text}");
        assert!(!text.contains("stale"));
    }

    #[test]
    fn missing_figures_or_marks_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = publish(Some(dir.path().to_owned()), None).unwrap_err().to_string();
        assert!(error.contains("cargo bench"), "{error}");
        assert_eq!(replaced("no marks", "tables"), None);
    }
}
