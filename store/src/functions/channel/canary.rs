//! Automatic canaries: a revision that takes a growing share of a channel's requests until it is
//! promoted or rolled back.
//!
//! The step of a canary stands in its channel's row, so that it survives a restart. Who judges it is not
//! the store's business.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::functions::history::Action;

/// A canary that runs in a channel. The channel's own revision is the one that it may replace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The candidate.
    pub revision: u32,
    /// The candidate's share of the requests in each step, in percent.
    pub steps: Vec<u8>,
    /// The requests that each of the two revisions must have had before a step is judged.
    pub requests: u64,
    /// The index of its step.
    pub step: usize,
    /// When the step began, in Unix milliseconds.
    pub since_ms: i64,
    /// What the old revision had shown when the last step was judged.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub old: Value,
}

impl Canary {
    /// The candidate's share in its step, in percent.
    #[must_use]
    pub fn percent(&self) -> u8 {
        self.steps.get(self.step).copied().unwrap_or(100)
    }

    /// Whether no step comes after this one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.step + 1 >= self.steps.len()
    }
}

/// What becomes of a canary after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryDecision {
    /// The next step begins. Holds what the old revision has shown.
    Advance(Value),
    /// The candidate replaces the old revision.
    Promote,
    /// The old revision gets all requests again.
    RollBack,
}

impl CanaryDecision {
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Advance(_) => Action::CanaryStep,
            Self::Promote => Action::CanaryPromoted,
            Self::RollBack => Action::CanaryRolledBack,
        }
    }
}

/// The canary that a decision is about.
#[derive(Clone, Copy, Debug)]
pub struct DecidedCanary<'a> {
    /// The row of its function.
    pub function_id: i64,
    /// The function's name.
    pub function: &'a str,
    /// Its channel.
    pub channel: &'a str,
    /// The canary as it was judged.
    pub canary: &'a Canary,
}
