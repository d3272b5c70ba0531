//! Many functions, called by Zipf's law, under a memory budget that holds only a part of them: how
//! often the called function is in memory, the cost of a call when it is not, and the evictions.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::{
    client::Client,
    gateway::{Gateway, GatewayOptions, path_of},
    process::Memory,
    report::{Quantiles, number, progress, table},
    zipf::Zipf,
};

/// The smallest `pool.resident_bytes` that the gateway accepts.
const LEAST_BYTES: u64 = 16 << 20;
/// Arbitrary. It makes the calls the same in every run.
const SEED: u64 = 1;

/// The calls, and the budget.
#[derive(Clone, Debug, clap::Args)]
pub struct BudgetOptions {
    /// Calls under the budget, one after the other; 0 skips this part
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub calls: u32,
    /// Share of all native code that the budget holds
    #[arg(long, default_value_t = 0.1)]
    pub share: f64,
    /// Exponent of Zipf's law
    #[arg(long, default_value_t = 1.0)]
    pub exponent: f64,
}

/// The results of the calls.
#[derive(Debug, Serialize)]
pub struct Budget {
    resident_bytes: u64,
    /// Functions in memory at the end.
    resident: u32,
    evictions: u64,
    memory: Memory,
    tiers: Vec<Tier>,
}

/// Calls that started from one tier.
#[derive(Debug, Serialize)]
struct Tier {
    tier: String,
    calls: usize,
    share: f64,
    latency: Quantiles,
}

/// Starts a gateway on `data_dir` and calls the functions that are deployed there. There are
/// `functions` of them, with names from `name` and about `code_bytes` of native code each.
///
/// # Errors
/// When the gateway does not start, or a call fails.
pub fn run(
    gateway: &GatewayOptions,
    options: &BudgetOptions,
    data_dir: &Path,
    functions: u32,
    code_bytes: f64,
    name: fn(u32) -> String,
) -> anyhow::Result<(Budget, Vec<String>)> {
    let bytes = (options.share * code_bytes * f64::from(functions)) as u64;
    let resident_bytes = bytes.max(LEAST_BYTES);
    let mut gateway = gateway.clone();
    gateway.settings.push(format!("pool.resident_bytes={resident_bytes}"));
    let mayfly = Gateway::start(&gateway, data_dir)?;
    let mut client = Client::connect(mayfly.data)?;
    let mut zipf = Zipf::new(functions, options.exponent, SEED);
    let mut times: Vec<(String, Vec<Duration>)> = Vec::new();
    for call in 1..=options.calls {
        let function = name(zipf.draw());
        let answer = client.get(&path_of(&function))?;
        ensure!(answer.status == 200, "{function}: {} {}", answer.status, answer.text());
        let tier = answer.tier().context("an answer does not say from which tier it started")?;
        match times.iter_mut().find(|(known, _)| *known == tier) {
            Some((_, times)) => times.push(answer.first_byte),
            None => times.push((tier, vec![answer.first_byte])),
        }
        if call % 5_000 == 0 {
            progress(&format!("{call} of {} calls under the budget", options.calls));
        }
    }
    let tier = |(tier, times): (String, Vec<Duration>)| Tier {
        tier,
        calls: times.len(),
        share: times.len() as f64 / f64::from(options.calls),
        latency: Quantiles::of(&times),
    };
    let found = Budget {
        resident_bytes,
        resident: mayfly.metric("mayfly_resident_functions ", "")? as u32,
        evictions: mayfly.metric("mayfly_evictions_total", "cause=\"capacity\"")? as u64,
        memory: mayfly.memory()?,
        tiers: times.into_iter().map(tier).collect(),
    };
    let complaints = mayfly.complaints();
    mayfly.stop()?;
    Ok((found, complaints))
}

impl Budget {
    /// The results as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let rows = self.tiers.iter().map(|tier| {
            let share = format!("{:.1} %", tier.share * 100.0);
            let start = [tier.tier.clone(), number(tier.calls as f64, 0), share];
            start.into_iter().chain(tier.latency.cells()).collect()
        });
        let header = ["started from", "calls", "of all", "p50 ms", "p99 ms", "min..max"];
        format!(
            "Under a budget of {} MB of native code: {} functions in memory at the end, {} \
             evicted, RSS {:.1} MB.\n\n{}",
            number(self.resident_bytes as f64 / 1e6, 0),
            number(self.resident.into(), 0),
            number(self.evictions as f64, 0),
            self.memory.rss_mb,
            table(&header, &rows.collect::<Vec<_>>()),
        )
    }
}
