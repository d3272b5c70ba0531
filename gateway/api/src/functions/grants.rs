//! What the settings of a function give to its guests besides WASI.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::AccessWord;

/// The stores that guests may open, by kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantsView {
    /// Those of keys and values, by the label that guests open. `*` stands for every other label, which
    /// is then the beginning of each key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({"default": "carts"}))]
    pub keyvalue: BTreeMap<String, StoreGrantView>,
}

impl GrantsView {
    pub(super) fn is_empty(&self) -> bool {
        self.keyvalue.is_empty()
    }
}

/// A store that guests may open: its name, to read and write all of it; or more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum StoreGrantView {
    /// The name of a store.
    Store(String),
    /// A part of a store, or one way of access.
    Part(StorePartView),
}

/// A part of a store, or one way of access to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StorePartView {
    /// The name of the store.
    #[schema(example = "carts")]
    pub store: String,
    /// `read`, `write`, or `read-write`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AccessWord>, example = "read")]
    pub access: Option<String>,
    /// The beginning of each key, which guests do not see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "shop/")]
    pub prefix: String,
}

/// A value of the configuration: a text, or the name of a secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ConfigView {
    /// This text.
    Text(String),
    /// The value of a secret.
    Secret(ConfigSecretView),
}

/// Shows the name of a secret, and no text: it may be a password.
impl fmt::Debug for ConfigView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

/// A secret that guests can read. It must be allowed for every host.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigSecretView {
    /// Its name.
    #[schema(example = "upstream-token")]
    pub secret: String,
    /// Whether it is an environment variable, too. By default it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<bool>,
}
