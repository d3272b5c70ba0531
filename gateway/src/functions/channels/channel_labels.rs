//! Which channels have a label of their own in metrics? Owners choose their names, so their number is
//! limited, as that of functions is.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::functions::{channels::counts::ChannelLabel, labels::OTHER};

/// The labels of channels.
#[derive(Debug)]
pub(crate) struct ChannelLabels {
    max: usize,
    taken: Mutex<HashSet<Arc<ChannelLabel>>>,
}

impl ChannelLabels {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// The label of a channel; [`OTHER`] if there are too many, or if its function has none.
    pub(crate) fn take(&self, function: &Arc<str>, channel: &str) -> Arc<ChannelLabel> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let label = ChannelLabel { function: Arc::clone(function), channel: channel.into() };
        if let Some(label) = taken.get(&label) {
            return Arc::clone(label);
        }
        if taken.len() >= self.max || **function == *OTHER {
            return Arc::new(ChannelLabel { channel: OTHER.into(), ..label });
        }
        let label = Arc::new(label);
        taken.insert(Arc::clone(&label));
        label
    }

    /// Frees the labels that no channel and no call uses any more, and returns them: their series can
    /// go.
    pub(crate) fn free(&self) -> Vec<Arc<ChannelLabel>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extract_if(|label| Arc::strong_count(label) == 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_limited_shared_and_free_when_no_channel_uses_them() {
        let labels = ChannelLabels::new(1);
        let function: Arc<str> = "f".into();
        let first = labels.take(&function, "prod");
        assert!(Arc::ptr_eq(&first, &labels.take(&function, "prod")));
        assert_eq!(&*labels.take(&function, "next").channel, OTHER);
        assert!(labels.free().is_empty());
        drop(first);
        assert_eq!(labels.free().len(), 1);
        assert_eq!(&*labels.take(&function, "next").channel, "next");
        let other: Arc<str> = OTHER.into();
        assert_eq!(&*labels.take(&other, "prod").channel, OTHER);
    }
}
