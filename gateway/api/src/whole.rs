//! Whole numbers in any of JSON's forms: `60`, `60.0`, `6e1`.
//!
//! JSON Schema calls each of them an integer, so a client may send it.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Number;

/// Reads one that may be null, or absent with `default`.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    Option::<Number>::deserialize(deserializer)?.as_ref().map(read).transpose()
}

/// Reads one that must be there.
pub(crate) fn required<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    read(&Number::deserialize(deserializer)?)
}

/// Reads a list of them.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    Vec::<Number>::deserialize(deserializer)?.iter().map(read).collect()
}

fn read<T: FromStr, E: Error>(number: &Number) -> Result<T, E> {
    let text = match number.as_f64() {
        // Without an exponent, and without a fraction that is zero.
        Some(float) if number.is_f64() => float.to_string(),
        Some(_) | None => number.to_string(),
    };
    text.parse().map_err(|_| {
        let bits = 8 * size_of::<T>();
        E::custom(format!("expected a whole number of at most {bits} bits, found {number}"))
    })
}
