//! Settings that the owner of a function asked for.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::grants::{ConfigSetting, GrantSettings, Ungranted};
use crate::Digest;

/// The settings of a revision, as its owner asked for them. `None` means the platform's default.
///
/// These are requests: the gateway clamps them to the platform's limits. They are stored as JSON,
/// without the fields that are not set; limits stand beside the other fields. A field that is added
/// here comes with a migration, even if that only says so: a program that does not know the field
/// then refuses the database instead of failing on a row. A limit that a program does not know is
/// read and has no effect.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Limits by their names, such as `cpu_ms`. Which names there are is the gateway's to check.
    #[serde(flatten)]
    pub limits: BTreeMap<String, u64>,
    /// Times of the week when more than `min_warm` wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<WarmWindow>,
    /// Whether invocations share an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationSetting>,
    /// Whether responses have the header `Server-Timing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_timing: Option<bool>,
    /// Environment variables of the guest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The arguments of a CGI program. An empty list stands for those of the convention.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The files that guests can read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSetting>,
    /// Whether a CGI program reads a body of unknown length while it arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_body: Option<bool>,
    /// Whether each revision of the function has an address of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_urls: Option<bool>,
    /// Whether the function has no address of its own, so that only routes, other functions and
    /// triggers reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Whether instances start from a snapshot that the deploy takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotMode>,
    /// Hosts that the function may call, such as `api.example.com` or `*.example.com:8443`. An
    /// empty list allows no host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// Secrets that the gateway puts into the function's requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialSetting>,
    /// The stores that guests may open.
    #[serde(skip_serializing_if = "GrantSettings::is_empty")]
    pub grants: GrantSettings,
    /// The values of the configuration that guests can read, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, ConfigSetting>,
    /// Whether a list of all values of the configuration contains secrets, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_lists_secrets: Option<bool>,
    /// What becomes of an artifact that imports what no setting grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ungranted: Option<Ungranted>,
    /// When calls are enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond_async: Option<RespondAsync>,
    /// The function, or the address, that is told of enqueued calls that have succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// The function, or the address, that is told of enqueued calls that have failed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// The name of the secret that signs what an address is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_secret: Option<String>,
}

impl Settings {
    /// The value asked for of the limit with this name.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<u64> {
        self.limits.get(name).copied()
    }

    /// The names of the stores of keys and values that guests may open. A name may come twice.
    pub fn granted_stores(&self) -> impl Iterator<Item = &str> {
        self.grants.keyvalue.values().map(|grant| grant.store())
    }
}

/// When calls are enqueued, and answered before they run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RespondAsync {
    /// If their clients prefer that.
    #[default]
    Prefer,
    /// In any case.
    Always,
    /// Not at all.
    Never,
}

/// The files that guests can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesSetting {
    /// The tree, by the digest of its list.
    pub tree: Digest,
    /// The directory at which guests see it. `/` if it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A secret that is put into requests to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSetting {
    /// The host, in the form of an entry of `outbound`.
    pub host: String,
    /// The header field that carries the secret.
    pub header: String,
    /// The secret's name.
    pub secret: String,
    /// The text before the secret in the field's value, such as `Bearer `.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// A time of the week, in UTC. A window whose end is before its beginning ends on the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmWindow {
    /// The days on which it begins. An empty list means every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<DayOfWeek>,
    /// When it begins, like `08:30`.
    pub from: String,
    /// When it ends.
    pub to: String,
    /// Warm instances that are kept during the window.
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

/// Whether invocations share an instance, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolationSetting {
    /// Whether an instance serves more than one invocation.
    pub mode: IsolationMode,
    /// Invocations after which an instance is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u64>,
    /// Invocations that an instance may serve at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u64>,
    /// Time without an invocation after which an instance is dropped, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

/// Whether invocations share an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IsolationMode {
    /// Each invocation has an instance of its own.
    Request,
    /// Invocations may use the same instance one after the other.
    Reuse,
}

/// Whether the deploy takes a snapshot, and after which function of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SnapshotMode {
    /// `true` takes it after the function that guests export for this purpose by convention.
    Switch(bool),
    /// Takes it after the function of this name.
    After(String),
}

/// Shows the names of the environment variables without their values, which may be passwords.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("limits", &self.limits)
            .field("schedule", &self.schedule)
            .field("isolation", &self.isolation)
            .field("server_timing", &self.server_timing)
            .field("environment", &self.environment.keys())
            .field("arguments", &self.arguments)
            .field("files", &self.files)
            .field("stream_body", &self.stream_body)
            .field("revision_urls", &self.revision_urls)
            .field("private", &self.private)
            .field("snapshot", &self.snapshot)
            .field("outbound", &self.outbound)
            .field("credentials", &self.credentials)
            .field("grants", &self.grants)
            .field("config", &self.config)
            .field("config_lists_secrets", &self.config_lists_secrets)
            .field("ungranted", &self.ungranted)
            .field("respond_async", &self.respond_async)
            .field("on_success", &self.on_success)
            .field("on_failure", &self.on_failure)
            .field("callback_secret", &self.callback_secret)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_not_written_and_what_is_no_limit_is_refused() {
        let limits = BTreeMap::from([("timeout_ms".to_owned(), 500)]);
        let timeout = Settings { limits, server_timing: Some(true), ..Settings::default() };
        let json = r#"{"timeout_ms":500,"server_timing":true}"#;

        assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), "{}");
        assert_eq!(serde_json::to_string(&timeout).unwrap(), json);
        assert_eq!(serde_json::from_str::<Settings>(json).unwrap(), timeout);
        assert_eq!(timeout.limit("timeout_ms"), Some(500));
        assert!(serde_json::from_str::<Settings>(r#"{"hosts":["a.example"]}"#).is_err());
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
