//! Traces the system calls of the binary, and injects a fault or a kill into one of them.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::eventually;

/// `strace` attached to a process and its children. Dropping it detaches it.
pub(crate) struct Strace {
    process: Child,
    dir: TempDir,
}

impl Strace {
    /// Attaches to a process. With a `path`, only calls with exactly this path, or with a
    /// descriptor opened by it, are traced.
    pub(crate) async fn attach(pid: u32, what: &[&str], path: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let said = fs::File::create(dir.path().join("said")).unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-p", &pid.to_string(), "-o"]).arg(dir.path().join("log"));
        for what in what {
            command.args(["-e", what]);
        }
        if let Some(path) = path {
            command.arg("-P").arg(path);
        }
        let process = command.stdin(Stdio::null()).stderr(said).spawn().unwrap_or_else(|error| {
            panic!("this test needs strace (Debian: apt-get install strace): {error}")
        });
        let mut strace = Self { process, dir };
        eventually("strace is attached", async || {
            let said = fs::read_to_string(strace.dir.path().join("said")).unwrap();
            let ended = strace.process.try_wait().unwrap();
            assert!(ended.is_none(), "strace cannot attach: {said}");
            said.contains(&format!("Process {pid} attached")).then_some(())
        })
        .await;
        strace
    }

    /// Detaches and returns the trace: one line for each call, in the order in which they began.
    pub(crate) fn detach(mut self) -> Vec<String> {
        self.end();
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    fn end(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
            // It may have ended already.
            let _ = kill_process(pid, Signal::INT);
            self.process.wait().unwrap();
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}
