//! The machine and the versions that a report's figures belong to. Without them the figures mean
//! nothing.

use std::{collections::BTreeMap, fs, num::NonZero, path::Path, process::Command, thread};

use serde::Serialize;

/// Dependencies whose versions affect the figures.
const CRATES: [&str; 4] = ["wasmtime", "hyper", "axum", "tokio"];

/// The machine, its load, and the versions of the programs.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    memory_gb: f64,
    kernel: String,
    /// The harness's nice value. The servers that it starts inherit it.
    nice: i32,
    scratch: String,
    versions: BTreeMap<String, String>,
    command: String,
    load_average_before: String,
    load_average_after: String,
}

impl Machine {
    /// Reads the facts before a measurement.
    #[must_use]
    pub fn observe(mayfly: &Path, scratch: &Path) -> Self {
        let mut versions: BTreeMap<_, _> = locked_versions(include_str!("../../Cargo.lock"));
        versions.insert("mayfly".into(), version_of(mayfly));
        Self {
            cores: thread::available_parallelism().map_or(1, NonZero::get),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_gb: memory_gb(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease"),
            nice: rustix::process::getpriority_process(None).unwrap_or_default(),
            scratch: file_system(&read("/proc/mounts"), scratch),
            versions,
            command: command_line(std::env::args()),
            load_average_before: load_average(),
            load_average_after: String::new(),
        }
    }

    /// Reads the load average again after the measurement.
    pub fn finish(&mut self) {
        self.load_average_after = load_average();
    }

    /// The facts as a list.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self { cores, processor, memory_gb, kernel, nice, scratch, command, .. } = self;
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "- machine: {cores} cores ({processor}), {memory_gb:.0} GB, Linux {kernel}; data on \
             {scratch}\n- versions: {}\n- load average {} before, {} after; nice {nice}; load \
             generator on the same machine; servers run with an empty environment\n- command: \
             `{command}`\n",
            versions.join(", "),
            self.load_average_before,
            self.load_average_after,
        )
    }
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

pub(crate) fn load_average() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

pub(crate) fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value).trim().into()
}

fn memory_gb(text: &str) -> f64 {
    let kibibytes = field(text, "MemTotal");
    kibibytes.trim_end_matches(" kB").parse::<f64>().unwrap_or_default() * 1_024.0 / 1e9
}

/// The type of the file system that `path` is on. A flush costs nothing on some of them.
fn file_system(mounts: &str, path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let entries = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let over = entries.filter(|(mount, _)| path.starts_with(mount));
    over.max_by_key(|(mount, _)| mount.len()).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// The command line without the directory of the program.
fn command_line(mut arguments: impl Iterator<Item = String>) -> String {
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().display().to_string();
    std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The first word with a digit in a program's answer to `--version`.
#[must_use]
pub fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let word = text.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()));
    word.unwrap_or("unknown").to_owned()
}

/// The version of one of `CRATES`.
#[must_use]
pub fn locked_version(name: &str) -> String {
    let versions = locked_versions(include_str!("../../Cargo.lock"));
    versions.get(name).cloned().unwrap_or_default()
}

/// The versions of `CRATES` in a lock file.
fn locked_versions(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let pairs = lock.split("[[package]]").filter_map(|package| {
        let name = package.lines().find_map(|line| value(line, "name"))?;
        let version = package.lines().find_map(|line| value(line, "version"))?;
        CRATES.contains(&name.as_str()).then_some((name, version))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_matter_are_found_in_the_lock_file() {
        let versions = locked_versions(include_str!("../../Cargo.lock"));
        assert_eq!(versions.len(), CRATES.len());
        assert!(versions["axum"].starts_with("0."));
    }

    #[test]
    fn a_command_can_be_repeated_elsewhere() {
        let arguments = ["/somewhere/load", "report", "--quick"].map(ToOwned::to_owned);
        assert_eq!(command_line(arguments.into_iter()), "load report --quick");
    }

    #[test]
    fn a_path_is_on_the_nearest_file_system_above_it() {
        let mounts = "a / ext4 rw 0 0\nb /nowhere tmpfs rw 0 0\nc /nowhere/else xfs rw 0 0";
        assert_eq!(file_system(mounts, Path::new("/nowhere/at/all")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/elsewhere")), "ext4");
    }
}
