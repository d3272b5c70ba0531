//! Which functions have a label of their own in metrics? Each label costs memory, here and in the
//! system that collects the metrics, so their number is limited.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use store::{Share, Tenant};

use crate::functions::qualified_name::QualifiedName;

/// The label in metrics of functions without a label of their own, and of artifacts that are being
/// deployed.
pub(crate) const OTHER: &str = "other";

/// The labels that functions have.
#[derive(Debug)]
pub(crate) struct Labels {
    max: usize,
    taken: Mutex<TakenLabels>,
}

#[derive(Debug, Default)]
struct TakenLabels {
    labels: HashMap<Arc<str>, LabelState>,
    /// The number of labels of the functions that a token has made.
    by_token: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct LabelState {
    token: Arc<str>,
    /// Whether the function was deleted. Its last calls may still count under the label.
    retired: bool,
}

impl Labels {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// The function's own label, or [`OTHER`] if there is none for the token that has made it.
    pub(crate) fn take(&self, function: &QualifiedName, token: &str) -> Arc<str> {
        let text = text(&function.tenant, function.name.as_str());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((label, _)) = taken.labels.get_key_value(&*text) {
            let label = Arc::clone(label);
            // A function of this name was deleted, and deployed again.
            if let Some(state) = taken.labels.get_mut(&label) {
                state.retired = false;
            }
            return label;
        }
        let own = taken.by_token.get(token).copied().unwrap_or(0);
        let share = Share {
            max: self.max as u64,
            taken: taken.labels.len() as u64,
            own: own as u64,
            holders: taken.by_token.len() as u64 + u64::from(own == 0),
        };
        if !share.admits_one() {
            return OTHER.into();
        }
        let (label, token): (Arc<str>, Arc<str>) = (text.into(), token.into());
        *taken.by_token.entry(Arc::clone(&token)).or_default() += 1;
        taken.labels.insert(Arc::clone(&label), LabelState { token, retired: false });
        label
    }

    /// Frees the label of a deleted function as soon as its last call has ended.
    pub(crate) fn retire(&self, function: &QualifiedName) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = taken.labels.get_mut(&*text(&function.tenant, function.name.as_str()))
        {
            state.retired = true;
        }
    }

    /// Frees the labels that no call uses any more, and returns them: their series can go.
    pub(crate) fn free(&self) -> Vec<Arc<str>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let TakenLabels { labels, by_token } = &mut *taken;
        let unused = |label: &Arc<str>, state: &mut LabelState| {
            state.retired && Arc::strong_count(label) == 1
        };
        labels
            .extract_if(unused)
            .map(|(label, state)| {
                if let Some(count) = by_token.get_mut(&state.token) {
                    *count -= 1;
                    if *count == 0 {
                        by_token.remove(&state.token);
                    }
                }
                label
            })
            .collect()
    }
}

/// The labels of other things that owners name, such as queues: the first so many have one of their own.
#[derive(Debug)]
pub(crate) struct NameLabels {
    max: usize,
    taken: Mutex<HashSet<Arc<str>>>,
}

impl NameLabels {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// The label of a name; [`OTHER`] if there are too many.
    pub(crate) fn take(&self, tenant: &Tenant, name: &str) -> Arc<str> {
        let own = text(tenant, name);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = taken.get(&*own) {
            return Arc::clone(known);
        }
        if taken.len() >= self.max {
            return OTHER.into();
        }
        let own: Arc<str> = own.into();
        taken.insert(Arc::clone(&own));
        own
    }

    /// Frees a label, and returns whether a name had it to itself: then its series can go.
    pub(crate) fn free(&self, label: &str) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(label)
    }
}

/// What the default tenant owns is labelled by its bare name, what others own by `tenant/name`.
fn text<'a>(tenant: &Tenant, name: &'a str) -> Cow<'a, str> {
    if *tenant == Tenant::default() {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{tenant}/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tenant: &str, name: &str) -> QualifiedName {
        QualifiedName { tenant: tenant.try_into().unwrap(), name: name.try_into().unwrap() }
    }

    #[test]
    fn a_label_has_the_tenant_unless_it_is_the_default_one() {
        let labels = Labels::new(2);
        assert_eq!(&*labels.take(&name("default", "hello"), "a"), "hello");
        assert_eq!(&*labels.take(&name("acme", "hello"), "a"), "acme/hello");
        assert_eq!(&*labels.take(&name("default", "one-too-many"), "a"), OTHER);
        assert_eq!(&*labels.take(&name("acme", "hello"), "a"), "acme/hello", "it keeps its own");
    }

    /// Case U17.
    #[test]
    fn the_label_of_a_deleted_function_is_free_when_its_last_call_has_ended() {
        let labels = Labels::new(1);
        let gone = name("default", "gone");
        let call = labels.take(&gone, "a");
        assert!(labels.free().is_empty(), "the function exists");
        labels.retire(&gone);
        assert!(labels.free().is_empty(), "a call runs");
        assert_eq!(&*labels.take(&name("default", "next"), "a"), OTHER);
        drop(call);
        assert_eq!(labels.free(), ["gone".into()]);
        assert_eq!(&*labels.take(&name("default", "next"), "a"), "next");
        // A function of the same name has taken its place before.
        labels.retire(&name("default", "next"));
        drop(labels.take(&name("default", "next"), "a"));
        assert!(labels.free().is_empty());
    }

    /// Case U17.
    #[test]
    fn one_token_leaves_labels_to_the_functions_of_others() {
        let labels = Labels::new(16);
        let own = |token: &str| {
            let each =
                (0..16).map(|n| labels.take(&name("default", &format!("{token}-{n}")), token));
            each.filter(|label| **label != *OTHER).count()
        };
        assert_eq!(own("greedy"), 14, "the last eighth is for others");
        assert_eq!(own("late"), 2);
    }
}
