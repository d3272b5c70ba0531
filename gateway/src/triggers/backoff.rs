//! What becomes of an attempt.

use store::NextState;

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    Succeeded,
    /// The function has failed, or asked to try later.
    Failed,
    /// Another attempt would fail as well.
    Final,
    /// The node did not run it, or not to its end.
    NotRun,
}

/// What decides about the next attempt of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retries {
    /// The number of the attempt that has ended, from 1.
    pub(super) attempt: u32,
    /// How many there may be.
    pub(super) attempts: u32,
    pub(super) now_ms: i64,
    /// When the call is given up.
    pub(super) expires_ms: i64,
    pub(super) retry_ms: u64,
    pub(super) retry_max_ms: u64,
    /// Random: calls that have failed together do not return together.
    pub(super) random: u64,
}

/// How an answer of the function counts.
pub(super) fn of_status(status: u16) -> AttemptEnd {
    match status {
        408 | 429 | 500.. => AttemptEnd::Failed,
        400..=499 => AttemptEnd::Final,
        _ => AttemptEnd::Succeeded,
    }
}

impl Retries {
    pub(super) fn next(&self, end: AttemptEnd) -> NextState {
        match end {
            AttemptEnd::Succeeded => NextState::Succeeded,
            AttemptEnd::Final => NextState::Dead,
            AttemptEnd::Failed if self.attempt >= self.attempts => NextState::Dead,
            AttemptEnd::Failed | AttemptEnd::NotRun if self.now_ms >= self.expires_ms => {
                NextState::Dead
            }
            AttemptEnd::Failed => NextState::Retry { due_ms: self.due_ms() },
            AttemptEnd::NotRun => NextState::HandedBack { due_ms: self.due_ms() },
        }
    }

    /// When to try again: at the latest when the call expires, so that this is noticed.
    fn due_ms(&self) -> i64 {
        let doubled = self.retry_ms.saturating_mul(1 << self.attempt.saturating_sub(1).min(32));
        let longest = doubled.min(self.retry_max_ms.max(self.retry_ms));
        let half = longest / 2;
        let wait = half + self.random % (longest - half + 1);
        let due = self.now_ms.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
        due.min(self.expires_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries(attempt: u32) -> Retries {
        Retries {
            attempt,
            attempts: 3,
            now_ms: 10_000,
            expires_ms: 1_000_000,
            retry_ms: 1_000,
            retry_max_ms: 300_000,
            random: 0,
        }
    }

    #[test]
    fn which_answers_are_worth_another_attempt() {
        for (status, expected) in [
            (200, AttemptEnd::Succeeded),
            (304, AttemptEnd::Succeeded),
            (400, AttemptEnd::Final),
            (404, AttemptEnd::Final),
            (408, AttemptEnd::Failed),
            (429, AttemptEnd::Failed),
            (500, AttemptEnd::Failed),
            (599, AttemptEnd::Failed),
            (999, AttemptEnd::Failed),
        ] {
            assert_eq!(of_status(status), expected, "{status}");
        }
    }

    #[test]
    fn failures_are_tried_again_until_the_attempts_or_the_time_are_used_up() {
        assert_eq!(retries(1).next(AttemptEnd::Failed), NextState::Retry { due_ms: 10_500 });
        assert_eq!(retries(2).next(AttemptEnd::Failed), NextState::Retry { due_ms: 11_000 });
        assert_eq!(retries(3).next(AttemptEnd::Failed), NextState::Dead);
        assert_eq!(retries(1).next(AttemptEnd::Final), NextState::Dead);
        let late = Retries { now_ms: 1_000_000, ..retries(1) };
        assert_eq!(late.next(AttemptEnd::Failed), NextState::Dead);
        assert_eq!(late.next(AttemptEnd::NotRun), NextState::Dead);
        assert_eq!(late.next(AttemptEnd::Succeeded), NextState::Succeeded);
        let refused = retries(3).next(AttemptEnd::NotRun);
        assert_eq!(refused, NextState::HandedBack { due_ms: 12_000 }, "it was no attempt");
        let soon = Retries { expires_ms: 10_100, ..retries(1) };
        assert_eq!(soon.next(AttemptEnd::Failed), NextState::Retry { due_ms: 10_100 });
    }

    proptest! {
        #[test]
        fn a_wait_is_at_least_half_and_never_longer_than_the_longest(attempt in 1..=u32::MAX, random: u64) {
            let retries = Retries { attempts: u32::MAX, random, ..retries(attempt) };
            let NextState::HandedBack { due_ms } = retries.next(AttemptEnd::NotRun) else { panic!() };
            prop_assert!((10_500..=310_000).contains(&due_ms), "{due_ms}");
        }
    }
}
