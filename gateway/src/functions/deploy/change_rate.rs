//! How many changes of functions may be made in a minute. Each writes to disk and makes an entry of
//! the catalog, whether it compiles anything or not.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use store::Share;

use crate::functions::deploy::upload::TokenId;

const MINUTE: Duration = Duration::from_mins(1);

/// The last minute's changes.
#[derive(Default)]
pub(crate) struct ChangeRate(Mutex<LastMinute>);

#[derive(Default)]
struct LastMinute {
    made: VecDeque<(Instant, TokenId)>,
    by_token: HashMap<TokenId, u64>,
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
    pub(crate) fn admit(
        &self,
        token: &TokenId,
        per_minute: usize,
        now: Instant,
    ) -> Result<(), TooManyChanges> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        minute.forget_before(now);
        let own = minute.by_token.get(token).copied().unwrap_or(0);
        let share = Share {
            max: per_minute as u64,
            taken: minute.made.len() as u64,
            own,
            holders: minute.by_token.len() as u64 + u64::from(own == 0),
        };
        if share.admits_one() {
            minute.made.push_back((now, token.clone()));
            *minute.by_token.entry(token.clone()).or_default() += 1;
            return Ok(());
        }
        let oldest =
            minute.made.front().map_or(Duration::ZERO, |(first, _)| now.duration_since(*first));
        Err(TooManyChanges { per_minute, retry_after: MINUTE.saturating_sub(oldest) })
    }
}

impl LastMinute {
    fn forget_before(&mut self, now: Instant) {
        while let Some((_, token)) =
            self.made.pop_front_if(|(made, _)| now.duration_since(*made) >= MINUTE)
        {
            if let Some(count) = self.by_token.get_mut(&token) {
                *count -= 1;
                if *count == 0 {
                    self.by_token.remove(&token);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> TokenId {
        TokenId(id.into())
    }

    /// Case U17.
    #[test]
    fn changes_above_the_rate_are_refused_and_told_when_to_retry() {
        let rate = ChangeRate::default();
        let start = Instant::now();
        let after = |seconds| {
            let admitted = rate.admit(&token("a"), 2, start + Duration::from_secs(seconds));
            admitted.map_err(|refused| refused.retry_after.as_secs())
        };
        assert_eq!((after(0), after(20)), (Ok(()), Ok(())));
        assert_eq!((after(20), after(59)), (Err(40), Err(1)));
        assert_eq!((after(60), after(60)), (Ok(()), Err(20)));
        let none = ChangeRate::default().admit(&token("a"), 0, start);
        assert_eq!(none.unwrap_err().retry_after, MINUTE);
    }

    /// Case U17.
    #[test]
    fn one_token_leaves_changes_to_others() {
        let rate = ChangeRate::default();
        let now = Instant::now();
        let made = |id: &str| (0..16).filter(|_| rate.admit(&token(id), 16, now).is_ok()).count();
        assert_eq!((made("greedy"), made("other"), made("third")), (14, 2, 0));
        let later = now + MINUTE;
        assert!(rate.admit(&token("greedy"), 16, later).is_ok());
        assert_eq!(rate.0.lock().unwrap().by_token.len(), 1);
    }
}
