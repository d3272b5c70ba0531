//! A gateway that the harness starts for one measurement.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    client::{Answer, Client},
    process::{self, Memory, Server},
};

/// Timeout of the gateway's first answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two attempts to reach a gateway that does not answer yet.
const POLL: Duration = Duration::from_micros(200);

/// How to start gateways.
#[derive(Clone, Debug, clap::Args)]
pub struct GatewayOptions {
    /// The gateway's binary [default: `mayfly` beside this program]
    #[arg(long, value_name = "PATH")]
    pub mayfly: Option<PathBuf>,
    /// Setting of the gateway; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Directory in which data directories are created [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Directory of the guests [default: functions/dist of the source tree]
    #[arg(long, value_name = "DIR")]
    pub dist: Option<PathBuf>,
}

impl GatewayOptions {
    /// The binary.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn binary(&self) -> anyhow::Result<PathBuf> {
        self.mayfly.clone().map_or_else(|| process::sibling("mayfly"), Ok)
    }

    /// The directory in which data directories are created.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Creates a directory that is removed on drop.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn temporary(&self) -> anyhow::Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix("mayfly-load-").tempdir_in(self.scratch());
        made.context("creating a data directory")
    }

    /// Reads guests.
    ///
    /// # Errors
    /// When one of them is not built.
    pub fn guests(&self, names: &[String]) -> anyhow::Result<Vec<crate::guest::Guest>> {
        let dist = self.dist.clone().unwrap_or_else(crate::guest::dist);
        names.iter().map(|name| crate::guest::Guest::read(&dist, name)).collect()
    }
}

/// A running gateway. It ends on drop.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
    data_dir: PathBuf,
    /// The data plane.
    pub data: SocketAddr,
    /// The control plane.
    pub control: SocketAddr,
}

impl Gateway {
    /// Starts a gateway on `data_dir` and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(options: &GatewayOptions, data_dir: &Path) -> anyhow::Result<Self> {
        let mut gateway = Self::spawn(options, data_dir)?;
        gateway.poll(gateway.control, "/readyz")?;
        Ok(gateway)
    }

    /// The same with a pipe to its standard input and one from its standard output.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with_pipes(
        options: &GatewayOptions,
        data_dir: &Path,
    ) -> anyhow::Result<(Self, ChildStdin, ChildStdout)> {
        let mut pipes = None;
        let mut gateway = Self::spawn_by(options, data_dir, |program, arguments, log| {
            let (server, input, output) = Server::start_with_pipes(program, arguments, log)?;
            pipes = Some((input, output));
            Ok(server)
        })?;
        gateway.poll(gateway.control, "/readyz")?;
        let (input, output) = pipes.context("the gateway has no pipes")?;
        Ok((gateway, input, output))
    }

    /// Starts a gateway on `data_dir`. Returns it, and the time from its start to the first answer
    /// of `function`.
    ///
    /// # Errors
    /// When it does not start or the function does not answer.
    pub fn start_until(
        options: &GatewayOptions,
        data_dir: &Path,
        function: &str,
    ) -> anyhow::Result<(Self, Duration)> {
        let since = Instant::now();
        let mut gateway = Self::spawn(options, data_dir)?;
        gateway.poll(gateway.data, &path_of(function))?;
        Ok((gateway, since.elapsed()))
    }

    fn spawn(options: &GatewayOptions, data_dir: &Path) -> anyhow::Result<Self> {
        Self::spawn_by(options, data_dir, Server::start)
    }

    /// Starts the process by `start`, which gets program, arguments and the file for its log.
    fn spawn_by(
        options: &GatewayOptions,
        data_dir: &Path,
        start: impl FnOnce(&Path, &[String], PathBuf) -> anyhow::Result<Server>,
    ) -> anyhow::Result<Self> {
        let (data, control) = (process::free_address()?, process::free_address()?);
        let mut arguments = ["serve", "--data-dir"].map(String::from).to_vec();
        arguments.push(data_dir.display().to_string());
        for (flag, value) in [("--listen", data), ("--admin-listen", control)] {
            arguments.extend([flag.to_owned(), value.to_string()]);
        }
        // There is no load balancer that has to see the gateway become unready before it stops.
        arguments.extend(["--set", "server.unready_ms=0"].map(String::from));
        for setting in &options.settings {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        fs::create_dir_all(data_dir)?;
        let server = start(&options.binary()?, &arguments, data_dir.join("harness.log"))?;
        Ok(Self { server, data_dir: data_dir.to_owned(), data, control })
    }

    /// Repeats a request until the answer has status 200.
    fn poll(&mut self, addr: SocketAddr, path: &str) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            let answer = Client::connect(addr).and_then(|mut client| client.get(path));
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            self.server.ensure_running()?;
            ensure!(since.elapsed() < PATIENCE, "{path} does not answer: {answer:?}");
            thread::sleep(POLL);
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its memory use.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(self.pid())
    }

    /// Warnings and errors in its log.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.server.complaints()
    }

    /// Stops it as an operator would, and returns how long that took.
    ///
    /// # Errors
    /// When it does not stop, or exits with another code than 0.
    pub fn stop(self) -> anyhow::Result<Duration> {
        self.server.stop()
    }

    /// The header line that authorises changes, for [`put`](Self::put).
    ///
    /// # Errors
    /// When the file with the token cannot be read.
    pub fn authorization(&self) -> anyhow::Result<String> {
        let path = self.data_dir.join("admin.token");
        let token = fs::read_to_string(&path)
            .with_context(|| format!("reading the token in {}", path.display()))?;
        Ok(format!("authorization: Bearer {}\r\n", token.trim()))
    }

    /// Deploys `wasm` over `client`, a connection to the control plane.
    ///
    /// # Errors
    /// When the gateway refuses the upload.
    pub fn put(
        client: &mut Client,
        authorization: &str,
        name: &str,
        wasm: &[u8],
        settings: &Value,
    ) -> anyhow::Result<Answer> {
        let headers = format!(
            "content-type: application/wasm\r\nmayfly-settings: {settings}\r\n{authorization}"
        );
        let answer = client
            .send("PUT", &format!("/v1/functions/{name}"), &headers, wasm)
            .with_context(|| format!("deploying {name}"))?;
        let (status, text) = (answer.status, answer.text());
        ensure!(status == 201 || status == 200, "deploying {name}: {status} {text}");
        Ok(answer)
    }

    /// Deploys over a new connection.
    ///
    /// # Errors
    /// When the gateway refuses the upload.
    pub fn deploy(&self, name: &str, wasm: &[u8], settings: &Value) -> anyhow::Result<()> {
        let mut client = Client::connect(self.control)?;
        Self::put(&mut client, &self.authorization()?, name, wasm, settings)?;
        Ok(())
    }

    /// The state of a function, such as `cold`, from the API.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn state(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/v1/functions/{name}");
        let answer =
            Client::connect(self.control)?.send("GET", &path, &self.authorization()?, b"")?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        let view: Value = serde_json::from_slice(&answer.body)?;
        let state = view.get("state").and_then(Value::as_str);
        Ok(state.context("the API does not say a function's state")?.to_owned())
    }

    /// The sum of all time series that begin with `series` and contain `label`.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub fn metric(&self, series: &str, label: &str) -> anyhow::Result<f64> {
        let authorization = self.authorization()?;
        let answer = Client::connect(self.control)?.send("GET", "/metrics", &authorization, b"")?;
        ensure!(answer.status == 200, "/metrics: {}", answer.status);
        let text = answer.text();
        let of_series =
            text.lines().filter(|line| line.starts_with(series) && line.contains(label));
        let values = of_series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Waits until no function has code in memory.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub fn wait_until_cold(&mut self, patience: Duration) -> anyhow::Result<()> {
        let since = Instant::now();
        while self.metric("mayfly_resident_functions ", "")? > 0.0 {
            self.server.ensure_running()?;
            ensure!(since.elapsed() < patience, "functions are still resident after {patience:?}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The path of a function on the data plane.
#[must_use]
pub fn path_of(function: &str) -> String {
    format!("/f/{function}/")
}
