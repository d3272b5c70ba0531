//! Where the CPU time and the allocations of a request go, as tables that add up.
//!
//! Linux' `perf` samples the gateway under a closed loop. Each sample belongs to one part of the
//! program, by its innermost function that belongs to one, and to one phase of the request. The
//! shares are multiplied with the CPU time per request that was measured without `perf` just before.
//! The allocations are counted, not sampled (`allocations`).

mod heap;
mod parts;
mod perf;

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use self::{
    parts::{Phase, Place},
    perf::Recording,
};
use crate::{
    allocations::Counting,
    client::{Client, get_request},
    gateway::{Gateway, GatewayOptions, path_of},
    generator::{self, Load, Plan},
    guest::Guest,
    process::{self, Server},
    report::{Findings, number, progress, table},
};

const WARM_UP: Duration = Duration::from_millis(500);
/// Callers of each allocation that are kept. The chain from an allocation to the phase of its
/// request is shorter than this in all guests.
const FRAMES: u32 = 48;

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileOptions {
    /// Guests to deploy
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "c-hello,hello,c-hello-cgi,hello-p3,js-hello"
    )]
    pub guests: Vec<String>,
    /// Connections of the closed loop
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub connections: u16,
    /// Seconds that each guest is sampled for
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Samples a second of each busy core
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    pub frequency: u32,
    /// Requests whose allocations are counted
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub requests: u32,
    /// Call sites to list of each guest
    #[arg(long, default_value_t = 25)]
    pub sites: usize,
    /// The program that samples
    #[arg(long, value_name = "PATH", default_value = "perf")]
    pub perf: PathBuf,
    /// Count allocations only
    #[arg(long)]
    pub no_perf: bool,
    /// The gateway that counts allocations [default: `mayfly-counted` beside this program]
    #[arg(long, value_name = "PATH")]
    pub counted: Option<PathBuf>,
}

/// A quantity per request, divided by place and by call site.
#[derive(Debug, Default)]
struct Division {
    places: BTreeMap<Place, f64>,
    sites: BTreeMap<(String, Place), Vec<f64>>,
}

/// A call site with what is spent there.
#[derive(Debug, Serialize)]
struct Site {
    function: String,
    part: &'static str,
    phase: &'static str,
    /// Microseconds; or allocations and bytes.
    per_request: Vec<f64>,
}

impl Division {
    /// Adds a chain with its quantities. The first one is divided by places.
    fn add(&mut self, chain: &[parts::Frame], quantities: &[f64]) {
        let place = parts::place(chain);
        *self.places.entry(place).or_default() += quantities[0];
        let site = self.sites.entry((parts::site(chain).to_owned(), place)).or_default();
        site.resize(quantities.len(), 0.0);
        for (sum, quantity) in site.iter_mut().zip(quantities) {
            *sum += quantity;
        }
    }

    fn total(&self) -> f64 {
        self.places.values().sum()
    }

    /// Parts by phases, the largest part first, with sums and shares.
    fn table(&self, unit: &str, decimals: usize) -> String {
        let of = |part: &str, phase: Option<Phase>| -> f64 {
            let wanted = |place: &Place| {
                (part.is_empty() || place.part == part)
                    && phase.is_none_or(|one| one == place.phase)
            };
            // An empty sum of floats is -0.
            let values = self.places.iter().filter(|(place, _)| wanted(place));
            values.map(|(_, value)| value).sum::<f64>() + 0.0
        };
        let mut names: Vec<&str> = self.places.keys().map(|place| place.part).collect();
        names.dedup();
        names.sort_by(|a, b| of(b, None).total_cmp(&of(a, None)));
        let row = |title: &str, part: &str| {
            let phases = Phase::ALL.map(|phase| number(of(part, Some(phase)), decimals));
            let share = of(part, None) / self.total().max(f64::MIN_POSITIVE) * 100.0;
            let end = [number(of(part, None), decimals), number(share, 1)];
            std::iter::once(title.to_owned()).chain(phases).chain(end).collect()
        };
        let mut rows: Vec<Vec<String>> = names.iter().map(|part| row(part, part)).collect();
        rows.push(row("**sum**", ""));
        let phases = Phase::ALL.map(Phase::title);
        let header: Vec<&str> = std::iter::once("part").chain(phases).chain([unit, "%"]).collect();
        table(&header, &rows)
    }

    fn top(&self, count: usize) -> Vec<Site> {
        let mut sites: Vec<_> = self.sites.iter().collect();
        sites.sort_by(|(_, a), (_, b)| b[0].total_cmp(&a[0]));
        let site = |((function, place), per_request): (&(String, Place), &Vec<f64>)| Site {
            function: function.clone(),
            part: place.part,
            phase: place.phase.title(),
            per_request: per_request.clone(),
        };
        sites.into_iter().take(count).map(site).collect()
    }

    fn figures(&self) -> serde_json::Value {
        let place = |(place, value): (&Place, &f64)| json!({ "part": place.part, "phase": place.phase.title(), "per_request": value });
        json!(self.places.iter().map(place).collect::<Vec<_>>())
    }
}

/// Measures.
///
/// # Errors
/// When a server does not start, a program or a guest is not built, or `perf` is missing.
pub fn run(gateway: &GatewayOptions, options: &ProfileOptions) -> anyhow::Result<Findings> {
    let guests = gateway.guests(&options.guests)?;
    let dir = gateway.temporary()?;
    let mut markdown = String::new();
    let mut figures = Vec::new();
    let mut complaints = Vec::new();
    if !options.no_perf {
        perf::check(&options.perf)?;
        let (text, times) = times(gateway, options, &guests, dir.path(), &mut complaints)?;
        markdown.push_str(&text);
        figures.push(times);
    }
    let (text, counts) = counts(gateway, options, &guests, dir.path())?;
    markdown.push_str(&text);
    figures.push(counts);
    Ok(Findings { markdown, figures: json!(figures), complaints })
}

fn times(
    gateway: &GatewayOptions,
    options: &ProfileOptions,
    guests: &[Guest],
    dir: &Path,
    complaints: &mut Vec<String>,
) -> anyhow::Result<(String, serde_json::Value)> {
    let mut gateway = gateway.clone();
    // All connections come from one address, and `perf` delays everything.
    for setting in ["server.connections_per_address=10000", "server.in_flight_per_address=10000"] {
        gateway.settings.insert(0, setting.into());
    }
    let mayfly = Gateway::start(&gateway, &dir.join("data"))?;
    let bare_addr = process::free_address()?;
    let arguments = ["--listen".to_owned(), bare_addr.to_string()];
    let bare = process::sibling("bare-axum")?;
    let mut bare = Server::start(&bare, &arguments, dir.join("bare-axum.log"))?;
    bare.wait_for(bare_addr)?;
    let mut markdown = String::new();
    let mut figures = Vec::new();
    for guest in guests {
        mayfly.deploy(&guest.name, &guest.wasm, &json!({}))?;
        let path = path_of(&guest.name);
        let seconds = Duration::from_secs(options.seconds);
        let plan = |addr, path| plan(addr, path, options.connections, seconds);
        let bare_us = cpu_us(plan(bare_addr, "/")?, bare.pid())?;
        let us = cpu_us(plan(mayfly.data, &path)?, mayfly.pid())?;
        let file = dir.join("samples");
        let mut start = Some(|| {
            Recording::start(&options.perf, mayfly.pid(), options.frequency, seconds, &file)
        });
        let (observed, recording, _) =
            generator::run(plan(mayfly.data, &path)?, || start.take().map(|start| start()))?;
        complaints.extend(observed.first_error);
        let Some(recording) = recording else { continue };
        let chains = recording?.finish()?;
        ensure!(!chains.is_empty(), "{}: perf took no samples", guest.name);
        progress(&format!("{}: {} samples, {us:.1} µs a request", guest.name, chains.len()));
        let mut division = Division::default();
        for chain in &chains {
            division.add(chain, &[us / chains.len() as f64]);
        }
        let sites = division.top(options.sites);
        markdown.push_str(&format!(
            "### {}: CPU time\n\nµs of one request, {} samples, {} connections; bare axum just \
             before: {bare_us:.1} µs, so {:.2} times that.\n\n{}\n{}\n",
            guest.name,
            number(chains.len() as f64, 0),
            options.connections,
            us / bare_us,
            division.table("µs", 2),
            site_table(&sites, &["µs"], 2),
        ));
        figures.push(json!({
            "guest": guest.name,
            "us": us,
            "bare_axum_us": bare_us,
            "samples": chains.len(),
            "places": division.figures(),
            "sites": sites,
        }));
    }
    complaints.extend(mayfly.complaints());
    mayfly.stop()?;
    Ok((markdown, json!({ "cpu": figures })))
}

fn plan(
    addr: std::net::SocketAddr,
    path: &str,
    connections: u16,
    measure: Duration,
) -> anyhow::Result<Plan> {
    let answer = Client::connect(addr)?.get(path)?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    Ok(Plan {
        addr,
        request: get_request(addr, path),
        expected: answer.body,
        load: Load::Closed,
        connections: usize::from(connections),
        threads: thread::available_parallelism().map_or(1, NonZero::get),
        retries: 0,
        warm_up: WARM_UP,
        measure,
    })
}

/// CPU time of a process per request, in microseconds.
fn cpu_us(plan: Plan, pid: u32) -> anyhow::Result<f64> {
    let (observed, before, after) = generator::run(plan, || process::cpu_seconds(pid))?;
    Ok((after? - before?) * 1e6 / (observed.latency.count() as f64).max(1.0))
}

fn counts(
    gateway: &GatewayOptions,
    options: &ProfileOptions,
    guests: &[Guest],
    dir: &Path,
) -> anyhow::Result<(String, serde_json::Value)> {
    let counted = GatewayOptions { mayfly: options.counted.clone(), ..gateway.clone() };
    let mut counting = Counting::start(&counted, &dir.join("counted"))?;
    let mut markdown = String::new();
    let mut figures = Vec::new();
    for guest in guests {
        let file = dir.join("allocations");
        let all = counting.with_callers(guest, options.requests, FRAMES, &file)?;
        progress(&format!("{}: {:.1} allocations a request", guest.name, all.allocations));
        let mut division = Division::default();
        let requests = f64::from(options.requests);
        for one in heap::read(&file)? {
            division.add(&one.chain, &[one.count / requests, one.bytes / requests]);
        }
        let sites = division.top(options.sites);
        markdown.push_str(&format!(
            "### {}: allocations\n\nOf one request: {:.1} allocations, {} bytes.\n\n{}\n{}\n",
            guest.name,
            all.allocations,
            number(all.bytes, 0),
            division.table("allocations", 1),
            site_table(&sites, &["allocations", "bytes"], 1),
        ));
        figures.push(json!({
            "guest": guest.name,
            "all": all,
            "places": division.figures(),
            "sites": sites,
        }));
    }
    counting.stop()?;
    Ok((markdown, json!({ "allocations": figures })))
}

fn site_table(sites: &[Site], units: &[&str], decimals: usize) -> String {
    let rows = sites.iter().map(|site| {
        // Backquotes keep angle brackets; a bar would end the cell.
        let function = format!("`{}`", site.function.replace('|', "/"));
        let start = [function, site.part.to_owned(), site.phase.to_owned()];
        let quantities = site.per_request.iter().map(|quantity| number(*quantity, decimals));
        start.into_iter().chain(quantities).collect()
    });
    let header: Vec<&str> =
        ["call site", "part", "phase"].into_iter().chain(units.iter().copied()).collect();
    table(&header, &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_division_adds_up() {
        let frame =
            |function: &str| parts::Frame { function: function.to_owned(), object: String::new() };
        let mut division = Division::default();
        division.add(&[frame("hyper::proto::h1::poll")], &[3.0, 48.0]);
        division.add(&[frame("gateway::edge::Edge::serve")], &[1.0, 8.0]);
        division.add(&[], &[1.0, 8.0]);
        let table = division.table("allocations", 1);
        let first = "| HTTP (hyper, http, bytes) | 0.0 | 0.0 | 0.0 | 3.0 | 3.0 | 60.0 |";
        assert_eq!(table.lines().nth(2), Some(first));
        assert_eq!(table.lines().last(), Some("| **sum** | 0.0 | 0.0 | 0.0 | 5.0 | 5.0 | 100.0 |"));
        let top = division.top(1);
        assert_eq!(
            (top[0].function.as_str(), &top[0].per_request[..]),
            ("hyper::proto::h1::poll", &[3.0, 48.0][..])
        );
    }
}
