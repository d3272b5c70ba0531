//! How many compilations deploys may begin within a minute.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::error::LoadError;

/// When the deploys of the last minute began to compile.
pub(super) struct DeployRate {
    per_minute: AtomicUsize,
    begun: Mutex<VecDeque<Instant>>,
}

impl DeployRate {
    const MINUTE: Duration = Duration::from_mins(1);

    pub(super) fn new(per_minute: usize) -> Self {
        Self { per_minute: AtomicUsize::new(per_minute), begun: Mutex::default() }
    }

    pub(super) fn set(&self, per_minute: usize) {
        self.per_minute.store(per_minute, Relaxed);
    }

    /// Lets one more compilation begin, or says when the next may.
    pub(super) fn admit(&self, now: Instant) -> Result<(), LoadError> {
        let per_minute = self.per_minute.load(Relaxed);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while begun.front().is_some_and(|first| now.duration_since(*first) >= Self::MINUTE) {
            begun.pop_front();
        }
        if begun.len() < per_minute {
            begun.push_back(now);
            return Ok(());
        }
        let oldest = begun.front().map_or(Duration::ZERO, |first| now.duration_since(*first));
        let retry_after = Self::MINUTE.saturating_sub(oldest);
        Err(LoadError::CompileRate { per_minute, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case U17.
    #[test]
    fn deploys_above_the_rate_are_refused_and_told_when_to_retry() {
        let rate = DeployRate::new(2);
        let start = Instant::now();
        let after = |seconds| rate.admit(start + Duration::from_secs(seconds));
        let wait = |refused: Result<(), LoadError>| match refused {
            Err(LoadError::CompileRate { retry_after, .. }) => retry_after.as_secs(),
            other => panic!("{other:?}"),
        };
        after(0).unwrap();
        after(20).unwrap();
        assert_eq!(wait(after(20)), 40);
        assert_eq!(wait(after(59)), 1);
        after(60).unwrap();
        assert_eq!(wait(after(60)), 20);
        after(80).unwrap();

        let none = DeployRate::new(0);
        assert_eq!(wait(none.admit(start)), 60);
    }
}
