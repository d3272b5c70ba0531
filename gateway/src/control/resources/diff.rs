//! `/v1/functions/{name}/revisions/{a}/diff/{b}`: what differs between two revisions.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use gateway_api::{FilesDiff, NamesDiff, RevisionDiff, SettingDiff, TextDiff};
use runtime_pool::{FileList, Inspection, ListedEntry};
use serde_json::Value;
use store::{Revision, Settings};

use crate::{
    control::{
        extract::{NamePath, PathParams},
        resources::functions::parse,
        state::ControlState,
        views::HIDDEN,
    },
    functions::{labels::OTHER, name::FunctionName, qualified_name::BorrowedName},
    problem::Problem,
};

/// Files of each kind that are named.
const FILES_MAX: usize = 1_000;

/// Compares two revisions.
///
/// Values of environment variables and of the configuration are not shown: only that they differ.
#[utoipa::path(
    get, path = "/v1/functions/{name}/revisions/{a}/diff/{b}", tag = "functions",
    operation_id = "diffRevisions",
    params(
        NamePath,
        ("a" = u64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "The revision to compare from"),
        ("b" = u64, Path, minimum = 0, maximum = 4_294_967_295_i64, description = "The revision to compare to"),
    ),
    responses(
        (status = 200, description = "What differs", body = RevisionDiff),
        (status = 400, description = "The name or a revision is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such function or revision", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(state): State<ControlState>,
    PathParams((name, a, b)): PathParams<(String, String, String)>,
) -> Result<Json<RevisionDiff>, Problem> {
    let name = parse(&name)?;
    let (a, b) = (revision(&state, &name, &a).await?, revision(&state, &name, &b).await?);
    let same_artifact = a.digest == b.digest;
    let (imports, exports) = match same_artifact {
        true => Default::default(),
        false => {
            let (a, b) = (names(&state, &name, &a).await?, names(&state, &name, &b).await?);
            (names_diff(a.imports, b.imports), names_diff(a.exports, b.exports))
        }
    };
    let files = match a.settings.files == b.settings.files {
        true => FilesDiff::default(),
        false => files_diff(&files(&state, &a).await?, &files(&state, &b).await?),
    };
    Ok(Json(RevisionDiff {
        from: a.number,
        to: b.number,
        same_artifact,
        kind: text_diff(Some(a.kind), Some(b.kind)),
        version: text_diff(a.release.semver, b.release.semver),
        from_bytes: a.bytes,
        to_bytes: b.bytes,
        imports,
        exports,
        files,
        settings: settings_diff(&a.settings, &b.settings),
    }))
}

async fn revision(
    state: &ControlState,
    name: &FunctionName,
    number: &str,
) -> Result<Revision, Problem> {
    let number = number.parse().map_err(|_| Problem::bad_query("a revision is a number".into()))?;
    if let Some(revision) = state.store.revision(&state.tenant, name.as_str(), number).await? {
        return Ok(revision);
    }
    let exists = state.store.function(&state.tenant, name.as_str()).await?.is_some();
    Err(match exists {
        true => Problem::revision_not_found(name.as_str(), number),
        false => Problem::function_not_found(name.as_str()),
    })
}

/// What the artifact of a revision imports and exports.
async fn names(
    state: &ControlState,
    name: &FunctionName,
    revision: &Revision,
) -> Result<Inspection, Problem> {
    let function = BorrowedName { tenant: &state.tenant, name: name.as_str() };
    let (label, settings) = (OTHER.into(), &revision.settings);
    let spec = state.catalog.spec(function, label, revision.digest, settings);
    Ok(state.pool.inspection(&spec).await?)
}

/// The files that a revision gives to its guests.
async fn files(state: &ControlState, revision: &Revision) -> Result<FileList, Problem> {
    let Some(files) = &revision.settings.files else { return Ok(FileList::default()) };
    let found = state.files.get(&state.tenant, &files.tree).await?;
    found.map(|(_, list)| list).ok_or_else(|| Problem::files_not_found(&files.tree))
}

fn files_diff(from: &FileList, to: &FileList) -> FilesDiff {
    let (from, to): (BTreeMap<&str, ListedEntry>, BTreeMap<&str, ListedEntry>) =
        (from.entries().collect(), to.entries().collect());
    let mut diff = FilesDiff::default();
    let mut name = |names: &mut Vec<String>, path: &str| {
        if names.len() < FILES_MAX {
            names.push(path.to_owned());
        } else {
            diff.more = true;
        }
    };
    for (path, entry) in &to {
        match from.get(path) {
            None => name(&mut diff.added, path),
            Some(before) if before != entry => name(&mut diff.changed, path),
            Some(_) => {}
        }
    }
    let gone = from.keys().filter(|path| !to.contains_key(*path));
    gone.for_each(|path| name(&mut diff.removed, path));
    diff
}

fn text_diff(from: Option<String>, to: Option<String>) -> Option<TextDiff> {
    (from != to).then_some(TextDiff { from, to })
}

fn names_diff(from: Vec<String>, to: Vec<String>) -> NamesDiff {
    let (from, to): (BTreeSet<_>, BTreeSet<_>) =
        (from.into_iter().collect(), to.into_iter().collect());
    NamesDiff {
        added: to.difference(&from).cloned().collect(),
        removed: from.difference(&to).cloned().collect(),
    }
}

/// The settings that differ, by name; members of an object such as the environment each by
/// themselves.
fn settings_diff(from: &Settings, to: &Settings) -> Vec<SettingDiff> {
    // Settings are an object, whose members were read from JSON.
    let json = |settings| serde_json::to_value(settings).unwrap_or_default();
    let differing = differing(json(from), json(to), is_secret);
    let shown = differing.into_iter().map(|(setting, from, to)| SettingDiff { setting, from, to });
    shown.collect()
}

/// Whether a setting is shown without its value: what guests are told may be passwords.
pub(crate) fn is_secret(setting: &str) -> bool {
    let (name, _) = setting.split_once('.').unwrap_or((setting, ""));
    ["environment", "config"].contains(&name)
}

/// The members in which two documents differ, by their names with dots between them, with both values. Those
/// that are `secret` are shown without their values.
pub(crate) fn differing(
    from: Value,
    to: Value,
    secret: impl Fn(&str) -> bool,
) -> Vec<(String, Option<Value>, Option<Value>)> {
    let (mut from, mut to) = (flat(from), flat(to));
    let names: BTreeSet<String> = from.keys().chain(to.keys()).cloned().collect();
    let differing = names.into_iter().filter_map(|name| {
        let (from, to) = (from.remove(&name), to.remove(&name));
        if from == to {
            return None;
        }
        let hidden = secret(&name);
        let shown = |value: Option<Value>| match hidden {
            true => value.map(|_| HIDDEN.into()),
            false => value,
        };
        let (from, to) = (shown(from), shown(to));
        Some((name, from, to))
    });
    differing.collect()
}

/// The members of a document, and of the objects in it. An object without members is one.
fn flat(document: Value) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let mut open = vec![(String::new(), document)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(members) if path.is_empty() || !members.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                let inner = members.into_iter();
                open.extend(inner.map(|(name, value)| (format!("{path}{dot}{name}"), value)));
            }
            value => drop(flat.insert(path, value)),
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_that_differ_are_named_up_to_a_limit() {
        let list = |paths: &[(&str, u8)]| {
            let entries = paths.iter().map(|(path, content)| {
                let entry = ListedEntry::File { digest: [*content; 32], bytes: 1 };
                ((*path).to_owned(), entry)
            });
            FileList::new(entries.collect())
        };
        let from = list(&[("a", 1), ("b", 1), ("c", 1)]);
        let diff = files_diff(&from, &list(&[("b", 1), ("c", 2), ("d", 1)]));
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!((diff.added, diff.removed), (names(&["d"]), names(&["a"])));
        assert_eq!((diff.changed, diff.more), (names(&["c"]), false));
        let many: Vec<String> = (0..=FILES_MAX).map(|n| n.to_string()).collect();
        let many: Vec<(&str, u8)> = many.iter().map(|path| (&**path, 1)).collect();
        let diff = files_diff(&list(&many), &FileList::default());
        assert_eq!((diff.removed.len(), diff.more), (FILES_MAX, true));
    }

    #[test]
    fn settings_that_differ_are_named_and_environments_keep_their_values() {
        let settings = |value: Value| serde_json::from_value::<Settings>(value).unwrap();
        let from = settings(json!({
            "cpu_ms": 5, "outbound": ["a.example"], "environment": {"A": "1", "B": "2", "C": "3"},
        }));
        let to = settings(json!({
            "cpu_ms": 6, "server_timing": true, "outbound": ["a.example"],
            "environment": {"A": "1", "B": "hunter2", "D": "4"}, "config": {"key": "hunter3"},
        }));
        let shown = serde_json::to_value(settings_diff(&from, &to)).unwrap();
        let expected = json!([
            {"setting": "config.key", "from": null, "to": "***"},
            {"setting": "cpu_ms", "from": 5, "to": 6},
            {"setting": "environment.B", "from": "***", "to": "***"},
            {"setting": "environment.C", "from": "***", "to": null},
            {"setting": "environment.D", "from": null, "to": "***"},
            {"setting": "server_timing", "from": null, "to": true},
        ]);
        assert_eq!(shown, expected);
        assert!(settings_diff(&from, &from).is_empty());
    }
}
