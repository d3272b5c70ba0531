//! What the settings of a function give to its guests besides WASI.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// The stores that guests may open, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantSettings {
    /// Those of keys and values, by the label that guests open.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keyvalue: BTreeMap<String, StoreGrantSetting>,
}

/// A store that guests may open: its name, or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoreGrantSetting {
    /// The store of this name, to read and write.
    Store(String),
    /// A part of a store, or one way of access.
    Part(StorePart),
}

/// A part of a store, or one way of access to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorePart {
    /// The name of the store.
    pub store: String,
    /// What guests may do there. `None` stands for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
    /// The beginning of each key, which guests do not see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// What guests may do in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreAccess {
    /// Read only.
    Read,
    /// Write only.
    Write,
    /// Both.
    ReadWrite,
}

/// A value of a function's configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConfigSetting {
    /// This text.
    Text(String),
    /// The value of a secret.
    Secret(SecretSetting),
}

/// A secret that guests can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSetting {
    /// Its name.
    pub secret: String,
    /// Whether it is an environment variable, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<bool>,
}

/// What becomes of an artifact that imports what no setting grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ungranted {
    /// It is not deployed.
    #[default]
    Refuse,
    /// It is deployed, and its calls are denied.
    Deny,
}

impl GrantSettings {
    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keyvalue.is_empty()
    }
}

impl StoreGrantSetting {
    /// The name of the store.
    #[must_use]
    pub fn store(&self) -> &str {
        match self {
            Self::Store(name) => name,
            Self::Part(part) => &part.store,
        }
    }

    /// What guests may do there.
    #[must_use]
    pub fn access(&self) -> StoreAccess {
        match self {
            Self::Store(_) => StoreAccess::ReadWrite,
            Self::Part(part) => part.access.unwrap_or(StoreAccess::ReadWrite),
        }
    }

    /// The beginning of each key.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::Store(_) => "",
            Self::Part(part) => &part.prefix,
        }
    }
}

/// Shows the name of a secret, and no text: it may be a password.
impl fmt::Debug for ConfigSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_name_or_a_part_of_a_store() {
        let json =
            r#"{"keyvalue":{"a":"carts","b":{"store":"all","access":"read","prefix":"b/"}}}"#;
        let grants: GrantSettings = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&grants).unwrap(), json);
        let seen: Vec<_> = grants
            .keyvalue
            .values()
            .map(|grant| (grant.store(), grant.access(), grant.prefix()))
            .collect();
        let (whole, part) = (StoreAccess::ReadWrite, StoreAccess::Read);
        assert_eq!(seen, [("carts", whole, ""), ("all", part, "b/")]);
        for wrong in [
            r#"{"sql":{}}"#,
            r#"{"keyvalue":{"a":1}}"#,
            r#"{"keyvalue":{"a":{"store":"s","acces":"read"}}}"#,
        ] {
            assert!(serde_json::from_str::<GrantSettings>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_is_a_text_or_a_secret_and_debug_output_shows_no_text() {
        let json = r#"{"a":"hunter2","b":{"secret":"upstream","environment":true}}"#;
        let config: BTreeMap<String, ConfigSetting> = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("upstream"), "{shown}");
    }
}
