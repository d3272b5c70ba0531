//! One resident function.

use std::{fmt, sync::Arc};

use crate::{
    Limits, admission::Admission, executor::template::InstanceTemplate,
    pool::statistics::Statistics, warm::WarmSet,
};

/// How much of a function is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Only its row and its files exist.
    Cold,
    /// Its code is in memory.
    Loaded,
    /// Its code is in memory, and so is at least one warm instance.
    Warm,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Loaded => "loaded",
            Self::Warm => "warm",
        }
    }
}

/// A function whose code is in memory.
///
/// Invariant: a `Function` serves exactly one revision. A new revision is a new `Function`, so
/// none of these parts is ever replaced. `invocation` calls it.
pub struct Function {
    /// The revision's specification, and the template of its instances.
    pub(crate) template: Arc<InstanceTemplate>,
    pub(crate) warm: Arc<WarmSet>,
    pub(crate) admission: Admission,
    pub(crate) statistics: Statistics,
}

impl Function {
    /// The limits of its invocations.
    pub fn limits(&self) -> &Limits {
        &self.template.spec().limits
    }

    /// The number of its warm instances.
    pub fn warm_instances(&self) -> usize {
        self.warm.count()
    }

    /// The number of its invocations that are running.
    pub fn running_invocations(&self) -> usize {
        self.admission.slots.taken()
    }

    /// Whether half of its slots would be free if one more was taken.
    pub fn has_half_its_slots(&self) -> bool {
        (self.admission.slots.taken() + 1) * 2 <= self.limits().concurrency
    }

    /// Keeps at least this many instances warm, even while there are no calls.
    pub fn keep_warm(&self, instances: usize) {
        self.warm.keep_warm(instances);
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("limits", self.limits()).finish_non_exhaustive()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // A task that makes warm instances may hold the set for longer.
        self.warm.close();
    }
}
