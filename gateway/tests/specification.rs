//! Holds the documents to the code: `docs/specification.md` names the tests of each promise,
//! `docs/configuration.md` every limit, `docs/operations.md` every metric and
//! `docs/dependencies.md` every dependency.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use gateway_api::LIMITS;

/// The chapters of the hostile cases. A case is a chapter and a number, for example `G07`.
const CHAPTERS: &str = "GUSHTACODMXFNBYWKEIJLZ";

/// The tests of a source file by name, each with its cases.
type Tests = BTreeMap<String, BTreeSet<CaseId>>;

/// Every source file of this repository by its path, with its tests.
type Sources = BTreeMap<PathBuf, Tests>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CaseId {
    chapter: char,
    number: u8,
}

impl CaseId {
    /// Reads `G07` or `G7`.
    fn parse(text: &str) -> Option<Self> {
        let chapter = text.chars().next().filter(|chapter| CHAPTERS.contains(*chapter))?;
        let digits = &text[1..];
        let is_number = matches!(digits.len(), 1..=2) && digits.bytes().all(|b| b.is_ascii_digit());
        Some(Self { chapter, number: digits.parse().ok().filter(|_| is_number)? })
    }

    /// The cases at the beginning of a test's name: G07 and U01 in `g07_u01_an_endless_loop`.
    fn all_in_name(name: &str) -> impl Iterator<Item = Self> {
        let parts = name.split('_').filter(|part| !part.contains(char::is_uppercase));
        parts.map_while(|part| Self::parse(&part.to_ascii_uppercase()))
    }

    /// The cases in a line of a doc comment that is `Case G07.` or `Cases G07, U01.`
    fn all_in_doc_comment(line: &str) -> Option<BTreeSet<Self>> {
        let cases = line.strip_prefix("Case ").or_else(|| line.strip_prefix("Cases "))?;
        cases.strip_suffix('.')?.split(", ").map(Self::parse).collect()
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}", self.chapter, self.number)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources() -> Sources {
    let mut sources = BTreeMap::new();
    let mut directories: Vec<PathBuf> = ["backends", "benches", "gateway", "runtime-pool", "store"]
        .map(|name| root().join(name))
        .into();
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

/// Finds the functions of a source file that are tests. A test's cases stand in the first line of
/// its doc comment.
fn tests(source: &str) -> Tests {
    let mut tests = Tests::new();
    let mut is_test = false;
    let mut cases = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        if line.is_empty() {
            cases.clear();
        } else if let Some(comment) = line.strip_prefix("/// ") {
            cases.extend(CaseId::all_in_doc_comment(comment).into_iter().flatten());
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        } else if let Some((_, after)) = line.split_once("fn ") {
            let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let name: String = after.chars().take_while(is_part).collect();
            // One that every backend runs by the suite for backends.
            if is_test || after.ends_with("(subject: TestedBackend) {") {
                tests.insert(name, std::mem::take(&mut cases));
            }
            is_test = false;
            cases.clear();
        }
    }
    tests
}

/// The heading after the last chapter of promises.
const AFTER_PROMISES: &str = "\n## Defaults that were raised\n";

/// A promise of the specification: an item of a list.
#[derive(Debug, PartialEq, Eq)]
struct Promise<'a> {
    /// Its line in the document, counted from 1.
    line: usize,
    /// The cases at its beginning: G07 in `**G07.**`, X02 in `**X02 (features).**`, C05 and C11 in
    /// `**C05, C11.**`.
    cases: BTreeSet<CaseId>,
    /// The items below it, which name its tests.
    tests: Vec<&'a str>,
}

impl Promise<'_> {
    fn new(line: usize, text: &str) -> Self {
        let bold = text.strip_prefix("**").and_then(|text| text.split_once(".**"));
        let ids = bold.map_or("", |(ids, _)| ids);
        let ids = ids.split_once(" (").map_or(ids, |(ids, _)| ids);
        Self { line, cases: ids.split(", ").map_while(CaseId::parse).collect(), tests: Vec::new() }
    }
}

fn specification() -> String {
    fs::read_to_string(root().join("docs/specification.md")).unwrap()
}

/// The promises of the chapters between the introduction and [`AFTER_PROMISES`].
fn promises(document: &str) -> Vec<Promise<'_>> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    let (document, _) = document.split_once(AFTER_PROMISES).unwrap();
    let lines = document.lines().enumerate().skip_while(|(_, line)| !line.starts_with("## "));
    for (index, line) in lines {
        if let Some(text) = line.strip_prefix("- ") {
            promises.push(Promise::new(index + 1, text));
        } else if let Some(tests) = line.strip_prefix("  - ") {
            promises.last_mut().unwrap().tests.push(tests);
        }
    }
    promises
}

/// The parts of a text that stand in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The files that `reference` (`file::test`, `file.rs::test` or `file.rs`) names, with the test if
/// it names one. `None` if it is not a reference to tests.
fn resolve<'a, 'b>(
    reference: &'a str,
    sources: &'b Sources,
) -> Option<(Vec<&'b Path>, Option<&'a str>)> {
    if reference.contains(' ') || !(reference.contains("::") || reference.ends_with(".rs")) {
        return None;
    }
    let (place, test) = match reference.rsplit_once("::") {
        Some((place, test)) => (place, Some(test)),
        None => (reference, None),
    };
    let files = if place.ends_with(".rs") {
        vec![place.to_owned()]
    } else {
        let place = place.replace("::", "/");
        // The last part of the place may be a module within a file.
        let outer = place.rsplit_once('/').map(|(outer, _)| format!("{outer}.rs"));
        [Some(format!("{place}.rs")), outer].into_iter().flatten().collect()
    };
    let found = sources.iter().filter(|(path, tests)| {
        files.iter().any(|file| path.ends_with(file))
            && test.map_or(!tests.is_empty(), |test| tests.contains_key(test))
    });
    Some((found.map(|(path, _)| path.as_path()).collect(), test))
}

#[test]
fn every_promise_names_its_tests_and_all_of_them_exist() {
    let document = specification();
    let (promises, sources) = (promises(&document), sources());
    let known: BTreeSet<CaseId> =
        promises.iter().flat_map(|promise| &promise.cases).copied().collect();
    let mut wrong = Vec::new();
    let mut named = 0;
    for promise in &promises {
        let at = format!("docs/specification.md:{}", promise.line);
        if promise.tests.is_empty() {
            wrong.push(format!("{at}: no tests and no word about that"));
        }
        for tests in &promise.tests {
            let others = tests.strip_prefix("see ").into_iter().flat_map(|ids| ids.split(", "));
            for id in others.filter(|id| CaseId::parse(id).is_none_or(|id| !known.contains(&id))) {
                wrong.push(format!("{at}: there is no case {id}"));
            }
            for reference in quoted(tests) {
                match resolve(reference, &sources) {
                    Some((files, _)) if files.is_empty() => {
                        wrong.push(format!("{at}: there is no test {reference}"));
                    }
                    Some((files, None)) if files.len() > 1 => {
                        wrong.push(format!("{at}: {reference} may be each of {files:?}"));
                    }
                    Some(_) => named += 1,
                    None => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(named > 100, "only {named} tests are named: are the lists read?");
}

#[test]
fn every_test_of_a_case_is_named_below_that_case() {
    let document = specification();
    let sources = sources();
    let mut named = BTreeSet::new();
    for promise in promises(&document) {
        for reference in promise.tests.iter().flat_map(|tests| quoted(tests)) {
            if let Some((files, Some(test))) = resolve(reference, &sources) {
                let cases = promise.cases.iter();
                named.extend(cases.flat_map(|case| files.iter().map(|file| (*file, test, *case))));
            }
        }
    }
    let mut missing = Vec::new();
    for (path, tests) in &sources {
        for (test, cases) in tests {
            let unnamed = cases.iter().filter(|case| !named.contains(&(path, test, **case)));
            missing.extend(unnamed.map(|case| format!("{}: {test} below {case}", path.display())));
        }
    }
    assert!(missing.is_empty(), "docs/specification.md does not name\n{}", missing.join("\n"));
    assert!(named.len() > 200, "only {} tests of cases are named", named.len());
}

#[test]
fn no_test_has_a_case_in_its_name() {
    let sources = sources();
    let mut wrong = Vec::new();
    let mut with_cases = 0;
    for (path, tests) in &sources {
        let prefixed = tests.keys().filter(|test| CaseId::all_in_name(test).next().is_some());
        wrong.extend(prefixed.map(|test| format!("{}: {test}", path.display())));
        with_cases += tests.values().filter(|cases| !cases.is_empty()).count();
    }
    assert!(wrong.is_empty(), "cases belong into the doc comments of\n{}", wrong.join("\n"));
    assert!(with_cases > 200, "only {with_cases} tests have cases: are the doc comments read?");
}

#[test]
fn promises_references_and_cases_are_read() {
    let case = |text| CaseId::parse(text).unwrap();
    let document = format!(
        "- introduction\n  - `x::here`\n\n## Chapter\n\n- A promise\n  goes on.\n  - api `x::here`\n  \
         - see G07\n- Untested.\n\n### C: Next\n\n- **C05, C11.** Two.\n  - no test\n\
         - **X2 (b).** *One*.\n  - `x::here`\n{AFTER_PROMISES}\n- a default\n"
    );
    let promise = |line, cases: &[CaseId], tests| Promise {
        line,
        cases: cases.iter().copied().collect(),
        tests,
    };
    let expected = [
        promise(6, &[], vec!["api `x::here`", "see G07"]),
        promise(10, &[], vec![]),
        promise(14, &[case("C05"), case("C11")], vec!["no test"]),
        promise(16, &[case("X02")], vec!["`x::here`"]),
    ];
    assert_eq!(promises(&document), expected);

    let source = "/// Cases G07, U16.\n/// Why.\n#[tokio::test]\nasync fn here() {\n\n    #[test]\n\
                  #[expect(x)]\n    fn g1_there() {\n/// Case G08.\nfn gone() {\n\n\
                  /// Case S01.\n\n#[test]\nfn without() {\n";
    let tests = tests(source);
    assert_eq!(tests["here"], BTreeSet::from([case("G7"), case("U16")]));
    assert_eq!(tests["g1_there"], BTreeSet::new());
    assert_eq!(CaseId::all_in_name("g1_there").collect::<Vec<_>>(), [case("G01")]);
    assert_eq!(tests["without"], BTreeSet::new());
    assert_eq!(tests.len(), 3);

    let sources = BTreeMap::from([(PathBuf::from("a/x.rs"), tests)]);
    let found = |reference| resolve(reference, &sources).map(|(files, _)| files.len());
    assert_eq!(found("x::here"), Some(1));
    assert_eq!(found("x::tests::g1_there"), Some(1));
    assert_eq!(found("a/x.rs::here"), Some(1));
    assert_eq!(found("x::gone"), Some(0));
    assert_eq!(found("y.rs"), Some(0));
    assert_eq!(found("x.rs"), Some(1));
    assert_eq!(found("pool.loads"), None);

    for name in ["http2_works", "get_07", "g_x", "u008_x", "G07_x", "wasi_0_3", "a_token"] {
        assert_eq!(CaseId::all_in_name(name).next(), None, "{name}");
    }
    for line in ["Case G07", "Case G007.", "Cases G07, each.", "G07."] {
        assert_eq!(CaseId::all_in_doc_comment(line), None, "{line}");
    }
}

/// The cells of the rows of the first table below a heading.
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

/// Parses a number as the documents write it: `1,000`, `64 KiB`.
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
fn every_limit_is_documented_with_its_default_its_metric_and_its_effect() {
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
