//! Watches the memory in use, and relieves pressure before the limit is reached.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use prometheus::{Gauge, Registry};
use runtime_pool::Pool;
use tokio::{sync::watch, time};

use crate::{edge::admission::load_shed::LoadShedder, server::ListenerControl};

/// The interval between measurements.
const EVERY: Duration = Duration::from_millis(250);
/// The share of the limit from which warm instances are dropped and connections recycled.
const HIGH: f64 = 0.92;
/// The share of the limit from which requests are refused, and from which the invocations are ended
/// for which the host keeps most memory.
const FULL: f64 = 0.95;

/// The origin of the limit. It decides which memory counts.
#[derive(Debug)]
enum MemoryLimit {
    /// The operator's setting: counts this process.
    Own(u64),
    /// That of the control group: counts all processes in it, compile workers included.
    Group(PathBuf),
    /// That of the machine: counts all of its memory.
    Machine,
}

/// Bytes in use, and the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    used: u64,
    limit: u64,
}

impl Usage {
    fn share(self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }

    /// The bytes in use above a share of the limit.
    fn above(self, share: f64) -> u64 {
        self.used.saturating_sub((self.limit as f64 * share) as u64)
    }
}

impl MemoryLimit {
    /// `own` if it is not 0, else the limit of our control group, else that of the machine.
    fn find(own: u64) -> Self {
        if own > 0 {
            return Self::Own(own);
        }
        match group().map(Self::Group) {
            Some(group) if group.usage().is_some() => group,
            _ => Self::Machine,
        }
    }

    fn usage(&self) -> Option<Usage> {
        match self {
            Self::Own(limit) => {
                let status = fs::read_to_string("/proc/self/status").ok()?;
                Some(Usage { used: kib(&status, "VmRSS:")?, limit: *limit })
            }
            Self::Group(dir) => {
                let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
                let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
                // The kernel frees inactive file pages on demand: they do not count.
                let files = read("memory.stat")
                    .and_then(|stat| field(&stat, "inactive_file")?.parse().ok())
                    .unwrap_or(0);
                let used = number("memory.current")?.saturating_sub(files);
                Some(Usage { used, limit: number("memory.max")? })
            }
            Self::Machine => {
                let info = fs::read_to_string("/proc/meminfo").ok()?;
                let limit = kib(&info, "MemTotal:")?;
                Some(Usage { used: limit - kib(&info, "MemAvailable:")?.min(limit), limit })
            }
        }
    }
}

/// The directory of our control group (version 2).
fn group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from("/sys/fs/cgroup").join(path))
}

/// The first word after a name at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
}

/// The bytes of a size that the text gives in kB.
fn kib(text: &str, name: &str) -> Option<u64> {
    Some(field(text, name)?.parse::<u64>().ok()? << 10)
}

/// The metrics of memory.
#[derive(Clone, Debug)]
pub(crate) struct MemoryMetrics {
    used: Gauge,
    limit: Gauge,
}

impl MemoryMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let used = Gauge::new("mayfly_memory_used_bytes", "Memory in use")?;
        let limit = Gauge::new("mayfly_memory_limit_bytes", "The limit of memory in use")?;
        registry.register(Box::new(used.clone()))?;
        registry.register(Box::new(limit.clone()))?;
        Ok(Self { used, limit })
    }
}

/// The parts that relieve memory pressure.
pub(crate) struct ReliefAction {
    pub(crate) load_shedder: Arc<LoadShedder>,
    pub(crate) pool: Arc<Pool>,
    /// Recycles connections of the data plane.
    pub(crate) data_listener: watch::Sender<ListenerControl>,
}

/// Keeps the gateway below its memory limit until it is dropped. The limit is `own` bytes, or that
/// of the system if `own` is 0.
pub(crate) async fn watch(own: u64, relief: ReliefAction, metrics: MemoryMetrics) {
    let limit = MemoryLimit::find(own);
    tracing::debug!(?limit, "watching memory");
    let (mut high, mut full) = (false, false);
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(usage) = limit.usage() else { continue };
        metrics.used.set(usage.used as f64);
        metrics.limit.set(usage.limit as f64);
        let was = high;
        high = usage.share() >= HIGH;
        if high {
            relief.pool.release_warm();
        }
        // Once: a client that reconnects meanwhile is not disconnected again.
        if high && !was {
            ListenerControl::recycle(&relief.data_listener);
        }
        // Between the two shares the state stays as it is, so that it does not flap.
        let was = full;
        full = if full { high } else { usage.share() >= FULL };
        if full != was {
            tracing::warn!(full, used = usage.used, limit = usage.limit, "memory");
        }
        relief.load_shedder.set_out_of_memory(full);
        if full && usage.share() >= FULL {
            let (ended, bytes) = relief.pool.end_largest_holders(usage.above(HIGH));
            if ended > 0 {
                tracing::warn!(ended, bytes, "ended the invocations that held most host memory");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_a_part_of_its_memory_limit() {
        let usage = MemoryLimit::find(1 << 40).usage().unwrap();
        assert_eq!(usage.limit, 1 << 40);
        assert!(usage.used > 1 << 20 && usage.share() < 0.5, "{usage:?}");
    }

    #[test]
    fn the_machine_and_most_control_groups_have_a_limit() {
        for limit in [MemoryLimit::Machine, MemoryLimit::find(0)] {
            let usage = limit.usage().unwrap();
            assert!(usage.used > 0 && usage.used < usage.limit, "{limit:?}: {usage:?}");
        }
    }

    #[test]
    fn a_groups_files_are_not_in_use_and_without_a_limit_there_is_no_usage() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.current", "1000\n");
        write("memory.stat", "anon 600\ninactive_file 300\nactive_file 100\n");
        let group = MemoryLimit::Group(dir.path().to_owned());
        write("memory.max", "max\n");
        assert_eq!(group.usage(), None);
        write("memory.max", "1400\n");
        assert_eq!(group.usage(), Some(Usage { used: 700, limit: 1_400 }));
    }
}
