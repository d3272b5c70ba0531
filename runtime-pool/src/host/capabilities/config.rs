//! The configuration that guests read: values of their function's settings, and secrets.

use super::{grants::ConfigValue, invocation::CapabilitiesView};

/// The kind of these operations, in metrics.
const CONFIG: &str = "config";

impl CapabilitiesView<'_> {
    /// The value with this name. An error says why it cannot be read.
    pub(super) fn config_value(&self, name: &str) -> Result<Option<String>, String> {
        let Some(capabilities) = &self.capabilities else { return Ok(None) };
        let function = &capabilities.function;
        let value = match function.grants.config.get(name) {
            None => Ok(None),
            Some(ConfigValue::Plain(text)) => Ok(Some(text.to_string())),
            Some(ConfigValue::Secret { name, .. }) => function.secret(name).map(Some),
        };
        function.count_as(CONFIG, "get", if value.is_ok() { "ok" } else { "refused" });
        value
    }

    /// All values: those of secrets only if the settings say so. A guest that writes all of them
    /// somewhere is not to write its passwords there.
    pub(super) fn config_values(&self) -> Result<Vec<(String, String)>, String> {
        let Some(capabilities) = &self.capabilities else { return Ok(Vec::new()) };
        let function = &capabilities.function;
        let mut values = Vec::new();
        for (name, value) in &function.grants.config {
            let value = match value {
                ConfigValue::Plain(text) => text.to_string(),
                ConfigValue::Secret { name, .. } if function.grants.config_lists_secrets => {
                    match function.secret(name) {
                        Ok(value) => value,
                        Err(error) => {
                            function.count_as(CONFIG, "get-all", "refused");
                            return Err(error);
                        }
                    }
                }
                ConfigValue::Secret { .. } => continue,
            };
            values.push((name.to_string(), value));
        }
        function.count_as(CONFIG, "get-all", "ok");
        Ok(values)
    }
}
