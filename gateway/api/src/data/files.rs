//! Files that functions are given.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tree of files that is stored.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TreeView {
    /// The digest by which the setting `files` of a function names it. The same files always have the
    /// same.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub digest: String,
    /// The number of its files.
    pub files: u64,
    /// The bytes of all of them.
    pub bytes: u64,
    /// When it was first stored (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A part of what is in a tree.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TreePageView {
    /// The tree.
    #[serde(flatten)]
    pub tree: TreeView,
    /// Its files, and the directories in which nothing is, in the order of their paths' bytes.
    pub entries: Vec<TreeEntryView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A file, or a directory in which nothing is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TreeEntryView {
    /// Its path in the tree.
    #[schema(example = "assets/site.css")]
    pub path: String,
    /// The digest of its bytes; null for a directory.
    pub digest: Option<String>,
    /// The number of its bytes; null for a directory.
    pub bytes: Option<u64>,
}

/// The files that guests of a function can read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MountView {
    /// The digest of the tree.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub tree: String,
    /// The directory at which guests see it: an absolute path, not in `/tmp`. The default is `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/srv/site")]
    pub at: Option<String>,
}

/// The files that differ between two revisions.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FilesDiff {
    /// Only the second has these.
    pub added: Vec<String>,
    /// Only the first has these.
    pub removed: Vec<String>,
    /// Both have these, with other bytes.
    pub changed: Vec<String>,
    /// Whether more differ than are named: at most 1,000 of each kind are.
    pub more: bool,
}
