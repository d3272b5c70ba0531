//! The entries of one directory.

use std::{collections::BTreeMap, sync::Arc};

use crate::host::files::node::NodeId;

/// The entries of a directory, by name and in the order in which they were made. A guest that reads
/// them in several parts continues at a place in that order, and may remove entries in between.
#[derive(Default)]
pub(super) struct DirectoryContent {
    places: BTreeMap<Arc<str>, u64>,
    order: BTreeMap<u64, (Arc<str>, NodeId)>,
    next: u64,
}

impl DirectoryContent {
    pub(super) fn get(&self, name: &str) -> Option<NodeId> {
        let place = self.places.get(name)?;
        self.order.get(place).map(|(_, id)| *id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds an entry whose name is free.
    pub(super) fn insert(&mut self, name: &str, id: NodeId) {
        let name: Arc<str> = name.into();
        self.places.insert(Arc::clone(&name), self.next);
        self.order.insert(self.next, (name, id));
        self.next += 1;
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<NodeId> {
        let place = self.places.remove(name)?;
        self.order.remove(&place).map(|(_, id)| id)
    }

    /// The entries from a place on, each with its place.
    pub(super) fn from(&self, place: u64) -> impl Iterator<Item = (u64, &str, NodeId)> {
        self.order.range(place..).map(|(place, (name, id))| (*place, &**name, *id))
    }
}
