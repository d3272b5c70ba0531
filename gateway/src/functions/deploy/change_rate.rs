//! How many changes of functions may be made in a minute. Each writes to disk and makes an entry of
//! the catalog, whether it compiles anything or not.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const MINUTE: Duration = Duration::from_mins(1);

/// The times of the last minute's changes.
#[derive(Default)]
pub(crate) struct ChangeRate {
    made: Mutex<VecDeque<Instant>>,
}

/// As many changes as allowed were made within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{per_minute} changes were made within a minute")]
pub(crate) struct TooManyChanges {
    pub(crate) per_minute: usize,
    pub(crate) retry_after: Duration,
}

impl ChangeRate {
    /// Lets one more change be made, or says when the next may.
    pub(crate) fn admit(&self, per_minute: usize, now: Instant) -> Result<(), TooManyChanges> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while made.front().is_some_and(|first| now.duration_since(*first) >= MINUTE) {
            made.pop_front();
        }
        if made.len() < per_minute {
            made.push_back(now);
            return Ok(());
        }
        let oldest = made.front().map_or(Duration::ZERO, |first| now.duration_since(*first));
        Err(TooManyChanges { per_minute, retry_after: MINUTE.saturating_sub(oldest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case U17.
    #[test]
    fn changes_above_the_rate_are_refused_and_told_when_to_retry() {
        let rate = ChangeRate::default();
        let start = Instant::now();
        let after = |seconds| {
            let admitted = rate.admit(2, start + Duration::from_secs(seconds));
            admitted.map_err(|refused| refused.retry_after.as_secs())
        };
        assert_eq!((after(0), after(20)), (Ok(()), Ok(())));
        assert_eq!((after(20), after(59)), (Err(40), Err(1)));
        assert_eq!((after(60), after(60)), (Ok(()), Err(20)));
        assert_eq!(ChangeRate::default().admit(0, start).unwrap_err().retry_after, MINUTE);
    }
}
