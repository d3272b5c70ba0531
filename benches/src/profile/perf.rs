//! Samples of where a process is, taken by Linux' `perf`.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::parts::Frame;

/// Bytes of the stack that each sample keeps, from which its callers are found. The futures of a
/// request lie on the stack, so that less would not reach from a leaf to its owner.
const STACK_BYTES: u32 = 16 << 10;

/// Why there is no `perf`, and what to do.
const MISSING: &str = "this needs Linux' perf, which is not here or may not run. Debian: apt-get \
    install linux-perf; Ubuntu: linux-tools-generic. It must be allowed to sample: as root, or with \
    sysctl kernel.perf_event_paranoid=1. `--perf PATH` names another program, `--no-perf` leaves \
    the times away";

/// A recording that goes on.
#[derive(Debug)]
pub(super) struct Recording {
    child: Child,
    perf: PathBuf,
    file: PathBuf,
}

/// Checks that `perf` can be started.
pub(super) fn check(perf: &Path) -> anyhow::Result<()> {
    let output = Command::new(perf)
        .args(["stat", "-e", "cpu-clock", "--", "true"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| MISSING)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{MISSING}. It said: {}", said.trim());
    Ok(())
}

impl Recording {
    /// Samples a process for a time.
    pub(super) fn start(
        perf: &Path,
        pid: u32,
        frequency: u32,
        time: Duration,
        file: &Path,
    ) -> anyhow::Result<Self> {
        let child = Command::new(perf)
            // A virtual machine often has no hardware counters; this clock is always there.
            .args(["record", "-e", "cpu-clock", "-F", &frequency.to_string()])
            .args(["--call-graph", &format!("dwarf,{STACK_BYTES}"), "-p", &pid.to_string(), "-o"])
            .arg(file)
            .args(["--", "sleep", &time.as_secs_f64().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context(MISSING)?;
        Ok(Self { child, perf: perf.to_owned(), file: file.to_owned() })
    }

    /// Waits for the end. Returns the chain of callers of each sample, the innermost first.
    pub(super) fn finish(self) -> anyhow::Result<Vec<Vec<Frame>>> {
        let output = self.child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "perf record: {}", said.trim());
        let output = Command::new(&self.perf)
            .args(["script", "--no-inline", "-F", "comm,ip,sym,dso", "-i"])
            .arg(&self.file)
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "perf script: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(chains(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Reads what `perf script` prints: for each sample a line with the thread, one line per function,
/// and an empty line.
fn chains(script: &str) -> Vec<Vec<Frame>> {
    let samples = script.split("\n\n").filter(|sample| !sample.trim().is_empty());
    let chain = |sample: &str| sample.lines().filter_map(frame).collect();
    samples.map(chain).collect()
}

/// Reads `    address function (file)`. Other lines have no indentation.
fn frame(line: &str) -> Option<Frame> {
    let line = line.strip_prefix([' ', '\t'])?.trim();
    let (_, rest) = line.split_once(' ')?;
    let rest = rest.strip_suffix(')')?;
    // A file that was replaced since the program started.
    let rest = rest.strip_suffix(" (deleted)").unwrap_or(rest);
    let (function, object) = rest.rsplit_once(" (")?;
    Some(Frame { function: function.to_owned(), object: object.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_read_from_what_perf_prints() {
        let script = "mayfly-data \n\t 9a62a1 <http::Uri as Clone>::clone (/bin/mayfly (deleted))\
                      \n\tffffffff [unknown] ([unknown])\n\nmayfly-data \n\
                      \tffffffff81a82b6a security_sock ([kernel.kallsyms])\n\n";
        let chains = chains(script);
        assert_eq!(chains.len(), 2);
        assert_eq!(chains[0][0].function, "<http::Uri as Clone>::clone");
        assert_eq!(chains[1][0].object, "[kernel.kallsyms]");
    }

    #[test]
    fn a_missing_perf_says_what_to_do() {
        let error = check(Path::new("/nowhere/perf")).unwrap_err();
        assert!(error.to_string().contains("apt-get install linux-perf"), "{error:#}");
    }
}
