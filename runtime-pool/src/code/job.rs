//! The protocol between the gateway and its compile worker.
//!
//! The gateway passes a job on the command line. The worker answers on its standard error. If the
//! job includes a snapshot, it writes a line when the guest's own start-up begins and one when it
//! is over. At the end it writes a report as one line of JSON.

use serde::{Deserialize, Serialize};

use crate::{
    code::{
        artifact::ArtifactDigest,
        inspect::Inspection,
        key::{CodeKey, StartUp},
    },
    error::Refusal,
    limits::ArtifactLimits,
};

/// The hidden subcommand under which the binary starts as a worker.
pub(crate) const SUBCOMMAND: &str = "compile-worker";
/// In place of a job: the worker tries its barriers and reports which stand.
pub(crate) const PROBE: &str = "probe";
/// Written before the guest's start-up function runs, and after it. If the worker dies in between,
/// the guest caused it.
pub(super) const START_UP_BEGINS: &str = "start begins";
pub(super) const START_UP_ENDS: &str = "start ends";

/// A job of the compile worker, with its limits.
#[derive(Clone, Debug)]
pub(crate) struct CompileJob {
    pub(crate) code: CodeKey,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_s: u64,
    pub(crate) output_bytes: u64,
    /// Whether a simple component is compiled as its core module.
    pub(crate) core_modules: bool,
    pub(crate) artifact: ArtifactLimits,
}

/// The result of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WorkerReport {
    /// Native code is on standard output.
    Compiled(Inspection),
    /// There is none, for this reason.
    Refused(Refusal),
    /// The bytes do not have the digest that the job names.
    Damaged,
    /// There is no space left for native code.
    NoSpace,
}

impl CompileJob {
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let digest = self.code.digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let limits = [self.memory_bytes, self.cpu_s, self.output_bytes];
        let mut arguments = vec![digest];
        arguments.extend(limits.map(|value| value.to_string()));
        arguments.push(self.core_modules.to_string());
        arguments.push(limits_text(&self.artifact));
        if let Some(StartUp { function, memory_bytes }) = &self.code.start_up {
            arguments.extend([memory_bytes.to_string(), function.to_string()]);
        }
        arguments
    }

    pub(super) fn from_arguments(arguments: &[String]) -> Option<Self> {
        let (limits, start_up) = arguments.split_at_checked(6)?;
        let [digest, memory, cpu, output, core_modules, artifact] = limits else { return None };
        let start_up = match start_up {
            [] => None,
            [memory_bytes, function] => {
                let memory_bytes = memory_bytes.parse().ok()?;
                Some(StartUp { function: function.as_str().into(), memory_bytes })
            }
            _ => return None,
        };
        Some(Self {
            code: CodeKey { digest: ArtifactDigest(from_hex(digest)?), start_up },
            memory_bytes: memory.parse().ok()?,
            cpu_s: cpu.parse().ok()?,
            output_bytes: output.parse().ok()?,
            core_modules: core_modules.parse().ok()?,
            artifact: artifact_limits(artifact)?,
        })
    }
}

fn limits_text(limits: &ArtifactLimits) -> String {
    serde_json::to_string(limits).expect("numbers can be written")
}

/// Reads limits that name each one, as [`limits_text`] writes them. Settings may leave some out.
fn artifact_limits(text: &str) -> Option<ArtifactLimits> {
    let limits = serde_json::from_str(text).ok()?;
    (limits_text(&limits) == text).then_some(limits)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Whether the guest's start-up was under way when the worker ended.
pub(crate) fn died_in_start_up(output: &[u8]) -> bool {
    let reached = |stage: &str| lines(output).any(|line| line == stage.as_bytes());
    reached(START_UP_BEGINS) && !reached(START_UP_ENDS)
}

/// The line of the report, if the worker has written one.
pub(crate) fn last_line(output: &[u8]) -> &[u8] {
    lines(output).last().unwrap_or_default()
}

fn lines(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output.split(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_command_line() {
        let digest = ArtifactDigest(std::array::from_fn(|index| index as u8 * 7));
        let start_up = StartUp { function: "wizer-initialize".into(), memory_bytes: 4 };
        for start_up in [None, Some(start_up)] {
            let code = CodeKey { digest, start_up };
            let artifact = ArtifactLimits { tables: 4, ..ArtifactLimits::default() };
            let job = CompileJob {
                code: code.clone(),
                memory_bytes: 1,
                cpu_s: 2,
                output_bytes: 3,
                core_modules: true,
                artifact,
            };
            let read = CompileJob::from_arguments(&job.to_arguments()).unwrap();
            assert_eq!((read.code, read.memory_bytes, read.core_modules), (code, 1, true));
            assert_eq!((read.cpu_s, read.output_bytes, read.artifact), (2, 3, artifact));
        }
    }

    #[test]
    fn a_command_line_that_is_no_job_is_refused() {
        let digest = "00".repeat(32);
        for arguments in [
            &["x", "1", "2", "3", "true", "{}"][..],
            &[&digest, "1", "2", "3", "true"],
            &[&digest, "1", "2", "3", "true", "{}"],
            &[&digest, "1", "2", "3", "true", r#"{"no_such_limit":1}"#],
            &["1", "2", "3"],
            &[],
        ] {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            assert!(CompileJob::from_arguments(&arguments).is_none(), "{arguments:?}");
        }
    }

    #[test]
    fn a_report_is_told_from_the_stages_before_it() {
        let (begun, ended) =
            (format!("{START_UP_BEGINS}\n"), format!("{START_UP_BEGINS}\n{START_UP_ENDS}\n"));
        for (said, in_start, report) in [
            (String::new(), false, ""),
            ("{}".to_owned(), false, "{}"),
            (begun.clone(), true, ""),
            (format!("{begun}memory allocation failed\n"), true, ""),
            (format!("{ended}memory allocation failed\n"), false, ""),
            (format!("{ended}{{}}"), false, "{}"),
        ] {
            assert_eq!(died_in_start_up(said.as_bytes()), in_start, "{said:?}");
            assert_eq!(last_line(said.as_bytes()), report.as_bytes(), "{said:?}");
        }
    }
}
