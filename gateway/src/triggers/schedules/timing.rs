//! When a schedule is due: cron expressions in time zones.
//!
//! The crate `croner` reads expressions and finds the civil times that match. Which moment a civil
//! time is, where clocks are set forward or back, is decided here:
//!
//! - An expression that names its hours (its field for hours has no `*`) means times of the clock on
//!   the wall. One that does not exist is due once, right after the gap; one that comes twice is due
//!   the first time.
//! - Any other expression means a pace, such as every ten minutes. It is due whenever the clock shows a
//!   time that matches, so that the pace stays.
//!
//! Nothing here asks for the time: callers say it.

use croner::Cron;
use jiff::{
    RoundMode, Timestamp, TimestampRound, Unit,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// Bytes of an expression. Arbitrary: each second of an hour, listed, has fewer.
const CRON_BYTES: usize = 256;
/// Bytes of the name of a zone. The longest has half of them.
const ZONE_BYTES: usize = 64;
/// Civil times that one search looks at. An hour that comes twice has 3,600.
const LOOKS: usize = 10_000;

/// What is wrong with a schedule's times, beginning with the member.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadTiming(String);

/// An expression in a zone.
#[derive(Clone, Debug)]
pub(crate) struct CronTiming {
    cron: Cron,
    zone: TimeZone,
    names_hours: bool,
}

impl CronTiming {
    /// Reads both. An error says what is wrong, and names the member.
    pub(crate) fn parse(cron: &str, zone: &str) -> Result<Self, BadTiming> {
        let wrong = |why: String| BadTiming(format!("cron: {why}"));
        if cron.len() > CRON_BYTES {
            return Err(wrong(format!("at most {CRON_BYTES} bytes are allowed")));
        }
        let expression = nickname(cron.trim());
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let hours = match fields.len() {
            5 => fields[1],
            6 | 7 => fields[2],
            count => {
                return Err(wrong(format!(
                    "{cron:?} has {count} fields; expected 5 (minute, hour, day, month, day of the \
                     week), 6 (seconds first) or 7 (the year last)"
                )));
            }
        };
        let names_hours = !hours.contains(['*', '?']);
        let cron = expression.parse().map_err(|error| wrong(format!("{cron:?}: {error}")))?;
        Ok(Self { cron, zone: time_zone(zone)?, names_hours })
    }

    /// The same, and tries whether it is ever due after `now`.
    pub(crate) fn checked(cron: &str, zone: &str, now: Timestamp) -> Result<Self, BadTiming> {
        let timing = Self::parse(cron, zone)?;
        match timing.next_after(now) {
            Some(_) => Ok(timing),
            None => Err(BadTiming(format!(
                "cron: {cron:?} is never due again: no such day, month and year comes after now; \
                 correct one of them"
            ))),
        }
    }

    /// The first moment after `after` at which it is due.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // Whole seconds: the rest of one would hide the next.
        let floor = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Floor);
        let after = after.round(floor).ok()?;
        let local = after.to_zoned(self.zone.clone());
        if !self.names_hours {
            return self.cron.find_next_occurrence(&local, false).ok().map(|due| due.timestamp());
        }
        let mut civil = local.datetime();
        for _ in 0..LOOKS {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            match self.moment(civil) {
                Some(due) if due > after => return Some(due),
                // It came before, when the clock showed this time first.
                _ => {}
            }
        }
        None
    }

    /// The newest moments at which it was due, after `after` and up to `until`, at most `most`; oldest
    /// first.
    pub(crate) fn newest(&self, after: Timestamp, until: Timestamp, most: usize) -> Vec<Timestamp> {
        // From a minute on, longer and longer times are looked at, so that one for each second of a
        // year is not walked through.
        let mut seconds = 60;
        loop {
            let since = Timestamp::from_second(until.as_second().saturating_sub(seconds));
            let since = since.unwrap_or(Timestamp::MIN).max(after);
            let mut due = Vec::new();
            let mut last = since;
            while let Some(next) = self.next_after(last).filter(|next| *next <= until) {
                due.push(next);
                last = next;
            }
            if due.len() >= most || since == after {
                due.drain(..due.len().saturating_sub(most));
                return due;
            }
            seconds *= 2;
        }
    }

    /// The moment at which a clock in the zone shows a time: the first of two, and if there is none,
    /// that at which the clock is set forward.
    fn moment(&self, civil: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_zoned(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                Some(ambiguous.earlier().ok()?.timestamp())
            }
            AmbiguousOffset::Gap { .. } => {
                // As if the clock had not been set forward: later than when it was, by less than a gap.
                let later = ambiguous.later().ok()?.timestamp();
                let from = later.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
                self.zone.preceding(from).next().map(|set| set.timestamp())
            }
        }
    }
}

/// The expression that a nickname stands for.
fn nickname(text: &str) -> &str {
    let nicknames = [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ];
    let found = nicknames.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    found.map_or(text, |(_, expression)| expression)
}

fn time_zone(name: &str) -> Result<TimeZone, BadTiming> {
    let known = (name.len() <= ZONE_BYTES).then(|| TimeZone::get(name).ok()).flatten();
    known.ok_or_else(|| {
        BadTiming(format!(
            "time_zone: {name:?} is no zone of the IANA database, such as `UTC` or `Europe/Berlin`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timing(cron: &str, zone: &str) -> CronTiming {
        CronTiming::parse(cron, zone).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The next due times as a clock in the zone shows them.
    fn shown(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let timing = timing(cron, zone);
        let mut last = at(after);
        let next = || {
            last = timing.next_after(last)?;
            Some(last.to_zoned(timing.zone.clone()).strftime("%d %H:%M:%S %:z").to_string())
        };
        std::iter::from_fn(next).take(count).collect()
    }

    /// Case V02.
    #[test]
    fn seconds_and_years_are_optional() {
        let from = "2026-11-29T01:30:00Z";
        for (cron, expected) in [
            ("* * * * *", "2026-11-29T01:31:00Z"),
            ("*/10 * * * * *", "2026-11-29T01:30:10Z"),
            ("0 0 12 1 JAN * 2031", "2031-01-01T12:00:00Z"),
            ("0 0 * * MON", "2026-11-30T00:00:00Z"),
            ("0 0 * * 7", "2026-12-06T00:00:00Z"),
            ("0 0 L * *", "2026-11-30T00:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 13 * +FRI", "2027-08-13T00:00:00Z"),
            ("@hourly", "2026-11-29T02:00:00Z"),
            ("@Daily", "2026-11-30T00:00:00Z"),
        ] {
            assert_eq!(timing(cron, "UTC").next_after(at(from)), Some(at(expected)), "{cron}");
        }
    }

    /// Case V02.
    #[test]
    fn what_is_no_expression_or_never_due_names_the_member() {
        let now = at("2026-11-29T01:30:00Z");
        for (cron, zone, member, why) in [
            ("", "UTC", "cron", "has 0 fields"),
            ("* * * *", "UTC", "cron", "has 4 fields"),
            ("* * * * * * * *", "UTC", "cron", "has 8 fields"),
            ("60 * * * *", "UTC", "cron", "60 * * * *"),
            ("*/0 * * * *", "UTC", "cron", "zero"),
            ("5-1 * * * *", "UTC", "cron", "Range"),
            ("x * * * *", "UTC", "cron", "illegal"),
            ("@reboot", "UTC", "cron", "has 1 fields"),
            (&"1,".repeat(200), "UTC", "cron", "at most 256 bytes"),
            ("0 0 30 2 *", "UTC", "cron", "never due again"),
            ("0 0 31 4,6,9,11 *", "UTC", "cron", "never due again"),
            ("0 0 0 1 1 * 2020", "UTC", "cron", "never due again"),
            ("0 0 0 29 2 * 2027", "UTC", "cron", "never due again"),
            ("* * * * *", "Mars/Olympus", "time_zone", "Mars/Olympus"),
            ("* * * * *", "", "time_zone", "IANA"),
            ("* * * * *", "../../etc/passwd", "time_zone", "IANA"),
        ] {
            let error = CronTiming::checked(cron, zone, now).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{member}: ")), "{cron} {zone}: {error}");
            assert!(error.contains(why), "{cron} {zone}: {error}");
        }
    }

    /// Case V03.
    #[test]
    fn a_time_that_the_clock_skips_is_due_once_right_after_the_gap() {
        // The clock goes from 02:00 to 03:00 on 29 March 2026.
        let berlin = |cron| shown(cron, "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(berlin("30 2 * * *"), ["29 03:00:00 +02:00", "30 02:30:00 +02:00"]);
        assert_eq!(berlin("*/15 2 * * *"), ["29 03:00:00 +02:00", "30 02:00:00 +02:00"]);
        assert_eq!(berlin("15,45 2,3 * * *"), ["29 03:00:00 +02:00", "29 03:15:00 +02:00"]);
        assert_eq!(berlin("0 2,3 * * *"), ["29 03:00:00 +02:00", "30 02:00:00 +02:00"]);
        // An hour of 30 minutes, and one that begins at midnight.
        let howe = shown("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T03:00:00Z", 1);
        assert_eq!(howe, ["04 02:30:00 +11:00"]);
        let cairo = shown("30 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", 2);
        assert_eq!(cairo, ["24 01:00:00 +03:00", "25 00:30:00 +03:00"]);
    }

    /// Case V03.
    #[test]
    fn a_time_that_the_clock_shows_twice_is_due_the_first_time() {
        // The clock goes from 03:00 back to 02:00 on 25 October 2026.
        let berlin = |cron| shown(cron, "Europe/Berlin", "2026-10-24T12:00:00Z", 3);
        let expected = ["25 02:30:00 +02:00", "26 02:30:00 +01:00", "27 02:30:00 +01:00"];
        assert_eq!(berlin("30 2 * * *"), expected);
        let expected = ["25 02:00:00 +02:00", "25 02:30:00 +02:00", "26 02:00:00 +01:00"];
        assert_eq!(berlin("*/30 2 * * *"), expected);
        // Whenever the search begins.
        for from in ["2026-10-25T00:30:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:59:59Z"] {
            let next = shown("30 2 * * *", "Europe/Berlin", from, 1);
            assert_eq!(next, ["26 02:30:00 +01:00"], "{from}");
        }
        let each = shown("* * 2 * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", 1);
        assert_eq!(each, ["26 02:00:00 +01:00"]);
    }

    /// Case V03.
    #[test]
    fn a_pace_stays_the_same_through_both_changes() {
        for (from, to) in [
            ("2026-03-28T22:00:00Z", "2026-03-29T06:00:00Z"),
            ("2026-10-24T22:00:00Z", "2026-10-25T06:00:00Z"),
        ] {
            for (cron, minutes) in [("*/10 * * * *", 10), ("0 * * * *", 60), ("@hourly", 60)] {
                let timing = timing(cron, "Europe/Berlin");
                let mut last = at(from);
                while let Some(next) = timing.next_after(last).filter(|next| *next <= at(to)) {
                    assert_eq!(next.duration_since(last).as_mins(), minutes, "{cron} {next}");
                    last = next;
                }
                assert_eq!(last, at(to), "{cron}");
            }
        }
    }

    #[test]
    fn the_newest_due_times_are_found_without_a_walk_through_all() {
        let each_second = timing("* * * * * *", "UTC");
        let (long_ago, now) = (at("1990-01-01T00:00:00Z"), at("2026-11-29T01:30:00.5Z"));
        let newest = each_second.newest(long_ago, now, 100);
        assert_eq!(newest.len(), 100);
        assert_eq!(newest.last(), Some(&at("2026-11-29T01:30:00Z")));
        assert!(newest.is_sorted());
        let yearly = timing("@yearly", "UTC");
        assert_eq!(yearly.newest(long_ago, now, 1), [at("2026-01-01T00:00:00Z")]);
        assert_eq!(yearly.newest(at("2026-01-01T00:00:00Z"), now, 9), []);
        assert_eq!(each_second.newest(at("2026-11-29T01:29:57Z"), now, 9).len(), 3);
    }

    proptest! {
        #[test]
        fn due_times_only_grow_and_none_is_skipped(
            minute in 0_u32..60, hour in 0_u32..24, start in 1_700_000_000_i64..1_900_000_000,
            pace in any::<bool>(),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York",
                "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo"]),
        ) {
            let cron = if pace { format!("{minute} * * * *") } else { format!("{minute} {hour} * * *") };
            let timing = timing(&cron, zone);
            let mut last = Timestamp::from_second(start).unwrap();
            for _ in 0..8 {
                let next = timing.next_after(last).unwrap();
                prop_assert!(next > last);
                let most = if pace { 2 } else { 25 };
                prop_assert!(next.duration_since(last).as_hours() <= most);
                // From each moment before it, it is the same.
                let half = last.duration_since(next).as_secs() / 2;
                let between = next.checked_add(jiff::SignedDuration::from_secs(half)).unwrap();
                prop_assert_eq!(timing.next_after(between), Some(next));
                last = next;
            }
        }

        #[test]
        fn no_text_does_harm(cron in "[-0-9*/,LW#?+ A-Z@]{0,40}", zone in ".{0,20}") {
            let now = at("2026-11-29T01:30:00Z");
            if let Ok(timing) = CronTiming::parse(&cron, "UTC") {
                let _ = timing.next_after(now);
            }
            let _ = CronTiming::parse(&cron, &zone);
        }
    }
}
