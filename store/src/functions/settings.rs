//! What the owner of a function asked for.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What the owner asked for in a revision. `None` means the platform's default.
///
/// These are wishes: whoever runs the function clamps them to what the platform allows.
/// Stored as JSON, with what is not set left out. A field that is added here comes with
/// a migration, even if that only says so: a program that does not know the field then
/// refuses the database instead of failing on a row.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Linear memory of one instance, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time of one invocation, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Wall time of one invocation, its response's body included, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Invocations that may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Invocations that may wait for one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,
    /// How long an invocation may wait for that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_wait_ms: Option<u64>,
    /// How long the function stays resident without an invocation, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// Body of one response, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// Body of one request, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    /// Names and values of `environment` together, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_bytes: Option<u64>,
    /// Output that is kept of one invocation, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// Instances that wait for calls even if nobody calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_warm: Option<u64>,
    /// Instances that may wait for calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_warm: Option<u64>,
    /// Times of the week when more than `min_warm` wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<WarmWindow>,
    /// What invocations share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationSetting>,
    /// Whether answers say how they came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_timing: Option<bool>,
    /// The guest's environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Whether instances start from an image that is made at the deploy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotMode>,
    /// Hosts that the function may call, such as `api.example.com` or
    /// `*.example.com:8443`. Empty: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// Secrets that are put into its requests on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialSetting>,
}

/// A secret that is put into requests to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSetting {
    /// Which requests, like an entry of `outbound`.
    pub host: String,
    /// The header field that holds it.
    pub header: String,
    /// The secret's name.
    pub secret: String,
    /// What stands before it in the field's value, such as `Bearer `.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// A time of the week, in UTC. One that ends before it begins ends on the day after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmWindow {
    /// The days on which it begins. None stand for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<DayOfWeek>,
    /// When it begins, like `08:30`.
    pub from: String,
    /// When it ends.
    pub to: String,
    /// Instances that wait for calls meanwhile.
    pub min_warm: u64,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the days of the week")]
pub enum DayOfWeek {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// What invocations share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolationSetting {
    /// Whether anything.
    pub mode: IsolationMode,
    /// Calls after which an instance is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u64>,
    /// Calls that an instance may serve at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u64>,
    /// Time without a call after which an instance is dropped, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

/// Whether invocations share an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolationMode {
    /// Each has a fresh one.
    Request,
    /// One after the other may have the same.
    Reuse,
}

/// Whether, and after which function, an image is made at the deploy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SnapshotMode {
    /// Yes, after the function that guests usually export for that; or no.
    Switch(bool),
    /// Yes, after this one.
    After(String),
}

/// Names the environment variables and keeps their values to itself: owners put
/// passwords there.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("memory_bytes", &self.memory_bytes)
            .field("cpu_ms", &self.cpu_ms)
            .field("timeout_ms", &self.timeout_ms)
            .field("concurrency", &self.concurrency)
            .field("queue", &self.queue)
            .field("queue_wait_ms", &self.queue_wait_ms)
            .field("idle_ms", &self.idle_ms)
            .field("response_bytes", &self.response_bytes)
            .field("request_bytes", &self.request_bytes)
            .field("environment_bytes", &self.environment_bytes)
            .field("log_bytes", &self.log_bytes)
            .field("min_warm", &self.min_warm)
            .field("max_warm", &self.max_warm)
            .field("schedule", &self.schedule)
            .field("isolation", &self.isolation)
            .field("server_timing", &self.server_timing)
            .field("environment", &self.environment.keys())
            .field("snapshot", &self.snapshot)
            .field("outbound", &self.outbound)
            .field("credentials", &self.credentials)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_not_written_and_what_is_unknown_is_refused() {
        let timeout = Settings { timeout_ms: Some(500), ..Settings::default() };

        assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), "{}");
        assert_eq!(serde_json::to_string(&timeout).unwrap(), r#"{"timeout_ms":500}"#);
        assert_eq!(serde_json::from_str::<Settings>(r#"{"timeout_ms":500}"#).unwrap(), timeout);
        assert!(serde_json::from_str::<Settings>(r#"{"timeout":500}"#).is_err());
    }

    #[test]
    fn a_snapshot_is_a_switch_or_the_name_of_a_function() {
        for (json, snapshot) in [
            (r#"{"snapshot":true}"#, SnapshotMode::Switch(true)),
            (r#"{"snapshot":"prepare"}"#, SnapshotMode::After("prepare".to_owned())),
        ] {
            let settings = Settings { snapshot: Some(snapshot), ..Settings::default() };
            assert_eq!(serde_json::to_string(&settings).unwrap(), json);
            assert_eq!(serde_json::from_str::<Settings>(json).unwrap(), settings);
        }
        assert!(serde_json::from_str::<Settings>(r#"{"snapshot":1}"#).is_err());
    }

    #[test]
    fn debug_output_names_a_variable_but_not_its_value() {
        let environment = BTreeMap::from([("PASSWORD".to_owned(), "hunter2".to_owned())]);
        let shown = format!("{:?}", Settings { environment, ..Settings::default() });

        assert!(shown.contains("PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }
}
