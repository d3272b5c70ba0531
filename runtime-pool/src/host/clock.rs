//! The clocks that guests see. They stand still while a guest computes, so that it cannot time
//! what it does, and go on whenever it has waited for something of the host's.
//!
//! A guest runs inside `poll`. The time it sees is that of the poll in which the host last gave it
//! something to go on with; one that was only interrupted goes on with the time it had.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// How finely guests see time.
const RESOLUTION: Duration = Duration::from_millis(1);
/// What the monotonic clock says at its beginning. Not 0, which the runtime of Go takes for a clock
/// that does not work.
const BEGINNING: Duration = Duration::from_secs(1);

thread_local! {
    /// What the guest sees that is being polled on this thread, if one is.
    static SEEN: Cell<Option<Seen>> = const { Cell::new(None) };
}

/// The time that a guest sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    at: Instant,
    /// The same by the calendar, once the guest has asked for it.
    calendar: Option<Duration>,
}

impl Seen {
    /// The time of a poll that begins now.
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, calendar: None }
    }

    /// Shows it to the guest that is polled until [`Self::hide`].
    pub(crate) fn show(self) {
        SEEN.set(Some(self));
    }

    /// What was shown, with the calendar's time if the guest has asked for it.
    pub(crate) fn hide() -> Option<Self> {
        SEEN.take()
    }

    fn on_this_thread() -> Self {
        SEEN.get().unwrap_or_else(|| Self::new(Instant::now()))
    }

    fn calendar(mut self) -> Duration {
        if let Some(calendar) = self.calendar {
            return calendar;
        }
        #[expect(clippy::disallowed_methods, reason = "the clock that guests ask")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let calendar = coarse(now.saturating_sub(self.at.elapsed()));
        self.calendar = Some(calendar);
        if SEEN.get().is_some() {
            SEEN.set(Some(self));
        }
        calendar
    }
}

/// Counts from a moment of ours, which tells nothing about the machine.
pub(crate) struct GuestMonotonicClock {
    pub(crate) since: Instant,
}

impl HostMonotonicClock for GuestMonotonicClock {
    fn resolution(&self) -> u64 {
        nanoseconds(RESOLUTION)
    }

    fn now(&self) -> u64 {
        let since = Seen::on_this_thread().at.saturating_duration_since(self.since);
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
        Seen::on_this_thread().calendar()
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
    fn what_is_shown_stands_still_until_it_is_hidden() {
        let clock = GuestMonotonicClock { since: Instant::now() };
        Seen::new(Instant::now()).show();
        let (monotonic, wall) = (clock.now(), GuestWallClock.now());
        sleep(Duration::from_millis(5));
        assert_eq!((clock.now(), GuestWallClock.now()), (monotonic, wall));

        let seen = Seen::hide().unwrap();
        assert!(clock.now() >= monotonic + 5_000_000);
        // Shown once more, as to a guest that was only interrupted.
        seen.show();
        assert_eq!((clock.now(), GuestWallClock.now()), (monotonic, wall));
        Seen::hide();
    }

    #[test]
    fn the_monotonic_clock_never_says_zero() {
        let since = Instant::now();
        Seen::new(since).show();
        assert_eq!(GuestMonotonicClock { since }.now(), nanoseconds(BEGINNING));
        Seen::hide();
    }

    #[test]
    fn time_comes_in_milliseconds() {
        let clock = GuestMonotonicClock { since: Instant::now() };
        assert_eq!(clock.now() % clock.resolution(), 0);
        assert_eq!(GuestWallClock.now().subsec_nanos() % 1_000_000, 0);
    }
}
