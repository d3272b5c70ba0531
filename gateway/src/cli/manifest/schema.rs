//! The schema of `mayfly.toml`. It is made of the API's own types, so that each fact is in one place.
//!
//! Three things differ from the JSON that the API takes: a function's settings stand directly in its
//! table, an artifact and files are paths, and sizes may have a unit.

use gateway_api::{Manifest, ManifestFunction, SettingsView};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema as _, openapi::RefOr};

use crate::config::sizes;

/// Where parts of the schema are that others refer to.
pub(super) const PARTS: &str = "#/$defs/";

/// Members of the API's document that belong to a request, and not to a project.
const OF_REQUESTS: [&str; 3] = ["prune", "dry_run", "plan"];

/// Parts whose members stand in the table of a function.
const INLINED: [&str; 2] = ["SettingsView", "MountView"];

/// The schema, in JSON Schema 2020-12.
pub(crate) fn schema() -> Value {
    let mut parts = Vec::new();
    Manifest::schemas(&mut parts);
    let mut parts: Map<String, Value> =
        parts.into_iter().map(|(name, part)| (name, plain(&part))).collect();
    parts.retain(|name, _| !INLINED.contains(&name.as_str()));
    parts.insert(ManifestFunction::name().into_owned(), function());

    let mut schema = plain(&Manifest::schema());
    properties(&mut schema).retain(|name, _| !OF_REQUESTS.contains(&name.as_str()));
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "mayfly.toml".into();
    schema["$defs"] = parts.into();
    schema
}

/// The table of a function.
fn function() -> Value {
    let mut settings = plain(&SettingsView::schema());
    let mut function = plain(&ManifestFunction::schema());
    let members = properties(&mut function);
    members.remove("settings");
    members.append(properties(&mut settings));
    members.insert(
        "artifact".to_owned(),
        json!({
            "type": "string", "minLength": 1,
            "description": "The WebAssembly file, by its path from the directory of this file.",
            "examples": ["target/wasm32-wasip2/release/hello.wasm"],
        }),
    );
    members.insert("files".to_owned(), files());
    function
}

/// The files of a function: the path of their directory, or that with the place at which guests see
/// them.
fn files() -> Value {
    let path = json!({
        "type": "string", "minLength": 1,
        "description": "The directory with the files, by its path from the directory of this file.",
    });
    let at = json!({
        "type": "string",
        "description": "The directory at which guests see them: an absolute path. The default is `/`.",
    });
    let table = json!({
        "type": "object", "required": ["path"], "additionalProperties": false,
        "properties": {"path": path, "at": at},
    });
    json!({
        "oneOf": [path, table],
        "description": "The files that guests can read.",
        "examples": ["public", {"path": "public", "at": "/srv"}],
    })
}

fn properties(schema: &mut Value) -> &mut Map<String, Value> {
    schema["properties"].as_object_mut().expect("the API's types are objects with members")
}

fn plain(schema: &RefOr<utoipa::openapi::Schema>) -> Value {
    let mut schema = serde_json::to_value(schema).expect("a schema is JSON");
    simplify(&mut schema);
    schema
}

/// Turns a schema of the API's description into one of a TOML file, which has no null.
fn simplify(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    for choice in ["oneOf", "anyOf"] {
        let Some(Value::Array(mut options)) = members.remove(choice) else { continue };
        options.retain(|option| option["type"] != "null");
        options.iter_mut().for_each(simplify);
        match (options.len(), options.first_mut()) {
            (1, Some(Value::Object(only))) => {
                for (key, value) in std::mem::take(only) {
                    members.entry(key).or_insert(value);
                }
            }
            _ => drop(members.insert(choice.to_owned(), options.into())),
        }
    }
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    if members.get("default").is_some_and(Value::is_null) {
        members.remove("default");
    }
    if let Some(example) = members.remove("example") {
        members.insert("examples".to_owned(), json!([example]));
    }
    if let Some(Value::String(text)) = members.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(Value::String(reference)) = members.get_mut("$ref") {
        *reference = reference.replace("#/components/schemas/", PARTS);
    }
    for below in ["items", "additionalProperties", "propertyNames"] {
        if let Some(below) = members.get_mut(below) {
            simplify(below);
        }
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, property) in properties {
            simplify(property);
            if name.ends_with("_bytes") && property["type"] == "integer" {
                property["type"] = json!(["integer", "string"]);
                property["pattern"] = sizes::PATTERN.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gateway_api::{LIMITS, OTHER_SETTINGS};

    use super::*;

    /// Every schema within a schema, itself first.
    fn all(schema: &Value) -> Vec<&Value> {
        let mut found = vec![schema];
        let Value::Object(members) = schema else { return found };
        for below in ["items", "additionalProperties", "propertyNames"] {
            found.extend(members.get(below).into_iter().flat_map(all));
        }
        for choice in ["oneOf", "anyOf"] {
            let options = members.get(choice).and_then(Value::as_array);
            found.extend(options.into_iter().flatten().flat_map(all));
        }
        for named in ["properties", "$defs"] {
            let named = members.get(named).and_then(Value::as_object);
            found.extend(named.into_iter().flat_map(Map::values).flat_map(all));
        }
        found
    }

    #[test]
    fn every_part_is_there_and_is_referred_to() {
        let schema = schema();
        let named: BTreeSet<&str> =
            all(&schema).into_iter().filter_map(|part| part["$ref"].as_str()).collect();
        let named: BTreeSet<&str> =
            named.into_iter().map(|name| name.strip_prefix(PARTS).unwrap()).collect();
        let there: BTreeSet<&str> =
            schema["$defs"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(named, there);
    }

    #[test]
    fn every_table_names_its_members_or_says_what_they_are() {
        for part in all(&schema()) {
            if part["type"] == "object" {
                let others = &part["additionalProperties"];
                assert!(!others.is_null() && others != &Value::Bool(true), "{part}");
            }
        }
    }

    /// What the check of a file understands. A type of the API that needs more of JSON Schema needs more
    /// of that check.
    #[test]
    fn a_schema_has_no_null_and_no_words_that_the_check_does_not_know() {
        const KNOWN: [&str; 23] = [
            "$defs",
            "$ref",
            "$schema",
            "additionalProperties",
            "anyOf",
            "default",
            "description",
            "enum",
            "examples",
            "format",
            "items",
            "maxItems",
            "maxLength",
            "maximum",
            "minItems",
            "minLength",
            "minimum",
            "oneOf",
            "pattern",
            "properties",
            "propertyNames",
            "required",
            "type",
        ];
        for part in all(&schema()) {
            for key in part.as_object().into_iter().flat_map(Map::keys) {
                assert!(KNOWN.contains(&key.as_str()) || key == "title", "{key}: {part}");
            }
            let types = part["type"].as_array().cloned().unwrap_or_default();
            assert!(!types.contains(&"null".into()) && part["type"] != "null", "{part}");
            for bound in ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"] {
                assert!(part[bound].is_null() || part[bound].is_i64(), "{bound}: {part}");
            }
        }
    }

    #[test]
    fn a_function_has_every_setting_and_sizes_may_have_a_unit() {
        let schema = schema();
        let function = &schema["$defs"]["ManifestFunction"];
        for key in LIMITS.iter().map(|row| row.key).chain(OTHER_SETTINGS.iter().copied()) {
            assert!(function["properties"][key].is_object(), "{key}");
        }
        assert_eq!(function["required"], json!(["artifact"]));
        let memory = &function["properties"]["memory_bytes"];
        assert_eq!(memory["type"], json!(["integer", "string"]));
        assert_eq!(function["properties"]["cpu_ms"]["type"], "integer");
        assert!(schema["properties"]["prune"].is_null());
    }
}
