//! The layer of environment variables.

use std::collections::BTreeMap;

use super::{Config, ConfigError, Origin, layers::Settings, nearest::nearest};

/// What the names of our variables begin with.
const PREFIX: &str = "MAYFLY_";

/// Variables of the command line's client commands and of build scripts.
const FOREIGN: &[&str] = &[
    "MAYFLY_CONFIG",
    "MAYFLY_CA_FILE",
    "MAYFLY_SERVER",
    "MAYFLY_TOKEN",
    "MAYFLY_TOKEN_FILE",
    "MAYFLY_TOOLS",
    "MAYFLY_GUEST_TARGET_DIR",
    "MAYFLY_GUEST_RUST",
    "MAYFLY_GUESTS_BUILT",
];

impl Config {
    /// The variables of this process whose names begin with `MAYFLY_`.
    ///
    /// # Errors
    /// When one of them is not UTF-8.
    pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                // The value stays out of the message: it may be a token.
                Err(_) => Err(ConfigError::Syntax {
                    origin: Origin::Variable { name },
                    reason: "must be UTF-8".to_owned(),
                }),
            })
            .collect()
    }
}

impl Settings {
    pub(super) fn overlay_environment(
        &mut self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let keys: BTreeMap<String, String> =
            self.iter().map(|(key, _)| (variable(key), key.to_owned())).collect();
        // Sorted, so that of two mistakes the same one is always reported.
        let ours: BTreeMap<String, String> =
            environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        for (name, text) in ours {
            if let Some(key) = keys.get(&name) {
                self.set(key, &text, Origin::Variable { name })?;
            } else if !is_foreign(&name) {
                let nearest = nearest(&name, keys.keys().map(String::as_str));
                let origin = Origin::Variable { name: "environment".to_owned() };
                return Err(ConfigError::Unknown { origin, key: name, nearest });
            }
        }
        Ok(())
    }
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Whether a variable with our prefix is somebody else's.
///
/// Kubernetes puts a service's addresses into each container's environment, under the name of
/// the service. One called `mayfly` must not keep the gateway from starting.
fn is_foreign(name: &str) -> bool {
    let port_number =
        || name.split("_PORT_").nth(1).is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    FOREIGN.contains(&name)
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || port_number()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let mut settings = Settings::defaults();
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.overlay_environment(pairs)?;
        Ok(settings)
    }

    fn message(outcome: Result<Settings, ConfigError>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_nearest_known_one() {
        assert_eq!(
            message(environment(&[("MAYFLY_LIMITS_CPU", "1"), ("PATH", "/bin")])),
            "environment: unknown setting `MAYFLY_LIMITS_CPU`; did you mean `MAYFLY_LIMITS_CPU_MS`?"
        );
    }

    #[test]
    fn variables_of_clients_build_scripts_and_kubernetes_are_left_alone() {
        let pairs: Vec<(&str, &str)> = FOREIGN
            .iter()
            .copied()
            .chain([
                "MAYFLY_SERVICE_HOST",
                "MAYFLY_SERVICE_PORT",
                "MAYFLY_SERVICE_PORT_HTTP",
                "MAYFLY_PORT",
                "MAYFLY_PORT_8080_TCP",
                "MAYFLY_PORT_8080_TCP_ADDR",
                "MAYFLY_ADMIN_SERVICE_HOST",
            ])
            .map(|name| (name, "x"))
            .collect();
        environment(&pairs).unwrap();
    }

    #[test]
    fn every_key_has_a_variable_of_its_own_that_is_not_left_alone() {
        let settings = Settings::defaults();
        let names: BTreeSet<String> = settings.iter().map(|(key, _)| variable(key)).collect();
        assert_eq!(names.len(), settings.iter().count());
        assert!(!names.iter().any(|name| is_foreign(name)));
    }
}
