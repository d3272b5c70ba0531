//! Settings that a channel has instead of those of its revisions.
//!
//! They are a JSON merge patch (RFC 7396): a member replaces the setting of the same name, null takes it
//! away, and members of an object such as the environment are merged each by themselves.

use gateway_api::LIMITS;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use store::{Overlay, Settings};

use crate::config::nearest::nearest;

/// What a channel may set besides limits. The rest belongs to the code: it is the revision's.
const OTHERS: [&str; 4] = ["environment", "credentials", "grants", "config"];

/// The settings that an owner asks for in a channel, or what is wrong with them.
pub(crate) fn asked(settings: Option<Value>) -> Result<Overlay, String> {
    let settings = match settings {
        None | Some(Value::Null) => return Ok(Overlay::default()),
        Some(Value::Object(settings)) => settings,
        Some(_) => return Err("settings: expected an object".to_owned()),
    };
    let known = || LIMITS.iter().map(|row| row.key).chain(OTHERS);
    for name in settings.keys() {
        if !known().any(|known| known == name) {
            let near = nearest(name, known()).map(|near| format!("; did you mean `{near}`?"));
            return Err(format!(
                "settings: a channel has limits, `environment`, `credentials`, `grants` and `config` of \
                 its own, and not `{name}`{}",
                near.unwrap_or_default()
            ));
        }
    }
    Ok(Overlay(settings))
}

/// The settings of a revision in a channel. An error says why the result is none.
pub(crate) fn merged(own: &Settings, overlay: &Overlay) -> Result<Settings, String> {
    let invalid = |error: serde_json::Error| format!("settings: {error}");
    let mut value = serde_json::to_value(own).map_err(invalid)?;
    merge(&mut value, Value::Object(overlay.0.clone()));
    serde_json::from_value(value).map_err(invalid)
}

/// Tells settings of a channel from others, of the same revision.
pub(crate) fn fingerprint(settings: &Settings) -> u128 {
    let json = serde_json::to_vec(settings).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(json).into();
    let (half, _) = hash.split_at(16);
    // Not 0, which stands for the revision's own.
    u128::from_le_bytes(half.try_into().unwrap_or_default()).max(1)
}

/// Applies a JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_sets_replaces_and_removes() {
        let mut value = json!({"a": 1, "b": {"c": 2, "d": 3}});
        merge(&mut value, json!({"a": null, "b": {"c": 4}, "e": {"f": null, "g": 5}}));
        assert_eq!(value, json!({"b": {"c": 4, "d": 3}, "e": {"g": 5}}));
    }

    fn settings(value: Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_channel_replaces_adds_and_takes_away() {
        let own = settings(json!({
            "cpu_ms": 5, "timeout_ms": 9, "outbound": ["a.example"], "environment": {"A": "1", "B": "2"},
        }));
        let patch = json!({"cpu_ms": 7, "timeout_ms": null, "environment": {"B": null, "C": "3"}});
        let overlay = asked(Some(patch)).unwrap();
        let expected = settings(json!({
            "cpu_ms": 7, "outbound": ["a.example"], "environment": {"A": "1", "C": "3"},
        }));
        let merged = merged(&own, &overlay).unwrap();
        assert_eq!(merged, expected);
        assert_ne!(fingerprint(&merged), fingerprint(&own));
        assert_eq!(fingerprint(&merged), fingerprint(&expected));
    }

    #[test]
    fn what_belongs_to_the_revision_or_has_another_type_is_refused() {
        for (patch, says) in [
            (json!({"outbound": []}), "not `outbound`"),
            (json!({"snapshot": true}), "not `snapshot`"),
            (json!({"cpu_m": 1}), "did you mean `cpu_ms`?"),
            (json!([]), "expected an object"),
        ] {
            let refused = asked(Some(patch)).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
        let wrong = asked(Some(json!({"environment": {"A": 1}}))).unwrap();
        assert!(merged(&Settings::default(), &wrong).unwrap_err().starts_with("settings: "));
        assert!(asked(None).unwrap().is_empty() && asked(Some(Value::Null)).unwrap().is_empty());
    }
}
