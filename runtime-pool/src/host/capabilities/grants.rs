//! What a function's settings grant to its guests besides WASI.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The label of a grant for all labels that have none of their own.
const EVERY_LABEL: &str = "*";
/// The label that an empty one stands for.
const DEFAULT_LABEL: &str = "default";

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

impl AllowedAccess {
    /// Whether what an operation needs is allowed.
    pub(super) fn allows(self, needs: Self) -> bool {
        self == Self::ReadWrite || self == needs
    }
}

impl Grants {
    /// The grant for a label, and what each key begins with.
    pub(super) fn key_value(&self, label: &str) -> Option<(&StoreGrant, Arc<str>)> {
        let label = if label.is_empty() { DEFAULT_LABEL } else { label };
        let of = |label: &str| self.key_value.iter().find(|grant| *grant.label == *label);
        if label == EVERY_LABEL {
            return None;
        }
        if let Some(grant) = of(label) {
            return Some((grant, Arc::clone(&grant.prefix)));
        }
        let grant = of(EVERY_LABEL).filter(|_| is_part_of_a_key(label))?;
        Some((grant, format!("{}{label}/", grant.prefix).into()))
    }
}

/// Whether a label can be the beginning of a key: no two labels then begin the same key.
fn is_part_of_a_key(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    label.len() <= 64 && !label.starts_with('.') && label.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(label: &str, prefix: &str) -> StoreGrant {
        let access = AllowedAccess::default();
        StoreGrant { label: label.into(), store: "s".into(), access, prefix: prefix.into() }
    }

    #[test]
    fn a_label_has_its_own_grant_or_that_for_all_labels() {
        let key_value = vec![grant("default", "d/"), grant("*", "all/")];
        let grants = Grants { key_value, ..Grants::default() };
        let prefix = |label| grants.key_value(label).map(|(_, prefix)| prefix.to_string());
        assert_eq!(prefix("").as_deref(), Some("d/"));
        assert_eq!(prefix("default").as_deref(), Some("d/"));
        assert_eq!(prefix("carts").as_deref(), Some("all/carts/"));
        let long = "x".repeat(64 << 10);
        for label in ["*", "..", ".", "a/b", "/", "a\0", "\u{e9}", "../carts", " ", &long] {
            assert_eq!(prefix(label), None, "{label:?}");
        }
        let one = Grants { key_value: vec![grant("a", "")], ..Grants::default() };
        assert!(one.key_value("a").is_some());
        assert!(one.key_value("b").is_none() && one.key_value("").is_none());
    }

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
