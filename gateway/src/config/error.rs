//! What can be wrong with the settings, and where each setting came from.

use std::{fmt, io, path::PathBuf};

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The settings file, with line and column counted from 1.
    File {
        /// As it was given.
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
        /// With its dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable { name } => f.write_str(name),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// Settings that a gateway must not start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or not readable, or not text.
    #[error("reading {}", path.display())]
    Read {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, a flag is not `KEY=VALUE`, or a variable is not text.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The place of the mistake.
        origin: Origin,
        /// What is wrong there.
        reason: String,
    },
    /// A key or variable that nobody knows: most likely a slip of the finger, and without
    /// this error a setting that silently has no effect.
    #[error("{origin}: unknown setting `{key}`{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// The key as it was written.
        key: String,
        /// The known one most like it.
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
        origin: Origin,
        /// What would be accepted.
        reason: String,
    },
    /// The checked values do not fit the types of [`super::Config`]: on a machine whose
    /// addresses are too small for one of them.
    #[error("the settings do not fit this machine")]
    Shape(#[source] toml::de::Error),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}
