//! The tree against a simple model: a map of paths. Also what the model cannot say.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    error::Limit,
    limits::{GrowthLimiter, Limits, NodeMemory},
};

const PAGE_BYTES: usize = 4 << 10;

fn tree(scratch_bytes: usize) -> Tree {
    let limits = Limits { scratch_bytes, ..Limits::default() };
    let limiter = GrowthLimiter::new(&limits, NodeMemory::unlimited());
    Tree::new(Arc::clone(limiter.scratch().unwrap()), Arc::default())
}

#[derive(Clone, Debug)]
enum Operation {
    Write { path: String, offset: u16, data: Vec<u8> },
    Append { path: String, data: Vec<u8> },
    Cut { path: String, size: u16 },
    MakeDirectory(String),
    RemoveDirectory(String),
    Remove(String),
    Rename(String, String),
}

fn operation() -> impl Strategy<Value = Operation> {
    // Few names, so that operations meet.
    let path = || "[ab](/[abc]){0,3}";
    let data = || vec(1_u8.., 0..9_000);
    prop_oneof![
        3 => (path(), 0..20_000_u16, data())
            .prop_map(|(path, offset, data)| Operation::Write { path, offset, data }),
        1 => (path(), data()).prop_map(|(path, data)| Operation::Append { path, data }),
        1 => (path(), 0..20_000_u16).prop_map(|(path, size)| Operation::Cut { path, size }),
        3 => path().prop_map(Operation::MakeDirectory),
        1 => path().prop_map(Operation::RemoveDirectory),
        1 => path().prop_map(Operation::Remove),
        3 => (path(), path()).prop_map(|(from, to)| Operation::Rename(from, to)),
    ]
}

/// Files with their content, directories without.
#[derive(Debug, Default, PartialEq)]
struct Model(BTreeMap<String, Option<Vec<u8>>>);

impl Model {
    /// Whether an entry can be made here.
    fn has_place(&self, path: &str) -> bool {
        path.rsplit_once('/').is_none_or(|(parent, _)| self.0.get(parent) == Some(&None))
    }

    fn is_empty(&self, path: &str) -> bool {
        !self.0.keys().any(|other| other.starts_with(&format!("{path}/")))
    }

    /// The content of a file, which is made if it can be.
    fn file(&mut self, path: &str) -> Option<&mut Vec<u8>> {
        if !self.0.contains_key(path) && !self.has_place(path) {
            return None;
        }
        self.0.entry(path.to_owned()).or_insert_with(|| Some(Vec::new())).as_mut()
    }

    /// Whether the operation succeeds.
    fn apply(&mut self, operation: &Operation) -> bool {
        match operation {
            Operation::Write { path, offset, data } => self.file(path).is_some_and(|content| {
                let end = usize::from(*offset) + data.len();
                if !data.is_empty() {
                    content.resize(content.len().max(end), 0);
                    content[usize::from(*offset)..end].copy_from_slice(data);
                }
                true
            }),
            Operation::Append { path, data } => self.file(path).is_some_and(|content| {
                content.extend(data);
                true
            }),
            Operation::Cut { path, size } => self.file(path).is_some_and(|content| {
                content.resize(usize::from(*size), 0);
                true
            }),
            Operation::MakeDirectory(path) => {
                let makes = self.has_place(path) && !self.0.contains_key(path);
                makes && self.0.insert(path.clone(), None).is_none()
            }
            Operation::RemoveDirectory(path) => {
                let removes = self.0.get(path) == Some(&None) && self.is_empty(path);
                removes && self.0.remove(path).is_some()
            }
            Operation::Remove(path) => {
                let removes = matches!(self.0.get(path), Some(Some(_)));
                removes && self.0.remove(path).is_some()
            }
            Operation::Rename(from, to) => self.rename(from, to),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(moved) = self.0.get(from) else { return false };
        if !self.has_place(to) || moved.is_none() && to.starts_with(&format!("{from}/")) {
            return false;
        }
        if from == to {
            return true;
        }
        match (moved, self.0.get(to)) {
            (_, None) | (Some(_), Some(Some(_))) => {}
            (None, Some(None)) if self.is_empty(to) => {}
            _ => return false,
        }
        let below = format!("{from}/");
        let all: Vec<String> = self
            .0
            .keys()
            .filter(|path| *path == from || path.starts_with(&below))
            .cloned()
            .collect();
        for path in all {
            let entry = self.0.remove(&path).unwrap();
            self.0.insert(format!("{to}{}", &path[from.len()..]), entry);
        }
        true
    }
}

/// Opens a file, makes it if it is not there, and does something with it.
fn with_file<R>(
    tree: &mut Tree,
    path: &str,
    act: impl FnOnce(&mut Tree, NodeId) -> Result<R, PosixRefusal>,
) -> Result<R, PosixRefusal> {
    let how = Open { create: true, write: true, ..Open::default() };
    let id = tree.open(ROOT, path, how)?;
    let done = act(tree, id);
    tree.let_go(id);
    done
}

fn apply(tree: &mut Tree, operation: &Operation) -> Result<(), PosixRefusal> {
    match operation {
        Operation::Write { path, offset, data } => with_file(tree, path, |tree, id| {
            tree.write(id, Some(u64::from(*offset)), data).map(drop)
        }),
        Operation::Append { path, data } => {
            with_file(tree, path, |tree, id| tree.write(id, None, data).map(drop))
        }
        Operation::Cut { path, size } => {
            with_file(tree, path, |tree, id| tree.set_size(id, u64::from(*size)))
        }
        Operation::MakeDirectory(path) => tree.create_directory(ROOT, path),
        Operation::RemoveDirectory(path) => tree.remove_directory(ROOT, path),
        Operation::Remove(path) => tree.remove_file(ROOT, path),
        Operation::Rename(from, to) => tree.rename((ROOT, from), (ROOT, to)),
    }
}

/// All of the tree, found by reading its directories.
fn content(tree: &Tree, directory: NodeId, path: &str, into: &mut Model) {
    for (_, name, id, is_directory) in tree.entries(directory, 0).unwrap() {
        let path = format!("{path}{name}");
        if is_directory {
            into.0.insert(path.clone(), None);
            content(tree, id, &format!("{path}/"), into);
        } else {
            let mut bytes = vec![0xee; usize::try_from(tree.stat(id).size).unwrap()];
            assert_eq!(tree.read(id, 0, &mut bytes), Ok(bytes.len()));
            into.0.insert(path, Some(bytes));
        }
    }
}

/// What the tree takes, counted anew.
fn taken(tree: &Tree) -> usize {
    let all = tree.nodes.iter().flatten();
    let bytes = all.map(|node| match &node.body {
        NodeBody::File(content) => ENTRY_BYTES + content.bytes(),
        NodeBody::Directory(_) => ENTRY_BYTES,
    });
    // The root is free.
    bytes.sum::<usize>() - ENTRY_BYTES
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_does_what_a_map_of_paths_does(operations in vec(operation(), 1..60)) {
        let (mut tree, mut model) = (tree(64 << 20), Model::default());
        for operation in &operations {
            let (done, expected) = (apply(&mut tree, operation), model.apply(operation));
            prop_assert_eq!(done.is_ok(), expected, "{:?}: {:?}", operation, done);
        }
        let mut found = Model::default();
        content(&tree, ROOT, "", &mut found);
        prop_assert_eq!(&found, &model);
        prop_assert_eq!(taken(&tree), tree.budget.used());

        tree.clear();
        prop_assert_eq!(tree.budget.used(), 0);
        prop_assert_eq!(tree.entries(ROOT, 0).unwrap().count(), 0);
    }

    #[test]
    fn a_small_tree_never_takes_more_than_it_may(operations in vec(operation(), 1..60)) {
        const MAX: usize = 20 << 10;
        let mut tree = tree(MAX);
        for operation in &operations {
            let _ = apply(&mut tree, operation);
            prop_assert!(tree.budget.used() <= MAX);
            prop_assert_eq!(taken(&tree), tree.budget.used());
        }
    }
}

#[test]
fn a_refusal_is_told_to_the_invocation() {
    let mut tree = tree(ENTRY_BYTES + PAGE_BYTES);
    with_file(&mut tree, "a", |tree, id| {
        assert_eq!(tree.write(id, Some(0), &[1; 5_000]), Ok((PAGE_BYTES, PAGE_BYTES as u64)));
        assert!(tree.state.was_refused(Limit::ScratchBytes));
        assert_eq!(tree.write(id, Some(4_096), &[1]), Err(PosixRefusal::NoSpace));
        Ok(())
    })
    .unwrap();
    assert_eq!(tree.create_directory(ROOT, "b"), Err(PosixRefusal::NoSpace));
}

#[test]
fn what_is_removed_while_it_is_open_counts_until_it_is_closed() {
    let mut tree = tree(1 << 20);
    let how = Open { create: true, write: true, ..Open::default() };
    let id = tree.open(ROOT, "a", how).unwrap();
    tree.write(id, Some(0), b"text").unwrap();
    tree.remove_file(ROOT, "a").unwrap();
    // The name is free, and the number is not.
    let other = tree.open(ROOT, "a", how).unwrap();
    assert_ne!(other, id);
    let mut text = [0; 4];
    assert_eq!((tree.read(id, 0, &mut text), &text), (Ok(4), b"text"));
    assert_eq!(tree.stat(id).links, 0);
    assert_eq!(tree.budget.used(), 2 * ENTRY_BYTES + PAGE_BYTES);
    tree.let_go(id);
    assert_eq!(tree.budget.used(), ENTRY_BYTES);

    tree.create_directory(ROOT, "d").unwrap();
    let directory = tree.open(ROOT, "d", Open::default()).unwrap();
    tree.remove_directory(ROOT, "d").unwrap();
    assert_eq!(tree.open(directory, "x", how), Err(PosixRefusal::NoEntry));
    assert_eq!(tree.rename((ROOT, "a"), (directory, "a")), Err(PosixRefusal::NoEntry));
    tree.let_go(directory);
    tree.let_go(other);
    assert!(!tree.is_open());
}

#[test]
fn no_path_leaves_the_directory_that_it_is_relative_to() {
    let mut tree = tree(1 << 20);
    tree.create_directory(ROOT, "a").unwrap();
    tree.create_directory(ROOT, "a/b").unwrap();
    tree.create_directory(ROOT, "c").unwrap();
    let a = tree.open(ROOT, "a", Open::default()).unwrap();
    for (path, expected) in [
        ("b/..", Ok(a)),
        (".", Ok(a)),
        ("b/../b/./..", Ok(a)),
        ("..", Err(PosixRefusal::NotPermitted)),
        ("../c", Err(PosixRefusal::NotPermitted)),
        ("b/../../c", Err(PosixRefusal::NotPermitted)),
        ("b/../b/../..", Err(PosixRefusal::NotPermitted)),
        ("/c", Err(PosixRefusal::NotPermitted)),
        ("none/../b", Err(PosixRefusal::NoEntry)),
    ] {
        assert_eq!(tree.find(a, path), expected, "{path}");
    }
    assert_eq!(tree.rename((a, "b"), (a, "../b")), Err(PosixRefusal::NotPermitted));
    assert_eq!(tree.remove_directory(a, "."), Err(PosixRefusal::Invalid));
    assert_eq!(tree.remove_directory(a, "b/.."), Err(PosixRefusal::Invalid));
}

#[test]
fn a_reader_of_a_directory_misses_nothing_while_entries_go() {
    let mut tree = tree(1 << 20);
    for n in 0..100 {
        tree.create_directory(ROOT, &n.to_string()).unwrap();
    }
    let mut place = 0;
    let mut seen = 0;
    loop {
        let next = tree.entries(ROOT, place).unwrap().next();
        let next = next.map(|(place, name, ..)| (place, name.to_owned()));
        let Some((at, name)) = next else { break };
        tree.remove_directory(ROOT, &name).unwrap();
        place = at + 1;
        seen += 1;
    }
    assert_eq!(seen, 100);
}
