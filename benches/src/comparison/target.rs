//! The targets: running servers.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{
    ComparisonOptions,
    figures::Footprint,
    peer::{self, FRESH, Missing, Recipe},
};
use crate::{
    client::{Answer, Client},
    gateway::{Gateway, GatewayOptions, path_of},
    guest::Guest,
    machine::{locked_version, version_of},
    process::{self, Memory, Server},
    report::progress,
};

/// Timeout of a server's first answer: some compile a large guest first.
const PATIENCE: Duration = Duration::from_mins(3);
/// Pause between two attempts to reach a server that does not answer yet.
const POLL: Duration = Duration::from_millis(5);
/// Connections from one address that a gateway allows by default.
const CONNECTIONS_PER_ADDRESS: u16 = 256;

/// The name of the yardstick.
pub(super) const BARE: &str = "bare axum";
/// The name of the gateway in its default configuration.
pub(super) const MAYFLY: &str = "mayfly";

/// A server with one guest, or with a hello of its own. It ends on drop.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) guest: Option<String>,
    pub(super) addr: SocketAddr,
    pub(super) path: String,
    /// The body of its answers.
    pub(super) expected: Vec<u8>,
    version: String,
    isolation: String,
    command: String,
    idle: Memory,
    process: Process,
}

enum Process {
    Gateway(Gateway),
    Server(Server),
}

impl Target {
    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Gateway(gateway) => gateway.pid(),
            Process::Server(server) => server.pid(),
        }
    }

    /// The target's entry in the report.
    pub(super) fn footprint(&self) -> Footprint {
        Footprint {
            target: self.name.clone(),
            guest: self.guest.clone(),
            version: self.version.clone(),
            isolation: self.isolation.clone(),
            command: self.command.clone(),
            idle: self.idle,
            // The server may have ended under load, which the errors of the measurement show.
            after_load: Memory::of_family(self.pid()).unwrap_or_default(),
        }
    }

    /// Warnings and errors in the gateway's log. The logs of peers have no common format.
    pub(super) fn complaints(&self) -> Vec<String> {
        match &self.process {
            Process::Gateway(gateway) => gateway.complaints(),
            Process::Server(_) => Vec::new(),
        }
    }
}

/// Starts all targets. Returns those that run, the yardstick first, and those that do not.
pub(super) fn start_all(
    gateway: &GatewayOptions,
    options: &ComparisonOptions,
    dir: &Path,
) -> anyhow::Result<(Vec<Target>, Vec<Missing>)> {
    let guests = gateway.guests(&options.guests)?;
    let (recipes, mut missing) =
        peer::find(&options.peers, &options.peer_dir, &options.custom_peers)?;
    let mut targets = vec![bare_axum(&scratch(dir, "bare-axum")?)?];
    for (number, guest) in guests.iter().enumerate() {
        let file = dir.join(format!("{}.wasm", guest.name));
        fs::write(&file, &guest.wasm)?;
        let sets = std::iter::once(None).chain(options.gateway_settings.iter().map(Some));
        for (set, settings) in sets.enumerate() {
            let dir = scratch(dir, &format!("mayfly-{number}-{set}"))?;
            let most = options.connections.iter().max().copied().unwrap_or_default();
            let target = mayfly(gateway, guest, settings, most, &dir)?;
            targets.push(target);
        }
        let expected = targets[targets.len() - 1].expected.clone();
        for (place, recipe) in recipes.iter().filter(|recipe| recipe.takes_guest()).enumerate() {
            let dir = scratch(dir, &format!("peer-{number}-{place}"))?;
            let started = start_peer(recipe, Some(guest), &file, &dir);
            keep(started, recipe, Some((guest, &expected)), &mut targets, &mut missing);
        }
    }
    for (place, recipe) in recipes.iter().filter(|recipe| !recipe.takes_guest()).enumerate() {
        let dir = scratch(dir, &format!("own-{place}"))?;
        let started = start_peer(recipe, None, Path::new(""), &dir);
        keep(started, recipe, None, &mut targets, &mut missing);
    }
    Ok((targets, missing))
}

fn scratch(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let dir = dir.join(name);
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// Keeps a started peer as a target. A peer that does not start, or whose answer differs from the
/// gateway's, is reported as missing.
fn keep(
    started: anyhow::Result<Target>,
    recipe: &Recipe,
    guest: Option<(&Guest, &[u8])>,
    targets: &mut Vec<Target>,
    missing: &mut Vec<Missing>,
) {
    let checked = started.and_then(|target| {
        let expected = guest.map_or(&*target.expected, |(_, expected)| expected);
        ensure!(
            target.expected == expected,
            "it answers `{}`",
            String::from_utf8_lossy(&target.expected).escape_debug()
        );
        Ok(target)
    });
    match checked {
        Ok(target) => targets.push(target),
        Err(error) => {
            let name = guest.map_or_else(
                || recipe.name.clone(),
                |(guest, _)| format!("{} with {}", recipe.name, guest.name),
            );
            let reason = format!("did not start: {error:#}").replace('\n', " ");
            progress(&format!("{name}: {reason}"));
            missing.push(Missing { name, reason });
        }
    }
}

fn bare_axum(dir: &Path) -> anyhow::Result<Target> {
    let addr = process::free_address()?;
    let arguments = ["--listen".to_owned(), addr.to_string()];
    let program = process::sibling("bare-axum")?;
    let mut server = Server::start(&program, &arguments, dir.join("log"))?;
    let answer = first_answer(&mut server, addr)?;
    Ok(Target {
        name: BARE.into(),
        guest: None,
        addr,
        path: "/".into(),
        expected: answer.body,
        version: locked_version("axum"),
        isolation: "none: no guest at all".into(),
        command: "bare-axum --listen 127.0.0.1:{port}".into(),
        idle: Memory::of_family(server.pid())?,
        process: Process::Server(server),
    })
}

fn mayfly(
    options: &GatewayOptions,
    guest: &Guest,
    settings: Option<&String>,
    connections: u16,
    dir: &Path,
) -> anyhow::Result<Target> {
    let name = settings.map_or_else(|| MAYFLY.into(), |settings| format!("{MAYFLY} ({settings})"));
    progress(&format!("starting {name} with {}", guest.name));
    let mut options = options.clone();
    if connections > CONNECTIONS_PER_ADDRESS {
        // All connections come from one address.
        options.settings.push(format!("server.connections_per_address={connections}"));
        options.settings.push(format!("server.in_flight_per_address={connections}"));
    }
    options.settings.extend(settings.into_iter().flat_map(|s| s.split(' ')).map(String::from));
    let gateway = Gateway::start(&options, &dir.join("data"))?;
    gateway.deploy(&guest.name, &guest.wasm, &json!({}))?;
    let path = path_of(&guest.name);
    let answer = Client::connect(gateway.data)?.get(&path)?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    let mut command = String::from("mayfly serve --data-dir {dir}");
    for setting in &options.settings {
        command.push_str(&format!(" --set {setting}"));
    }
    Ok(Target {
        name,
        guest: Some(guest.name.clone()),
        addr: gateway.data,
        path,
        expected: answer.body,
        version: version_of(&options.binary()?),
        isolation: FRESH.into(),
        command,
        idle: Memory::of_family(gateway.pid())?,
        process: Process::Gateway(gateway),
    })
}

fn start_peer(
    recipe: &Recipe,
    guest: Option<&Guest>,
    file: &Path,
    dir: &Path,
) -> anyhow::Result<Target> {
    let with = guest.map(|guest| format!(" with {}", guest.name)).unwrap_or_default();
    progress(&format!("starting {}{with}", recipe.name));
    let addr = process::free_address()?;
    let (program, arguments) = recipe.command(addr.port(), file, dir)?;
    let mut command = Command::new(program);
    recipe.prepare(command.args(arguments).current_dir(dir));
    let mut server = Server::spawn(&mut command, dir.join("log"))?;
    let answer = first_answer(&mut server, addr)?;
    Ok(Target {
        name: recipe.name.clone(),
        guest: guest.map(|guest| guest.name.clone()),
        addr,
        path: "/".into(),
        expected: answer.body,
        version: recipe.version.clone(),
        isolation: recipe.isolation.clone(),
        command: recipe.shown(),
        idle: Memory::of_family(server.pid())?,
        process: Process::Server(server),
    })
}

/// Repeats `GET /` until the answer has status 200.
fn first_answer(server: &mut Server, addr: SocketAddr) -> anyhow::Result<Answer> {
    let since = Instant::now();
    loop {
        let answer = Client::connect(addr).and_then(|mut client| client.get("/"));
        match answer {
            Ok(answer) if answer.status == 200 => return Ok(answer),
            _ if since.elapsed() < PATIENCE => server.ensure_running()?,
            Ok(answer) => anyhow::bail!("it answers {} {}", answer.status, answer.text()),
            Err(error) => return Err(error).context(format!("no answer after {PATIENCE:?}")),
        }
        thread::sleep(POLL);
    }
}
