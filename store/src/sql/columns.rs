//! Reading and writing columns that hold hashes and JSON.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Error, Result};

/// Reads a SHA-256. The schema allows no other length.
pub(crate) fn sha256(row: &SqliteRow, column: &str) -> Result<[u8; 32]> {
    row.try_get::<&[u8], _>(column)?
        .try_into()
        .map_err(|_| Error::Inconsistent { reason: format!("column {column}: not 32 bytes") })
}

/// Reads a value that is stored as JSON text.
pub(crate) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|error| Error::Inconsistent { reason: format!("column {column}: {error}") })
}

/// The JSON text of a value of strings, numbers and maps.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and maps of strings have JSON")
}
