//! `docs/specification.md` says which test holds each promise. This holds it to that.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use gateway_api::LIMITS;

/// Letters of the catalogue's chapters. A test of the case G7 is called `g07_…` or `g7_…`.
const CHAPTERS: &str = "gushtacodmx";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every source file of ours by its path, with the tests in it.
fn sources() -> BTreeMap<PathBuf, BTreeSet<String>> {
    let mut sources = BTreeMap::new();
    let mut directories: Vec<PathBuf> =
        ["benches", "gateway", "runtime-pool", "store"].map(|name| root().join(name)).into();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let tests = tests(&fs::read_to_string(&path).unwrap());
                sources.insert(path.strip_prefix(root()).unwrap().to_owned(), tests);
            }
        }
    }
    sources
}

/// The functions that are tests.
fn tests(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        } else if let Some((_, after)) = line.split_once("fn ") {
            let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            if is_test {
                tests.insert(after.chars().take_while(is_part).collect());
            }
            is_test = false;
        }
    }
    tests
}

/// The last cells of the rows of all tables that say what holds a promise, with their lines.
fn held_by(document: &str) -> Vec<(usize, &str)> {
    let mut cells = Vec::new();
    let mut in_table = false;
    for (index, line) in document.lines().enumerate() {
        let Some(row) = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or(row).trim();
        if last.eq_ignore_ascii_case("held by") {
            in_table = true;
        } else if in_table && !last.starts_with("--") {
            cells.push((index + 1, last));
        }
    }
    cells
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether `reference` (`file::test`, `file.rs::test` or `file.rs`) leads to something; `None` if
/// it is something else.
fn leads(reference: &str, sources: &BTreeMap<PathBuf, BTreeSet<String>>) -> Option<bool> {
    if reference.contains(' ') || !(reference.contains("::") || reference.ends_with(".rs")) {
        return None;
    }
    let (place, test) = match reference.rsplit_once("::") {
        Some((place, test)) => (place, Some(test)),
        None => (reference, None),
    };
    let place = place.strip_suffix(".rs").unwrap_or(place).replace("::", "/");
    // A module within a file is one step further than the file.
    let outer = place.rsplit_once('/').map(|(outer, _)| outer);
    let files =
        [Some(place.as_str()), outer].into_iter().flatten().map(|file| format!("{file}.rs"));
    let files: Vec<String> = files.collect();
    let mut named =
        sources.iter().filter(|(path, _)| files.iter().any(|file| path.ends_with(file)));
    Some(named.any(|(_, tests)| match test {
        Some(test) => tests.contains(test),
        None => !tests.is_empty(),
    }))
}

fn is_of_a_case(test: &str) -> bool {
    let Some((case, _)) = test.split_once('_') else { return false };
    let number = case.strip_prefix(|letter| CHAPTERS.contains(letter));
    number.is_some_and(|number| {
        (1..=2).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

#[test]
fn every_test_that_the_specification_names_exists() {
    let document = fs::read_to_string(root().join("docs/specification.md")).unwrap();
    let sources = sources();
    let mut wrong = Vec::new();
    let mut named = 0;
    for (line, cell) in held_by(&document) {
        for reference in quoted(cell) {
            match leads(reference, &sources) {
                Some(true) => named += 1,
                Some(false) => wrong.push(format!("docs/specification.md:{line}: {reference}")),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "there is no such test:\n{}", wrong.join("\n"));
    assert!(named > 100, "only {named} tests are named: are the tables read?");
}

#[test]
fn every_test_of_a_case_is_in_the_specification() {
    let document = fs::read_to_string(root().join("docs/specification.md")).unwrap();
    let named: BTreeSet<&str> = held_by(&document)
        .into_iter()
        .flat_map(|(_, cell)| quoted(cell))
        .map(|reference| reference.rsplit("::").next().unwrap_or(reference))
        .collect();
    let mut missing = Vec::new();
    for (path, tests) in sources() {
        let cases = tests.iter().filter(|test| is_of_a_case(test));
        let unnamed = cases.filter(|test| !named.contains(test.as_str()));
        missing.extend(unnamed.map(|test| format!("{}: {test}", path.display())));
    }
    assert!(missing.is_empty(), "docs/specification.md does not name\n{}", missing.join("\n"));
}

#[test]
fn what_is_missing_is_found() {
    let document = "| Promise | Held by |\n|---|---|\n| a | api `x::here`, `x::gone`; `y.rs` |\n\n\
                    | Other | Column |\n|---|---|\n| a | `x::elsewhere` |\n";
    assert_eq!(held_by(document), [(3, "api `x::here`, `x::gone`; `y.rs`")]);
    let source = "#[tokio::test]\nasync fn here() {\n\n    #[test]\n    #[expect(x)]\n    fn there() {\n\
                  fn gone() {\n";
    let sources = BTreeMap::from([(PathBuf::from("a/x.rs"), tests(source))]);
    assert_eq!(leads("x::here", &sources), Some(true));
    assert_eq!(leads("x::tests::there", &sources), Some(true));
    assert_eq!(leads("a/x.rs::here", &sources), Some(true));
    assert_eq!(leads("x::gone", &sources), Some(false));
    assert_eq!(leads("y.rs", &sources), Some(false));
    assert_eq!(leads("x.rs", &sources), Some(true));
    assert_eq!(leads("pool.loads", &sources), None);
    assert!(is_of_a_case("g07_an_endless") && is_of_a_case("s1_no_spelling"));
    assert!(!is_of_a_case("get_07") && !is_of_a_case("g_x") && !is_of_a_case("u008_x"));
}

/// The cells of the rows of a table, below its heading.
fn rows<'a>(document: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = document.split_once(heading).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = lines.map_while(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// The list entries that begin with a name in bold, each on one line.
fn entries(document: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in document.lines() {
        if line.starts_with("- **`") {
            entries.push(line.to_owned());
            is_open = true;
        } else if let (true, Some(more)) = (is_open, line.strip_prefix("  ")) {
            let entry = entries.last_mut().unwrap();
            *entry += " ";
            *entry += more;
        } else {
            is_open = false;
        }
    }
    entries
}

/// The names in bold of a list entry.
fn names(entry: &str) -> impl Iterator<Item = &str> {
    entry.split("**`").skip(1).filter_map(|rest| Some(rest.split_once("`**")?.0))
}

/// A number as documents have it: `1,000`, `64 KiB`.
fn number(text: &str) -> Option<i64> {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, "B"));
    let times = ["B", "KiB", "MiB", "GiB", "TiB"].iter().position(|known| *known == unit)?;
    Some(digits.replace(',', "").parse::<i64>().ok()? << (10 * times))
}

/// The settings that are numbers by their keys, with their defaults.
fn numeric_settings() -> BTreeMap<String, i64> {
    let defaults = toml::Table::try_from(gateway::config::Config::default()).unwrap();
    let mut settings = BTreeMap::new();
    for (section, keys) in &defaults {
        for (key, value) in keys.as_table().into_iter().flatten() {
            settings.extend(value.as_integer().map(|value| (format!("{section}.{key}"), value)));
        }
    }
    settings
}

/// Compares what the documentation says about a number with what the gateway accepts.
fn check_number(settings: &mut BTreeMap<String, i64>, key: &str, default: &str, range: &str) {
    assert_eq!(settings.remove(key), number(default), "{key}: {default}");
    let flags = gateway::config::Flags {
        set: vec![format!("{key}={}", i64::MAX)],
        ..gateway::config::Flags::default()
    };
    let refused = gateway::config::Config::load(None, std::iter::empty(), &flags).unwrap_err();
    let numbers = |text: &str| -> Vec<i64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let accepted = refused.to_string();
    let (_, accepted) = accepted.rsplit_once(": ").unwrap();
    let (least, most) = range.split_once(" to ").expect(range);
    for bound in [least, most] {
        let bound = number(bound).expect(range);
        assert!(numbers(accepted).contains(&bound), "{key}: {range}, but {accepted}");
    }
}

#[test]
fn every_limit_is_documented_with_its_default_what_counts_it_and_what_happens() {
    let read = |name: &str| fs::read_to_string(root().join("docs").join(name)).unwrap();
    let (configuration, operations, problems) =
        (read("configuration.md"), read("operations.md"), read("problems.md"));
    let mut settings = numeric_settings();
    let limits: Vec<String> =
        settings.keys().filter(|key| !key.starts_with("ceilings.")).cloned().collect();
    for row in rows(&configuration, "## What a function may use") {
        let [key, default, ceiling, range, meaning] = row[..] else { panic!("{row:?}") };
        let key = key.trim_matches('`');
        let limit = LIMITS.iter().find(|limit| limit.key == key).expect(key);
        assert_eq!(meaning, limit.meaning, "{key}");
        check_number(&mut settings, &format!("limits.{key}"), default, range);
        check_number(&mut settings, &format!("ceilings.{key}"), ceiling, range);
    }
    let entries = entries(&configuration);
    let metrics = self::entries(&operations);
    for limit in &limits {
        let entry = entries.iter().find(|entry| names(entry).any(|name| name == limit));
        let entry = entry.unwrap_or_else(|| panic!("docs/configuration.md has no entry {limit}"));
        if !limit.starts_with("limits.") {
            let (_, value) = entry.split_once("`** (").expect(entry);
            let (default, range) = value.split_once("; ").expect(entry);
            let (range, _) = range.split_once("):").expect(entry);
            check_number(&mut settings, limit, default, range);
        }
        let (_, happens) = entry.split_once("At the limit: ").expect(entry);
        let Some((happens, counted)) = happens.split_once(" Counted by ") else {
            assert!(happens.ends_with(" Not counted."), "{entry}");
            continue;
        };
        for problem in quoted(happens).filter(|text| text.contains('-')) {
            assert!(problems.contains(&format!("- **`{problem}`** (")), "{entry}");
        }
        let mut counted = quoted(counted);
        let metric = counted.next().expect(entry);
        let metric = metrics.iter().find(|entry| names(entry).any(|name| name == metric));
        let metric = metric.unwrap_or_else(|| panic!("no such metric: {entry}"));
        for label in counted.map(|label| format!("`{label}`")) {
            assert!(metric.contains(&label) || problems.contains(&label), "{entry}");
        }
    }
    assert!(settings.is_empty(), "docs/configuration.md does not describe {settings:?}");
}

#[test]
fn every_setting_is_documented() {
    let configuration = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let entries = entries(&configuration);
    let documented: BTreeSet<&str> = entries.iter().flat_map(|entry| names(entry)).collect();
    let defaults = toml::Table::try_from(gateway::config::Config::default()).unwrap();
    let mut settings = BTreeSet::new();
    for (name, value) in defaults.iter().filter(|(name, _)| *name != "ceilings") {
        match value.as_table() {
            Some(keys) => settings.extend(keys.keys().map(|key| format!("{name}.{key}"))),
            None => {
                settings.insert(name.clone());
            }
        }
    }
    assert_eq!(documented, settings.iter().map(String::as_str).collect());
}

#[test]
fn every_metric_is_explained() {
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut metrics = 0;
    for path in
        sources().keys().filter(|path| path.components().any(|part| part.as_os_str() == "src"))
    {
        let source = fs::read_to_string(root().join(path)).unwrap();
        let names = source.split('"').filter(|text| {
            let part = |c: char| c.is_ascii_lowercase() || c == '_';
            text.starts_with("mayfly_") && text.chars().all(part)
        });
        for name in names {
            metrics += 1;
            assert!(operations.contains(&format!("`{name}`")), "{}: {name}", path.display());
        }
    }
    assert!(metrics > 30, "only {metrics} metrics are in the sources: are they read?");
}

#[test]
fn every_dependency_is_explained() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let explained = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let all = manifest["workspace"]["dependencies"].as_table().unwrap();
    let others = all.iter().filter(|(_, from)| from.get("path").is_none());
    let missing: Vec<&String> = others
        .map(|(name, _)| name)
        .filter(|name| !explained.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/dependencies.md does not explain {missing:?}");
}
