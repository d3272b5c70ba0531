//! Persistent state: the deployed functions, and everything else that must not be lost.
//!
//! The store keeps functions, their revisions, the artifacts (Wasm bytes) that revisions run, API
//! tokens, secrets, the lines that functions logged, and the calls and messages that wait. It is the
//! only crate that uses SQL. It knows nothing of HTTP or of Wasmtime, and reads neither the
//! environment nor a clock: times are Unix milliseconds and come from the caller.
//!
//! One directory holds everything:
//!
//! ```text
//! mayfly.db      functions, revisions, routes, schedules, queues, flows, stores, tokens, secrets,
//!                idempotency keys                                         (synchronous FULL)
//! logs.db        log lines                                                (synchronous NORMAL)
//! queue.db       calls and messages that wait, and their answers          (synchronous FULL)
//! secrets.key    the key that secrets are encrypted with
//! artifacts/ab/abcd….wasm    artifacts, named by their SHA-256, never by an owner
//! artifacts/ab/abcd….file    files of trees, and the lists of trees, named alike
//! quarantine/    damaged artifacts, kept for inspection
//! tmp/           uploads in progress; none of them was acknowledged
//! backup/        what a backup that is just being made holds
//! lock           held by the one gateway that uses the directory
//! ```
//!
//! Two invariants hold. A change that was acknowledged, except a log line, survives a power cut: a
//! revision's row commits only after its artifact, and the directories that lead to it, are on
//! disk. And every future may be dropped at any await: its change is then complete or absent.
//!
//! Some types have a counterpart in another crate. [`Settings`], [`IsolationSetting`],
//! [`FilesSetting`], [`CredentialSetting`], [`GrantSettings`] and [`SnapshotMode`] are settings as an owner asked for them, with
//! optional fields; the pool's `Limits`, `Isolation`, `Credential` and `Grants` are in force, complete and
//! clamped. [`FunctionRecord`], [`SecretRecord`], [`TokenRecord`] and [`StoredLogLine`] are rows;
//! the pool's `Function`, `Secret` and `LogLine` are values in memory.
//!
//! Rooms, each using only those to its right: `backup`, `functions`, `activity`, `artifacts`,
//! `access`, `store` (the handle), `sql`, `directory`, `error`. Start reading at [`Store::publish`] in
//! `functions/publish.rs`.

#![forbid(unsafe_code)]

mod access;
mod activity;
mod artifacts;
mod backup;
mod directory;
mod error;
mod functions;
mod sql;
mod store;

pub use crate::{
    access::{
        certificate::{CertificateRecord, NewCertificate},
        secret::{NewSecret, SecretRecord},
        tenant::{InvalidTenant, Tenant},
        token::{NewToken, TokenRecord},
    },
    activity::{
        document::{DocumentRecord, PutDocument},
        flow::{StepAnswer, StepOutcome, StepRecord},
        guest_store::{PutStore, StoreQuota, StoreRecord},
        invocation::{
            CallState, Cause, Dedup, Invocation, NewInvocation, StoredAnswer, StoredFields,
            StoredRequest,
            claim::{CallClaim, LaneClaim},
            enqueue::{EnqueueLimits, EnqueueOutcome, Enqueued},
            finish::{Finished, NextState},
            kept::{InvocationFilter, InvocationSummary, KeepInvocations, RemovedInvocations},
            lane::{Lane, LaneTotals},
        },
        log::{LogQuery, LogSource, NewLogLine, StoredLogLine},
        message::{MessagePage, MovedMessages, WaitingMessage},
        schedule::{PutSchedule, ScheduleRecord},
        scheduled::{DueRun, MissedRuns, RunOutcome, ScheduleRun, ScheduleTurn},
    },
    artifacts::{
        blob::{BlobWriter, TreeUpload},
        digest::{Digest, ParseDigestError},
        upload::{StoredUpload, UploadWriter},
    },
    backup::{Backup, BackupParts, BackupSize, RestoreError, Restored, check_backup, restore},
    error::{Error, Quota, Result},
    functions::{
        channel::{
            Channel, ChannelTargets, Follow, NewChannel, Sticky, Weight,
            canary::{Canary, CanaryDecision, DecidedCanary},
            options::{ChannelOptions, Overlay, Shadow},
        },
        function::{ActiveFunction, FunctionRecord},
        grants::{
            ConfigSetting, GrantSettings, SecretSetting, StoreAccess, StoreGrantSetting, StorePart,
            Ungranted,
        },
        history::{Action, Actor, Change, DEFAULT_CHANNEL},
        idempotency::{IdempotentRequest, RecordedReply},
        project::{
            AppliedProject, FunctionChanges, ProjectChanges, ProjectError, ProjectItem,
            ProjectQuotas, ProjectRevision, state::ProjectState,
        },
        publish::{NewRevision, NewSettings, Precondition},
        published::Published,
        quota::{Quotas, Share},
        revision::{Release, Revision},
        route::RouteRecord,
        settings::{
            CredentialSetting, DayOfWeek, FilesSetting, IsolationMode, IsolationSetting,
            RespondAsync, Settings, SnapshotMode, WarmWindow,
        },
        tree::{NewTree, TreeRecord},
    },
    store::{Store, StoreConfig},
};
