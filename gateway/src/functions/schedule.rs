//! Instances that wait even if nobody calls: how many a function's owner wants at which time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{
    Timestamp,
    civil::{Time, Weekday},
    tz::TimeZone,
};
use runtime_pool::{LoadError, Pool};
use store::{Day, Settings, Window};
use tokio::{task::JoinSet, time};

use crate::functions::catalog::{Catalog, CatalogEntry};

/// How often the numbers are looked at. Below every idle time, so that a function that shall have
/// waiting instances stays in memory.
const EVERY: Duration = Duration::from_millis(500);
/// Windows that one function may have.
const WINDOWS: usize = 32;

/// How many instances of a function shall wait, by the time of the week (UTC).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WarmSchedule {
    always: usize,
    windows: Vec<ScheduleWindow>,
}

/// A time of some days; one that ends before it begins ends on the day after.
#[derive(Debug, PartialEq, Eq)]
struct ScheduleWindow {
    days: Vec<Weekday>,
    from: Time,
    to: Time,
    instances: usize,
}

impl WarmSchedule {
    /// What an owner has asked for, or what is wrong with it.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let windows = &settings.schedule;
        if windows.len() > WINDOWS {
            return Err(format!("schedule has {} windows; at most {WINDOWS}", windows.len()));
        }
        let windows: Result<_, _> = windows.iter().map(ScheduleWindow::new).collect();
        let always = instances(settings.min_warm.unwrap_or(0));
        Ok(Self { always, windows: windows? })
    }

    /// With so many at all times that the owner has not named, and never more than `ceiling`.
    pub(crate) fn within(mut self, always: usize, ceiling: usize) -> Self {
        self.always = always;
        for window in &mut self.windows {
            window.instances = window.instances.min(ceiling);
        }
        self
    }

    /// Whether none ever shall.
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The most of what holds at this time.
    fn at(&self, now: Timestamp) -> usize {
        let now = now.to_zoned(TimeZone::UTC);
        let open = self.windows.iter().filter(|window| window.contains(now.weekday(), now.time()));
        open.map(|window| window.instances).fold(self.always, usize::max)
    }
}

impl ScheduleWindow {
    fn new(window: &Window) -> Result<Self, String> {
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

    /// No days are all days.
    fn is_on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }
}

fn instances(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

/// Keeps as many instances waiting as their owners want, until it is dropped.
pub(crate) async fn keep(catalog: Arc<Catalog>, pool: Arc<Pool>) {
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut holding = JoinSet::new();
    let mut held = HashMap::new();
    loop {
        ticks.tick().await;
        // How a task ended was said where it happened; its id is all that is wanted here.
        while let Some(ended) = holding.try_join_next_with_id() {
            held.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        let now = Timestamp::now();
        for active in catalog.filter(|active| !active.floor.is_none()) {
            match active.floor.at(now) {
                0 => let_go(&active),
                // One that has to be compiled first keeps nobody else waiting.
                instances if !held.values().any(|key| *key == active.key) => {
                    let (key, pool) = (active.key, Arc::clone(&pool));
                    let task = holding.spawn(async move { hold(&active, instances, &pool).await });
                    held.insert(task.id(), key);
                }
                _ => {}
            }
        }
    }
}

/// What is in memory need not stay; what is not is not loaded for this.
fn let_go(active: &CatalogEntry) {
    if let Some(function) = active.hot.peek() {
        function.keep_warm(0);
    }
}

/// Keeps one function's instances waiting. Asking the pool also keeps it in memory.
async fn hold(active: &CatalogEntry, instances: usize, pool: &Pool) {
    let source = async { Ok::<_, LoadError>(active.source.clone()) };
    match pool.get_or_load(active.key, source).await {
        Ok((function, _)) => {
            active.hot.set(&function, Instant::now());
            function.keep_warm(instances);
        }
        // Calls are told the reason; here it would be said twice a second.
        Err(error) => {
            tracing::debug!(%error, function = %active.source.label, "nothing can wait");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(
        min_warm: u64,
        schedule: &[(&[Day], &str, &str, u64)],
    ) -> Result<WarmSchedule, String> {
        let schedule = schedule.iter().map(|(days, from, to, min_warm)| Window {
            days: days.to_vec(),
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            min_warm: *min_warm,
        });
        let schedule = schedule.collect();
        WarmSchedule::new(&Settings { min_warm: Some(min_warm), schedule, ..Settings::default() })
    }

    fn at(floor: &WarmSchedule, time: &str) -> usize {
        floor.at(time.parse().unwrap())
    }

    #[test]
    fn a_window_raises_the_number_on_its_days_and_hours() {
        let floor = floor(1, &[(&[Day::Mon, Day::Tue], "08:00", "18:00", 4)]).unwrap();
        assert_eq!(at(&floor, "2026-11-23T07:59:59Z"), 1, "Monday, before it opens");
        assert_eq!(at(&floor, "2026-11-23T08:00:00Z"), 4);
        assert_eq!(at(&floor, "2026-11-24T17:59:59Z"), 4);
        assert_eq!(at(&floor, "2026-11-24T18:00:00Z"), 1);
        assert_eq!(at(&floor, "2026-11-25T12:00:00Z"), 1, "a Wednesday");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let floor = floor(0, &[(&[Day::Sun], "22:00", "02:00", 3)]).unwrap();
        assert_eq!(at(&floor, "2026-11-22T23:00:00Z"), 3);
        assert_eq!(at(&floor, "2026-11-23T01:59:00Z"), 3, "still Sunday's");
        assert_eq!(at(&floor, "2026-11-23T22:30:00Z"), 0);
        assert_eq!(at(&floor, "2026-11-22T01:00:00Z"), 0, "that was Saturday's");
    }

    #[test]
    fn the_largest_of_several_windows_holds_and_no_days_are_all_days() {
        let floor =
            floor(0, &[(&[], "00:00", "12:00", 2), (&[Day::Sun], "06:00", "07:00", 5)]).unwrap();
        assert_eq!(at(&floor, "2026-11-22T06:30:00Z"), 5);
        assert_eq!(at(&floor, "2026-11-22T08:00:00Z"), 2);
    }

    #[test]
    fn a_time_that_is_none_is_named() {
        let error = floor(0, &[(&[], "8 o'clock", "12:00", 2)]).unwrap_err();
        assert!(error.contains("from") && error.contains("8 o'clock"), "{error}");
        assert!(floor(0, &[(&[], "12:00", "12:00", 2)]).is_err());
    }

    #[test]
    fn who_asks_for_nothing_has_none() {
        assert!(floor(0, &[]).unwrap().is_none());
        assert!(!floor(1, &[]).unwrap().is_none());
    }
}
