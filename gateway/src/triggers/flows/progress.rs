//! What a run has done so far. A run whose client waits has it in memory, for the history; an asynchronous run
//! has it on the disk, and goes on from there after a crash or a failure.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};
use store::{StepOutcome, StepRecord, Store};

use crate::{telemetry::request_id::id_string, triggers::flows::state::StateValue};

/// The id of a step: the same in each attempt of a run. It does not tell the run's, which opens its answer.
pub(super) fn step_id(run: &str, path: &str) -> String {
    let hash = Sha256::digest(format!("{run} {path}"));
    let half = hash.first_chunk().expect("a hash has 32 bytes");
    id_string(u128::from_be_bytes(*half))
}

/// Why a step was not recorded.
#[derive(Debug)]
pub(super) enum NotRecorded {
    /// Another attempt of the run has begun.
    Superseded,
    Store(store::Error),
}

/// What a run has done.
pub(super) enum RunProgress {
    InMemory(Mutex<Vec<StepRecord>>),
    Stored {
        store: Store,
        run: String,
        /// What earlier attempts have added to the state, by the places of their steps.
        done: HashMap<String, StateValue>,
    },
}

impl RunProgress {
    pub(super) fn in_memory() -> Self {
        Self::InMemory(Mutex::default())
    }

    /// The progress of an asynchronous run, with what its earlier attempts have done.
    pub(super) async fn stored(store: &Store, run: &str) -> store::Result<Self> {
        let mut done = HashMap::new();
        for step in store.flow_steps(run).await? {
            let value = step.answer.and_then(StateValue::of_stored);
            if let (Some(value), StepOutcome::Done | StepOutcome::Continued) = (value, step.outcome)
            {
                done.insert(step.path, value);
            }
        }
        Ok(Self::Stored { store: store.clone(), run: run.to_owned(), done })
    }

    /// What an earlier attempt has added at this place.
    pub(super) fn earlier(&self, path: &str) -> Option<StateValue> {
        match self {
            Self::InMemory(_) => None,
            Self::Stored { done, .. } => done.get(path).cloned(),
        }
    }

    /// Records a step that has ended. When this returns, an asynchronous run does not repeat it.
    pub(super) async fn record(&self, step: StepRecord) -> Result<(), NotRecorded> {
        match self {
            Self::InMemory(steps) => {
                // Nothing reads the answers.
                let step = StepRecord { answer: None, ..step };
                steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
                Ok(())
            }
            Self::Stored { store, run, .. } => match store.record_step(run, step).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(NotRecorded::Superseded),
                Err(error) => Err(NotRecorded::Store(error)),
            },
        }
    }

    /// The steps that were recorded in memory.
    pub(super) fn take(&self) -> Vec<StepRecord> {
        match self {
            Self::InMemory(steps) => {
                mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Self::Stored { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case W05.
    #[test]
    fn the_id_of_a_step_is_made_of_its_run_and_its_place() {
        let id = step_id("run", "1.2");
        assert_eq!((id.len(), step_id("run", "1.2")), (32, id.clone()));
        assert_ne!(step_id("run", "1/2"), id);
        assert_ne!(step_id("other", "1.2"), id);
    }
}
