//! `docs/specification.md` says which test holds each promise. This holds it to that.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

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

/// A number as documents have it: `1,000`, `64 KiB`.
fn number(text: &str) -> Option<i64> {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let times = ["", "KiB", "MiB", "GiB"].iter().position(|known| *known == unit)?;
    Some(digits.replace(',', "").parse::<i64>().ok()? << (10 * times))
}

#[test]
fn every_limit_is_documented_with_its_default_what_counts_it_and_what_happens() {
    let read = |name: &str| fs::read_to_string(root().join("docs").join(name)).unwrap();
    let (configuration, operations, problems) =
        (read("configuration.md"), read("operations.md"), read("problems.md"));
    let defaults = toml::Table::try_from(gateway::config::Config::default()).unwrap();
    let mut limits = BTreeMap::new();
    for (section, settings) in &defaults {
        // These are what the limits may be raised to.
        for (key, value) in
            settings.as_table().filter(|_| section != "ceilings").into_iter().flatten()
        {
            limits.extend(value.as_integer().map(|value| (format!("{section}.{key}"), value)));
        }
    }
    let known = |text: &str, document: &str| document.contains(&format!("`{text}`"));
    for row in rows(&configuration, "## What happens at each limit") {
        let [setting, default, counted, happens] = row[..] else { panic!("{row:?}") };
        let setting = setting.trim_matches('`');
        assert_eq!(limits.remove(setting), number(default), "{setting}: {default}");
        let mut names = quoted(counted);
        if let Some(metric) = names.next() {
            let start = format!("| `{metric}`");
            let metric = operations.lines().find(|line| line.starts_with(&start)).expect(counted);
            for label in names {
                assert!(known(label, metric) || known(label, &problems), "{setting}: {label}");
            }
        } else {
            assert_eq!(counted, "nothing", "{setting}");
        }
        for problem in quoted(happens).filter(|text| text.contains('-')) {
            assert!(problems.contains(&format!("| `{problem}` |")), "{setting}: {problem}");
        }
    }
    assert!(limits.is_empty(), "docs/configuration.md does not say what happens at {limits:?}");
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
