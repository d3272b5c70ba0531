//! The directories of a tree of files, in memory: names are looked up without touching a disk, so that
//! no path of a guest ever reaches the file system of the machine.

use std::collections::HashMap;

use super::list::{FileList, ListedEntry};
use crate::host::files::{
    node::{FIXED_TIMES, NodeId, ROOT, Stat},
    path,
    refused::PosixRefusal,
};

/// What a node takes in memory besides its name: this struct, its place in its directory, and the
/// overhead of their allocations.
const NODE_BYTES: usize = 128;

/// The files and directories of a tree. Functions that are given the same tree share one.
#[derive(Debug)]
pub(crate) struct FileTree {
    nodes: Vec<TreeNode>,
    memory_bytes: usize,
}

#[derive(Debug)]
struct TreeNode {
    parent: NodeId,
    body: TreeBody,
}

#[derive(Debug)]
enum TreeBody {
    File(TreeFile),
    /// In the order of their names' bytes.
    Directory(Vec<(Box<str>, NodeId)>),
}

/// A file of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeFile {
    pub(super) digest: [u8; 32],
    pub(super) bytes: u64,
}

impl FileTree {
    pub(crate) fn new(list: &FileList) -> Self {
        let root = TreeNode { parent: ROOT, body: TreeBody::Directory(Vec::new()) };
        let mut tree = Self { nodes: vec![root], memory_bytes: NODE_BYTES };
        let mut directories: HashMap<&str, NodeId> = HashMap::from([("", ROOT)]);
        for (path, entry) in list.entries() {
            let mut parent = ROOT;
            for (slash, _) in path.match_indices('/') {
                let directory = &path[..slash];
                parent = match directories.get(directory) {
                    Some(known) => *known,
                    None => {
                        let new = tree.add(parent, directory, TreeBody::Directory(Vec::new()));
                        directories.insert(directory, new);
                        new
                    }
                };
            }
            let body = match entry {
                ListedEntry::File { digest, bytes } => TreeBody::File(TreeFile { digest, bytes }),
                ListedEntry::Directory => TreeBody::Directory(Vec::new()),
            };
            tree.add(parent, path, body);
        }
        for node in &mut tree.nodes {
            if let TreeBody::Directory(entries) = &mut node.body {
                entries.sort_unstable();
                entries.shrink_to_fit();
            }
        }
        tree
    }

    fn add(&mut self, parent: NodeId, path: &str, body: TreeBody) -> NodeId {
        let id = NodeId::try_from(self.nodes.len()).expect("a list has far fewer paths");
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        self.memory_bytes += NODE_BYTES + name.len();
        self.nodes.push(TreeNode { parent, body });
        if let TreeBody::Directory(entries) = &mut self.nodes[parent as usize].body {
            entries.push((name.into(), id));
        }
        id
    }

    /// About what it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What `path` names, relative to the directory `base`, which it cannot leave.
    pub(super) fn find(&self, base: NodeId, path: &str) -> Result<NodeId, PosixRefusal> {
        path::check(path)?;
        let (mut at, mut depth) = (base, 0_usize);
        self.directory(at)?;
        for name in path::names(path) {
            let entries = self.directory(at)?;
            match name {
                "." => {}
                ".." => {
                    depth = depth.checked_sub(1).ok_or(PosixRefusal::NotPermitted)?;
                    at = self.node(at).parent;
                }
                name => {
                    let found = entries.binary_search_by(|(entry, _)| (**entry).cmp(name));
                    at = entries[found.map_err(|_| PosixRefusal::NoEntry)?].1;
                    depth += 1;
                }
            }
        }
        if path.ends_with('/') {
            self.directory(at)?;
        }
        Ok(at)
    }

    pub(super) fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).body, TreeBody::Directory(_))
    }

    pub(super) fn file(&self, id: NodeId) -> Result<TreeFile, PosixRefusal> {
        match self.node(id).body {
            TreeBody::File(file) => Ok(file),
            TreeBody::Directory(_) => Err(PosixRefusal::IsDirectory),
        }
    }

    pub(super) fn stat(&self, id: NodeId) -> Stat {
        let (is_directory, size) = match &self.node(id).body {
            TreeBody::File(file) => (false, file.bytes),
            TreeBody::Directory(_) => (true, 0),
        };
        Stat { device: DEVICE, node: id, is_directory, size, links: 1, times: FIXED_TIMES }
    }

    /// The entries of a directory from the place `from` on.
    pub(super) fn entries(
        &self,
        id: NodeId,
        from: u64,
    ) -> Result<impl Iterator<Item = (u64, &str, NodeId, bool)>, PosixRefusal> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let entries = self.directory(id)?.iter().enumerate().skip(from);
        Ok(entries.map(|(place, (name, id))| (place as u64, &**name, *id, self.is_directory(*id))))
    }

    fn directory(&self, id: NodeId) -> Result<&[(Box<str>, NodeId)], PosixRefusal> {
        match &self.node(id).body {
            TreeBody::Directory(entries) => Ok(entries),
            TreeBody::File(_) => Err(PosixRefusal::NotDirectory),
        }
    }

    fn node(&self, id: NodeId) -> &TreeNode {
        &self.nodes[id as usize]
    }
}

/// The number of the device that guests see. The scratch directory is another one.
const DEVICE: u64 = 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tree(paths: &[&str]) -> FileTree {
        let entry = |path: &&str| match path.strip_suffix('/') {
            Some(directory) => (directory.to_owned(), ListedEntry::Directory),
            None => {
                let bytes = path.len() as u64;
                ((*path).to_owned(), ListedEntry::File { digest: [bytes as u8; 32], bytes })
            }
        };
        FileTree::new(&FileList::new(BTreeMap::from_iter(paths.iter().map(entry))))
    }

    fn names(tree: &FileTree, directory: &str, from: u64) -> Vec<(u64, String, bool)> {
        let id = tree.find(ROOT, directory).unwrap();
        let entries = tree.entries(id, from).unwrap();
        entries
            .map(|(place, name, _, is_directory)| (place, name.to_owned(), is_directory))
            .collect()
    }

    #[test]
    fn paths_lead_to_files_and_never_out_of_their_directory() {
        let tree = tree(&["a.txt", "a/b/c", "a/empty/", "z"]);
        let found = |path| tree.find(ROOT, path).map(|id| tree.stat(id).size);
        for (path, expected) in [
            ("a.txt", Ok(5)),
            ("./a/./b//c", Ok(5)),
            ("a/b/../../z", Ok(1)),
            ("a/b/", Ok(0)),
            (".", Ok(0)),
            ("a/..", Ok(0)),
            ("a.txt/", Err(PosixRefusal::NotDirectory)),
            ("a.txt/..", Err(PosixRefusal::NotDirectory)),
            ("a/c", Err(PosixRefusal::NoEntry)),
            ("A.txt", Err(PosixRefusal::NoEntry)),
            ("..", Err(PosixRefusal::NotPermitted)),
            ("a/../..", Err(PosixRefusal::NotPermitted)),
            ("/a.txt", Err(PosixRefusal::NotPermitted)),
            ("", Err(PosixRefusal::NoEntry)),
        ] {
            assert_eq!(found(path), expected, "{path}");
        }
        let below = tree.find(ROOT, "a").unwrap();
        assert_eq!(tree.find(below, "b/c").map(|id| tree.is_directory(id)), Ok(false));
        assert_eq!(tree.find(below, "../z"), Err(PosixRefusal::NotPermitted));
        let file = tree.find(ROOT, "z").unwrap();
        assert_eq!(tree.find(file, "z"), Err(PosixRefusal::NotDirectory));
        assert_eq!(tree.file(file), Ok(TreeFile { digest: [1; 32], bytes: 1 }));
    }

    #[test]
    fn a_directory_is_listed_in_order_and_from_any_place() {
        let tree = tree(&["a.txt", "a/b/c", "a/empty/", "z"]);
        let entry = |place, name: &str, is_directory| (place, name.to_owned(), is_directory);
        let all = [entry(0, "a", true), entry(1, "a.txt", false), entry(2, "z", false)];
        assert_eq!(names(&tree, ".", 0), all);
        assert_eq!(names(&tree, ".", 2), all[2..]);
        assert!(names(&tree, ".", 3).is_empty() && names(&tree, ".", u64::MAX).is_empty());
        assert_eq!(names(&tree, "a", 0), [entry(0, "b", true), entry(1, "empty", true)]);
        assert!(names(&tree, "a/empty", 0).is_empty());
    }

    #[test]
    fn nothing_but_names_and_sizes_is_told() {
        let tree = tree(&["a", "b"]);
        let [a, b] = ["a", "b"].map(|path| tree.stat(tree.find(ROOT, path).unwrap()));
        assert_eq!((a.times, a.links, a.device), (FIXED_TIMES, 1, DEVICE));
        assert_eq!((a.times, a.links, a.device), (b.times, b.links, b.device));
        assert_ne!(a.node, b.node);
    }
}
