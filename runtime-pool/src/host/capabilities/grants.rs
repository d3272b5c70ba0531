//! What a function's settings grant to its guests besides WASI.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// What a function's settings grant to its guests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// The stores of keys and values that they may open.
    pub key_value: Vec<StoreGrant>,
    /// The values of their configuration, by name.
    pub config: BTreeMap<Arc<str>, ConfigValue>,
    /// Whether a list of all values contains those of secrets, too.
    pub config_lists_secrets: bool,
}

/// A store that guests may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreGrant {
    /// What guests call it. `*` stands for every label without a grant of its own; the label is then
    /// the beginning of each key.
    pub label: Arc<str>,
    /// The name of the store.
    pub store: Arc<str>,
    /// What guests may do there.
    pub access: AllowedAccess,
    /// The beginning of each key, which guests do not see.
    pub prefix: Arc<str>,
}

/// What guests may do in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedAccess {
    /// Read only.
    Read,
    /// Write only.
    Write,
    /// Both.
    #[default]
    ReadWrite,
}

/// A value of the configuration.
#[derive(Clone, PartialEq, Eq)]
pub enum ConfigValue {
    /// This text.
    Plain(Arc<str>),
    /// The value of a secret of the function's owner.
    Secret {
        /// Its name.
        name: Arc<str>,
        /// Whether it is an environment variable, too.
        environment: bool,
    },
}

/// Names a secret, but shows no value: owners put passwords there, too.
impl fmt::Debug for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain"),
            Self::Secret { name, .. } => f.debug_tuple("Secret").field(name).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_value() {
        let config = BTreeMap::from([
            (Arc::from("token"), ConfigValue::Plain("hunter2".into())),
            (Arc::from("key"), ConfigValue::Secret { name: "upstream".into(), environment: false }),
        ]);
        let shown = format!("{:?}", Grants { config, ..Grants::default() });
        assert!(!shown.contains("hunter2") && shown.contains("upstream"), "{shown}");
    }
}
