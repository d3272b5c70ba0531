//! Revisions of a function.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{ActionWord, FilesDiff, KindWord, SettingsView};

/// One immutable deployment of a function.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// Counts up from 1 within a function.
    pub revision: u32,
    /// The SHA-256 of the artifact.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub digest: String,
    /// How it runs.
    #[schema(value_type = KindWord)]
    pub kind: String,
    /// Size of the artifact.
    pub bytes: u64,
    /// The settings that its owner has chosen.
    pub settings: SettingsView,
    /// Whether it is the revision that answers requests.
    pub active: bool,
    /// Its semantic version; null if its publisher gave none.
    #[serde(default)]
    #[schema(example = "1.2.3")]
    pub version: Option<String>,
    /// Its labels.
    #[serde(default)]
    #[schema(example = json!({"commit": "4be1f0c"}))]
    pub labels: BTreeMap<String, String>,
    /// The id of the token that deployed it, or `local`. Empty if that is not known.
    #[serde(default)]
    pub deployed_by: String,
    /// The address of the client that deployed it. Empty if that is not known.
    #[serde(default)]
    pub deployed_from: String,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// One change of the revision that a channel is at.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// Counts up from 1 within a function.
    pub change: u64,
    /// What was done: `deploy`, `settings`, `activate`, `rollback`, `channel`, `channel-deleted`,
    /// `canary-step`, `canary-promoted` or `canary-rolled-back`.
    #[schema(value_type = ActionWord, example = "rollback")]
    pub action: String,
    /// The channel that it was about.
    pub channel: String,
    /// The channel's revision before; null if the change has made the channel.
    pub from: Option<u32>,
    /// The channel's revision since then.
    pub to: u32,
    /// The range, the weights and what callers stay by, where an owner set the channel; the figures,
    /// where a canary was judged; otherwise null.
    pub detail: Option<Value>,
    /// The id of the token that did it, `local`, or `gateway` where a canary was judged.
    pub made_by: String,
    /// The address of the client.
    pub made_from: String,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub made_at: String,
}

/// A page of a function's history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// The newest first.
    pub changes: Vec<ChangeView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A page of revisions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevisionsView {
    /// The newest first.
    pub revisions: Vec<RevisionView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// What differs between two revisions of a function.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RevisionDiff {
    /// The revision to compare from.
    pub from: u32,
    /// The revision to compare to.
    pub to: u32,
    /// Whether both run the same bytes.
    pub same_artifact: bool,
    /// How they run; null if that is the same.
    pub kind: Option<TextDiff>,
    /// Their versions; null if they are the same.
    pub version: Option<TextDiff>,
    /// Size of the first artifact.
    pub from_bytes: u64,
    /// Size of the second artifact.
    pub to_bytes: u64,
    /// The interfaces that the artifacts import.
    pub imports: NamesDiff,
    /// What the artifacts export.
    pub exports: NamesDiff,
    /// The files that differ, of those that guests can read.
    #[serde(default)]
    pub files: FilesDiff,
    /// The settings that differ, by name. Members of the environment are named each, without their
    /// values.
    pub settings: Vec<SettingDiff>,
}

/// Two texts that differ.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TextDiff {
    /// That of the first revision.
    pub from: Option<String>,
    /// That of the second revision.
    pub to: Option<String>,
}

/// Names that one of two revisions has.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NamesDiff {
    /// Only the second has these.
    pub added: Vec<String>,
    /// Only the first has these.
    pub removed: Vec<String>,
}

/// A setting that differs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingDiff {
    /// Its name, such as `cpu_ms` or `environment.LANG`.
    #[schema(example = "environment.LANG")]
    pub setting: String,
    /// Its value in the first revision; null if it is not set there.
    pub from: Option<Value>,
    /// Its value in the second revision; null if it is not set there.
    pub to: Option<Value>,
}
