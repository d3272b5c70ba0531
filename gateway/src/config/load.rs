//! Reading the settings: all layers, one over the other, then the check.

use std::{fs, path::Path};

use super::{Config, ConfigError, Flags, bounds, layers::LayeredSettings};

impl Config {
    /// Reads all layers and checks the result.
    ///
    /// The environment is an argument, so that tests share no state. [`Self::environment`] returns
    /// that of the process.
    ///
    /// # Errors
    /// The first error, with its place.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        LayeredSettings::read(file, environment, flags)?.into_config()
    }

    /// The keys of the settings with another value than in `other`.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (LayeredSettings::of_config(self), LayeredSettings::of_config(other));
        let pairs = ours.iter().zip(theirs.iter());
        let differ = pairs.filter(|((_, ours), (_, theirs))| ours.value != theirs.value);
        differ.map(|((key, _), _)| key.to_owned()).collect()
    }
}

impl LayeredSettings {
    /// Applies all layers in order and checks the result.
    pub(crate) fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults();
        if let Some(path) = file {
            let text = fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            settings.overlay_file(path, &text)?;
        }
        settings.overlay_environment(environment)?;
        settings.overlay_flags(flags)?;
        bounds::check(&settings)?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use gateway_api::FunctionLimit;

    use super::*;

    fn load(environment: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigError> {
        let pairs = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(None, pairs, flags)
    }

    #[test]
    fn without_any_layer_the_defaults_hold() {
        assert_eq!(load(&[], &Flags::default()).unwrap(), Config::default());
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mayfly.toml");
        std::fs::write(
            &file,
            "data_dir = \"file\"\nlisten = \"127.0.0.1:1\"\n[limits]\ncpu_ms = 11\nqueue = 12\n",
        )
        .unwrap();
        let environment = [("MAYFLY_LISTEN", "127.0.0.1:2"), ("MAYFLY_LIMITS_CPU_MS", "22")];
        let flags = Flags {
            listen: Some("127.0.0.1:3".to_owned()),
            set: vec!["limits.timeout_ms=33".to_owned()],
            ..Flags::default()
        };
        let pairs = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));

        let config = Config::load(Some(&file), pairs, &flags).unwrap();

        assert_eq!(config.data_dir, PathBuf::from("file"));
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.limits[FunctionLimit::Queue], 12);
        assert_eq!(config.limits[FunctionLimit::CpuMs], 22);
        assert_eq!(config.limits[FunctionLimit::TimeoutMs], 33);
        assert_eq!(config.limits[FunctionLimit::Concurrency], 64);
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let path = Path::new("/nowhere/mayfly.toml");
        let error = Config::load(Some(path), std::iter::empty(), &Flags::default()).unwrap_err();
        assert_eq!(error.to_string(), "reading /nowhere/mayfly.toml");
    }

    #[test]
    fn the_numbers_are_all_that_have_a_range_as_they_hold() {
        let config = Config::default();
        let numbers = config.numbers();
        let shown: Vec<String> = numbers
            .iter()
            .flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}.{key}")))
            .collect();
        let settings = LayeredSettings::defaults();
        let integers = settings.iter().filter(|(_, setting)| setting.value.is_integer());
        assert_eq!(shown, integers.map(|(key, _)| key.to_owned()).collect::<Vec<_>>());
        assert_eq!(numbers["limits"]["cpu_ms"], 1_000);
        assert_eq!(numbers["pool"]["memory_bytes"], config.pool.memory_budget());
    }

    #[test]
    fn localhost_is_an_address() {
        let config = load(&[("MAYFLY_LISTEN", "localhost:81")], &Flags::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:81");
    }
}
