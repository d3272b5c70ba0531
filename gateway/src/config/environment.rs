//! The layer of environment variables.
//!
//! A key's variable joins its parts with two underscores: `MAYFLY__LIMITS__CPU_MS`. The form with
//! one, `MAYFLY_LIMITS_CPU_MS`, is understood as well. Kubernetes and Docker make variables of that
//! form for a service called `mayfly` or `mayfly-…`; those are recognised by their shape and
//! ignored. Every other name that begins like ours is a misspelt setting.

use std::collections::BTreeMap;

use super::{Config, ConfigError, SettingOrigin, layers::LayeredSettings, nearest::nearest};

/// The prefix of all our variables.
const PREFIX: &str = "MAYFLY_";
/// The alternative prefix, which orchestrators never generate for variables of their own.
const CLEAR_PREFIX: &str = "MAYFLY__";

/// Variables of the command line's client commands and of build scripts.
const NOT_SETTINGS: &[&str] = &[
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
                    origin: SettingOrigin::Variable { name },
                    reason: "must be UTF-8".to_owned(),
                }),
            })
            .collect()
    }
}

impl LayeredSettings {
    pub(super) fn overlay_environment(
        &mut self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let keys: BTreeMap<String, String> = self
            .iter()
            .flat_map(|(key, _)| variables(key).map(|variable| (variable, key.to_owned())))
            .collect();
        // Sorted, so that of two mistakes the same one is always reported.
        let ours: BTreeMap<String, String> =
            environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        for (name, text) in &ours {
            let origin = SettingOrigin::Variable { name: name.clone() };
            if let Some(key) = keys.get(name) {
                self.set(key, text, origin)?;
            } else if !NOT_SETTINGS.contains(&name.as_str()) && !is_of_a_service(name, text) {
                return Err(misspelt(name, keys.keys().map(String::as_str)));
            }
        }
        self.refuse_two_values(&ours)
    }

    /// A setting that both of its variables set must have the same value in both.
    fn refuse_two_values(&self, ours: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (key, _) in self.iter() {
            let [clear, short] = variables(key);
            if let (Some(one), Some(other)) = (ours.get(&clear), ours.get(&short))
                && self.read_text(key, one) != self.read_text(key, other)
            {
                let reason = format!("{short} gives {key} another value; set one of the two");
                return Err(ConfigError::Syntax {
                    origin: SettingOrigin::Variable { name: clear },
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// The two variables of `key`, the clear one first.
fn variables(key: &str) -> [String; 2] {
    let variable =
        |prefix, joint| format!("{prefix}{}", key.replace('.', joint).to_ascii_uppercase());
    [variable(CLEAR_PREFIX, "__"), variable(PREFIX, "_")]
}

fn misspelt<'a>(name: &str, settings: impl Iterator<Item = &'a str>) -> ConfigError {
    let clear = name.starts_with(CLEAR_PREFIX);
    // A suggestion in the form of the mistake.
    let settings = settings.filter(|known| known.starts_with(CLEAR_PREFIX) == clear);
    let nearest = nearest(name, settings.chain(NOT_SETTINGS.iter().copied()));
    let origin = SettingOrigin::Variable { name: "environment".to_owned() };
    ConfigError::Unknown { origin, key: name.to_owned(), nearest }
}

/// Whether Kubernetes or Docker makes such a variable for a service whose name begins with
/// `mayfly`. They put the addresses of services into the environment of every container.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !name.chars().all(is_upper) {
        return false;
    }
    let host = name.ends_with("_SERVICE_HOST");
    // With the name of a port, if the service's ports have names.
    let port = name.ends_with("_SERVICE_PORT")
        || name.split_once("_SERVICE_PORT_").is_some_and(|(_, port)| !port.is_empty());
    // A person may set `MAYFLY_PORT=8080` in place of `listen`. An orchestrator's value is a URL.
    let url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    host || port || is_of_a_port(name) || (name.ends_with("_PORT") && url)
}

/// Whether `name` ends like `_PORT_8080_TCP`, or like that with `_ADDR`, `_PORT` or `_PROTO`.
fn is_of_a_port(name: &str) -> bool {
    let part = ["_ADDR", "_PORT", "_PROTO"].iter().find_map(|end| name.strip_suffix(end));
    let protocols = ["_TCP", "_UDP", "_SCTP"];
    let port = protocols.iter().find_map(|end| part.unwrap_or(name).strip_suffix(end));
    let number = port.and_then(|port| port.rsplit_once("_PORT_")).map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<LayeredSettings, ConfigError> {
        let mut settings = LayeredSettings::defaults();
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.overlay_environment(pairs)?;
        Ok(settings)
    }

    fn message(outcome: Result<LayeredSettings, ConfigError>) -> String {
        outcome.map_or_else(|error| error.to_string(), |_| "none".to_owned())
    }

    #[test]
    fn a_setting_has_a_variable_with_two_underscores_and_one_with_single_ones() {
        for (name, key, value) in [
            ("MAYFLY__LISTEN", "listen", "127.0.0.1:1"),
            ("MAYFLY_LISTEN", "listen", "127.0.0.1:1"),
            ("MAYFLY__LIMITS__CPU_MS", "limits.cpu_ms", "7"),
            ("MAYFLY_LIMITS_CPU_MS", "limits.cpu_ms", "7"),
            ("MAYFLY__SERVER__TLS_CERT", "server.tls_cert", "cert.pem"),
        ] {
            let settings = environment(&[(name, value)]).unwrap();
            let setting = settings.get(key);
            assert_eq!(setting.value.to_string().trim_matches('"'), value, "{name}");
            assert_eq!(setting.origin, SettingOrigin::Variable { name: name.to_owned() });
        }
    }

    #[test]
    fn both_variables_of_a_setting_must_agree() {
        let both = |long, short| {
            let pairs =
                [("MAYFLY__LIMITS__MEMORY_BYTES", long), ("MAYFLY_LIMITS_MEMORY_BYTES", short)];
            message(environment(&pairs))
        };
        assert_eq!(both("64MiB", "67108864"), "none");
        assert_eq!(
            both("64MiB", "65MiB"),
            "MAYFLY__LIMITS__MEMORY_BYTES: MAYFLY_LIMITS_MEMORY_BYTES gives limits.memory_bytes \
             another value; set one of the two"
        );
        let listen = [("MAYFLY__LISTEN", "127.0.0.1:1"), ("MAYFLY_LISTEN", "127.0.0.1:2")];
        assert!(message(environment(&listen)).contains("MAYFLY_LISTEN gives listen another"));
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_nearest_known_one() {
        for (name, nearest) in [
            ("MAYFLY_LIMITS_CPU", Some("MAYFLY_LIMITS_CPU_MS")),
            ("MAYFLY__LIMITS__CPU", Some("MAYFLY__LIMITS__CPU_MS")),
            ("MAYFLY__LIMIT__CPU_MS", Some("MAYFLY__LIMITS__CPU_MS")),
            ("MAYFLY_LIMITS__CPU_MS", Some("MAYFLY_LIMITS_CPU_MS")),
            ("MAYFLY__LISTEM", Some("MAYFLY__LISTEN")),
            ("MAYFLY__CONFIG", Some("MAYFLY_CONFIG")),
            ("MAYFLY_TOKEM", Some("MAYFLY_TOKEN")),
            ("MAYFLY_COLOURS_OF_THE_SKY", None),
            ("MAYFLY__", None),
        ] {
            let suggestion = nearest.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            assert_eq!(
                message(environment(&[(name, "1"), ("PATH", "/bin")])),
                format!("environment: unknown setting `{name}`{suggestion}")
            );
        }
    }

    #[test]
    fn variables_that_an_orchestrator_makes_for_services_are_ignored() {
        for (name, value) in [
            ("MAYFLY_SERVICE_HOST", "10.0.0.1"),
            ("MAYFLY_SERVICE_PORT", "8080"),
            ("MAYFLY_SERVICE_PORT_HTTP", "8080"),
            ("MAYFLY_SERVICE_PORT_DATA_PLANE", "8080"),
            ("MAYFLY_PORT", "tcp://10.0.0.1:8080"),
            ("MAYFLY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("MAYFLY_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("MAYFLY_PORT_8080_TCP_PORT", "8080"),
            ("MAYFLY_PORT_8080_TCP_PROTO", "tcp"),
            ("MAYFLY_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("MAYFLY_PORT_5000_SCTP_ADDR", "10.0.0.1"),
            ("MAYFLY_ADMIN_SERVICE_HOST", "fd00::1"),
            ("MAYFLY_ADMIN_SERVICE_PORT_HTTPS", "9090"),
            ("MAYFLY_ADMIN_PORT", "tcp://[fd00::1]:9090"),
            ("MAYFLY_ADMIN_PORT_9090_TCP_ADDR", "fd00::1"),
            ("MAYFLY_DATA_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            // A service called `mayfly-port-2`, and those whose names begin like a setting.
            ("MAYFLY_PORT_2_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("MAYFLY_LISTEN_SERVICE_HOST", "10.0.0.1"),
            ("MAYFLY_LISTEN_PORT", "tcp://10.0.0.1:80"),
            ("MAYFLY_LIMITS_CPU_MS_SERVICE_PORT", "80"),
        ] {
            assert_eq!(message(environment(&[(name, value)])), "none", "{name}");
        }
    }

    #[test]
    fn what_only_resembles_a_variable_of_a_service_is_a_misspelt_setting() {
        for (name, value) in [
            // Set by a person in place of `listen` or `admin_listen`.
            ("MAYFLY_PORT", "8080"),
            ("MAYFLY_ADMIN_PORT", "9090"),
            ("MAYFLY_LISTEN_PORT", "8080"),
            ("MAYFLY_SERVICE_HOSTS", "10.0.0.1"),
            ("MAYFLY_SERVICE_PORT_", "80"),
            ("MAYFLY_PORT_HTTP_TCP", "80"),
            ("MAYFLY_PORT_8080", "80"),
            ("MAYFLY_PORT_8080_QUIC", "80"),
            ("MAYFLY_PORT_8080_TCP_NAME", "80"),
            ("MAYFLY_HOST", "10.0.0.1"),
            ("MAYFLY_listen_SERVICE_HOST", "10.0.0.1"),
        ] {
            let message = message(environment(&[(name, value)]));
            assert!(
                message.starts_with(&format!("environment: unknown setting `{name}`")),
                "{name}"
            );
        }
    }

    #[test]
    fn variables_of_client_commands_and_build_scripts_are_no_settings() {
        let pairs: Vec<(&str, &str)> = NOT_SETTINGS.iter().map(|name| (*name, "x")).collect();
        assert_eq!(message(environment(&pairs)), "none");
    }

    #[test]
    fn no_two_settings_share_a_variable_and_none_looks_like_one_of_a_service() {
        let settings = LayeredSettings::defaults();
        let names: Vec<String> = settings.iter().flat_map(|(key, _)| variables(key)).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 2 * settings.iter().count());
        for name in &names {
            assert!(!NOT_SETTINGS.contains(&name.as_str()), "{name}");
            assert!(!is_of_a_service(name, "tcp://10.0.0.1:80"), "{name}");
        }
    }
}
