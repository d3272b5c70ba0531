//! What has been deployed, and what must not be lost?
//!
//! Functions, their revisions, the artifacts (Wasm bytes) these run, API tokens, and
//! the lines that functions logged. The only crate that speaks SQL. It knows nothing
//! of HTTP or of Wasmtime, reads no environment and no clock: times are Unix
//! milliseconds and come from the caller.
//!
//! One directory holds everything:
//!
//! ```text
//! mayfly.db      functions, revisions, tokens, secrets     (synchronous FULL)
//! secrets.key    what the secrets are sealed with
//! logs.db        log lines                        (synchronous NORMAL)
//! artifacts/ab/abcd….wasm                         named by their SHA-256, never by an owner
//! quarantine/    artifacts that turned out to be damaged, for a look at what happened
//! tmp/           uploads under way; nothing in it was ever acknowledged
//! lock           held by the one gateway that uses the directory
//! ```
//!
//! Two invariants. What a call has acknowledged survives a power cut: a revision's row
//! commits only after its artifact and the directories that lead to it are on disk.
//! And every future may be dropped at any await: what it had begun is then wholly
//! there or wholly absent. Start reading at [`Store::publish`] in `functions/publish.rs`.

#![forbid(unsafe_code)]

mod access;
mod activity;
mod artifacts;
mod directory;
mod error;
mod functions;
mod sql;
mod store;

pub use crate::{
    access::{
        secret::{NewSecret, SecretRecord},
        tenant::{InvalidTenant, Tenant},
        token::{NewToken, TokenRecord},
    },
    activity::log::{LogQuery, LogSource, NewLogLine, StoredLogLine},
    artifacts::{
        digest::{Digest, ParseDigestError},
        upload::{StoredUpload, UploadWriter},
    },
    error::{Error, Quota, Result},
    functions::{
        function::{ActiveFunction, FunctionRecord},
        idempotency::{IdempotentRequest, RecordedReply},
        publish::{NewRevision, Precondition, Published},
        quota::Quotas,
        revision::Revision,
        settings::{
            CredentialSetting, DayOfWeek, IsolationMode, IsolationSetting, Settings, SnapshotMode,
            WarmWindow,
        },
    },
    store::{Store, StoreConfig},
};
