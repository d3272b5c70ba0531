//! The times at which the requests of an open loop are due.

use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{io::unix::AsyncFd, sync::Semaphore};

/// Requests less than this apart are due together: each expiry of a timer costs as much as a
/// request.
const TICK: Duration = Duration::from_micros(50);

/// One thread's share of the requests at a constant rate.
pub(super) struct Arrivals {
    /// When the first request is due.
    first: Instant,
    /// Nanoseconds between two requests.
    interval: f64,
    /// The number of requests.
    total: u64,
    /// The number of requests that a connection has taken.
    taken: AtomicU64,
    /// One permit for each request that is due and not taken.
    due: Semaphore,
}

impl Arrivals {
    /// The share of thread `index`, where `threads` threads together send `rate` requests a second
    /// for `length` from `begin` on.
    pub(super) fn share(
        begin: Instant,
        length: Duration,
        rate: f64,
        index: usize,
        threads: usize,
    ) -> Self {
        let apart = 1e9 / rate;
        let interval = apart * threads as f64;
        let offset = apart * index as f64;
        let total = ((length.as_nanos() as f64 - offset).max(0.0) / interval).ceil() as u64;
        let first = begin + Duration::from_nanos(offset as u64);
        Self { first, interval, total, taken: AtomicU64::new(0), due: Semaphore::new(0) }
    }

    /// Waits for a due request that no other connection has taken, and returns when it was due.
    /// Returns `None` when there are no more requests.
    pub(super) async fn next(&self) -> Option<Instant> {
        // The semaphore is never closed.
        self.due.acquire().await.ok()?.forget();
        // All connections run on one thread, so no other connection runs between load and store.
        let number = self.taken.load(Relaxed);
        if number == self.total {
            // Pass the permit on to the next connection, which must end as well.
            self.due.add_permits(1);
            return None;
        }
        self.taken.store(number + 1, Relaxed);
        Some(self.instant(number))
    }

    /// The number of requests that no connection has taken.
    pub(super) fn left(&self) -> u64 {
        self.total - self.taken.load(Relaxed)
    }

    /// Adds a permit for each request when it is due. Ends with the last one.
    ///
    /// Uses a timer of the kernel: the timers of the async runtime have a resolution of a
    /// millisecond, which is more than most answers take.
    pub(super) async fn announce(&self) -> io::Result<()> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "an OwnedFd stays the same descriptor; the successor is unsafe"
        )]
        let timer = AsyncFd::new(timer)?;
        let mut announced = 0;
        while announced < self.total {
            let now = Instant::now();
            let mut more = 0;
            while announced + more < self.total && self.instant(announced + more) <= now {
                more += 1;
            }
            self.due.add_permits(more as usize);
            announced += more;
            let next = self.instant(announced);
            if next > Instant::now() {
                wait_until(&timer, next).await?;
            } else {
                // The next request is due already: skip the timer, but let the connections run.
                tokio::task::yield_now().await;
            }
        }
        // The connection that gets this permit finds no request left, and ends.
        self.due.add_permits(1);
        Ok(())
    }

    fn instant(&self, number: u64) -> Instant {
        let nanos = (number as f64 * self.interval) as u64;
        let tick = TICK.as_nanos() as u64;
        self.first + Duration::from_nanos(nanos / tick * tick)
    }
}

async fn wait_until(timer: &AsyncFd<OwnedFd>, then: Instant) -> io::Result<()> {
    // A timer set to zero would never expire.
    let span = then.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
    let it_value =
        Timespec { tv_sec: span.as_secs() as i64, tv_nsec: i64::from(span.subsec_nanos()) };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    let once = Itimerspec { it_interval, it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        let rang = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
        match rang {
            Ok(outcome) => return outcome.map(|_| ()),
            // The timer has not expired: a spurious wake-up.
            Err(_) => continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_threads_make_the_rate() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let shares: Vec<_> =
            (0..3).map(|index| Arrivals::share(begin, second, 1_000.0, index, 3)).collect();
        assert_eq!(shares.iter().map(Arrivals::left).sum::<u64>(), 1_000);
        let mut all: Vec<_> = shares
            .iter()
            .flat_map(|share| (0..share.total).map(|number| share.instant(number)))
            .collect();
        all.sort();
        for (number, instant) in all.iter().enumerate() {
            let expected = begin + Duration::from_millis(number as u64);
            let apart = instant.max(&expected).duration_since(*instant.min(&expected));
            assert!(apart <= TICK, "{number}: {apart:?}");
        }
    }
}
