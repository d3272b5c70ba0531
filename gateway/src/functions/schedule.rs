//! How many instances of a function stay warm at which time of the week.

use gateway_api::FunctionLimit;
use jiff::{
    Timestamp,
    civil::{Time, Weekday},
    tz::TimeZone,
};
use store::{DayOfWeek, Settings, WarmWindow};

/// Windows of one function. Arbitrary, large enough.
const WINDOWS: usize = 32;

/// The number of warm instances that a function's owner wants, by the time of the week (UTC).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WarmSchedule {
    always: usize,
    windows: Vec<ScheduleWindow>,
}

/// A period on some days of the week. One that ends before it begins ends on the next day.
#[derive(Debug, PartialEq, Eq)]
struct ScheduleWindow {
    days: Vec<Weekday>,
    from: Time,
    to: Time,
    instances: usize,
}

impl WarmSchedule {
    /// The schedule in a function's settings, or what is wrong with it.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let windows = &settings.schedule;
        if windows.len() > WINDOWS {
            return Err(format!("schedule has {} windows; at most {WINDOWS}", windows.len()));
        }
        let windows: Result<_, _> = windows.iter().map(ScheduleWindow::new).collect();
        let always = instances(settings.limit(FunctionLimit::MinWarm.key()).unwrap_or(0));
        Ok(Self { always, windows: windows? })
    }

    /// The same windows with `always` instances outside of them, and at most `ceiling` within.
    pub(crate) fn within(mut self, always: usize, ceiling: usize) -> Self {
        self.always = always;
        for window in &mut self.windows {
            window.instances = window.instances.min(ceiling);
        }
        self
    }

    /// Whether it keeps no instance warm at any time.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The largest number of the windows that are open at this time.
    pub(crate) fn at(&self, now: Timestamp) -> usize {
        let now = now.to_zoned(TimeZone::UTC);
        let open = self.windows.iter().filter(|window| window.contains(now.weekday(), now.time()));
        open.map(|window| window.instances).fold(self.always, usize::max)
    }
}

impl ScheduleWindow {
    fn new(window: &WarmWindow) -> Result<Self, String> {
        let time = |name: &str, text: &str| {
            Time::strptime("%H:%M", text).map_err(|_| {
                format!("schedule: {name} is {text:?}; expected hours and minutes, like 08:30")
            })
        };
        let (from, to) = (time("from", &window.from)?, time("to", &window.to)?);
        if from == to {
            return Err("schedule: a window ends when it begins; for whole days use 00:00 to \
                        23:59 or min_warm"
                .into());
        }
        let days = window.days.iter().copied().map(weekday).collect();
        Ok(Self { days, from, to, instances: instances(window.min_warm) })
    }

    fn contains(&self, day: Weekday, time: Time) -> bool {
        if self.from < self.to {
            return self.is_on(day) && (self.from..self.to).contains(&time);
        }
        (self.is_on(day) && time >= self.from) || (self.is_on(day.previous()) && time < self.to)
    }

    /// An empty list stands for all days.
    fn is_on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }
}

fn instances(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn weekday(day: DayOfWeek) -> Weekday {
    match day {
        DayOfWeek::Mon => Weekday::Monday,
        DayOfWeek::Tue => Weekday::Tuesday,
        DayOfWeek::Wed => Weekday::Wednesday,
        DayOfWeek::Thu => Weekday::Thursday,
        DayOfWeek::Fri => Weekday::Friday,
        DayOfWeek::Sat => Weekday::Saturday,
        DayOfWeek::Sun => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule_of(
        min_warm: u64,
        schedule: &[(&[DayOfWeek], &str, &str, u64)],
    ) -> Result<WarmSchedule, String> {
        let schedule = schedule.iter().map(|(days, from, to, min_warm)| WarmWindow {
            days: days.to_vec(),
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            min_warm: *min_warm,
        });
        let schedule = schedule.collect();
        let limits = [(FunctionLimit::MinWarm.key().to_owned(), min_warm)].into();
        WarmSchedule::new(&Settings { limits, schedule, ..Settings::default() })
    }

    fn at(schedule: &WarmSchedule, time: &str) -> usize {
        schedule.at(time.parse().unwrap())
    }

    #[test]
    fn a_window_raises_the_number_on_its_days_and_hours() {
        let schedule =
            schedule_of(1, &[(&[DayOfWeek::Mon, DayOfWeek::Tue], "08:00", "18:00", 4)]).unwrap();
        assert_eq!(at(&schedule, "2026-11-23T07:59:59Z"), 1, "Monday, before it opens");
        assert_eq!(at(&schedule, "2026-11-23T08:00:00Z"), 4);
        assert_eq!(at(&schedule, "2026-11-24T17:59:59Z"), 4);
        assert_eq!(at(&schedule, "2026-11-24T18:00:00Z"), 1);
        assert_eq!(at(&schedule, "2026-11-25T12:00:00Z"), 1, "a Wednesday");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let schedule = schedule_of(0, &[(&[DayOfWeek::Sun], "22:00", "02:00", 3)]).unwrap();
        assert_eq!(at(&schedule, "2026-11-22T23:00:00Z"), 3);
        assert_eq!(at(&schedule, "2026-11-23T01:59:00Z"), 3, "still Sunday's");
        assert_eq!(at(&schedule, "2026-11-23T22:30:00Z"), 0);
        assert_eq!(at(&schedule, "2026-11-22T01:00:00Z"), 0, "that was Saturday's");
    }

    #[test]
    fn the_largest_of_several_windows_holds_and_no_days_are_all_days() {
        let schedule =
            schedule_of(0, &[(&[], "00:00", "12:00", 2), (&[DayOfWeek::Sun], "06:00", "07:00", 5)])
                .unwrap();
        assert_eq!(at(&schedule, "2026-11-22T06:30:00Z"), 5);
        assert_eq!(at(&schedule, "2026-11-22T08:00:00Z"), 2);
    }

    #[test]
    fn a_time_that_cannot_be_parsed_is_named() {
        let error = schedule_of(0, &[(&[], "8 o'clock", "12:00", 2)]).unwrap_err();
        assert!(error.contains("from") && error.contains("8 o'clock"), "{error}");
        assert!(schedule_of(0, &[(&[], "12:00", "12:00", 2)]).is_err());
    }

    #[test]
    fn a_function_without_min_warm_and_windows_keeps_nothing_warm() {
        assert!(schedule_of(0, &[]).unwrap().is_none());
        assert!(!schedule_of(1, &[]).unwrap().is_none());
    }
}
