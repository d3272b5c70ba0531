//! The errors in settings, and the origin of each setting.

use std::{fmt, io, path::PathBuf};

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The built-in default.
    Default,
    /// The settings file, with line and column counted from 1.
    File {
        /// The path as it was given.
        path: PathBuf,
        /// Line of the key.
        line: usize,
        /// Column of the key, in characters.
        column: usize,
    },
    /// An environment variable.
    Variable {
        /// Its whole name.
        name: String,
    },
    /// A command line flag.
    Flag {
        /// Its name, with the dashes.
        name: &'static str,
    },
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable { name } => f.write_str(name),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// Why a gateway does not start with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, not readable or not text.
    #[error("reading {}", path.display())]
    Read {
        /// The path as it was given.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, a flag is not `KEY=VALUE`, or a variable is not text.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The place of the mistake.
        origin: SettingOrigin,
        /// The mistake.
        reason: String,
    },
    /// An unknown key or variable. Most likely it is misspelt; without this error the setting would
    /// silently have no effect.
    #[error("{origin}: unknown setting `{key}`{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// The place of the key.
        origin: SettingOrigin,
        /// The key as it was written.
        key: String,
        /// The known key that is most similar.
        nearest: Option<String>,
    },
    /// A value of the wrong type or outside of its range.
    #[error("{key} = {value} ({origin}): {reason}")]
    Value {
        /// The key, e.g. `limits.cpu_ms`.
        key: String,
        /// The value as it was written.
        value: String,
        /// Where it came from.
        origin: SettingOrigin,
        /// The values that are accepted.
        reason: String,
    },
    /// A checked value does not fit its type in [`super::Config`]: the machine's addresses are too
    /// small for it.
    #[error("the settings do not fit this machine")]
    Shape(#[source] toml::de::Error),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}
