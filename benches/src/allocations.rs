//! What a warm request allocates: exact counts, which no neighbour on the machine changes.
//!
//! The gateway runs as `mayfly-counted`: the same program with an allocator that counts. One
//! connection sends one request after the other. The first ones are not counted: they create the
//! connection, load the function and fill what is kept between requests.
//!
//! `benches/tests/allocations.rs` holds the counts to ceilings.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, ChildStdout},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::json;

use crate::{
    client::Client,
    gateway::{Gateway, GatewayOptions, path_of},
    guest::Guest,
    process,
};

/// Requests before the first that is counted. Each connection, thread and pool slot has been used
/// by then.
const WARM_UP: u32 = 200;

/// What one request allocates, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PerRequest {
    /// Calls of the allocator that return a block: new ones, zeroed ones and those with a new size.
    pub allocations: f64,
    /// The sizes of these blocks together.
    pub bytes: f64,
}

/// A gateway that counts its allocations. It ends on drop.
#[derive(Debug)]
pub struct Counting {
    gateway: Gateway,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Counting {
    /// Starts a gateway on `data_dir`.
    ///
    /// # Errors
    /// When `mayfly-counted` is not built, or does not start.
    pub fn start(options: &GatewayOptions, data_dir: &Path) -> anyhow::Result<Self> {
        let mut options = options.clone();
        if options.mayfly.is_none() {
            options.mayfly = Some(process::sibling("mayfly-counted")?);
        }
        // The machine may be busy, and this gateway is slow: it must not refuse requests for that.
        options.settings.insert(0, "server.max_lag_ms=0".into());
        let (gateway, commands, answers) = Gateway::start_with_pipes(&options, data_dir)?;
        Ok(Self { gateway, commands, answers: BufReader::new(answers) })
    }

    /// Deploys a guest under its own name, and counts what `requests` requests to it allocate.
    ///
    /// # Errors
    /// When a request fails.
    pub fn of(&mut self, guest: &Guest, requests: u32) -> anyhow::Result<PerRequest> {
        self.counted(guest, requests, "begin")
    }

    /// The same, and writes the callers of each allocation to `file`, up to `frames` of them.
    ///
    /// # Errors
    /// When a request fails.
    pub fn with_callers(
        &mut self,
        guest: &Guest,
        requests: u32,
        frames: u32,
        file: &Path,
    ) -> anyhow::Result<PerRequest> {
        self.counted(guest, requests, &format!("begin {frames} {}", file.display()))
    }

    fn counted(&mut self, guest: &Guest, requests: u32, begin: &str) -> anyhow::Result<PerRequest> {
        self.gateway.deploy(&guest.name, &guest.wasm, &json!({}))?;
        let mut client = Client::connect(self.gateway.data)?;
        let path = path_of(&guest.name);
        let mut call = |times: u32| {
            for _ in 0..times {
                let answer = client.get(&path)?;
                ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
            }
            Ok(())
        };
        call(WARM_UP)?;
        self.command(begin)?;
        call(requests)?;
        let said = self.command("end")?;
        let mut counts = said.split(' ').map(str::parse::<f64>);
        let mut next = || counts.next().context("a count is missing")?.context("not a count");
        let per_request = f64::from(requests.max(1));
        Ok(PerRequest { allocations: next()? / per_request, bytes: next()? / per_request })
    }

    /// Sends a command and returns what follows `counted` in the answer.
    fn command(&mut self, command: &str) -> anyhow::Result<String> {
        writeln!(self.commands, "{command}")?;
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line)?;
            ensure!(read > 0, "the gateway ended while it counted");
            // The gateway prints its addresses there, too.
            if let Some(answer) = line.trim_end().strip_prefix("counted ") {
                return Ok(answer.to_owned());
            }
        }
    }

    /// Stops the gateway.
    ///
    /// # Errors
    /// When it does not stop, or exits with another code than 0.
    pub fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop()?;
        Ok(())
    }
}
