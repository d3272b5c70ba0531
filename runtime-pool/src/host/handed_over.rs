//! Every function by which a guest hands data to the host. The library may keep what it gets, so each
//! of them is tried with the largest content by the tests with hostile guests (`kept-…`), or it is
//! listed here with the reason why it keeps nothing.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

/// Interfaces that only refuse: guests have no sockets, and no directory but the scratch directory, which
/// counts what it keeps.
const REFUSED: [&str; 2] = ["wasi:filesystem/", "wasi:sockets/"];

/// The functions, without the version of their package, and what becomes of the data.
const KNOWN: [(&str, &str); 27] = [
    ("wasi:cli/stderr.write-via-stream", "the log, which is limited"),
    ("wasi:cli/stdout.write-via-stream", "the log, or the response, which are limited"),
    ("wasi:http/types.fields.append", "kept-appended"),
    ("wasi:http/types.fields.delete", "only compared"),
    ("wasi:http/types.fields.from-list", "kept-listed"),
    ("wasi:http/types.fields.get", "only compared"),
    ("wasi:http/types.fields.get-and-delete", "only compared"),
    ("wasi:http/types.fields.has", "only compared"),
    ("wasi:http/types.fields.set", "kept-set"),
    ("wasi:http/types.http-error-code", "a handle"),
    ("wasi:http/types.outgoing-body.finish", "kept-trailers"),
    ("wasi:http/types.outgoing-request.constructor", "kept-headers"),
    ("wasi:http/types.outgoing-request.set-authority", "kept-paths"),
    ("wasi:http/types.outgoing-request.set-method", "kept-methods"),
    ("wasi:http/types.outgoing-request.set-path-with-query", "kept-paths"),
    ("wasi:http/types.outgoing-request.set-scheme", "at most 64 bytes"),
    ("wasi:http/types.outgoing-response.constructor", "kept-responses"),
    ("wasi:http/types.request.consume-body", "kept-errors"),
    ("wasi:http/types.request.new", "kept-requests"),
    ("wasi:http/types.request.set-authority", "kept-paths"),
    ("wasi:http/types.request.set-method", "kept-methods"),
    ("wasi:http/types.request.set-path-with-query", "kept-paths"),
    ("wasi:http/types.request.set-scheme", "at most 64 bytes"),
    ("wasi:http/types.response-outparam.send-informational", "not supported: it traps"),
    ("wasi:http/types.response-outparam.set", "there is one of them"),
    ("wasi:http/types.response.consume-body", "kept-errors"),
    ("wasi:http/types.response.new", "kept-responses"),
];
/// Those of `wasi:io`.
const IO: [(&str, &str); 3] = [
    ("wasi:io/poll.poll", "handles"),
    ("wasi:io/streams.output-stream.blocking-write-and-flush", "kept-requests, kept-responses"),
    ("wasi:io/streams.output-stream.write", "kept-requests, kept-responses"),
];

/// What a parameter holds through which data gets into the host.
const DATA: [&str; 10] = [
    "string",
    "list<",
    "error",
    "future<",
    "stream<",
    "method: ",
    "scheme",
    "headers: ",
    "field-",
    "trailers: ",
];

/// The files that describe the interfaces which the library implements.
fn descriptions() -> Vec<PathBuf> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version=1", "--manifest-path", manifest])
        .output()
        .unwrap();
    let metadata = String::from_utf8(metadata.stdout).unwrap();
    let library = metadata
        .split('"')
        .find(|path| path.contains("/wasmtime-wasi-http-48") && path.ends_with("/Cargo.toml"))
        .expect("the library is a dependency");
    let library = PathBuf::from(library).parent().unwrap().to_owned();
    let dirs = ["wit/deps", "src/p3/wit/deps"].map(|dir| library.join(dir));
    dirs.iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

/// The functions of one description that take over data.
fn functions(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(|line| line.split("//").next().unwrap().trim());
    let text = lines.filter(|line| !line.starts_with('@')).collect::<Vec<_>>().join(" ");
    let package = text.split("package ").nth(1).unwrap().split('@').next().unwrap();
    let (mut interface, mut resource, mut found) = ("", None, BTreeSet::new());
    let mut depth = 0;
    for statement in text.split_inclusive(['{', '}', ';']) {
        let words = statement.trim();
        match words.chars().last() {
            Some('{') => {
                depth += 1;
                let mut names = words.split_whitespace().rev().skip(1);
                let name = names.next().unwrap_or_default().trim_end_matches('{');
                match names.next() {
                    Some("interface") => interface = name,
                    Some("resource") => resource = Some((name, depth)),
                    _ => {}
                }
            }
            Some('}') => {
                resource = resource.filter(|(_, at)| *at < depth);
                depth -= 1;
            }
            _ if words.contains("func") || words.starts_with("constructor") => {
                let (name, rest) = words.split_once('(').unwrap();
                let name = name.split(':').next().unwrap().split_whitespace().last().unwrap();
                let takes = rest.split("->").next().unwrap();
                if DATA.iter().any(|word| takes.contains(word)) {
                    let resource = resource.map_or(String::new(), |(name, _)| format!("{name}."));
                    found.insert(format!("{package}/{interface}.{resource}{name}"));
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn each_function_that_takes_over_data_is_known() {
    let files = descriptions();
    assert!(files.len() > 10, "{files:?}");
    let all: BTreeSet<String> = files
        .iter()
        .flat_map(|file| functions(&fs::read_to_string(file).unwrap()))
        .filter(|name| !REFUSED.iter().any(|refused| name.starts_with(refused)))
        .collect();
    let known = KNOWN.iter().chain(&IO).map(|(name, _)| (*name).to_owned()).collect();
    // A new one needs a case in the hostile guests, or a reason.
    assert_eq!(all, known);
}
