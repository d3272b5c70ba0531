//! Processors and memory of this machine, for settings where 0 stands for them.

use std::{fs, num::NonZero, thread};

use crate::config::sizes::{GIB, KIB};

/// Processors that this process may use.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Memory of this machine, or of its container if that has less.
pub(super) fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * KIB)
    });
    // In a container this is its limit. Elsewhere the file is missing or contains `max`.
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min().unwrap_or(4 * GIB)
}
