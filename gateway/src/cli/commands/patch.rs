//! `KEY=VALUE` arguments to JSON merge patches (RFC 7396).

use std::{
    fs::File,
    io::{self, Read as _},
};

use gateway_api::{ChangeFunction, LIMITS, LimitRow, OTHER_SETTINGS, Unit};
use serde_json::{Map, Value, json};

use crate::{
    cli::failure::Failure,
    config::{nearest::nearest, sizes},
};

/// Far above the API's own limit; bounds the memory for wrong input.
const VALUE_BYTES_MAX: u64 = 1 << 20;

/// Settings whose values are given as JSON.
const JSON: &[&str] =
    &["arguments", "config", "credentials", "files", "grants", "isolation", "schedule"];

/// Settings that are objects, and whose members are set each by themselves: `environment.NAME=VALUE`.
const MEMBERS: &[&str] = &["environment", "config", "grants.keyvalue"];

/// The change that sets each `KEY=VALUE`; `KEY=` resets the setting to its default.
pub(crate) fn function_patch(pairs: &[String]) -> Result<ChangeFunction, Failure> {
    let mut change = ChangeFunction::default();
    let mut settings = Map::new();
    for pair in pairs {
        let (key, text) = split(pair)?;
        if key == "description" {
            change.description = Some(Some(text.to_owned()).filter(|text| !text.is_empty()));
        } else {
            setting(&mut settings, key, text)?;
        }
    }
    change.settings = Some(Value::Object(settings)).filter(|settings| *settings != json!({}));
    Ok(change)
}

/// The settings that `KEY=VALUE` arguments choose.
pub(crate) fn settings_patch(pairs: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut settings = Map::new();
    for pair in pairs {
        let (key, text) = split(pair)?;
        setting(&mut settings, key, text)?;
    }
    Ok(settings)
}

fn setting(settings: &mut Map<String, Value>, key: &str, text: &str) -> Result<(), Failure> {
    let member =
        |object: &'static str| Some((object, key.strip_prefix(object)?.strip_prefix('.')?));
    let member = MEMBERS.iter().find_map(|object| member(object));
    if let Some((object, name)) = member.filter(|(_, name)| !name.is_empty()) {
        let value = if text.is_empty() { Value::Null } else { value(text)?.into() };
        return set_member(settings, object, name.to_owned(), value);
    }
    let value = match key {
        "environment" if !text.is_empty() || settings.contains_key(key) => {
            return Err(Failure::usage(
                "`environment=` resets all variables; set one with environment.NAME=VALUE",
            ));
        }
        _ if text.is_empty() && (limit(key).is_some() || OTHER_SETTINGS.contains(&key)) => {
            Value::Null
        }
        "outbound" => hosts(text.split(',')),
        "snapshot" => snapshot(text),
        "server_timing" | "stream_body" | "revision_urls" | "private" | "config_lists_secrets" => {
            boolean(key, text)?.into()
        }
        "respond_async" | "on_success" | "on_failure" | "callback_secret" | "ungranted" => {
            text.into()
        }
        // Most functions with an isolation set only its mode.
        "isolation" if ["request", "reuse"].contains(&text) => json!({ "mode": text }),
        _ if JSON.contains(&key) => serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("{key}: expected JSON: {error}")))?,
        _ => match limit(key) {
            Some(row) => integer(row, text)?.into(),
            None => return Err(unknown(key)),
        },
    };
    settings.insert(key.to_owned(), value);
    Ok(())
}

/// Sets a member of an object, which may itself be a member of one.
fn set_member(
    settings: &mut Map<String, Value>,
    object: &str,
    name: String,
    value: Value,
) -> Result<(), Failure> {
    let mut members = settings;
    for part in object.split('.') {
        members = match members.entry(part).or_insert_with(|| json!({})) {
            Value::Object(inner) => inner,
            _ => {
                return Err(Failure::usage(format!(
                    "`{object}=` and `{object}.NAME=…` exclude each other"
                )));
            }
        };
    }
    members.insert(name, value);
    Ok(())
}

fn limit(key: &str) -> Option<&'static LimitRow> {
    LIMITS.iter().find(|row| row.key == key)
}

fn unknown(key: &str) -> Failure {
    let settings = || LIMITS.iter().map(|row| row.key).chain(OTHER_SETTINGS.iter().copied());
    let failure = Failure::usage(match nearest(key, settings().chain(["description"])) {
        Some(near) => format!("unknown setting `{key}`; did you mean `{near}`?"),
        None => format!("unknown setting `{key}`"),
    });
    // One variable is set, not the whole environment.
    let named = settings().map(|key| if key == "environment" { "environment.NAME" } else { key });
    let all: Vec<&str> = ["description"].into_iter().chain(named).collect();
    failure.note(format!("hint: there are {}", all.join(", ")))
}

fn integer(row: &LimitRow, text: &str) -> Result<u64, Failure> {
    let key = row.key;
    if row.unit == Unit::Bytes {
        return sizes::parse(text)
            .ok_or_else(|| Failure::usage(format!("{key}={text}: {}", sizes::EXPECTED)));
    }
    text.replace('_', "")
        .parse()
        .map_err(|_| Failure::usage(format!("{key}={text}: expected a whole number")))
}

fn boolean(key: &str, text: &str) -> Result<bool, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("{key}={text}: expected true or false")))
}

/// A switch, or the name of an export.
pub(crate) fn snapshot(text: &str) -> Value {
    text.parse::<bool>().map_or_else(|_| text.into(), Value::Bool)
}

/// A list of host patterns.
pub(crate) fn hosts<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Value {
    patterns.into_iter().map(str::trim).filter(|pattern| !pattern.is_empty()).collect()
}

/// `NAME=VALUE` arguments as an environment. An empty value sets an empty variable.
pub(crate) fn environment(pairs: &[String]) -> Result<Value, Failure> {
    let mut environment = Map::new();
    for pair in pairs {
        let (name, text) = split(pair)?;
        environment.insert(name.to_owned(), value(text)?.into());
    }
    Ok(Value::Object(environment))
}

/// The value of a variable: the text itself, `@FILE`, or `-` for standard input; `@@` begins a text
/// with one `@`. Other users of the machine see arguments, and shells record them.
fn value(text: &str) -> Result<String, Failure> {
    let failed = |name: &str, error: io::Error| Failure::failed(format!("reading {name}: {error}"));
    let mut read = String::new();
    match text.strip_prefix('@') {
        _ if text == "-" || text == "@-" => {
            let input = io::stdin().lock().take(VALUE_BYTES_MAX);
            { input }.read_to_string(&mut read).map_err(|error| failed("standard input", error))?;
        }
        Some(text) if text.starts_with('@') => return Ok(text.to_owned()),
        Some(file) => {
            File::open(file)
                .and_then(|file| file.take(VALUE_BYTES_MAX).read_to_string(&mut read))
                .map_err(|error| failed(file, error))?;
        }
        None => return Ok(text.to_owned()),
    }
    // The line break that editors and `echo` add.
    let value = read.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(value.unwrap_or(&read).to_owned())
}

fn split(pair: &str) -> Result<(&str, &str), Failure> {
    match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(Failure::usage(format!("`{pair}` is not KEY=VALUE"))),
    }
}

/// JSON in ASCII, for a header. Characters outside of ASCII occur in strings only, where JSON permits
/// escapes.
pub(crate) fn to_ascii(json: &Value) -> String {
    let mut ascii = String::new();
    for c in json.to_string().chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(pairs: &[&str]) -> Result<Value, Failure> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        Ok(serde_json::to_value(function_patch(&pairs)?).unwrap())
    }

    #[test]
    fn pairs_become_a_merge_patch() {
        let given = [
            "description=says hello",
            "memory_bytes=64MiB",
            "cpu_ms=5_00",
            "environment.LANG=de=x",
            "environment.OLD=",
            "outbound=a.example, *.b.example",
            "snapshot=prepare",
            "config.greeting=hello",
            "config.old=",
            "grants.keyvalue.default=carts",
        ];
        assert_eq!(
            patch(&given).unwrap(),
            json!({
                "description": "says hello",
                "settings": {
                    "memory_bytes": 67_108_864,
                    "cpu_ms": 500,
                    "environment": {"LANG": "de=x", "OLD": null},
                    "outbound": ["a.example", "*.b.example"],
                    "snapshot": "prepare",
                    "config": {"greeting": "hello", "old": null},
                    "grants": {"keyvalue": {"default": "carts"}},
                },
            })
        );
    }

    #[test]
    fn an_empty_value_resets() {
        assert_eq!(
            patch(&["cpu_ms=", "outbound=", "environment=", "description=", "snapshot="]).unwrap(),
            json!({
                "description": null,
                "settings":
                    {"cpu_ms": null, "outbound": null, "environment": null, "snapshot": null},
            })
        );
        assert_eq!(patch(&["snapshot=true"]).unwrap(), json!({"settings": {"snapshot": true}}));
        assert_eq!(patch(&["snapshot=false"]).unwrap(), json!({"settings": {"snapshot": false}}));
    }

    #[test]
    fn arguments_that_are_not_valid_are_refused() {
        for (pairs, text) in [
            (&["cpu_ms"][..], "`cpu_ms` is not KEY=VALUE"),
            (&["=5"], "`=5` is not KEY=VALUE"),
            (&["cpu_ms=fast"], "cpu_ms=fast: expected a whole number"),
            (&["cpu_ms=-1"], "cpu_ms=-1: expected a whole number"),
            (&["memory_bytes=much"], "memory_bytes=much: expected a number of bytes"),
            (&["cpu=5"], "unknown setting `cpu`"),
            (&["timeout_m=5"], "did you mean `timeout_ms`?"),
            (&["colour="], "unknown setting `colour`"),
            (&["environment.=x"], "unknown setting `environment.`; did you mean `environment`?"),
            (&["environment.A=1", "environment="], "resets all variables"),
            (&["environment=", "environment.A=1"], "exclude each other"),
        ] {
            let shown = patch(pairs).unwrap_err().text();
            assert!(shown.contains(text), "{pairs:?}: {shown}");
        }
    }

    #[test]
    fn a_variable_may_be_empty_when_it_is_set_at_deploy() {
        let pairs = ["A=".to_owned(), "B=1=2".to_owned()];
        assert_eq!(environment(&pairs).unwrap(), json!({"A": "", "B": "1=2"}));
        assert!(environment(&["A".to_owned()]).is_err());
    }

    #[test]
    fn the_value_of_a_variable_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("value");
        for (content, value) in
            [("s3cr3t\n", "s3cr3t"), ("a\nb\r\n", "a\nb"), ("x\n\n", "x\n"), ("", "")]
        {
            std::fs::write(&file, content).unwrap();
            let pair = |name: &str| format!("{name}=@{}", file.display());
            assert_eq!(environment(&[pair("A")]).unwrap(), json!({ "A": value }));
            let change = patch(&[&pair("environment.A")]).unwrap();
            assert_eq!(change, json!({"settings": {"environment": {"A": value}}}));
        }
        assert_eq!(environment(&["A=@@a".to_owned()]).unwrap(), json!({"A": "@a"}));
        assert_eq!(environment(&["A=a@b".to_owned()]).unwrap(), json!({"A": "a@b"}));
        let text = environment(&["A=@/nowhere".to_owned()]).unwrap_err().text();
        assert!(text.contains("reading /nowhere"), "{text}");
    }

    #[test]
    fn json_in_a_header_is_ascii_and_still_the_same_json() {
        let value = json!({"environment": {"A": "ü 🐝 \u{7f} \n \""}});
        let ascii = to_ascii(&value);
        assert!(http::HeaderValue::from_str(&ascii).is_ok(), "{ascii}");
        assert!(ascii.is_ascii());
        assert_eq!(serde_json::from_str::<Value>(&ascii).unwrap(), value);
    }
}
