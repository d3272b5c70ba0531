//! Holds the source layout of the crates to rules: no circles, no crowded level, few names twice.

#![expect(clippy::unwrap_used, reason = "a test may panic, in what it shares with others too")]

mod arrows;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::arrows::{Arrows, Modules, Sources};

/// A test leaves out those that have no `src`.
const CRATES: [&str; 6] = [
    "backends/conformance",
    "backends/embedded",
    "gateway",
    "gateway/api",
    "runtime-pool",
    "store",
];
/// A reader takes in about a dozen entries at a glance; `lib.rs` and `main.rs` count too.
const ENTRIES_MAX: usize = 14;
/// A type name stands for one thing. Arbitrary: room for `Error` and a few words of two crates.
const DUPLICATES_MAX: usize = 14;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn crates(root: &Path) -> impl Iterator<Item = &'static str> {
    CRATES.into_iter().filter(|name| root.join(name).join("src").is_dir())
}

fn sources(root: &Path, name: &str) -> Sources {
    let mut sources = Sources::new();
    let mut directories: Vec<PathBuf> = vec![root.join(name).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}

fn file(path: &str) -> Option<&str> {
    Some(path)
}

/// `src/foo/` together with `src/foo.rs`; the root is in no room.
fn room(path: &str) -> Option<&str> {
    let (_, below) = path.split_once("src/")?;
    let room = below.split('/').next()?.trim_end_matches(".rs");
    (room != "lib" && room != "main").then_some(room)
}

/// Arrows from one place to another, where a place is a file or a room.
fn between(arrows: &Arrows, place: fn(&str) -> Option<&str>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut between: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        if let (Some(from), Some(to)) = (place(from), place(to))
            && from != to
        {
            between.entry(from).or_default().insert(to);
        }
    }
    between
}

/// Sets of places that lead to each other, each with the arrows that make it a circle.
fn circles(arrows: &Arrows, place: fn(&str) -> Option<&str>) -> Vec<String> {
    let between = between(arrows, place);
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = vec![from];
        while let Some(next) = open.pop() {
            for to in between.get(next).into_iter().flatten() {
                if reached.insert(*to) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        between.keys().map(|from| (*from, reached(from))).collect();
    let circles: BTreeSet<Vec<&str>> = reached
        .iter()
        .filter(|(from, to)| to.contains(*from))
        .map(|(from, to)| {
            let back = |to: &&str| reached.get(to).is_some_and(|back| back.contains(from));
            to.iter().copied().filter(back).collect()
        })
        .collect();
    let texts = circles.into_iter().map(|circle| {
        let mut text = format!("a circle of {}: {}\n", circle.len(), circle.join(", "));
        let is_in = |path| place(path).is_some_and(|place| circle.contains(&place));
        for ((from, to), paths) in arrows {
            if is_in(from) && is_in(to) && place(from) != place(to) {
                // Names that a `use` brings in only repeat the path in that `use`.
                let is_whole =
                    |path: &&&str| path.starts_with("crate::") || path.contains("super::");
                let all: Vec<&str> = paths.iter().map(String::as_str).collect();
                let whole: Vec<&str> = all.iter().filter(is_whole).copied().collect();
                let paths = if whole.is_empty() { all } else { whole };
                text += &format!("    {from} -> {to} ({})\n", paths.join(", "));
            }
        }
        text
    });
    texts.collect()
}

/// The entries of every directory, `foo.rs` and `foo/` being one.
fn levels(sources: &Sources) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut levels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in sources.keys() {
        let mut path = path.as_str();
        while let Some((level, entry)) = path.rsplit_once('/') {
            levels.entry(level).or_default().insert(entry.trim_end_matches(".rs"));
            if level.ends_with("/src") {
                break;
            }
            path = level;
        }
    }
    levels
}

/// Names of types that several files define, with these.
fn duplicates(crates: &[Modules]) -> BTreeMap<String, BTreeSet<String>> {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, file) in crates.iter().flat_map(Modules::types) {
        places.entry(name).or_default().insert(file);
    }
    places.retain(|_, files| files.len() > 1);
    places
}

fn read(name: &str) -> Modules {
    let modules = Modules::read(&sources(root(), name), name);
    assert!(modules.missing.is_empty(), "declared, but not there: {:?}", modules.missing);
    modules
}

fn has_no_circle(place: fn(&str) -> Option<&str>) {
    let arrows: Vec<Arrows> = crates(root()).map(|name| read(name).arrows()).collect();
    let found: Vec<String> = arrows.iter().flat_map(|arrows| circles(arrows, place)).collect();
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
    let all: usize = arrows.iter().map(BTreeMap::len).sum();
    assert!(all > 100, "only {all} arrows: are the sources read?");
}

#[test]
fn no_circle_runs_between_files() {
    has_no_circle(file);
}

#[test]
fn no_circle_runs_between_rooms() {
    has_no_circle(room);
}

#[test]
fn no_level_has_too_many_entries() {
    let mut crowded = Vec::new();
    for name in crates(root()) {
        for (level, entries) in levels(&sources(root(), name)) {
            if entries.len() > ENTRIES_MAX {
                crowded.push(format!("{level} has {}: {entries:?}", entries.len()));
            }
        }
    }
    assert!(crowded.is_empty(), "more than {ENTRIES_MAX} entries:\n{}", crowded.join("\n"));
}

#[test]
fn few_type_names_are_defined_in_two_files() {
    let crates: Vec<Modules> = crates(root()).map(read).collect();
    let duplicates = duplicates(&crates);
    let lines: Vec<String> =
        duplicates.iter().map(|(name, files)| format!("{name}: {files:?}")).collect();
    let count = lines.len();
    assert!(
        count <= DUPLICATES_MAX,
        "{count} names, at most {DUPLICATES_MAX}:\n{}",
        lines.join("\n")
    );
}

/// A crate `x` of these files.
fn tree(files: &[(&str, &str)]) -> (Sources, Modules) {
    let files = files.iter().map(|(path, text)| (format!("x/src/{path}"), (*text).to_owned()));
    let sources: Sources = files.collect();
    let modules = Modules::read(&sources, "x");
    (sources, modules)
}

#[test]
fn arrows_lead_to_the_file_that_defines_a_name() {
    let (_, modules) = tree(&[
        ("lib.rs", "mod a; mod b; mod c; mod d; #[cfg(test)] mod gone; pub use crate::d::Deep;"),
        ("a.rs", "pub use self::inner::Inner; mod inner; use crate::b::B as Bee; type T = Bee;"),
        ("a/inner.rs", "pub struct Inner; impl Inner { #[cfg(test)] fn x() { super::x(); } }"),
        ("b.rs", "pub struct B; fn b() { println!(\"{}\", crate::c::C); }"),
        ("c.rs", "pub struct C(super::a::Inner); #[cfg(test)] mod tests { use crate::d::Deep; }"),
        (
            "d.rs",
            "pub struct Deep; mod e { use crate::c; fn f(a: u8) { c::g(a); std::mem::drop(a); } }",
        ),
    ]);
    assert!(modules.missing.is_empty(), "{:?}", modules.missing);
    let arrows = modules.arrows();
    let short = |path: &str| path.replace("x/src/", "").replace(".rs", "");
    let found: Vec<String> =
        arrows.keys().map(|(from, to)| format!("{} {}", short(from), short(to))).collect();
    assert_eq!(found, ["a b", "b c", "c a/inner", "d c"]);
    // `c` needs `a/inner`, which `a` only re-exports.
    assert!(circles(&arrows, file).is_empty());
    let of_rooms = circles(&arrows, room);
    assert_eq!(of_rooms.len(), 1, "{of_rooms:?}");
    assert!(of_rooms[0].starts_with("a circle of 3: a, b, c\n"), "{}", of_rooms[0]);
    assert!(of_rooms[0].contains("    x/src/c.rs -> x/src/a/inner.rs (super::a::Inner)\n"));
}

#[test]
fn circles_crowds_and_duplicates_are_found() {
    let (sources, modules) = tree(&[
        ("lib.rs", "mod a; mod b; pub use crate::b::Both;"),
        ("a.rs", "mod child; struct Twice; fn a() { child::run(); }"),
        ("a/child.rs", "pub fn run() { super::a(); }"),
        ("b.rs", "pub struct Both; mod inline { struct Twice; } fn b() { crate::a::a(); }"),
        ("tests.rs", ""),
    ]);
    let of_files = circles(&modules.arrows(), file);
    assert_eq!(of_files.len(), 1, "{of_files:?}");
    assert!(of_files[0].starts_with("a circle of 2: x/src/a.rs, x/src/a/child.rs\n"));
    assert!(circles(&modules.arrows(), room).is_empty());
    assert_eq!(levels(&sources)["x/src"], BTreeSet::from(["a", "b", "lib", "tests"]));
    let twice = BTreeSet::from(["x/src/a.rs", "x/src/b.rs"].map(str::to_owned));
    assert_eq!(duplicates(&[modules]), BTreeMap::from([("Twice".to_owned(), twice)]));
}
