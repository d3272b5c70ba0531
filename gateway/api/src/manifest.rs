//! Manifests: all that a project has, applied at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    FlowSpec, PlanActionWord, PlanKindWord, PutChannel, QueueSpec, RouteSpec, ScheduleSpec,
    SettingsView,
};

/// All that a project has. What it names is made to be as it says: a member that is left out has its
/// default. What it does not name stays as it is, unless `prune` is true.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name of the project, like a function's. What a manifest makes belongs to its project.
    #[schema(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", example = "shop")]
    pub project: String,
    /// Whether what belongs to the project, and is not named any more, is deleted.
    #[serde(default)]
    pub prune: bool,
    /// Whether the plan is only made, and nothing changes.
    #[serde(default)]
    pub dry_run: bool,
    /// The tag of a plan: with another plan than that, nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Its functions, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, ManifestFunction>,
    /// Its routes, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, RouteSpec>,
    /// Its schedules, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<String, ScheduleSpec>,
    /// Its queues, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<String, QueueSpec>,
    /// Its flows, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flows: BTreeMap<String, FlowSpec>,
}

/// A function of a manifest.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestFunction {
    /// The digest of its artifact, which `PUT /v1/artifacts/{digest}` has stored, or which a function runs.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub artifact: String,
    /// The owner's description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The semantic version of a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.2.0")]
    pub version: Option<String>,
    /// Labels of a new revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// All of its settings: one that is left out has its default.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = SettingsView)]
    pub settings: Map<String, Value>,
    /// Its channels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<String, PutChannel>,
}

/// What a manifest changes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The project.
    pub project: String,
    /// The tag of the plan. It is another one as soon as the plan would be another one.
    pub plan: String,
    /// Whether it was applied.
    pub applied: bool,
    /// Its steps: one for each thing that the manifest names, or that is deleted.
    pub steps: Vec<PlanStepView>,
}

/// What becomes of one thing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanStepView {
    /// `create`, `change`, `delete` or `keep`.
    #[schema(value_type = PlanActionWord, example = "change")]
    pub action: String,
    /// `function`, `channel`, `route`, `schedule`, `queue` or `flow`.
    #[schema(value_type = PlanKindWord, example = "function")]
    pub kind: String,
    /// Its name; that of a channel comes after its function's, as in `hello:prod`.
    #[schema(example = "hello")]
    pub name: String,
    /// The members that change, of a thing that does. Members of the environment are named each, without their
    /// values. `project` is the project that it belonged to, and now belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PlanChangeView>,
    /// The revision that was made; none if nothing was applied, or none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
}

/// A member that changes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanChangeView {
    /// Where it is in the thing: names with dots between them.
    #[schema(example = "settings.timeout_ms")]
    pub path: String,
    /// What it was; null if it was not set.
    pub from: Option<Value>,
    /// What it becomes; null if it is not set.
    pub to: Option<Value>,
}

/// A mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MistakeView {
    /// Where it is: names with dots between them, and places in lists in brackets. Empty if it is the whole
    /// document.
    #[schema(example = "functions.hello.settings.timeout_ms")]
    pub path: String,
    /// What is wrong there.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_is_written() {
        let document = json!({
            "project": "shop", "prune": true, "dry_run": false, "plan": "x",
            "functions": {"hello": {
                "artifact": "sha256:00", "version": "1.2.0", "labels": {"commit": "4be1f0c"},
                "settings": {"timeout_ms": 5, "environment": {"A": "1"}},
                "channels": {"prod": {"range": "~1.2"}},
            }},
            "queues": {"orders": {"function": "hello", "path": "/", "batch_size": 1, "concurrency": 8,
                "visibility_ms": 30_000, "attempts": 3, "max_age_s": 345_600,
                "dead_retention_s": 1_209_600, "paused": false}},
        });
        let manifest: Manifest = from_value(document.clone()).unwrap();
        assert_eq!(to_value(&manifest).unwrap(), document);
    }

    #[test]
    fn a_manifest_has_no_other_members() {
        for document in [
            json!({"project": "shop", "function": {}}),
            json!({"project": "shop", "functions": {"a": {"artifact": "x", "cpu_ms": 1}}}),
            json!({"project": "shop", "functions": {"a": {"artifact": "x", "settings": []}}}),
            json!({"project": "shop", "routes": {"a": {"path": "/", "to": "x"}}}),
            json!({"functions": {}}),
        ] {
            assert!(from_value::<Manifest>(document.clone()).is_err(), "{document}");
        }
    }
}
