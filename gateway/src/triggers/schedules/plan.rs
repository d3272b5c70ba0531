//! What to do about a schedule that is due.

use gateway_api::{CatchUpPolicy, ScheduleSpec};
use jiff::Timestamp;

use crate::triggers::schedules::timing::CronTiming;

/// A due time that is no longer ago than this is on time: a restart or a busy disk takes as long.
const LATE_MS: i64 = 10_000;
/// The due times that can be on time at once, one each second.
const ON_TIME: usize = LATE_MS as usize / 1_000 + 1;
/// Missed due times that are counted at a time. Looking for them takes some ten microseconds each.
const COUNTED: usize = 100;

/// What an owner has said about due times that were missed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    policy: CatchUpPolicy,
    runs: usize,
    age_ms: i64,
}

impl CatchUp {
    pub(crate) fn of(spec: &ScheduleSpec) -> Self {
        Self {
            policy: spec.catch_up,
            runs: spec.catch_up_runs as usize,
            age_ms: i64::from(spec.catch_up_age_s) * 1_000,
        }
    }
}

/// What to do, in Unix milliseconds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TurnPlan {
    /// The due times that run, in order.
    pub(crate) run: Vec<i64>,
    /// How many were missed, at least.
    pub(crate) missed: u64,
    /// The last of those.
    pub(crate) last_missed_ms: Option<i64>,
    /// The last of all.
    pub(crate) until_ms: i64,
}

/// What to do at `now_ms` about a schedule of which everything up to `after_ms` was done. `None` if
/// nothing is due.
pub(crate) fn plan(
    timing: &CronTiming,
    catch_up: CatchUp,
    after_ms: i64,
    now_ms: i64,
) -> Option<TurnPlan> {
    let moment = |ms| Timestamp::from_millisecond(ms).ok();
    let caught = if catch_up.policy == CatchUpPolicy::All { catch_up.runs } else { 0 };
    let most = ON_TIME + caught + COUNTED;
    let due = timing.newest(moment(after_ms)?, moment(now_ms)?, most);
    let due: Vec<i64> = due.into_iter().map(Timestamp::as_millisecond).collect();
    let until_ms = *due.last()?;
    let on_time = due.partition_point(|due| now_ms - due > LATE_MS);
    let (late, on_time) = due.split_at(on_time);
    let young = late.partition_point(|due| now_ms - due > catch_up.age_ms);
    let caught = match catch_up.policy {
        CatchUpPolicy::None => 0,
        // One that is on time is newer than all of them.
        CatchUpPolicy::Last if !on_time.is_empty() => 0,
        CatchUpPolicy::Last => (late.len() - young).min(1),
        CatchUpPolicy::All => (late.len() - young).min(catch_up.runs),
    };
    let (missed, caught) = late.split_at(late.len() - caught);
    Some(TurnPlan {
        run: [caught, on_time].concat(),
        missed: missed.len() as u64,
        last_missed_ms: missed.last().copied(),
        until_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// 10:00:03 of some day.
    const NOW: i64 = 1_796_032_800_000 + 3_000;

    fn planned(
        cron: &str,
        policy: CatchUpPolicy,
        (runs, age_s): (u32, u32),
        after_ms: i64,
    ) -> Option<TurnPlan> {
        let timing = CronTiming::parse(cron, "UTC").unwrap();
        let catch_up = CatchUp { policy, runs: runs as usize, age_ms: i64::from(age_s) * 1_000 };
        plan(&timing, catch_up, after_ms, NOW)
    }

    fn run(
        cron: &str,
        policy: CatchUpPolicy,
        bounds: (u32, u32),
        after_ms: i64,
    ) -> (Vec<i64>, u64) {
        let TurnPlan { run, missed, .. } = planned(cron, policy, bounds, after_ms).unwrap();
        (run.into_iter().map(|due| (due - NOW).div_euclid(1_000)).collect(), missed)
    }

    /// Case V05.
    #[test]
    fn due_times_that_were_missed_are_caught_up_with_as_the_policy_says() {
        use CatchUpPolicy::{All, Last, None};
        let day = (100, 86_400);
        // Three hours ago, and the last one just now.
        let since = NOW - 3 * HOUR;
        assert_eq!(run("@hourly", None, day, since), (vec![-3], 2));
        assert_eq!(run("@hourly", Last, day, since), (vec![-3], 2));
        assert_eq!(run("@hourly", All, day, since), (vec![-7_203, -3_603, -3], 0));
        // The last one half an hour ago.
        let half = "30 * * * *";
        assert_eq!(run(half, None, day, since), (vec![], 3));
        assert_eq!(run(half, Last, day, since), (vec![-1_803], 2));
        assert_eq!(run(half, All, day, since), (vec![-9_003, -5_403, -1_803], 0));
        // Bounds of number and age.
        assert_eq!(run(half, All, (2, 86_400), since), (vec![-5_403, -1_803], 1));
        assert_eq!(run(half, All, (100, 3_600), since), (vec![-1_803], 2));
        assert_eq!(run(half, Last, (100, 60), since), (vec![], 3));
        // A few seconds are not late.
        let seconds = run("* * * * * *", None, day, NOW - 5_000);
        assert_eq!(seconds, (vec![-4, -3, -2, -1, 0], 0));
        assert_eq!(planned("@hourly", All, day, NOW), Option::None);
        assert_eq!(
            planned("@hourly", All, day, NOW + HOUR),
            Option::None,
            "the clock was set back"
        );
    }

    /// Case V05.
    #[test]
    fn a_year_of_seconds_is_not_walked_through() {
        let year = NOW - 365 * 24 * HOUR;
        let (run, missed) = run("* * * * * *", CatchUpPolicy::All, (100, 2_592_000), year);
        assert_eq!((run.len(), missed), (111, 100));
    }
}
