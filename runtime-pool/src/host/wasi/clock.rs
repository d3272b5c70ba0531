//! The clocks that guests see. They stand still while a guest computes, so that it cannot measure
//! its own execution, and advance when it has waited for the host.
//!
//! A guest runs inside `poll`. It sees the time at which its current poll began; after a mere
//! interruption at a tick it still sees the time from before.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// The resolution of the clocks that guests see.
const RESOLUTION: Duration = Duration::from_millis(1);
/// The first value of the monotonic clock. Not 0, which the Go runtime takes for a broken clock.
const BEGINNING: Duration = Duration::from_secs(1);

thread_local! {
    /// The time that the guest sees which is being polled on this thread, if there is one.
    static GUEST_TIME: Cell<Option<GuestTime>> = const { Cell::new(None) };
}

/// The time that a guest sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestTime {
    at: Instant,
    /// The time of day at that instant, once the guest has asked for it.
    calendar: Option<Duration>,
}

impl GuestTime {
    /// The time of a poll that begins at `at`.
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, calendar: None }
    }

    /// Sets the time that the guest on this thread sees, until [`Self::hide`].
    pub(crate) fn show(self) {
        GUEST_TIME.set(Some(self));
    }

    /// Takes the time that was shown, with the time of day if the guest has asked for it.
    pub(crate) fn hide() -> Option<Self> {
        GUEST_TIME.take()
    }

    fn on_this_thread() -> Self {
        GUEST_TIME.get().unwrap_or_else(|| Self::new(Instant::now()))
    }

    fn calendar(mut self) -> Duration {
        if let Some(calendar) = self.calendar {
            return calendar;
        }
        #[expect(clippy::disallowed_methods, reason = "the clock that guests ask")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let calendar = coarse(now.saturating_sub(self.at.elapsed()));
        self.calendar = Some(calendar);
        if GUEST_TIME.get().is_some() {
            GUEST_TIME.set(Some(self));
        }
        calendar
    }
}

/// Counts from the load of the function, which reveals nothing about the machine.
pub(crate) struct GuestMonotonicClock {
    pub(crate) start: Instant,
}

impl HostMonotonicClock for GuestMonotonicClock {
    fn resolution(&self) -> u64 {
        nanoseconds(RESOLUTION)
    }

    fn now(&self) -> u64 {
        let since = GuestTime::on_this_thread().at.saturating_duration_since(self.start);
        nanoseconds(BEGINNING + coarse(since))
    }
}

/// The time of day.
pub(crate) struct GuestWallClock;

impl HostWallClock for GuestWallClock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        GuestTime::on_this_thread().calendar()
    }
}

fn coarse(time: Duration) -> Duration {
    Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn the_time_that_a_guest_sees_stands_still_until_it_is_hidden() {
        let clock = GuestMonotonicClock { start: Instant::now() };
        GuestTime::new(Instant::now()).show();
        let (monotonic, wall) = (clock.now(), GuestWallClock.now());
        sleep(Duration::from_millis(5));
        assert_eq!((clock.now(), GuestWallClock.now()), (monotonic, wall));

        let time = GuestTime::hide().unwrap();
        assert!(clock.now() >= monotonic + 5_000_000);
        // As for a guest that was only interrupted.
        time.show();
        assert_eq!((clock.now(), GuestWallClock.now()), (monotonic, wall));
        GuestTime::hide();
    }

    #[test]
    fn the_monotonic_clock_never_says_zero() {
        let start = Instant::now();
        GuestTime::new(start).show();
        assert_eq!(GuestMonotonicClock { start }.now(), nanoseconds(BEGINNING));
        GuestTime::hide();
    }

    #[test]
    fn time_comes_in_milliseconds() {
        let clock = GuestMonotonicClock { start: Instant::now() };
        assert_eq!(clock.now() % clock.resolution(), 0);
        assert_eq!(GuestWallClock.now().subsec_nanos() % 1_000_000, 0);
    }
}
