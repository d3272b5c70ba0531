//! The layers: defaults, file, flags. The environment's is in [`super::environment`].
//!
//! No setting is known by its name here, except for the few with flags of their own. The leaves of
//! [`Config::default`] say which keys there are, and the type of each.

use std::{collections::BTreeMap, path::Path};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigError, Flags, SettingOrigin, nearest::nearest, place::line_and_column, sizes,
};

/// The value of one setting, and the layer that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) origin: SettingOrigin,
}

/// All settings by their keys: `limits.cpu_ms`.
#[derive(Clone, Debug)]
pub(crate) struct LayeredSettings {
    leaves: BTreeMap<String, Setting>,
}

impl LayeredSettings {
    pub(super) fn defaults() -> Self {
        Self::of_config(&Config::default())
    }

    pub(super) fn of_config(config: &Config) -> Self {
        Self::of(Table::try_from(config).expect("settings are plain values"))
    }

    fn of(table: Table) -> Self {
        let mut leaves = BTreeMap::new();
        flatten("", table, &mut leaves);
        Self { leaves }
    }

    pub(crate) fn into_config(self) -> Result<Config, ConfigError> {
        let mut root = Table::new();
        for (key, setting) in self.leaves {
            insert(&mut root, &key, setting.value);
        }
        root.try_into().map_err(ConfigError::Shape)
    }

    /// All settings, sorted by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.leaves.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// `key` must exist.
    pub(super) fn get(&self, key: &str) -> &Setting {
        self.leaves.get(key).expect("callers name keys that exist")
    }

    pub(super) fn overlay_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let place = |offset: usize| {
            let (line, column) = line_and_column(text, offset);
            SettingOrigin::File { path: path.to_owned(), line, column }
        };
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: place(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        self.overlay_table("", document.get_ref(), &place)
    }

    fn overlay_table(
        &mut self,
        parent: &str,
        table: &DeTable<'_>,
        place: &dyn Fn(usize) -> SettingOrigin,
    ) -> Result<(), ConfigError> {
        for (name, value) in table.iter() {
            let key = join(parent, name.get_ref());
            let origin = place(name.span().start);
            if self.is_section(&key) {
                let DeValue::Table(inner) = value.get_ref() else {
                    return Err(mismatch(key, "a table", value, origin));
                };
                self.overlay_table(&key, inner, place)?;
                continue;
            }
            let Some(setting) = self.leaves.get_mut(&key) else {
                return Err(self.unknown(key, origin));
            };
            setting.value = from_toml(&key, &setting.value, value, &origin)?;
            setting.origin = origin;
        }
        Ok(())
    }

    pub(super) fn overlay_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        for pair in &flags.set {
            let origin = SettingOrigin::Flag { name: "--set" };
            let Some((key, text)) = pair.split_once('=') else {
                let reason = format!("`{pair}` is not KEY=VALUE");
                return Err(ConfigError::Syntax { origin, reason });
            };
            self.set(key.trim(), text.trim(), origin)?;
        }
        let own = [
            ("data_dir", "--data-dir", flags.data_dir.as_deref()),
            ("listen", "--listen", flags.listen.as_deref()),
            ("admin_listen", "--admin-listen", flags.admin_listen.as_deref()),
            ("public_url", "--public-url", flags.public_url.as_deref()),
            ("insecure_admin", "--insecure-admin", flags.insecure_admin.then_some("true")),
        ];
        for (key, name, text) in own {
            if let Some(text) = text {
                self.set(key, text, SettingOrigin::Flag { name })?;
            }
        }
        Ok(())
    }

    /// Sets one key from text, as variables and flags have it.
    pub(super) fn set(
        &mut self,
        key: &str,
        text: &str,
        origin: SettingOrigin,
    ) -> Result<(), ConfigError> {
        let Some(setting) = self.leaves.get_mut(key) else {
            return Err(self.unknown(key.to_owned(), origin));
        };
        match from_text(key, &setting.value, text) {
            Ok(value) => *setting = Setting { value, origin },
            Err(reason) => {
                let (key, value) = (key.to_owned(), text.to_owned());
                return Err(ConfigError::Value { key, value, origin, reason });
            }
        }
        Ok(())
    }

    /// `text` as the type of the setting `key`.
    pub(super) fn read_text(&self, key: &str, text: &str) -> Option<Value> {
        from_text(key, &self.get(key).value, text).ok()
    }

    fn is_section(&self, key: &str) -> bool {
        self.leaves.keys().any(|leaf| leaf.strip_prefix(key).is_some_and(|r| r.starts_with('.')))
    }

    fn unknown(&self, key: String, origin: SettingOrigin) -> ConfigError {
        let sections = self.leaves.keys().filter_map(|key| Some(key.rsplit_once('.')?.0));
        let known = self.leaves.keys().map(String::as_str).chain(sections);
        ConfigError::Unknown { nearest: nearest(&key, known), key, origin }
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn flatten(parent: &str, table: Table, leaves: &mut BTreeMap<String, Setting>) {
    for (name, value) in table {
        let key = join(parent, &name);
        match value {
            Value::Table(inner) => flatten(&key, inner, leaves),
            value => {
                leaves.insert(key, Setting { value, origin: SettingOrigin::Default });
            }
        }
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().expect("a section is no leaf");
            insert(inner, rest, value);
        }
    }
}

pub(super) fn is_size(key: &str) -> bool {
    key.ends_with("_bytes") || key.ends_with(".bytes")
}

/// Reads `text` as a value of the default's type.
fn from_text(key: &str, default: &Value, text: &str) -> Result<Value, String> {
    match default {
        Value::Integer(_) if is_size(key) => sizes::parse(text)
            .and_then(|bytes| i64::try_from(bytes).ok())
            .map(Value::Integer)
            .ok_or_else(|| sizes::EXPECTED.to_owned()),
        Value::Integer(_) => text
            .replace('_', "")
            .parse()
            .map(Value::Integer)
            .map_err(|_| "expected a whole number".to_owned()),
        Value::Boolean(_) => {
            text.parse().map(Value::Boolean).map_err(|_| "expected true or false".to_owned())
        }
        Value::Array(_) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(Value::from)
            .collect::<Vec<_>>()
            .into()),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Takes a value from the file if it has the default's type.
fn from_toml(
    key: &str,
    default: &Value,
    value: &Spanned<DeValue<'_>>,
    origin: &SettingOrigin,
) -> Result<Value, ConfigError> {
    let wrong = |expected: &str| Err(mismatch(key.to_owned(), expected, value, origin.clone()));
    match (default, value.get_ref()) {
        (Value::Integer(_), DeValue::Integer(integer)) => {
            match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Ok(Value::Integer(integer)),
                Err(_) => wrong("a smaller integer"),
            }
        }
        (Value::Integer(_), DeValue::String(text)) if is_size(key) => from_text(key, default, text)
            .map_err(|reason| ConfigError::Value {
                key: key.to_owned(),
                value: format!("\"{text}\""),
                origin: origin.clone(),
                reason,
            }),
        (Value::Integer(_), _) => wrong("an integer"),
        (Value::Boolean(_), DeValue::Boolean(boolean)) => Ok(Value::Boolean(*boolean)),
        (Value::Boolean(_), _) => wrong("a boolean"),
        (Value::Array(_), DeValue::Array(items)) => {
            let strings: Option<Vec<Value>> =
                items.iter().map(|item| item.get_ref().as_str().map(Value::from)).collect();
            strings.map_or_else(|| wrong("an array of strings"), |strings| Ok(strings.into()))
        }
        (Value::Array(_), _) => wrong("an array of strings"),
        (_, DeValue::String(text)) => Ok(Value::String(text.to_string())),
        _ => wrong("a string"),
    }
}

fn mismatch(
    key: String,
    expected: &str,
    value: &Spanned<DeValue<'_>>,
    origin: SettingOrigin,
) -> ConfigError {
    let value = value.get_ref();
    let shown = match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        _ => format!("({})", value.type_str()),
    };
    ConfigError::Value { key, value: shown, origin, reason: format!("expected {expected}") }
}

#[cfg(test)]
mod tests;
