//! For `#[serde(with = "…")]`: a time that is a whole number of milliseconds in the settings.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer};

/// Writes the number of milliseconds.
pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Reads a number of milliseconds.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
