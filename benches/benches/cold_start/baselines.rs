//! `baseline/<name>`: the time from the start of a process or a container to its end.
//!
//! A shell starts each of them and reports its end. The shell itself adds one fork to the time.

use std::{
    cell::RefCell,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use benches::guest;
use criterion::{Criterion, SamplingMode};
use tempfile::TempDir;

use crate::report_skipped;

const HELLO: &str = "\
#include <unistd.h>
int main(void) { return write(1, \"hello\\n\", 6) != 6; }
";

/// A container with one program in an otherwise empty root, and with all the namespaces that
/// containers usually have.
const BUNDLE: &str = r#"{
  "ociVersion": "1.0.2",
  "process": { "args": ["/hello"], "cwd": "/", "env": [], "user": { "uid": 0, "gid": 0 } },
  "root": { "path": "root", "readonly": true },
  "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
  "linux": {
    "namespaces": [
      { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
      { "type": "network" }
    ]
  }
}"#;

/// crun refuses to run where both versions of control groups are mounted. The shell therefore
/// unmounts this one, in a mount namespace of its own.
const HYBRID: &str = "/sys/fs/cgroup/unified";

pub(crate) fn bench(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let hello = bundle(&dir).is_some();
    let bundle = dir.path().display();
    let module = guest::dist().join("hello-cgi.wasm");
    let id = format!("mayfly-bench-{}", std::process::id());
    let unshare = "unshare --mount --pid --fork --uts --ipc --net --cgroup";
    let stderr = dir.path().join("stderr");
    let shell = RefCell::new(Shell::start());
    let mut group = criterion.benchmark_group("baseline");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for (name, needs_hello, command) in [
        ("fork-exec-static-hello", true, format!("{bundle}/root/hello")),
        ("namespaces-static-hello", true, format!("{unshare} {bundle}/root/hello")),
        // Without control groups: a container starts faster.
        ("crun", true, format!("crun --cgroup-manager=disabled run --bundle {bundle} {id}")),
        ("runc", true, format!("runc run --bundle {bundle} {id}")),
        ("node", false, "node -e 0".to_owned()),
        ("wasmtime", false, format!("wasmtime run {}", module.display())),
    ] {
        if needs_hello && !hello {
            report_skipped(name, "`cc -static` made no program");
            continue;
        }
        if !shell.borrow_mut().run_with(&command, &stderr) {
            let why = fs::read_to_string(&stderr).unwrap_or_default();
            report_skipped(name, &format!("`{command}`: {}", why.trim()));
            continue;
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert!(shell.borrow_mut().run(&command), "{name} failed"));
        });
    }
    group.finish();
}

/// A container's directory with a static program. `None` if there is no compiler for the program.
fn bundle(dir: &TempDir) -> Option<()> {
    let root = dir.path().join("root");
    // `/proc` is mounted, and crun requires `/dev`.
    for empty in ["proc", "dev"] {
        fs::create_dir_all(root.join(empty)).unwrap();
    }
    fs::write(dir.path().join("config.json"), BUNDLE).unwrap();
    let source = dir.path().join("hello.c");
    fs::write(&source, HELLO).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-Os", "-o"]).arg(root.join("hello")).arg(source);
    compiler.stderr(Stdio::null()).status().is_ok_and(|status| status.success()).then_some(())
}

/// A shell that runs one line at a time.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> Self {
        let hybrid = Path::new(HYBRID).exists() && rustix::process::geteuid().is_root();
        let mut command = Command::new(if hybrid { "unshare" } else { "sh" });
        if hybrid {
            command.args(["--mount", "sh"]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Self { input: child.stdin.take(), child, output };
        if hybrid {
            // If this fails, the crun baseline is skipped.
            let _ = shell.run(&format!("umount {HYBRID}"));
        }
        shell
    }

    /// Runs a command to its end.
    fn run(&mut self, command: &str) -> bool {
        self.run_with(command, Path::new("/dev/null"))
    }

    /// Runs a command to its end, with its standard error in a file.
    fn run_with(&mut self, command: &str, stderr: &Path) -> bool {
        let mut line = String::new();
        let stderr = stderr.display();
        writeln!(line, "{command} </dev/null >/dev/null 2>{stderr}; echo $?").unwrap();
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).and_then(|()| input.flush()).unwrap();
        let mut status = String::new();
        self.output.read_line(&mut status).unwrap();
        status.trim_end() == "0"
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The shell ends at the end of its input.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
