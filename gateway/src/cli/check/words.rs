//! What kinds and imports mean, in words.

use runtime_pool::Kind;

/// What an import is for, and the setting of a function that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub words: &'static str,
    /// `None` where a function has it without being asked for.
    pub setting: Option<&'static str>,
    /// Lines for the function in a manifest, with what only a person can choose left empty or in comments.
    pub manifest: &'static str,
}

const fn given(words: &'static str) -> Meaning {
    Meaning { words, setting: None, manifest: "" }
}

const fn by(words: &'static str, setting: &'static str) -> Meaning {
    Meaning { words, setting: Some(setting), manifest: "" }
}

impl Meaning {
    const fn in_manifest(self, manifest: &'static str) -> Self {
        Self { manifest, ..self }
    }
}

const SERVERS: Meaning = by("requests to other servers", "with the setting `outbound`").in_manifest(
    "# It sends requests to other servers: name them, such as \"api.example.com\".\noutbound = []\n",
);
const FILES: Meaning =
    by("files", "with `files` or `scratch_bytes`; else there is no directory").in_manifest(
        "# It may use files: a directory that it can read, or one in memory.\n# files = \"public\"\n\
         # scratch_bytes = \"16MiB\"\n",
    );
const VARIABLES: Meaning = given("environment variables, arguments");
const KEYS_AND_VALUES: Meaning =
    by("a store of keys and values", "with the setting `grants.keyvalue`")
        .in_manifest("# It keeps data in a store: name it.\ngrants.keyvalue.default = \"store\"\n");
const CONFIGURATION: Meaning = by("configuration", "with the setting `config`; else it is empty");
const SOCKETS: Meaning = by("sockets", "every use is refused");
const STREAMS: Meaning = given("standard input, output and error");
const CLOCKS: Meaning = given("clocks, waiting");
const RANDOM: Meaning = given("random numbers");
const END: Meaning = given("the end of the program");
const OTHER_HOST: Meaning = given("functions of another host: build it for `wasm32-wasip2`");

/// Beginnings of names and their meanings; of several that fit, the first counts.
const MEANINGS: &[(&str, Meaning)] = &[
    ("wasi:http/outgoing-handler@", SERVERS),
    ("wasi:http/client@", SERVERS),
    ("wasi:http/", given("HTTP requests and responses")),
    ("wasi:cli/environment@", VARIABLES),
    ("wasi:cli/exit@", END),
    ("wasi:cli/terminal", given("whether there is a terminal: there is none")),
    ("wasi:cli/", STREAMS),
    ("wasi:filesystem/", FILES),
    ("wasi:sockets/", SOCKETS),
    ("wasi:clocks/", CLOCKS),
    ("wasi:random/", RANDOM),
    ("wasi:io/", given("streams, waiting")),
    ("wasi_snapshot_preview1.environ_", VARIABLES),
    ("wasi_snapshot_preview1.args_", VARIABLES),
    ("wasi_snapshot_preview1.path_", FILES),
    ("wasi_snapshot_preview1.fd_", given("open files and streams")),
    ("wasi_snapshot_preview1.sock_", SOCKETS),
    ("wasi_snapshot_preview1.clock_", CLOCKS),
    ("wasi_snapshot_preview1.poll_", CLOCKS),
    ("wasi_snapshot_preview1.random_", RANDOM),
    ("wasi_snapshot_preview1.proc_", END),
    ("wasi_snapshot_preview1.sched_", CLOCKS),
    ("wasi_unstable.", given("WASI as it was before preview1: build it with newer tools")),
    ("wasi:keyvalue/", KEYS_AND_VALUES),
    ("wasi:blobstore/", given("a store of files")),
    ("wasi:config/", CONFIGURATION),
    ("wasi:logging/", given("a log with levels")),
    ("wasi:messaging/", given("messages")),
    ("wasi:tls/", given("TLS over sockets")),
    ("wasi:nn/", given("neural networks")),
    ("fermyon:spin/key-value@", KEYS_AND_VALUES),
    ("fermyon:spin/variables@", CONFIGURATION),
    ("spin:key-value/", KEYS_AND_VALUES),
    ("spin:variables/", CONFIGURATION),
    ("mayfly:keyvalue/", KEYS_AND_VALUES),
    ("fermyon:spin/", given("an interface of Spin")),
    ("spin:", given("an interface of Spin")),
    ("wasmcloud:", given("an interface of wasmCloud")),
    ("env.", OTHER_HOST),
    ("wasi:", given("an interface of WASI that is not known here")),
];

/// What the import `name` is for.
pub(super) fn meaning(name: &str) -> Meaning {
    let known = MEANINGS.iter().find(|(beginning, _)| name.starts_with(beginning));
    known.map_or(given("something that is not known here"), |(_, meaning)| *meaning)
}

/// Whether the import `name` is for requests to other servers.
pub(super) fn calls_servers(name: &str) -> bool {
    meaning(name) == SERVERS
}

/// What a kind of guest is.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::WasiHttp02 => "a component that answers HTTP requests (WASI 0.2)",
        Kind::WasiHttp03 => "a component that answers HTTP requests (WASI 0.3)",
        Kind::WasiCommand => "a program that runs once for each request, as CGI (WASI 0.2)",
        Kind::WasiCommand03 => "a program that runs once for each request, as CGI (WASI 0.3)",
        Kind::WasiPreview1 => "a program that runs once for each request, as CGI (preview1)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_meanings_the_closest_counts() {
        assert_eq!(meaning("wasi:http/outgoing-handler@0.2.3"), SERVERS);
        assert_ne!(meaning("wasi:http/types@0.2.3"), SERVERS);
        assert_eq!(meaning("wasi_snapshot_preview1.path_open"), FILES);
        assert_eq!(meaning("acme:x/y").words, "something that is not known here");
    }

    #[test]
    fn no_meaning_is_hidden_by_an_earlier_one() {
        for (index, (beginning, _)) in MEANINGS.iter().enumerate() {
            let hidden =
                MEANINGS[..index].iter().any(|(earlier, _)| beginning.starts_with(earlier));
            assert!(!hidden, "{beginning}");
        }
    }
}
