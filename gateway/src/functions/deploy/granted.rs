//! Checks of what settings give to guests besides WASI.

use runtime_pool::{NeededGrant, needed_grant};
use store::{ConfigSetting, Settings, StoreGrantSetting, Ungranted};

use crate::functions::{deploy::error::DeployError, name::is_name};

/// Stores that one function may open. Arbitrary, large enough.
const GRANTS: usize = 64;
/// Bytes of a label. Arbitrary, large enough.
const LABEL_BYTES: usize = 64;
/// Bytes that each key may begin with. They count as a part of the key.
const PREFIX_BYTES: usize = 256;
/// Values of one configuration, and bytes of a name. Arbitrary, large enough.
const CONFIG: usize = 256;
const CONFIG_NAME_BYTES: usize = 128;

/// Whether a store is there is looked at when the artifact is deployed, and again when a guest opens it.
pub(super) fn check_granted(settings: &Settings) -> Result<(), DeployError> {
    let wrong = check_stores(settings).err().or_else(|| check_config(settings).err());
    wrong.map_or(Ok(()), |wrong| Err(DeployError::Settings(wrong)))
}

/// Refuses an artifact that imports what its settings do not grant: every call would be denied. All such
/// imports are named at once, each with the line that grants it.
pub(super) fn check_imports(imports: &[String], settings: &Settings) -> Result<(), DeployError> {
    if settings.ungranted == Some(Ungranted::Deny) || !settings.grants.is_empty() {
        return Ok(());
    }
    let needs_store = |name: &&String| needed_grant(name) == Some(NeededGrant::KeyValue);
    let missing: Vec<String> = imports
        .iter()
        .filter(needs_store)
        .map(|name| format!("{name}: grants.keyvalue.default = \"STORE\""))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(DeployError::MissingGrant(missing.join("; "))) }
}

fn check_stores(settings: &Settings) -> Result<(), String> {
    let stores = &settings.grants.keyvalue;
    if stores.len() > GRANTS {
        return Err(format!("grants.keyvalue: at most {GRANTS} are allowed"));
    }
    for (label, grant) in stores {
        if label != "*" && !is_label(label) {
            return Err(format!(
                "grants.keyvalue: {label:?} is not a label: it is `*`, or has 1 to {LABEL_BYTES} of \
                 A-Z, a-z, 0-9, `.`, `_` and `-`, and does not begin with a dot"
            ));
        }
        if !is_name(grant.store()) {
            return Err(format!("grants.keyvalue.{label}: must be the name of a store"));
        }
        if let StoreGrantSetting::Part(part) = grant
            && part.prefix.len() > PREFIX_BYTES
        {
            return Err(format!(
                "grants.keyvalue.{label}: prefix has {} bytes, at most {PREFIX_BYTES} are allowed",
                part.prefix.len()
            ));
        }
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LABEL_BYTES).contains(&label.len())
        && !label.starts_with('.')
        && label.bytes().all(allowed)
}

fn check_config(settings: &Settings) -> Result<(), String> {
    if settings.config.len() > CONFIG {
        return Err(format!("config: at most {CONFIG} values are allowed"));
    }
    for (name, value) in &settings.config {
        if !is_config_name(name) {
            return Err(format!(
                "config: {name:?} is not valid as a name: it has 1 to {CONFIG_NAME_BYTES} of A-Z, a-z, \
                 0-9, `.`, `_` and `-`, and begins with a letter or `_`"
            ));
        }
        match value {
            ConfigSetting::Text(_) => {}
            ConfigSetting::Secret(secret) if is_name(&secret.secret) => {}
            ConfigSetting::Secret(_) => {
                return Err(format!("config.{name}: secret must be the name of a secret"));
            }
        }
    }
    Ok(())
}

fn is_config_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= CONFIG_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_granted_is_refused_with_its_setting() {
        let check = |settings| {
            let settings = serde_json::from_value(settings).unwrap();
            match check_granted(&settings) {
                Ok(()) => String::new(),
                Err(DeployError::Settings(wrong)) => wrong,
                Err(other) => panic!("{other}"),
            }
        };
        let config = json!({"a.b-c_D": "x", "_": {"secret": "s", "environment": true}});
        let stores = json!({"*": "all", "a": {"store": "b", "access": "write", "prefix": "ä/"}});
        assert_eq!(check(json!({"grants": {"keyvalue": stores}, "config": config})), "");
        for (settings, says) in [
            (json!({"grants": {"keyvalue": {"": "a"}}}), "\"\" is not a label"),
            (json!({"grants": {"keyvalue": {"..": "a"}}}), "is not a label"),
            (json!({"grants": {"keyvalue": {"a/b": "a"}}}), "is not a label"),
            (json!({"grants": {"keyvalue": {"a": "A"}}}), "grants.keyvalue.a: must be the name"),
            (
                json!({"grants": {"keyvalue": {"a": {"store": "b", "prefix": "p".repeat(257)}}}}),
                "prefix has 257 bytes",
            ),
            (json!({"config": {"": "a"}}), "is not valid as a name"),
            (json!({"config": {"1": "a"}}), "is not valid as a name"),
            (json!({"config": {"a": {"secret": "No"}}}), "config.a: secret must be the name"),
        ] {
            let wrong = check(settings);
            assert!(wrong.contains(says), "{wrong}");
        }
    }
}
