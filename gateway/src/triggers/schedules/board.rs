//! When each schedule is due next.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use gateway_api::ScheduleSpec;
use jiff::Timestamp;

use crate::triggers::schedules::{
    plan::{CatchUp, TurnPlan, plan},
    timing::CronTiming,
};

/// Places of schedules that were changed since are dropped when there are so many more than schedules.
const STALE: usize = 1_024;

/// All schedules, in the order in which they are due. Times are Unix milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Board {
    entries: HashMap<i64, BoardEntry>,
    /// Times and ids. One whose entry has another time is stale.
    order: BinaryHeap<Reverse<(i64, i64)>>,
}

/// What is known of a schedule without its request. The expression is read again each time: that takes
/// some ten microseconds, and an expression that was read takes kilobytes.
#[derive(Clone, Debug)]
pub(crate) struct BoardEntry {
    cron: Box<str>,
    zone: Box<str>,
    catch_up: CatchUp,
    paused: bool,
    since_ms: i64,
    done_ms: Option<i64>,
    wake_ms: Option<i64>,
}

impl BoardEntry {
    /// A schedule of which due times after `since_ms` count, and those up to `done_ms` are done.
    pub(crate) fn new(spec: &ScheduleSpec, since_ms: i64, done_ms: Option<i64>) -> Self {
        Self {
            cron: spec.cron.as_str().into(),
            zone: spec.time_zone.as_str().into(),
            catch_up: CatchUp::of(spec),
            paused: spec.paused,
            since_ms,
            done_ms,
            wake_ms: None,
        }
    }

    fn after_ms(&self) -> i64 {
        self.done_ms.map_or(self.since_ms, |done| done.max(self.since_ms))
    }

    fn next_ms(&self) -> Option<i64> {
        if self.paused {
            return None;
        }
        let timing = CronTiming::parse(&self.cron, &self.zone).ok()?;
        let after = Timestamp::from_millisecond(self.after_ms()).ok()?;
        timing.next_after(after).map(Timestamp::as_millisecond)
    }
}

impl Board {
    /// Sets a schedule.
    pub(crate) fn set(&mut self, id: i64, mut entry: BoardEntry) {
        entry.wake_ms = entry.next_ms();
        self.order.extend(entry.wake_ms.map(|wake| Reverse((wake, id))));
        self.entries.insert(id, entry);
        if self.order.len() > 2 * self.entries.len() + STALE {
            let live = self.entries.iter().filter_map(|(id, entry)| Some((entry.wake_ms?, *id)));
            self.order = live.map(Reverse).collect();
        }
    }

    /// Removes a schedule.
    pub(crate) fn remove(&mut self, id: i64) {
        self.entries.remove(&id);
    }

    /// Until when a schedule is done.
    pub(crate) fn done_until(&self, id: i64) -> Option<i64> {
        self.entries.get(&id)?.done_ms
    }

    /// When the next schedule is due.
    pub(crate) fn next_ms(&mut self) -> Option<i64> {
        while let Some(Reverse((wake, id))) = self.order.peek().copied() {
            if self.entries.get(&id).is_some_and(|entry| entry.wake_ms == Some(wake)) {
                return Some(wake);
            }
            self.order.pop();
        }
        None
    }

    /// Takes out at most `most` schedules that are due, with what to do about each. Each must be put
    /// back.
    pub(crate) fn take_due(&mut self, now_ms: i64, most: usize) -> Vec<(i64, TurnPlan)> {
        let mut due = Vec::new();
        while due.len() < most && self.next_ms().is_some_and(|wake| wake <= now_ms) {
            let Some(Reverse((_, id))) = self.order.pop() else { break };
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.wake_ms = None;
            let timing = CronTiming::parse(&entry.cron, &entry.zone).ok();
            match timing.and_then(|timing| plan(&timing, entry.catch_up, entry.after_ms(), now_ms))
            {
                Some(plan) => due.push((id, plan)),
                // It waited for another attempt, and the clock was set back meanwhile.
                None => self.put_back(id, None, None),
            }
        }
        due
    }

    /// Puts a schedule back that is done up to `done_ms`, or that waits until `retry_ms`.
    pub(crate) fn put_back(&mut self, id: i64, done_ms: Option<i64>, retry_ms: Option<i64>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.done_ms = entry.done_ms.max(done_ms);
        entry.wake_ms = retry_ms.or_else(|| entry.next_ms());
        self.order.extend(entry.wake_ms.map(|wake| Reverse((wake, id))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const TEN: i64 = 1_796_032_800_000;

    fn spec(cron: &str) -> ScheduleSpec {
        serde_json::from_value(serde_json::json!({"function": "f", "cron": cron})).unwrap()
    }

    fn taken(board: &mut Board, now_ms: i64) -> Vec<(i64, Vec<i64>)> {
        let due = board.take_due(now_ms, 100);
        let run = |(id, plan): (i64, TurnPlan)| {
            board.put_back(id, Some(plan.until_ms), None);
            (id, plan.run)
        };
        due.into_iter().map(run).collect()
    }

    /// Case V04.
    #[test]
    fn no_due_time_comes_twice_when_the_clock_is_set_back() {
        let mut board = Board::default();
        board.set(1, BoardEntry::new(&spec("@hourly"), TEN - 1, None));
        assert_eq!(board.next_ms(), Some(TEN));
        assert_eq!(taken(&mut board, TEN + 5), [(1, vec![TEN])]);
        // Two hours back: ten o'clock comes again.
        for now in [TEN - 2 * HOUR, TEN - HOUR, TEN, TEN + 5, TEN + HOUR - 1] {
            assert_eq!(taken(&mut board, now), [], "{now}");
        }
        assert_eq!(taken(&mut board, TEN + HOUR), [(1, vec![TEN + HOUR])]);
        // After a restart in between, too.
        let mut board = Board::default();
        board.set(1, BoardEntry::new(&spec("@hourly"), TEN - 1, Some(TEN)));
        assert_eq!(taken(&mut board, TEN), []);
        assert_eq!(board.next_ms(), Some(TEN + HOUR));
    }

    /// Case V04.
    #[test]
    fn a_clock_that_is_set_forward_misses_due_times() {
        let mut board = Board::default();
        board.set(1, BoardEntry::new(&spec("@hourly"), TEN - 1, None));
        let due = board.take_due(TEN + 5 * HOUR + 60_000, 100);
        let expected = TurnPlan {
            run: vec![TEN + 5 * HOUR],
            missed: 5,
            last_missed_ms: Some(TEN + 4 * HOUR),
            until_ms: TEN + 5 * HOUR,
        };
        assert_eq!(due, [(1, expected)]);
    }

    #[test]
    fn schedules_come_in_their_order_and_stale_places_are_dropped() {
        let mut board = Board::default();
        for id in 0..10_000 {
            board.set(id, BoardEntry::new(&spec("@daily"), TEN, None));
        }
        for _ in 0..30_000 {
            board.set(7, BoardEntry::new(&spec("@hourly"), TEN, None));
        }
        assert!(board.order.len() < 22_000, "{}", board.order.len());
        assert_eq!(taken(&mut board, TEN + HOUR), [(7, vec![TEN + HOUR])]);
        board.remove(7);
        assert_eq!(taken(&mut board, TEN + 13 * HOUR), []);
        let mut left = 9_999;
        while left > 0 {
            let due = board.take_due(TEN + 15 * HOUR, 256);
            left -= due.len();
            due.iter().for_each(|(id, plan)| board.put_back(*id, Some(plan.until_ms), None));
        }
        let paused = ScheduleSpec { paused: true, ..spec("@hourly") };
        board.set(3, BoardEntry::new(&paused, TEN, None));
        assert_eq!(board.next_ms(), Some(TEN + 38 * HOUR));
    }
}
