//! Patches of a function's settings, and the checks of the result against the operator's ceilings.

use std::collections::BTreeMap;

use gateway_api::{FunctionLimit, LIMITS, OTHER_SETTINGS};
use runtime_pool::Grant;
use serde_json::Value;
use store::{ActiveFunction, IsolationMode, Settings, SnapshotMode};

use crate::{
    config::nearest::nearest,
    functions::{
        background::is_address,
        catalog::settings_bytes,
        channels::overlay::merge,
        deploy::{error::DeployError, granted::check_granted, state::DeployState},
        files::check_mount,
        grants::credential,
        name::is_name,
        schedule::WarmSchedule,
    },
};

/// Entries of `outbound`. Arbitrary, large enough.
const OUTBOUND: usize = 64;
/// Bytes of an entry of `outbound`: the longest host name, and room for methods, scheme and port.
const OUTBOUND_BYTES: usize = 320;
/// Credentials of one function. Arbitrary, large enough.
const CREDENTIALS: usize = 64;
/// Fixed arguments of one program, and their bytes together. Arbitrary, large enough.
const ARGUMENTS: usize = 64;
const ARGUMENTS_BYTES: usize = 16 << 10;
/// Bytes of the address of a callback. Arbitrary, large enough.
const CALLBACK_BYTES: usize = 2 << 10;
/// Bytes of the name of the export that is called before a snapshot. Arbitrary, large enough.
const START_FUNCTION_BYTES: usize = 128;

impl DeployState {
    /// The settings of the next revision: those of the active one, changed by `patch`.
    pub(crate) fn patched(
        &self,
        before: Option<&ActiveFunction>,
        patch: Option<Value>,
    ) -> Result<Settings, DeployError> {
        let before = before.map(|active| active.revision.settings.clone()).unwrap_or_default();
        let Some(patch) = patch else { return Ok(before) };
        let before_bytes = settings_bytes(&before);
        let invalid = |error: serde_json::Error| DeployError::Settings(error.to_string());
        let mut value = serde_json::to_value(before).map_err(invalid)?;
        merge(&mut value, patch);
        // A patch that is null resets all settings.
        let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
        let settings = self.read_settings(value)?;
        self.check_all_bytes(before_bytes, settings_bytes(&settings))?;
        Ok(settings)
    }

    /// Reads settings, and checks them by themselves.
    pub(super) fn read_settings(&self, settings: Value) -> Result<Settings, DeployError> {
        check_names(&settings)?;
        let settings: Settings = serde_json::from_value(settings)
            .map_err(|error| DeployError::Settings(error.to_string()))?;
        self.check(&settings)?;
        self.check_own_bytes(&settings)?;
        Ok(settings)
    }

    pub(super) fn check(&self, settings: &Settings) -> Result<(), DeployError> {
        let bounds = self.catalog.bounds();
        let ceilings = &bounds.ceilings;
        for row in LIMITS {
            let (least, most) = (u64::from(!row.may_be_zero), ceilings[row.limit]);
            if settings.limit(row.key).is_some_and(|value| !(least..=most).contains(&value)) {
                return Err(DeployError::Settings(format!(
                    "{key} must be from {least} to {most} (the operator's setting ceilings.{key})",
                    key = row.key
                )));
            }
        }
        self.check_warm(settings)?;
        self.check_environment(settings)?;
        check_arguments(settings)?;
        check_snapshot(settings)?;
        check_files(settings)?;
        check_callbacks(settings)?;
        check_granted(settings)?;
        if settings.outbound.len() > OUTBOUND {
            return Err(DeployError::Settings(format!(
                "outbound: at most {OUTBOUND} entries are allowed"
            )));
        }
        for host in &settings.outbound {
            if host.len() > OUTBOUND_BYTES {
                return Err(DeployError::Settings(format!(
                    "outbound: an entry has {} bytes, the limit is {OUTBOUND_BYTES}",
                    host.len()
                )));
            }
            host.parse::<Grant>()
                .map_err(|error| DeployError::Settings(format!("outbound: {error}")))?;
        }
        if settings.credentials.len() > CREDENTIALS {
            return Err(DeployError::Settings(format!(
                "credentials: at most {CREDENTIALS} are allowed"
            )));
        }
        for setting in &settings.credentials {
            credential(setting)
                .map_err(|error| DeployError::Settings(format!("credentials: {error}")))?;
        }
        Ok(())
    }

    /// Checks the quota of the settings of one function.
    pub(super) fn check_own_bytes(&self, settings: &Settings) -> Result<(), DeployError> {
        let most = self.quotas.load().settings_bytes;
        let environment = BTreeMap::new();
        // The environment has a limit of its own.
        let others = settings_bytes(&Settings { environment, ..settings.clone() });
        if others > most as u64 {
            return Err(DeployError::Settings(format!(
                "the settings have {others} bytes as JSON, without the environment; the limit is \
                 {most} (the operator's setting quotas.settings_bytes)"
            )));
        }
        Ok(())
    }

    /// Checks the quota of the settings of all functions, which are kept in memory, when those of one
    /// go from `before` bytes to `after`.
    pub(super) fn check_all_bytes(&self, before: u64, after: u64) -> Result<(), DeployError> {
        let all = self.catalog.settings_bytes().saturating_sub(before) + after;
        let max_bytes = self.quotas.load().all_settings_bytes;
        match after > before && all > max_bytes {
            true => Err(DeployError::SettingsQuota { max_bytes }),
            false => Ok(()),
        }
    }

    fn check_warm(&self, settings: &Settings) -> Result<(), DeployError> {
        WarmSchedule::new(settings).map_err(DeployError::Settings)?;
        let most = self.catalog.bounds().ceilings[FunctionLimit::MinWarm];
        if settings.schedule.iter().any(|window| window.min_warm > most) {
            return Err(DeployError::Settings(format!(
                "schedule: min_warm must be at most {most} (the operator's setting \
                 ceilings.min_warm)"
            )));
        }
        let Some(isolation) = &settings.isolation else { return Ok(()) };
        let numbers = [
            ("max_uses", isolation.max_uses),
            ("max_concurrent", isolation.max_concurrent),
            ("idle_ms", isolation.idle_ms),
        ];
        for (name, value) in numbers {
            if value == Some(0) {
                return Err(DeployError::Settings(format!("isolation: {name} must be at least 1")));
            }
            if value.is_some() && isolation.mode == IsolationMode::Request {
                return Err(DeployError::Settings(format!(
                    "isolation: {name} applies to the mode `reuse` only"
                )));
            }
        }
        Ok(())
    }

    fn check_environment(&self, settings: &Settings) -> Result<(), DeployError> {
        let mut bytes = 0;
        for (name, value) in &settings.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(DeployError::Settings(format!(
                    "environment: {name:?} is not valid as the name of a variable, or its value \
                     contains a zero byte"
                )));
            }
            bytes += name.len() + value.len();
        }
        let most = self.catalog.limits(settings).size(FunctionLimit::EnvironmentBytes);
        if bytes > most {
            let ceiling = self.catalog.bounds().ceilings[FunctionLimit::EnvironmentBytes];
            return Err(DeployError::Settings(format!(
                "environment: names and values have {bytes} bytes, the limit is {most} (the \
                 function's setting environment_bytes; its ceiling is {ceiling}, the operator's \
                 setting ceilings.environment_bytes)"
            )));
        }
        Ok(())
    }
}

/// Refuses a misspelt name: the store itself accepts limits of any name.
fn check_names(settings: &Value) -> Result<(), DeployError> {
    let names = settings.as_object().into_iter().flat_map(serde_json::Map::keys);
    let known = || LIMITS.iter().map(|row| row.key).chain(OTHER_SETTINGS.iter().copied());
    for name in names {
        if !known().any(|known| known == name) {
            let suggestion = nearest(name, known());
            let suggestion = suggestion.map(|near| format!("; did you mean `{near}`?"));
            let suggestion = suggestion.unwrap_or_default();
            return Err(DeployError::Settings(format!("unknown setting `{name}`{suggestion}")));
        }
    }
    Ok(())
}

fn check_arguments(settings: &Settings) -> Result<(), DeployError> {
    let arguments = &settings.arguments;
    let bytes: usize = arguments.iter().map(String::len).sum();
    let wrong = if arguments.len() > ARGUMENTS {
        format!("at most {ARGUMENTS} are allowed")
    } else if bytes > ARGUMENTS_BYTES {
        format!("they have {bytes} bytes, at most {ARGUMENTS_BYTES} are allowed")
    } else if arguments.iter().any(|argument| argument.contains('\0')) {
        "an argument cannot contain a zero byte".to_owned()
    } else {
        return Ok(());
    };
    Err(DeployError::Settings(format!("arguments: {wrong}")))
}

/// Restricts the name of the export: the compile worker gets it on its command line.
fn check_snapshot(settings: &Settings) -> Result<(), DeployError> {
    let Some(SnapshotMode::After(function)) = &settings.snapshot else { return Ok(()) };
    let wrong = if function.is_empty() || function.len() > START_FUNCTION_BYTES {
        format!("must be true, false, or a name of 1 to {START_FUNCTION_BYTES} bytes")
    } else if function.contains(char::is_control) {
        "must be true, false, or a name without control characters".to_owned()
    } else if function == "_start" {
        "cannot be `_start`, the export that every request runs".to_owned()
    } else {
        return Ok(());
    };
    Err(DeployError::Settings(format!("snapshot: {wrong}")))
}

/// Whether the tree is stored is looked at before the artifact is tried.
fn check_files(settings: &Settings) -> Result<(), DeployError> {
    let at = settings.files.as_ref().and_then(|files| files.at.as_deref());
    at.map_or(Ok(()), |at| check_mount(at).map_err(DeployError::Settings))
}

/// The functions and the secret that are named need not be there yet. An address is looked at again at
/// each callback.
fn check_callbacks(settings: &Settings) -> Result<(), DeployError> {
    let Settings { on_success, on_failure, callback_secret, .. } = settings;
    let wrong = |key: &str, why: &str| Err(DeployError::Settings(format!("{key}: {why}")));
    for (key, told) in [("on_success", on_success), ("on_failure", on_failure)] {
        let Some(told) = told.as_deref().filter(|told| !is_name(told)) else { continue };
        let uri = told.parse::<http::Uri>();
        if !is_address(told) || told.len() > CALLBACK_BYTES || uri.is_err() {
            let why = "must be the name of a function, or an https:// or http:// address";
            return wrong(key, why);
        }
        if told.contains('@') {
            return wrong(key, "an address with a user or a password is not allowed");
        }
        if callback_secret.is_none() {
            return wrong(key, "an address needs `callback_secret`, which signs what it is told");
        }
    }
    if callback_secret.as_deref().is_some_and(|name| !is_name(name)) {
        return wrong("callback_secret", "must be the name of a secret");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_setting_is_refused_with_the_nearest_one() {
        assert!(check_names(&json!({"cpu_ms": 1, "outbound": [], "snapshot": true})).is_ok());
        for (settings, expected) in [
            (json!({"cpu_m": 1}), "unknown setting `cpu_m`; did you mean `cpu_ms`?"),
            (json!({"outbounds": []}), "unknown setting `outbounds`; did you mean `outbound`?"),
            (json!({"colour": "red"}), "unknown setting `colour`"),
        ] {
            let Err(DeployError::Settings(text)) = check_names(&settings) else { panic!() };
            assert_eq!(text, expected);
        }
    }
}
