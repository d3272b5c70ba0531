//! A running gateway and the operations of tests on it.

use std::{
    fs::{self, File, OpenOptions},
    io::{PipeReader, PipeWriter, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{FullResponse, TestRequest, eventually},
    guests::guest,
};

/// A log to which nothing was added for this long is complete.
const LOG_QUIET: Duration = Duration::from_millis(30);

/// The binary under test.
pub(crate) const MAYFLY: &str = env!("CARGO_BIN_EXE_mayfly");

/// The real binary with a data directory of its own. Dropping it kills the process, and fails the
/// test if the gateway has logged an unexpected error.
pub(crate) struct TestGateway {
    dir: TempDir,
    settings: Vec<String>,
    setup: Setup,
    process: Child,
    data: SocketAddr,
    control: SocketAddr,
    expects_errors: bool,
}

/// The environment in which a test's gateway runs.
enum Setup {
    /// The machine as it is.
    Plain,
    /// A file system of its own for the data, of this size (`16m`).
    Disk(&'static str),
    /// A wall clock with the offset in this file (`+400d`). The monotonic clock is unchanged, as it
    /// is when an administrator sets the clock.
    Clock(PathBuf),
    /// A different build of the binary.
    Build(PathBuf),
    /// Standard error is a pipe that is full, and that nobody reads.
    StalledLog(PipeReader, PipeWriter),
}

impl Setup {
    /// The machine as it is; with `MAYFLY_STALLED_LOG=1`, every gateway's log has stalled. Tests that
    /// read the log fail then.
    fn usual() -> Self {
        let stalled = std::env::var_os("MAYFLY_STALLED_LOG").is_some_and(|value| value == "1");
        if stalled { Self::stalled_log() } else { Self::Plain }
    }

    fn stalled_log() -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // What a pipe holds.
        writer.write_all(&[b'\n'; 64 << 10]).unwrap();
        Self::StalledLog(reader, writer)
    }

    /// Standard error of the process: appended to a file, unless the log has stalled.
    fn stderr(&self, dir: &Path) -> Stdio {
        let log = OpenOptions::new().create(true).append(true).open(dir.join("stderr")).unwrap();
        match self {
            Self::StalledLog(_, writer) => writer.try_clone().unwrap().into(),
            Self::Plain | Self::Disk(_) | Self::Clock(_) | Self::Build(_) => log.into(),
        }
    }
}

impl TestGateway {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a gateway with `settings`, each `key=value`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        Self::on(Setup::usual(), settings).await
    }

    /// Starts a gateway whose log nobody reads.
    pub(crate) async fn with_a_stalled_log(settings: &[&str]) -> Self {
        Self::on(Setup::stalled_log(), settings).await
    }

    /// Reads what a stalled log holds and what is written from here on.
    pub(crate) fn read_stalled_log(&self) -> PipeReader {
        let Setup::StalledLog(reader, _) = &self.setup else { panic!("the log has not stalled") };
        reader.try_clone().unwrap()
    }

    /// Starts a gateway whose data directory is a file system of this size.
    pub(crate) async fn on_a_disk_of(size: &'static str) -> Self {
        Self::on(Setup::Disk(size), &[]).await
    }

    /// Starts a gateway whose clock has the offset in a file.
    pub(crate) async fn with_a_clock_from(offset: &Path) -> Self {
        Self::on(Setup::Clock(offset.to_owned()), &[]).await
    }

    async fn on(setup: Setup, settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = for_a_busy_machine(settings);
        let process = spawn(dir.path(), &settings, &setup);
        Self::started(dir, settings, setup, process).await
    }

    async fn started(dir: TempDir, settings: Vec<String>, setup: Setup, process: Child) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let (data, control, expects_errors) = (nowhere, nowhere, false);
        let mut gateway = Self { dir, settings, setup, process, data, control, expects_errors };
        gateway.becomes_ready().await;
        gateway
    }

    /// Starts a gateway with this limit of open files and sockets.
    pub(crate) async fn with_descriptors(count: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shell = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.env_clear().args(["-c", &shell, MAYFLY]);
        let process = spawn_as(command, dir.path(), &[], &Setup::Plain);
        Self::started(dir, Vec::new(), Setup::Plain, process).await
    }

    /// Starts a gateway by a command that runs the binary with the appended arguments.
    pub(crate) async fn by(command: Command, settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = for_a_busy_machine(settings);
        let process = spawn_as(command, dir.path(), &settings, &Setup::Plain);
        Self::started(dir, settings, Setup::Plain, process).await
    }

    /// Allows errors in the gateway's log.
    pub(crate) fn expect_errors(&mut self) {
        self.expects_errors = true;
    }

    async fn becomes_ready(&mut self) {
        let (data, control) = eventually("the gateway prints its addresses", async || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the gateway ended with {status}");
            }
            let said = self.stdout();
            let data = address(&said, "functions answer at")?;
            Some((data, address(&said, "control plane at")?))
        })
        .await;
        (self.data, self.control) = (data, control);
        // A control plane with TLS cannot be asked in plain text.
        if self.settings.iter().any(|setting| setting.starts_with("server.admin_tls")) {
            return;
        }
        eventually("the gateway is ready", async || {
            let ready = self.anonymous(Method::GET, "/readyz").send().await;
            (ready.status() == 200).then_some(())
        })
        .await;
    }

    // The process.

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The memory of the process.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The peak of that memory.
    pub(crate) fn most_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Makes the peak begin anew from the memory of now.
    pub(crate) fn reset_peak(&self) {
        // The value for the peak (proc(5)).
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        let data = self.dir.path().join("data");
        match self.setup {
            Setup::Plain | Setup::Clock(_) | Setup::Build(_) | Setup::StalledLog(..) => data,
            // The mount is visible only in the gateway's namespace, and below its `/proc` entry.
            Setup::Disk(_) => PathBuf::from(format!("/proc/{}/root{}", self.pid(), data.display())),
        }
    }

    /// Its standard output since the last start.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("stdout")).unwrap()
    }

    /// Its log since the first start. A thread of the gateway writes it: a line of something that has
    /// just happened may come a moment later, so this waits until no more lines come.
    pub(crate) fn log(&self) -> String {
        let read = || fs::read_to_string(self.dir.path().join("stderr")).unwrap();
        let mut log = read();
        loop {
            std::thread::sleep(LOG_QUIET);
            let now = read();
            if now.len() == log.len() {
                return log;
            }
            log = now;
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the process has ended.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        eventually("the gateway ends", async || self.process.try_wait().unwrap()).await
    }

    /// Sends SIGKILL and waits until the process has ended.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts the gateway again on the same data directory.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.process.try_wait().unwrap().is_some(), "the gateway still runs");
        self.process = spawn(self.dir.path(), &self.settings, &self.setup);
        self.becomes_ready().await;
    }

    /// The same with other settings.
    pub(crate) async fn start_with(&mut self, settings: &[&str]) {
        self.settings = for_a_busy_machine(settings);
        self.start_again().await;
    }

    /// The same with another binary.
    pub(crate) async fn start_build(&mut self, program: &Path) {
        self.setup = Setup::Build(program.to_owned());
        self.start_again().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.terminate();
        assert!(self.exit().await.success());
        self.start_again().await;
    }

    /// The files below a part of the data directory.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![self.data_dir().join(below)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.is_file() {
                    files.push(path);
                }
            }
        }
        files
    }

    /// Waits until no file of an upload is left.
    pub(crate) async fn no_uploads_left(&self) {
        eventually("tmp/ is empty", async || self.files("tmp").is_empty().then_some(())).await;
    }

    // The data plane.

    pub(crate) fn data(&self) -> SocketAddr {
        self.data
    }

    pub(crate) fn call(&self, method: Method, target: &str) -> TestRequest {
        TestRequest::new(self.data, method, target)
    }

    pub(crate) async fn get(&self, target: &str) -> FullResponse {
        self.call(Method::GET, target).send().await
    }

    // The control plane.

    pub(crate) fn control_address(&self) -> SocketAddr {
        self.control
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.data_dir().join("admin.token")).unwrap().trim().to_owned()
    }

    /// A request to the control plane without a token.
    pub(crate) fn anonymous(&self, method: Method, target: &str) -> TestRequest {
        TestRequest::new(self.control, method, target)
    }

    /// A request to the control plane with the administrator's token.
    pub(crate) fn control(&self, method: Method, target: &str) -> TestRequest {
        let bearer = format!("Bearer {}", self.token());
        self.anonymous(method, target).header("authorization", &bearer)
    }

    pub(crate) async fn api(&self, target: &str) -> FullResponse {
        self.control(Method::GET, target).send().await
    }

    pub(crate) fn put(&self, name: &str, wasm: impl Into<bytes::Bytes>) -> TestRequest {
        self.control(Method::PUT, &format!("/v1/functions/{name}"))
            .header("content-type", "application/wasm")
            .body(wasm)
    }

    /// Deploys a guest under its own name.
    pub(crate) async fn deploy(&self, guest: &str) -> Value {
        self.deploy_with(guest, &Value::Null).await
    }

    /// Deploys a guest under its own name, with settings.
    pub(crate) async fn deploy_with(&self, name: &str, settings: &Value) -> Value {
        let mut put = self.put(name, guest(name));
        if !settings.is_null() {
            put = put.header("mayfly-settings", &settings.to_string());
        }
        let answer = put.send().await;
        assert_eq!(answer.status(), 201, "{answer:?}");
        answer.json().clone()
    }

    pub(crate) async fn patch(&self, name: &str, change: &Value) -> FullResponse {
        self.control(Method::PATCH, &format!("/v1/functions/{name}")).json(change).send().await
    }

    pub(crate) async fn show(&self, name: &str) -> FullResponse {
        self.api(&format!("/v1/functions/{name}")).await
    }

    /// The lines of a function's log, as soon as there are `count` of them.
    pub(crate) async fn log_lines(&self, name: &str, count: usize) -> Vec<Value> {
        let target = format!("/v1/functions/{name}/logs?limit=1000");
        eventually("lines are in the function's log", async || {
            let lines = self.api(&target).await.json()["lines"].as_array().unwrap().clone();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }

    /// The sum of a metric over all its series.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.api("/metrics").await;
        let series = text.text().lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The same over the series with these labels.
    pub(crate) async fn metric_with(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.api("/metrics").await;
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let series = text.text().lines().filter(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with('{'));
            rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label.as_str())))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_becomes(&self, name: &str, value: f64) {
        let what = format!("{name} is {value}");
        eventually(&what, async || (self.metric(name).await == value).then_some(())).await;
    }

    // The command line.

    /// Runs a client command of the same binary against this gateway.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = mayfly(arguments);
        command.env("MAYFLY_DATA_DIR", self.data_dir());
        run(command).await
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "shown only when the test fails")]
            {
                eprintln!("--- the gateway's log:\n{log}--- end of the gateway's log");
            }
            return;
        }
        let is_bad = |line: &&str| line.contains(r#""level":"ERROR""#) || line.contains("panicked");
        let bad: Vec<&str> = log.lines().filter(is_bad).collect();
        assert!(self.expects_errors || bad.is_empty(), "the gateway logged {bad:#?}");
    }
}

/// The machine may be busy with other tests, so load shedding is off unless a test turns it on.
fn for_a_busy_machine(settings: &[&str]) -> Vec<String> {
    let settings = [&["server.max_lag_ms=0"], settings].concat();
    settings.iter().map(|&setting| setting.to_owned()).collect()
}

fn spawn(dir: &Path, settings: &[String], setup: &Setup) -> Child {
    let command = match setup {
        Setup::Plain | Setup::StalledLog(..) => mayfly(&[]),
        Setup::Disk(size) => on_a_disk(size, &dir.join("data")),
        Setup::Clock(offset) => with_a_clock(offset),
        Setup::Build(program) => clean(Command::new(program)),
    };
    spawn_as(command, dir, settings, setup)
}

fn spawn_as(mut command: Command, dir: &Path, settings: &[String], setup: &Setup) -> Child {
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(dir.join("data"));
    // There is no load balancer that needs time to notice.
    command.args(["--set", "server.unready_ms=0"]);
    // In a user namespace, files of the real root seem to belong to somebody else.
    if matches!(setup, Setup::Disk(_)) && !rustix::process::geteuid().is_root() {
        command.args(["--set", "insecure_data_dir=true"]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    let stdout = File::create(dir.join("stdout")).unwrap();
    command.stdin(Stdio::null()).stdout(stdout).stderr(setup.stderr(dir)).spawn().unwrap()
}

/// The binary with a tmpfs mounted at `data`, in a mount namespace of its own.
fn on_a_disk(size: &str, data: &Path) -> Command {
    fs::create_dir_all(data).unwrap();
    let mount = r#"mount -t tmpfs -o "size=$0,mode=700" tmpfs "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    // The root user of a new user namespace may mount there.
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", mount, size]).arg(data).arg(MAYFLY);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// The binary with another wall clock.
fn with_a_clock(offset: &Path) -> Command {
    let machine = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let library = Path::new(&machine).join("faketime/libfaketimeMT.so.1");
    assert!(library.exists(), "this test needs libfaketime (Debian: apt-get install faketime)");
    let mut command = mayfly(&[]);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// The binary with an empty environment.
pub(crate) fn mayfly(arguments: &[&str]) -> Command {
    let mut command = clean(Command::new(MAYFLY));
    command.args(arguments);
    command
}

fn clean(mut command: Command) -> Command {
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs a command to its end without blocking the runtime.
pub(crate) async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn address(stdout: &str, label: &str) -> Option<SocketAddr> {
    // A line without a line feed may still be incomplete.
    let line = stdout.split_inclusive('\n').find(|line| line.starts_with(label))?;
    let url = line.strip_suffix('\n')?.split_whitespace().last()?;
    url.split_once("://")?.1.split('/').next()?.parse().ok()
}
