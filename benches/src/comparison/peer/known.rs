//! The servers that the harness knows how to start.
//!
//! In arguments and files, `{port}` stands for the port to listen on at 127.0.0.1, `{guest}` for
//! the guest's file, and `{dir}` for the directory with the server's own files. A server with
//! `{guest}` is started once for each guest; any other has a hello of its own. A server is ready
//! when it answers `GET /` with status 200.

/// A server program, and the variants in which it is started.
pub(super) struct Peer {
    /// Its name in `--peers`.
    pub(super) name: &'static str,
    /// Paths of its program in a directory of peers. The last part is also searched in PATH.
    pub(super) program: &'static [&'static str],
    /// The command that installs it.
    pub(super) install: &'static str,
    pub(super) variants: &'static [Variant],
}

pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) isolation: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// Files to write before it starts.
    pub(super) files: &'static [(&'static str, &'static str)],
}

/// The yardstick among the peers.
pub(crate) const WASMTIME_SERVE: &str = "wasmtime serve";

pub(crate) const FRESH: &str = "a fresh instance for each request";

// A kernel that can list the dirty pages (Linux 6.7) makes it cheap to reset memory. Support for
// concurrency, which costs as much again, cannot be switched off: the server depends on it.
const BEST_MEMORY: &str = "-Opooling-allocator=y,pooling-pagemap-scan=y,\
                           pooling-memory-keep-resident=2097152,pooling-table-keep-resident=65536,\
                           pooling-total-core-instances=4000";
const BEST_FEATURES: &str = "-Wgc-support=n";

/// All known servers.
pub(super) const KNOWN: &[Peer] = &[
    Peer {
        name: "wasmtime",
        program: &["bin/wasmtime", "wasmtime"],
        install: "cargo install wasmtime-cli --version 48.0.8 --locked --root \
                      ~/.cache/mayfly/peers",
        variants: &[
            Variant {
                name: WASMTIME_SERVE,
                isolation: FRESH,
                arguments: &["serve", "-Scli", "--addr", "127.0.0.1:{port}", "{guest}"],
                files: &[],
            },
            Variant {
                name: "wasmtime serve, best flags",
                isolation: FRESH,
                arguments: &[
                    "serve",
                    "-Scli",
                    BEST_MEMORY,
                    BEST_FEATURES,
                    "--addr",
                    "127.0.0.1:{port}",
                    "{guest}",
                ],
                files: &[],
            },
            Variant {
                name: "wasmtime serve, best flags, reuse",
                isolation: "an instance serves many requests",
                arguments: &[
                    "serve",
                    "-Scli",
                    BEST_MEMORY,
                    BEST_FEATURES,
                    "--max-instance-reuse-count=1000000",
                    "--addr",
                    "127.0.0.1:{port}",
                    "{guest}",
                ],
                files: &[],
            },
        ],
    },
    Peer {
        name: "workerd",
        program: &[
            "node_modules/@cloudflare/workerd-linux-64/bin/workerd",
            "node_modules/@cloudflare/workerd-linux-arm64/bin/workerd",
            "bin/workerd",
            "workerd",
        ],
        install: "npm install --prefix ~/.cache/mayfly/peers workerd",
        variants: &[Variant {
            name: "workerd",
            isolation: "an isolate serves all requests; JavaScript",
            arguments: &["serve", "{dir}/workerd.capnp"],
            files: &[
                ("workerd.capnp", include_str!("../hello/workerd.capnp")),
                ("workerd.js", include_str!("../hello/workerd.js")),
            ],
        }],
    },
    Peer {
        name: "node",
        program: &["bin/node", "node"],
        install: "apt-get install nodejs",
        variants: &[Variant {
            name: "Node.js http",
            isolation: "none: one process serves all requests; JavaScript",
            arguments: &["{dir}/node.mjs", "{port}"],
            files: &[("node.mjs", include_str!("../hello/node.mjs"))],
        }],
    },
];
