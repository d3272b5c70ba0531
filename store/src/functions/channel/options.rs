//! What a channel has besides its revisions.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a channel has besides its revisions. A field that is added here comes with a migration, even if
/// that only says so: a program that does not know the field then refuses the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelOptions {
    /// The settings that it has instead of those of its revisions.
    #[serde(skip_serializing_if = "Overlay::is_empty")]
    pub settings: Overlay,
    /// The header field by which a tester names one of its revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tester_header: Option<String>,
    /// The revision that gets copies of some requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// The requests of a channel that are copied to another revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The number of the revision.
    pub revision: u32,
    /// From 1 to 100.
    pub percent: u8,
    /// Whether requests that may change something are copied, too.
    pub all_methods: bool,
}

impl ChannelOptions {
    /// The same for the history, which does not keep values of settings: they may be secret.
    pub(crate) fn recorded(&self) -> Value {
        let mut recorded = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(members) = &mut recorded
            && members.contains_key("settings")
        {
            members.insert("settings".to_owned(), self.settings.names().into());
        }
        recorded
    }
}

/// Settings of a channel, as a JSON merge patch (RFC 7396) on those of a revision.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay(pub Map<String, Value>);

impl Overlay {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The settings that it names; members of an object such as the environment each by themselves.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.0.iter().flat_map(|(name, value)| match value {
            Value::Object(members) => members.keys().map(|key| format!("{name}.{key}")).collect(),
            _ => vec![name.clone()],
        });
        names.collect()
    }
}

/// Shows names without values, which may be passwords.
impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Overlay").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_history_and_debug_output_name_settings_without_their_values() {
        let settings = json!({"cpu_ms": 5, "environment": {"PASSWORD": "hunter2"}});
        let options: ChannelOptions =
            serde_json::from_value(json!({"settings": settings})).unwrap();
        let names = json!({"settings": ["cpu_ms", "environment.PASSWORD"]});
        assert_eq!(options.recorded(), names);
        assert!(!format!("{options:?}").contains("hunter2"));
        assert_eq!(ChannelOptions::default().recorded(), json!({}));
    }
}
