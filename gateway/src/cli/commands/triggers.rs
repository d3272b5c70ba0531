//! The subcommands for what calls functions besides requests.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

use crate::cli::{client::unreadable, failure::Failure};

pub(crate) mod flow;
pub(crate) mod invocations;
pub(crate) mod queue;
pub(crate) mod schedule;

/// Reads a file that holds a document of this kind, e.g. `queue`, as JSON.
fn read_document<T: DeserializeOwned>(file: &Path, kind: &str) -> Result<T, Failure> {
    let text = fs::read(file).map_err(|error| unreadable(file, &error))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("{} is no {kind}: {error}", file.display())))
}
