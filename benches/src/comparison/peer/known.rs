//! The servers that we know how to start.
//!
//! `{port}`, `{guest}` and `{dir}` are replaced in arguments and files: by the port on 127.0.0.1
//! that the server is to listen on, the guest's file, and a directory in which its own files are.
//! With `{guest}` it is started for each guest, without it has a hello of its own. It is ready when
//! `GET /` is answered with status 200.

/// A server program, and the ways in which it is started.
pub(super) struct Peer {
    /// What `--peers` calls it.
    pub(super) name: &'static str,
    /// Its program: under a directory of peers, the last part also in PATH.
    pub(super) program: &'static [&'static str],
    /// How to get it.
    pub(super) install: &'static str,
    pub(super) variants: &'static [Variant],
}

pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) isolation: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// Files that are written before it starts.
    pub(super) files: &'static [(&'static str, &'static str)],
}

/// The yardstick among the peers.
pub(crate) const WASMTIME_SERVE: &str = "wasmtime serve";

pub(crate) const FRESH: &str = "a fresh instance for each request";

// A kernel that can tell what was written to memory (Linux 6.7) makes it cheap to reset. Support
// for concurrency, which costs as much again, cannot be switched off: the server is built on it.
const BEST_MEMORY: &str = "-Opooling-allocator=y,pooling-pagemap-scan=y,\
                           pooling-memory-keep-resident=2097152,pooling-table-keep-resident=65536,\
                           pooling-total-core-instances=4000";
const BEST_FEATURES: &str = "-Wgc-support=n";

/// All of them.
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
