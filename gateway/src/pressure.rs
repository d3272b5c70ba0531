//! Whether the data plane has more to do than it can: requests are refused before anything was
//! done for them, so that those that are let in are answered in time.
//!
//! Slots and queues bound how many calls of a function wait for each other. They do not see
//! processors that are all busy: then it is requests whose bytes have arrived that wait, for a
//! thread to look at them. How long that takes is measured by a task that gets in line as they
//! do. While it waits for longer than it may, a growing share of requests is refused, and a
//! shrinking one when it does not: refusing all until nobody waits would let the processors idle.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use prometheus::{Gauge, Registry};
use tokio::{task, time};

use crate::refusals::INVOCATION_BITS;

/// From one look at the line to the next.
const BEAT: Duration = Duration::from_millis(20);
/// A share of everything, in thousandths.
const ALL: u32 = 1_000;
/// How much the share that is refused grows when the line is twice as long as it may be (more when
/// it is longer, at most so much at once), and shrinks when it is not too long.
const GROW: u32 = 40;
const GROW_MOST: u32 = 300;
const SHRINK: u32 = 8;
/// So many times as long as it may be, and nobody is let in.
const MUCH_TOO_LONG: u32 = 2;

/// How much there is to do. On a cache line of its own: requests read it, and nobody should wait
/// for what others write beside it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Pressure {
    began: Instant,
    /// The longest that requests may wait for a thread; zero for as long as it takes.
    max: Duration,
    /// When the task that stands in line will have its turn if nobody is before it.
    due_us: AtomicU64,
    /// Thousandths of the requests that are refused.
    refused: AtomicU32,
    /// Whether the node's memory is as good as used up.
    out_of_memory: AtomicBool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It would have to wait for a thread for too long.
    Behind,
    /// Its guest might take what is left of the memory.
    Memory,
}

impl Pressure {
    /// Nothing to do, and `max` as the longest wait; zero for none.
    pub(crate) fn new(max: Duration) -> Self {
        Self {
            began: Instant::now(),
            max,
            due_us: AtomicU64::new(0),
            refused: AtomicU32::new(0),
            out_of_memory: AtomicBool::new(false),
        }
    }

    /// Whether a request that is looked at now must be refused. `number` is different for each.
    pub(crate) fn refuses(&self, now: Instant, number: u128) -> Option<Reason> {
        if self.out_of_memory.load(Relaxed) {
            return Some(Reason::Memory);
        }
        if self.max.is_zero() {
            return None;
        }
        let refused = self.refused.load(Relaxed);
        let behind = || self.behind(now) > MUCH_TOO_LONG * self.max;
        (spread(number) < refused || behind()).then_some(Reason::Behind)
    }

    /// Says whether the node's memory is as good as used up.
    pub(crate) fn set_out_of_memory(&self, out: bool) {
        self.out_of_memory.store(out, Relaxed);
    }

    /// How long the task in line has waited by now.
    fn behind(&self, now: Instant) -> Duration {
        let due = Duration::from_micros(self.due_us.load(Acquire));
        now.saturating_duration_since(self.began).saturating_sub(due)
    }

    /// Adjusts the share that is refused to how long the line was.
    fn adjust(&self, waited: Duration) {
        let refused = self.refused.load(Relaxed);
        let too_long = waited.as_secs_f64() / self.max.as_secs_f64() - 1.0;
        let refused = if too_long > 0.0 {
            let more = (too_long * f64::from(GROW)).ceil() as u32;
            (refused + more.min(GROW_MOST)).min(ALL)
        } else {
            refused.saturating_sub(SHRINK)
        };
        self.refused.store(refused, Relaxed);
    }

    /// Stands in line again and again, on the threads whose line it is. Runs until dropped.
    pub(crate) async fn watch(self: Arc<Self>, metrics: PressureMetrics) {
        if self.max.is_zero() {
            return;
        }
        loop {
            let due = self.began.elapsed() + BEAT;
            self.due_us.store(u64::try_from(due.as_micros()).unwrap_or(u64::MAX), Release);
            time::sleep(BEAT).await;
            // Who was woken is before all others; this takes it to the end of the line.
            task::yield_now().await;
            let waited = self.behind(Instant::now());
            self.adjust(waited);
            metrics.behind.set(waited.as_secs_f64());
            metrics.refused.set(f64::from(self.refused.load(Relaxed)) / f64::from(ALL));
        }
    }
}

/// What an operator sees of it.
#[derive(Clone, Debug)]
pub(crate) struct PressureMetrics {
    behind: Gauge,
    refused: Gauge,
}

impl PressureMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let behind = Gauge::new(
            "mayfly_data_plane_behind_seconds",
            "How long a request waits until a thread looks at it",
        )?;
        let refused = Gauge::new(
            "mayfly_data_plane_refused_ratio",
            "The share of requests refused because all would wait for too long",
        )?;
        registry.register(Box::new(behind.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self { behind, refused })
    }
}

/// A number below [`ALL`], evenly spread over consecutive ones.
fn spread(number: u128) -> u32 {
    // The golden ratio's multiples, modulo one, are as evenly spread as can be.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    // The upper half differs from connection to connection, the lower from request to request.
    let mixed = (number as u64 ^ (number >> INVOCATION_BITS) as u64).wrapping_mul(GOLDEN);
    ((u128::from(mixed) * u128::from(ALL)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(100);

    fn refused(pressure: &Pressure) -> usize {
        let now = pressure.began;
        let numbers =
            (0..100_u128).flat_map(|connection| (0..100).map(move |n| connection << 40 | n));
        numbers.filter(|number| pressure.refuses(now, *number).is_some()).count()
    }

    #[test]
    fn the_share_that_is_refused_grows_while_the_line_is_too_long_and_shrinks_when_it_is_not() {
        let pressure = Pressure::new(MAX);
        assert_eq!(refused(&pressure), 0);
        for _ in 0..5 {
            pressure.adjust(2 * MAX);
        }
        let share = refused(&pressure);
        assert!((1_900..2_100).contains(&share), "{share} of 10,000 instead of a fifth");
        for _ in 0..3 {
            pressure.adjust(100 * MAX);
        }
        assert_eq!(refused(&pressure), 10_000);
        for _ in 0..(ALL / SHRINK) {
            pressure.adjust(MAX);
        }
        assert_eq!(refused(&pressure), 0);
    }

    #[test]
    fn a_line_that_is_much_too_long_lets_nobody_in() {
        let pressure = Pressure::new(MAX);
        assert_eq!(pressure.refuses(pressure.began + 2 * MAX, 1), None);
        assert_eq!(pressure.refuses(pressure.began + 3 * MAX, 1), Some(Reason::Behind));
        pressure.set_out_of_memory(true);
        assert_eq!(pressure.refuses(pressure.began, 1), Some(Reason::Memory));
    }

    #[test]
    fn who_may_wait_for_ever_is_never_refused() {
        let pressure = Pressure::new(Duration::ZERO);
        assert_eq!(pressure.refuses(pressure.began + 100 * MAX, 1), None);
    }
}
