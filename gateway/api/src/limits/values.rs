//! Values of a function's limits: those in effect, and those that its settings choose.
//!
//! Both are objects with the keys of [`LIMITS`]. Deserializing ignores other keys: a function's
//! settings have other keys beside the limits.

use std::{
    borrow::Cow,
    fmt,
    ops::{Index, IndexMut},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap as _,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat,
        schema::{SchemaType, Type},
    },
};

use crate::limits::{FunctionLimit, KEYS, LIMITS, LimitRow, Unit};

/// A value for each limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitValues([u64; LIMITS.len()]);

impl LimitValues {
    /// One value for each row.
    #[must_use]
    pub fn of(value: impl Fn(&LimitRow) -> u64) -> Self {
        let mut values = [0; LIMITS.len()];
        for (slot, row) in values.iter_mut().zip(LIMITS) {
            *slot = value(row);
        }
        Self(values)
    }

    /// Each with its row.
    pub fn iter(&self) -> impl Iterator<Item = (&'static LimitRow, u64)> {
        LIMITS.iter().zip(self.0)
    }

    /// A value as a number of things in memory.
    #[must_use]
    pub fn size(&self, limit: FunctionLimit) -> usize {
        usize::try_from(self[limit]).unwrap_or(usize::MAX)
    }
}

impl Index<FunctionLimit> for LimitValues {
    type Output = u64;

    fn index(&self, limit: FunctionLimit) -> &u64 {
        &self.0[limit as usize]
    }
}

impl IndexMut<FunctionLimit> for LimitValues {
    fn index_mut(&mut self, limit: FunctionLimit) -> &mut u64 {
        &mut self.0[limit as usize]
    }
}

impl Serialize for LimitValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(row, value)| (row.key, value)))
    }
}

impl<'de> Deserialize<'de> for LimitValues {
    /// A limit that is missing has the table's default, so that a client can read the answer of a
    /// gateway that does not know a limit yet.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = AskedLimits::deserialize(deserializer)?;
        Ok(Self::of(|row| given.get(row.limit).unwrap_or(row.default)))
    }
}

/// The limits that a function's settings choose: a value for some of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLimits([Option<u64>; LIMITS.len()]);

impl AskedLimits {
    /// One optional value for each row.
    #[must_use]
    pub fn of(value: impl Fn(&LimitRow) -> Option<u64>) -> Self {
        let mut values = [None; LIMITS.len()];
        for (slot, row) in values.iter_mut().zip(LIMITS) {
            *slot = value(row);
        }
        Self(values)
    }

    /// The value of one limit, if the settings choose one.
    #[must_use]
    pub fn get(&self, limit: FunctionLimit) -> Option<u64> {
        self.0[limit as usize]
    }
}

impl Serialize for AskedLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let asked = LIMITS.iter().filter_map(|row| Some((row.key, self.get(row.limit)?)));
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in asked {
            map.serialize_entry(key, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for AskedLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a struct, so that it takes only its own keys out of an object that it is flattened in.
        deserializer.deserialize_struct("AskedLimits", KEYS, AskedVisitor)
    }
}

struct AskedVisitor;

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = AskedLimits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of limits")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<AskedLimits, M::Error> {
        let mut asked = AskedLimits::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match LIMITS.iter().find(|row| row.key == key) {
                Some(row) => asked.0[row.limit as usize] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(asked)
    }
}

impl PartialSchema for LimitValues {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().description(Some("The limits in effect."));
        let object = LIMITS.iter().fold(object, |object, row| {
            object.property(row.key, number(row, Type::Integer.into())).required(row.key)
        });
        object.into()
    }
}

impl ToSchema for LimitValues {
    fn name() -> Cow<'static, str> {
        "LimitsView".into()
    }
}

impl AskedLimits {
    /// Adds the limits to the schema of an object that holds them beside other keys.
    pub fn describe(object: &mut Object) {
        for row in LIMITS {
            let schema = number(row, SchemaType::from_iter([Type::Integer, Type::Null]));
            object.properties.insert(row.key.to_owned(), schema.into());
        }
    }
}

fn number(row: &LimitRow, schema_type: SchemaType) -> Object {
    let unit = match row.unit {
        Unit::Bytes => " In bytes.",
        Unit::Milliseconds => " In milliseconds.",
        Unit::Count => "",
    };
    ObjectBuilder::new()
        .schema_type(schema_type)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(u64::from(!row.may_be_zero)))
        .maximum(Some(row.maximum))
        .description(Some(format!("{}{unit}", row.meaning)))
        .build()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, to_string};

    use super::*;

    #[test]
    fn asked_limits_are_written_by_their_keys_and_read_again() {
        let json = r#"{"cpu_ms":5,"log_bytes":0}"#;
        let asked: AskedLimits = from_str(json).unwrap();
        assert_eq!(asked.get(FunctionLimit::CpuMs), Some(5));
        assert_eq!(asked.get(FunctionLimit::LogBytes), Some(0));
        assert_eq!(asked.get(FunctionLimit::Queue), None);
        assert_eq!(to_string(&asked).unwrap(), json);
        assert!(from_str::<AskedLimits>(r#"{"cpu_ms":"fast"}"#).is_err());
        assert!(from_str::<AskedLimits>(r#"{"cpu_ms":-1}"#).is_err());
    }

    #[test]
    fn all_limits_are_written_and_a_missing_one_has_its_default() {
        let all = LimitValues::of(|row| row.default);
        let json = to_string(&all).unwrap();
        assert_eq!(from_str::<LimitValues>(&json).unwrap(), all);
        assert_eq!(all[FunctionLimit::Queue], 640);
        let fewer: LimitValues = from_str(r#"{"queue":1,"unknown":{}}"#).unwrap();
        assert_eq!((fewer[FunctionLimit::Queue], fewer[FunctionLimit::CpuMs]), (1, 1_000));
    }

    #[test]
    fn limits_stand_beside_other_keys() {
        #[derive(Debug, PartialEq, Deserialize, Serialize)]
        struct Settings {
            #[serde(flatten)]
            limits: AskedLimits,
            outbound: Vec<String>,
        }
        let json = r#"{"cpu_ms":5,"outbound":["a.example"]}"#;
        let settings: Settings = from_str(json).unwrap();
        assert_eq!(settings.limits.get(FunctionLimit::CpuMs), Some(5));
        assert_eq!(to_string(&settings).unwrap(), json);
    }
}
