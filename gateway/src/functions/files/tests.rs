//! Archives of strangers, each trick by itself, and archives of the library, which become the tree that
//! was put into them.

use std::{collections::BTreeMap, io::Write as _, sync::LazyLock};

use proptest::{collection::btree_map, prelude::*};
use runtime_pool::{FileList, ListedEntry};
use store::{Digest, Store, StoreConfig};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    names::TreeLimits,
    unpack::{UnpackError, archive_bytes, unpack},
};

const BLOCK: usize = 512;
const LIMITS: TreeLimits =
    TreeLimits { entries: 60, bytes: 100_000, file_bytes: 50_000, path_bytes: 300, depth: 6 };

/// The store of all tests of a process.
static STORE: LazyLock<(TempDir, Runtime, Store)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(Store::open(&StoreConfig::new(dir.path()))).unwrap();
    (dir, runtime, store)
});

/// The list of the tree of an archive.
fn tree_within(archive: &[u8], limits: TreeLimits) -> Result<FileList, UnpackError> {
    let (_, runtime, store) = &*STORE;
    // Files are removed on a thread of the runtime.
    let _entered = runtime.enter();
    let unpacked = unpack(archive, store.begin_tree(), limits)?;
    assert_eq!(unpacked.digest, Digest::of(unpacked.list.to_string().as_bytes()));
    assert_eq!(FileList::parse(&unpacked.list.to_string()).as_ref(), Ok(&unpacked.list));
    Ok(unpacked.list)
}

fn tree(archive: &[u8]) -> Result<FileList, UnpackError> {
    tree_within(archive, LIMITS)
}

/// Why an archive is refused, with the reasons of the reason.
fn refusal(archive: &[u8]) -> String {
    let error = tree(archive).expect_err("it is refused");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

fn listed(entries: &[(&str, &str)]) -> FileList {
    let entry = |(path, content): &(&str, &str)| match path.strip_suffix('/') {
        Some(directory) => (directory.to_owned(), ListedEntry::Directory),
        None => {
            let digest = *Digest::of(content.as_bytes()).as_bytes();
            let bytes = content.len() as u64;
            ((*path).to_owned(), ListedEntry::File { digest, bytes })
        }
    };
    FileList::new(entries.iter().map(entry).collect())
}

/// A header with any name, however wrong.
fn header(name: &[u8], kind: u8, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[156] = kind;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// A member with any name and content.
fn member(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut member = header(name, kind, content.len() as u64).as_bytes().to_vec();
    member.extend(content);
    member.resize(member.len().next_multiple_of(BLOCK), 0);
    member
}

fn file(name: &str, content: &str) -> Vec<u8> {
    member(name.as_bytes(), b'0', content.as_bytes())
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), end()].concat()
}

/// A record of POSIX's extension, with its own length.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (1..).find(|length| *length == rest.len() + length.to_string().len());
    format!("{}{rest}", length.unwrap()).into_bytes()
}

fn pax(records: &[Vec<u8>]) -> Vec<u8> {
    member(b"pax", b'x', &records.concat())
}

#[test]
fn the_archives_of_common_tools_become_trees() {
    let expected = listed(&[("a.txt", "one"), ("d/b", "two"), ("empty/", "")]);
    // With and without `./`, with and without directories, in any order.
    let dotted = archive(&[
        member(b"./", b'5', b""),
        member(b"./d/", b'5', b""),
        file("./d/b", "two"),
        member(b"./empty/", b'5', b""),
        file("./a.txt", "one"),
    ]);
    let plain = archive(&[file("a.txt", "one"), member(b"empty", b'5', b""), file("d/b", "two")]);
    // Old tools mark files by a zero byte, and fill their last record with zeros.
    let old = [
        archive(&[member(b"a.txt", 0, b"one"), file("d/b", "two"), member(b"empty", b'5', b"")]),
        vec![0; 20 * BLOCK],
    ]
    .concat();
    for archive in [dotted, plain, old] {
        assert_eq!(tree(&archive).unwrap(), expected);
    }
    assert_eq!(tree(&end()).unwrap(), FileList::default());
}

#[test]
fn long_names_come_by_the_prefix_or_by_either_extension() {
    let long = format!("{}/file", "d".repeat(150));
    let expected = listed(&[(&long, "x")]);
    let mut gnu = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    gnu.append_data(&mut header, &long, &b"x"[..]).unwrap();
    assert_eq!(tree(&gnu.into_inner().unwrap()).unwrap(), expected);

    let mut ustar = self::header(b"file", b'0', 1);
    ustar.as_mut_bytes()[345..345 + 150].copy_from_slice("d".repeat(150).as_bytes());
    ustar.set_cksum();
    let mut content = ustar.as_bytes().to_vec();
    content.push(b'x');
    content.resize(2 * BLOCK, 0);
    assert_eq!(tree(&archive(&[content])).unwrap(), expected);

    let records = [record("path", &long), record("mtime", "1.5"), record("SCHILY.xattr.a", "\n=")];
    let posix = archive(&[
        member(b"global", b'g', &record("comment", "4be1f0c")),
        pax(&records),
        file("short", "x"),
    ]);
    assert_eq!(tree(&posix).unwrap(), expected);
}

/// Case Y01.
#[test]
fn whatever_is_no_file_and_no_directory_is_refused_by_its_kind() {
    for (kind, expected) in [
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "a device"),
        (b'4', "a device"),
        (b'6', "a pipe"),
        (b'7', "neither a file nor a directory"),
        (b'S', "a sparse file"),
        (b'K', "a link with a long target"),
        (b'V', "neither a file nor a directory"),
        (b'D', "neither a file nor a directory"),
        (b'M', "neither a file nor a directory"),
        (b'X', "neither a file nor a directory"),
        (255, "neither a file nor a directory"),
    ] {
        let text = refusal(&archive(&[file("a", ""), member(b"b", kind, b"")]));
        assert_eq!(text, format!("member 2 is {expected}"));
    }
    let text = refusal(&archive(&[member(b"d", b'5', b"content")]));
    assert_eq!(text, "member 1 is a directory with content");
}

/// Case Y02.
#[test]
fn a_name_means_the_same_to_every_program_or_is_refused() {
    let long = format!("{}/{}", "n".repeat(60), "m".repeat(35));
    for (names, expected) in [
        (&["/etc/passwd"][..], "\"/etc/passwd\" is absolute"),
        (&[".//etc/passwd"], "is absolute"),
        (&["../a"], "contains `..`"),
        (&["a/../../b"], "contains `..`"),
        (&["a/.."], "contains `..`"),
        (&["./../a"], "contains `..`"),
        (&["a//b"], "contains an empty name"),
        (&["a/./b"], "or the name `.`"),
        (&["././a"], "or the name `.`"),
        (&[""], "contains an empty name"),
        (&["."], "ends with a slash"),
        (&["a/"], "ends with a slash"),
        (&["a\nb"], "contains a control character"),
        (&["a\u{7f}"], "contains a control character"),
        (&["a", "a"], "\"a\" is there twice"),
        (&["./a", "a"], "\"a\" is there twice"),
        (&["a", "a/b"], "\"a\" is both a file and a directory"),
        (&["a/b", "a"], "\"a\" is both a file and a directory"),
        (&["a/b/c", "a/b"], "\"a/b\" is both a file and a directory"),
        (&["\u{e9}", "e\u{301}"], "differs from another path only by its Unicode normalisation"),
        (&["e\u{301}/a", "\u{e9}/b"], "differs from another path only by its Unicode"),
        (&["\u{212b}", "\u{c5}"], "differs from another path only by its Unicode"),
        (&["a/b/c/d/e/f/g"], "more than 6 names deep"),
    ] {
        let members: Vec<_> = names.iter().map(|name| file(name, "x")).collect();
        let text = refusal(&archive(&members));
        assert!(text.contains(expected), "{names:?}: {text}");
    }
    let text = refusal(&archive(&[member(b"\xff", b'0', b"")]));
    assert!(text.starts_with("a path is not UTF-8"), "{text}");
    let directories = [member(b"d", b'5', b""), member(b"d/", b'5', b"")];
    assert!(refusal(&archive(&directories)).contains("is there twice"));
    // What is not wrong by itself.
    for name in ["...", "a.", " a", "a\\b", "C:", "con", "\u{e9}", "e\u{301}", &long] {
        assert!(tree(&archive(&[file(name, "x")])).is_ok(), "{name}");
    }
}

/// Case Y03.
#[test]
fn an_archive_that_lies_about_itself_is_refused() {
    let whole = archive(&[file("a", "content")]);
    for length in [1, BLOCK - 1, BLOCK, BLOCK + 3, 2 * BLOCK, 3 * BLOCK, whole.len() - 1] {
        assert_eq!(refusal(&whole[..length]), "the archive is cut off", "{length}");
    }
    assert_eq!(refusal(b""), "the archive is cut off");
    for after in [&b"x"[..], &file("b", "")] {
        let text = refusal(&[&whole, after].concat());
        assert_eq!(text, "bytes follow the end of the archive");
    }
    let half_an_end = [&whole[..3 * BLOCK], &file("b", "")].concat();
    assert_eq!(refusal(&half_an_end), "bytes follow the end of the archive");

    let no_archive = "member 1 has no valid header: this is no tar archive, or it is damaged";
    assert_eq!(refusal(&[7; 4 * BLOCK]), no_archive);
    assert_eq!(refusal(&b"PK\x03\x04".repeat(BLOCK)), no_archive);
    let mut changed = whole;
    changed[0] ^= 1;
    assert_eq!(refusal(&changed), no_archive, "the sum does not hold");
    // A size in base 256, with a sign, with garbage: other readers differ in what they make of it.
    for size in [&b"\x80\0\0\0\0\0\0\0\0\0\0\x07"[..], b"-7", b"0000000000x", b"9", b"\0", b"1 7"] {
        let mut header = header(b"a", b'0', 0);
        let field = &mut header.as_mut_bytes()[124..136];
        field.fill(0);
        field[..size.len()].copy_from_slice(size);
        header.set_cksum();
        assert_eq!(refusal(&archive(&[header.as_bytes().to_vec()])), no_archive, "{size:?}");
    }
    // Nothing is reserved for what a header promises.
    let huge = header(b"a", b'0', 0o77777777777);
    let text = refusal(&[huge.as_bytes().to_vec(), vec![0; 60_000]].concat());
    assert!(text.contains("uploads.file_bytes"), "{text}");
}

/// Case Y04.
#[test]
fn an_extension_changes_nothing_but_a_name() {
    let with = |extensions: &[Vec<u8>]| {
        refusal(&[extensions.concat(), archive(&[file("a", "x")])].concat())
    };
    for (key, value) in [
        ("size", "0"),
        ("linkpath", "/etc/passwd"),
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.realsize", "10"),
        ("SCHILY.realsize", "10"),
        ("hdrcharset", "BINARY"),
        ("path2", "b"),
        ("", "b"),
    ] {
        let text = with(&[pax(&[record(key, value)])]);
        let expected = format!("the extension of member 1 sets {key:?}, which is not supported");
        assert_eq!(text, expected);
    }
    let global = member(b"g", b'g', &record("path", "b"));
    assert!(with(&[global]).contains("sets \"path\""), "a name for all members");
    let path = |name| pax(&[record("path", name)]);
    let gnu = |name: &[u8]| member(b"././@LongLink", b'L', name);
    for (extensions, expected) in [
        (vec![pax(&[record("path", "b"), record("path", "c")])], "gives it a second name"),
        (vec![path("b"), path("c")], "is the second of its kind"),
        (vec![gnu(b"b\0"), gnu(b"c\0")], "gives it a second name"),
        (vec![gnu(b"b\0"), path("c")], "gives it a second name"),
        (vec![path("c"), gnu(b"b\0")], "gives it a second name"),
        (vec![member(b"p", b'x', b"12 path=b\n")], "cannot be read"),
        (vec![member(b"p", b'x', b"3 a\n")], "cannot be read"),
        (vec![member(b"p", b'x', b"0 \n")], "cannot be read"),
        (vec![member(b"p", b'x', b"99999999999999999999 a=b\n")], "cannot be read"),
        (vec![member(b"p", b'x', b"-1 a=b\n")], "cannot be read"),
        (vec![member(b"p", b'x', &[b'x'; 70_000])], "has 70000 bytes, at most 65536"),
    ] {
        let text = with(&extensions);
        assert!(text.contains(expected), "{text}");
    }
    let trailing = archive(&[file("a", "x"), path("b")]);
    assert_eq!(refusal(&trailing), "the extension of member 2 describes no member");
    // Names of extensions are held to the same rules.
    let mut escaping = archive(&[path("../b"), file("a", "x")]);
    assert!(refusal(&escaping).contains("contains `..`"));
    escaping = archive(&[gnu(b"/b\0"), file("a", "x")]);
    assert!(refusal(&escaping).contains("is absolute"));
    escaping = archive(&[gnu(b"b\0c\0"), file("a", "x")]);
    assert!(refusal(&escaping).contains("control character"));
}

/// Case Y06.
#[test]
fn the_number_the_size_and_the_depth_of_files_are_limited() {
    let files = |count: usize, bytes: usize| {
        let content = "x".repeat(bytes);
        let members: Vec<_> = (0..count).map(|n| file(&format!("d/{n}"), &content)).collect();
        archive(&members)
    };
    let limits = TreeLimits { entries: 5, bytes: 1_000, file_bytes: 500, path_bytes: 9, depth: 3 };
    let refusal = |archive: &[u8]| tree_within(archive, limits).unwrap_err().to_string();
    assert!(tree_within(&files(4, 250), limits).is_ok(), "the directory counts, too");
    assert!(refusal(&files(5, 1)).contains("uploads.files)"));
    assert!(
        refusal(&files(4, 251))
            .contains("more than 1000 bytes (the operator's setting uploads.files_bytes)")
    );
    assert!(
        refusal(&files(1, 501))
            .contains("more than 500 bytes (the operator's setting uploads.file_bytes)")
    );
    assert!(refusal(&archive(&[file("a/b/c/d", "")])).contains("uploads.file_depth"));
    assert!(refusal(&archive(&[file("a.23456789", "")])).contains("uploads.file_path_bytes"));
    assert!(tree_within(&archive(&[file("./a.2345678", "")]), limits).is_ok());
    // An archive of files at all limits is below the limit of archives.
    assert!(archive_bytes(&limits) > files(4, 250).len() as u64);
}

/// A file or directory at each of some paths of which none is above another.
fn paths() -> impl Strategy<Value = BTreeMap<String, Option<String>>> {
    let path = "[a-c\u{e9} .]{0,2}[a-c\u{e9}](/[a-c\u{e9}]{1,3}){0,3}";
    btree_map(path, proptest::option::weighted(0.8, ".{0,40}"), 0..12).prop_map(|mut paths| {
        let above = |path: &String, paths: &BTreeMap<String, Option<String>>| {
            paths.keys().any(|other| other.starts_with(&format!("{path}/")))
        };
        let all = paths.clone();
        paths.retain(|path, _| !above(path, &all));
        paths
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_archive_of_any_tree_becomes_that_tree_whatever_its_order(
        tree in paths(), reversed: bool, dotted: bool
    ) {
        let mut builder = Builder::new(Vec::new());
        let mut entries: Vec<_> = tree.iter().collect();
        if reversed {
            entries.reverse();
        }
        for (path, content) in entries {
            let path = if dotted { format!("./{path}") } else { path.clone() };
            let mut header = Header::new_gnu();
            let kind = if content.is_some() { EntryType::Regular } else { EntryType::Directory };
            header.set_entry_type(kind);
            header.set_size(content.as_deref().map_or(0, str::len) as u64);
            builder.append_data(&mut header, path, content.as_deref().unwrap_or_default().as_bytes()).unwrap();
        }
        let entries: Vec<(String, &str)> = tree.iter().map(|(path, content)| match content {
            Some(content) => (path.clone(), &**content),
            None => (format!("{path}/"), ""),
        }).collect();
        let entries: Vec<(&str, &str)> = entries.iter().map(|(path, content)| (&**path, *content)).collect();
        let unpacked = super::tests::tree(&builder.into_inner().unwrap());
        prop_assert_eq!(unpacked.unwrap(), listed(&entries));
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_accept_a_list_that_is_none(
        noise in proptest::collection::vec((0..4_usize, any::<u16>(), any::<u8>()), 0..12)
    ) {
        let mut bytes = archive(&[
            pax(&[record("path", "long/name")]),
            file("a", "content"),
            member(b"d", b'5', b""),
            member(b"././@LongLink", b'L', b"other/name\0"),
            file("b", "content"),
        ]);
        for (kind, at, byte) in noise {
            let at = usize::from(at) % bytes.len();
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, byte),
                _ => {
                    // With its sum mended, so that the change gets further.
                    let block = at / BLOCK * BLOCK;
                    bytes[at] = byte;
                    if let Some(block) = bytes.get_mut(block..block + BLOCK) {
                        block[148..156].fill(b' ');
                        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                        (&mut block[148..156]).write_all(format!("{sum:06o}\0 ").as_bytes()).unwrap();
                    }
                }
            }
        }
        // What is accepted has a list that is read back, which `tree` asserts.
        let _ = super::tests::tree(&bytes);
    }
}
