//! Many functions under a budget that holds a part of them, called by Zipf's law: how often the
//! one that is called is in memory, what that costs when it is not, and what leaves for it.

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

/// The least that the gateway takes for `pool.resident_bytes`.
const LEAST_BYTES: u64 = 16 << 20;
/// Arbitrary: the same calls in every run.
const SEED: u64 = 1;

/// What to call, and within what.
#[derive(Clone, Debug, clap::Args)]
pub struct BudgetOptions {
    /// Calls under the budget, one after the other; 0 leaves this part out
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub calls: u32,
    /// The part of all native code that the budget holds
    #[arg(long, default_value_t = 0.1)]
    pub share: f64,
    /// The exponent of Zipf's law
    #[arg(long, default_value_t = 1.0)]
    pub exponent: f64,
}

/// What the calls found.
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

/// Starts a gateway on `data_dir`, where `functions` functions are deployed that `name` names and
/// each has about `code_bytes` of native code, and calls them.
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
    /// For people.
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
