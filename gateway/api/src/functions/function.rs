//! Functions.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{IsolationWord, KindWord, LimitValues, SettingsPatch, SettingsView, StateWord};

/// A function and its active revision.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionView {
    /// Unique among functions.
    #[schema(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", example = "hello")]
    pub name: String,
    /// The revision that answers requests.
    pub revision: u32,
    /// The SHA-256 of the artifact.
    #[schema(
        pattern = "^sha256:[0-9a-f]{64}$",
        example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub digest: String,
    /// How it runs: `wasi-http-0.2`, `wasi-http-0.3`, `wasi-command`, `wasi-command-0.3` or
    /// `wasi-preview1`.
    #[schema(value_type = KindWord, example = "wasi-http-0.2")]
    pub kind: String,
    /// Size of the artifact.
    pub bytes: u64,
    /// The address at which it answers.
    #[schema(format = "uri", example = "http://127.0.0.1:8080/f/hello/")]
    pub url: String,
    /// The owner's description.
    pub description: String,
    /// How much of it is in memory: `cold`, `loaded` or `warm`.
    #[schema(value_type = StateWord, example = "loaded")]
    pub state: String,
    /// How its invocations are isolated: `request` (each has a fresh instance) or `reuse` (they use
    /// one instance in turn).
    #[schema(value_type = IsolationWord, example = "request")]
    pub isolation: String,
    /// Its instances.
    pub instances: InstancesView,
    /// The settings that its owner has chosen.
    pub settings: SettingsView,
    /// The limits in effect: the owner's, or the platform's defaults.
    pub limits: LimitValues,
    /// The outcome of the snapshot. Null if the settings ask for none, and in lists.
    pub snapshot: Option<SnapshotView>,
    /// The revision that this change has made, if that does not answer requests because the channel
    /// `default` points to another one.
    #[serde(default)]
    pub inactive_revision: Option<u32>,
    /// Older revisions that this change has removed, because a function keeps a limited number of
    /// them.
    #[serde(default)]
    pub removed_revisions: Vec<u32>,
    /// When it was first deployed (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last changed (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A function's instances.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct InstancesView {
    /// Instances that serve an invocation.
    pub running: u64,
    /// Warm instances: those that are ready for an invocation.
    pub waiting: u64,
}

/// The outcome of a snapshot that the settings ask for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotView {
    /// Whether instances start from a snapshot.
    pub taken: bool,
    /// CPU time of the start-up that each instance saves, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_ms: Option<u64>,
    /// Bytes of the memory that instances start with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why no snapshot was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A page of functions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionsView {
    /// Ordered by name.
    pub functions: Vec<FunctionView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A change to a function (RFC 7396): a member that is left out stays as it is, null resets it.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeFunction {
    /// The owner's description.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    /// A merge patch on the settings. Makes a new revision.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SettingsPatch>)]
    pub settings: Option<Value>,
}

/// Distinguishes a member that is null from one that is absent.
fn even_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn null_and_absence_are_two_changes() {
        let absent: ChangeFunction = from_str("{}").unwrap();
        assert_eq!((&absent.description, &absent.settings), (&None, &None));
        let null: ChangeFunction = from_str(r#"{"description":null,"settings":null}"#).unwrap();
        assert_eq!((&null.description, &null.settings), (&Some(None), &Some(Value::Null)));
        assert_eq!(to_string(&absent).unwrap(), "{}");
        assert_eq!(to_string(&null).unwrap(), r#"{"description":null,"settings":null}"#);
        assert!(from_str::<ChangeFunction>(r#"{"descripton":"x"}"#).is_err());
    }
}
