//! Which state a function must be in for a change to happen.
//!
//! The text form of a state, and of a precondition, is the business of the protocol that carries
//! it: `control/preconditions.rs` for HTTP.

use store::ActiveFunction;

/// The state of a function: no other state of it has the same, nor has another function of the same
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateTag {
    /// The function's row. A function that is deleted and deployed again has another.
    pub(crate) function: i64,
    /// The number of its changes.
    pub(crate) version: u64,
}

impl StateTag {
    pub(crate) fn of(active: &ActiveFunction) -> Self {
        Self { function: active.function.id, version: active.function.version }
    }
}

/// A set of states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// Every state of a function that exists.
    Any,
    /// These states.
    Listed(Vec<StateTag>),
}

impl States {
    fn contain(&self, current: Option<StateTag>) -> bool {
        current.is_some_and(|current| match self {
            Self::Any => true,
            Self::Listed(tags) => tags.contains(&current),
        })
    }
}

/// The function is not in a permitted state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function is not in a state that the precondition permits")]
pub(crate) struct ConditionFailed {
    /// The state that it is in; `None` where there is no such function.
    pub(crate) current: Option<StateTag>,
}

/// The states in which a function may be changed. The default permits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeCondition {
    /// The function must be in one of these.
    pub(crate) required: Option<States>,
    /// The function must not be in one of these.
    pub(crate) excluded: Option<States>,
}

impl ChangeCondition {
    /// Whether it permits every state.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the state of a function; `None` where there is no such function.
    pub(crate) fn check(&self, active: Option<&ActiveFunction>) -> Result<(), ConditionFailed> {
        let current = active.map(StateTag::of);
        if self.permits(current) { Ok(()) } else { Err(ConditionFailed { current }) }
    }

    fn permits(&self, current: Option<StateTag>) -> bool {
        self.required.as_ref().is_none_or(|states| states.contain(current))
            && !self.excluded.as_ref().is_some_and(|states| states.contain(current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: StateTag = StateTag { function: 7, version: 2 };
    const OTHER: StateTag = StateTag { function: 7, version: 1 };

    fn required(states: States) -> ChangeCondition {
        ChangeCondition { required: Some(states), excluded: None }
    }

    fn excluded(states: States) -> ChangeCondition {
        ChangeCondition { required: None, excluded: Some(states) }
    }

    #[test]
    fn a_required_state_must_be_the_current_one() {
        assert!(required(States::Listed(vec![OTHER, CURRENT])).permits(Some(CURRENT)));
        assert!(!required(States::Listed(vec![OTHER])).permits(Some(CURRENT)));
        assert!(!required(States::Listed(Vec::new())).permits(Some(CURRENT)));
        assert!(required(States::Any).permits(Some(CURRENT)));
        assert!(!required(States::Any).permits(None), "there is no such function");
    }

    #[test]
    fn an_excluded_state_must_not_be_the_current_one() {
        assert!(!excluded(States::Any).permits(Some(CURRENT)));
        assert!(excluded(States::Any).permits(None));
        assert!(excluded(States::Listed(vec![OTHER])).permits(Some(CURRENT)));
        assert!(!excluded(States::Listed(vec![CURRENT])).permits(Some(CURRENT)));
    }

    #[test]
    fn the_default_permits_everything() {
        assert!(ChangeCondition::default().is_none());
        assert!(ChangeCondition::default().permits(None));
        assert!(ChangeCondition::default().permits(Some(CURRENT)));
    }
}
