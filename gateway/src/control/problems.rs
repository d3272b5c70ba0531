//! Problems that only the control plane reports, and those of the functions' errors.
//!
//! No `_` in these matches: a new variant does not compile until it has a problem.

use std::{error::Error as StdError, time::Duration};

use http::HeaderValue;
use runtime_pool::Refused;

use crate::{
    control::{preconditions::entity_tag, upload::UploadHeadError},
    functions::{
        deploy::{
            change_condition::ConditionFailed, change_rate::TooManyChanges, error::DeployError,
        },
        files::{FilesError, unpack::UnpackError},
        name::InvalidFunctionName,
        routes::{RouteError, certificates::CertificateError},
        secrets::SecretError,
        stores::StoreError,
    },
    problem::{Problem, chain, operator_setting, table},
    request::idempotency_key::IDEMPOTENCY_KEY_BYTES,
    triggers::{flows::FlowError, queues::QueueError, schedules::ScheduleError},
};

impl Problem {
    pub(crate) fn control_plane_overloaded() -> Self {
        Self::new(&table::CONTROL_OVERLOADED).hint("Try again later.").retry_after(1)
    }

    pub(crate) fn resource_not_found() -> Self {
        Self::new(&table::RESOURCE_NOT_FOUND).hint("`GET /openapi.json` lists all resources.")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(&table::METHOD_NOT_ALLOWED)
            .hint("The header `allow` lists the methods of this resource.")
    }

    // Reading a request.

    pub(crate) fn bad_query(detail: String) -> Self {
        Self::new(&table::BAD_QUERY).detail(detail)
    }

    pub(crate) fn bad_json(error: &serde_json::Error) -> Self {
        Self::new(&table::BAD_JSON).detail(error.to_string())
    }

    pub(crate) fn bad_body(error: impl StdError) -> Self {
        Self::new(&table::BAD_BODY).detail(chain(&error)).hint("Send the request again.")
    }

    pub(crate) fn document_too_large(max: usize) -> Self {
        Self::new(&table::DOCUMENT_TOO_LARGE).detail(format!("the limit is {max} bytes"))
    }

    pub(crate) fn bad_name(error: InvalidFunctionName) -> Self {
        Self::new(&table::BAD_NAME).detail(error.to_string())
    }

    // Authentication.

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(&table::UNAUTHORIZED).detail(detail).hint(
            "Send `Authorization: Bearer <token>`. The first token is in the file admin.token in \
             the gateway's data directory.",
        )
    }

    pub(crate) fn forbidden(scope: &str) -> Self {
        Self::new(&table::FORBIDDEN)
            .detail(format!("this request needs the scope {scope:?}"))
            .hint("An administrator can create a token with it: `mayfly token create`.")
    }

    pub(crate) fn too_many_attempts(wait: Duration) -> Self {
        Self::new(&table::TOO_MANY_ATTEMPTS)
            .detail("failures count for each token: others from this address still work")
            .hint(operator_setting("server.auth_failures_per_minute"))
            .retry_after(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
    }

    pub(crate) fn token_in_query() -> Self {
        Self::new(&table::TOKEN_IN_QUERY).hint(
            "Logs record addresses. Revoke this token, and send the next one in the header \
             `authorization`.",
        )
    }

    pub(crate) fn unknown_scope(scope: &str) -> Self {
        Self::new(&table::UNKNOWN_SCOPE)
            .detail(format!("there is no scope {scope:?}"))
            .hint("The scopes are `admin`, `deploy` and `read`.")
    }

    // Finding a resource.

    pub(crate) fn files_not_found(digest: &store::Digest) -> Self {
        Self::new(&table::FILES_NOT_FOUND)
            .detail(format!("there is no tree of files sha256:{digest}"))
            .hint("A tree that no function names is removed after about a day.")
    }

    pub(crate) fn artifact_not_found(digest: &store::Digest) -> Self {
        Self::new(&table::ARTIFACT_NOT_FOUND)
            .detail(format!("there is no artifact sha256:{digest}"))
            .hint("Upload it: `PUT /v1/artifacts/{digest}`. One that no function runs is removed after about a day.")
    }

    pub(crate) fn not_an_archive() -> Self {
        Self::new(&table::UNSUPPORTED_MEDIA_TYPE)
            .hint("Send a tar archive, with `content-type: application/x-tar`.")
    }

    pub(crate) fn archive_coding() -> Self {
        Self::new(&table::UNSUPPORTED_CONTENT_ENCODING)
            .hint("Send the archive as it is, or with `content-encoding: gzip` or `zstd`.")
    }

    pub(crate) fn token_not_found(id: &str) -> Self {
        Self::new(&table::TOKEN_NOT_FOUND).detail(format!("there is no token with the id {id:?}"))
    }

    pub(crate) fn certificate_not_found(name: &str) -> Self {
        Self::new(&table::CERTIFICATE_NOT_FOUND).detail(format!("there is no certificate {name:?}"))
    }

    pub(crate) fn route_not_found(name: &str) -> Self {
        Self::new(&table::ROUTE_NOT_FOUND).detail(format!("there is no route {name:?}"))
    }

    pub(crate) fn schedule_not_found(name: &str) -> Self {
        Self::new(&table::SCHEDULE_NOT_FOUND).detail(format!("there is no schedule {name:?}"))
    }

    /// The problem of a change or a run of the schedule with this name.
    pub(crate) fn of_schedule(error: ScheduleError, name: &str) -> Self {
        match error {
            ScheduleError::Refused(detail) => Self::new(&table::BAD_SCHEDULE).detail(detail),
            ScheduleError::NotFound => Self::schedule_not_found(name),
            ScheduleError::Store(error) => error.into(),
        }
    }

    pub(crate) fn queue_not_found(name: &str) -> Self {
        Self::new(&table::QUEUE_NOT_FOUND).detail(format!("there is no queue {name:?}"))
    }

    /// The problem of a change of the queue with this name, or of messages to it.
    pub(crate) fn of_queue(error: QueueError, name: &str) -> Self {
        match error {
            QueueError::Refused(detail) => Self::new(&table::BAD_QUEUE).detail(detail),
            QueueError::BadMessage(detail) => Self::new(&table::BAD_MESSAGE).detail(detail),
            QueueError::TooLarge { max } => Self::new(&table::QUEUED_BODY_TOO_LARGE)
                .detail(format!("the body of a message has at most {max} bytes"))
                .hint(operator_setting("queue.body_bytes")),
            QueueError::OtherMessage { .. } => Self::new(&table::IDEMPOTENCY_KEY_REUSED)
                .detail(error.to_string())
                .hint("Give each message its own key. None of these messages was added."),
            QueueError::NotFound => Self::queue_not_found(name),
            QueueError::NotEmpty { messages } => Self::new(&table::QUEUE_NOT_EMPTY)
                .detail(format!("the queue {name:?} has {messages} messages that are not done"))
                .hint("Purge it first, or delete it with them: `?force=true`."),
            QueueError::Random(error) => Self::internal(&error),
            QueueError::Store(error) => error.into(),
        }
    }

    /// The problem of a change or a run of the flow with this name.
    pub(crate) fn of_flow(error: FlowError, name: &str) -> Self {
        match error {
            FlowError::Refused(detail) => Self::new(&table::BAD_FLOW).detail(detail),
            FlowError::NotFound => Self::flow_not_found(name),
            FlowError::InUse(why) => {
                Self::new(&table::FLOW_IN_USE).detail(format!("the flow {name:?}: {why}"))
            }
            FlowError::OtherRun => Self::new(&table::IDEMPOTENCY_KEY_REUSED)
                .detail(error.to_string())
                .hint("Give each run its own key."),
            FlowError::TooLarge { max } => Self::new(&table::QUEUED_BODY_TOO_LARGE)
                .detail(format!("the input of a run has at most {max} bytes"))
                .hint("The operator can raise `queue.body_bytes` and `flows.state_bytes`."),
            FlowError::Random(error) => Self::internal(&error),
            FlowError::Store(error) => error.into(),
        }
    }

    pub(crate) fn unknown_store_kind(kind: &str) -> Self {
        Self::new(&table::BAD_STORE)
            .detail(format!("there are no stores of the kind {kind:?}; the kinds are: keyvalue"))
    }

    /// The problem of a change of the store with this name, or of its entries.
    pub(crate) fn of_guest_store(error: StoreError, name: &str) -> Self {
        match error {
            StoreError::Refused(detail) => Self::new(&table::BAD_STORE).detail(detail),
            StoreError::NotFound => {
                Self::new(&table::STORE_NOT_FOUND).detail(format!("there is no store {name:?}"))
            }
            StoreError::Entry(detail) => Self::new(&table::BAD_ENTRY).detail(detail),
            StoreError::InUse { .. } => Self::new(&table::STORE_IN_USE)
                .detail(format!("the store {name:?}: {error}"))
                .hint("Take the grants away first, or delete it with `force=true`."),
            StoreError::OtherBackend => Self::new(&table::OTHER_BACKEND)
                .detail(format!("the store {name:?} keeps its backend"))
                .hint("Make another store, and take the entries there: export and import them."),
            StoreError::Line { line, error } => {
                let detail = format!("line {line}: {error}");
                Self::of_guest_store(*error, name).detail(detail)
            }
            StoreError::Receive(error) => Self::bad_body(&*error),
            StoreError::TooMany => Self::control_plane_overloaded(),
            StoreError::Data(refused) => Self::of_data(&refused, name),
            StoreError::Store(error) => error.into(),
        }
    }

    /// The problem of an operation on the data of the store with this name.
    fn of_data(refused: &Refused, name: &str) -> Self {
        match refused {
            Refused::NoStore => Self::of_guest_store(StoreError::NotFound, name),
            Refused::Invalid(_) | Refused::Denied => {
                Self::new(&table::BAD_ENTRY).detail(refused.to_string())
            }
            Refused::TooLarge { .. } => {
                Self::new(&table::ENTRY_TOO_LARGE).detail(refused.to_string())
            }
            Refused::Quota { .. } => Self::new(&table::STORE_FULL)
                .detail(refused.to_string())
                .hint("Remove entries, or give the store a larger quota."),
            Refused::Rate
            | Refused::TooMany { .. }
            | Refused::Handles { .. }
            | Refused::HostBytes { .. }
            | Refused::Busy
            | Refused::Timeout => Self::new(&table::BACKEND_BUSY)
                .detail(refused.to_string())
                .hint("Try again later.")
                .retry_after(1),
            Refused::Unavailable => Self::new(&table::BACKEND_UNAVAILABLE)
                .detail(refused.to_string())
                .hint("The gateway's log has the reason, such as a full disk. Try again later.")
                .retry_after(1),
        }
    }

    pub(crate) fn entry_not_found(key: &str) -> Self {
        Self::new(&table::ENTRY_NOT_FOUND).detail(format!("there is no entry {key:?}"))
    }

    /// What is there has this etag, if it is known.
    pub(crate) fn entry_conflict(etag: Option<&HeaderValue>) -> Self {
        let etag = etag.and_then(|etag| etag.to_str().ok());
        Self::new(&table::ENTRY_CONFLICT)
            .detail(match etag {
                Some(etag) => format!("its etag is {etag}"),
                None => "something else is there, or nothing".to_owned(),
            })
            .hint("Read the entry again, and send its current etag in `if-match`.")
    }

    pub(crate) fn secret_not_found(name: &str) -> Self {
        Self::new(&table::SECRET_NOT_FOUND).detail(format!("there is no secret {name:?}"))
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Refused(detail) => Self::new(&table::BAD_ROUTE).detail(detail),
            RouteError::Conflict(_) => Self::new(&table::ROUTE_CONFLICT)
                .detail(error.to_string())
                .hint("Give one of both another `priority`, or conditions of its own."),
            RouteError::Store(error) => error.into(),
        }
    }
}

impl From<CertificateError> for Problem {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Refused(detail) => Self::new(&table::BAD_CERTIFICATE).detail(detail),
            CertificateError::InUse { .. } => Self::new(&table::CERTIFICATE_IN_USE)
                .detail(error.to_string())
                .hint("Delete the route first, or delete the certificate with `force=true`."),
            CertificateError::Store(error) => error.into(),
        }
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Refused(detail) => Self::new(&table::BAD_SECRET).detail(detail),
            SecretError::Store(error) => error.into(),
        }
    }
}

impl From<FilesError> for Problem {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Receive(error) => Self::bad_body(&*error),
            FilesError::Interrupted(error) => Self::internal(&error),
            FilesError::Damaged => Self::files_damaged(),
            FilesError::Store(store::Error::TooLarge { max_bytes }) => {
                Self::new(&table::FILES_TOO_LARGE)
                    .detail(format!("the archive has more than {max_bytes} bytes"))
                    .hint(operator_setting("uploads.files_bytes"))
            }
            FilesError::Store(error) | FilesError::Unpack(UnpackError::Store(error)) => {
                error.into()
            }
            FilesError::Unpack(UnpackError::TooLarge(detail)) => {
                Self::new(&table::FILES_TOO_LARGE).detail(detail)
            }
            FilesError::Unpack(
                error @ (UnpackError::Archive(_) | UnpackError::Name(_)),
            ) => Self::new(&table::BAD_ARCHIVE).detail(chain(&error)).hint(
                "An archive holds files and directories with plain relative names, such as those \
                 that `tar --create --directory DIR .` makes.",
            ),
        }
    }
}

impl From<UploadHeadError> for Problem {
    fn from(error: UploadHeadError) -> Self {
        match error {
            UploadHeadError::ContentType => Self::new(&table::UNSUPPORTED_MEDIA_TYPE)
                .hint("Send the wasm binary itself, with `content-type: application/wasm`."),
            UploadHeadError::ContentEncoding => Self::new(&table::UNSUPPORTED_CONTENT_ENCODING)
                .hint("Send the bytes uncompressed, without `content-encoding`."),
            UploadHeadError::Digest => Self::new(&table::BAD_DIGEST)
                .hint("Send `repr-digest: sha-256=:<base64>:` (RFC 9530)."),
            UploadHeadError::IdempotencyKey => Self::new(&table::BAD_IDEMPOTENCY_KEY)
                .detail(format!(
                    "`idempotency-key` must have 1 to {IDEMPOTENCY_KEY_BYTES} visible ASCII characters"
                )),
            UploadHeadError::Release(detail) => Self::new(&table::BAD_RELEASE).detail(detail),
            UploadHeadError::Settings(_) => {
                Self::new(&table::BAD_SETTINGS).detail(error.to_string())
            }
        }
    }
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Store(error) => error.into(),
            DeployError::Load(error) => error.into(),
            DeployError::Receive(error) => Self::bad_body(&*error),
            DeployError::Interrupted(error) => Self::internal(&error),
            DeployError::DigestMismatch { announced, received } => {
                Self::new(&table::DIGEST_MISMATCH)
                    .detail(format!(
                        "the sender announced {announced}, the digest of the bytes is {received}"
                    ))
                    .hint("Send the upload again.")
            }
            DeployError::Precondition(ConditionFailed { current }) => {
                Self::new(&table::PRECONDITION_FAILED)
                    .detail(match current.map(entity_tag) {
                        Some(tag) => format!("its etag is {tag}"),
                        None => "there is no such function".to_owned(),
                    })
                    .hint("Read the function again, and send its current etag in `if-match`.")
            }
            DeployError::NothingToRollBackTo => Self::new(&table::NO_PREVIOUS_REVISION)
                .detail("no revision was active before the current one, or it was removed")
                .hint("`mayfly revisions` lists what can be activated."),
            DeployError::IdempotencyKeyReused => Self::new(&table::IDEMPOTENCY_KEY_REUSED)
                .hint("Give each upload its own key; only a retry has the same one."),
            DeployError::SettingsQuota { max_bytes } => Self::new(&table::SETTINGS_QUOTA)
                .detail(format!("the limit is {max_bytes} bytes for the settings of all functions"))
                .hint(
                    "Delete functions or settings. The operator can raise the setting \
                     `quotas.all_settings_bytes`.",
                ),
            DeployError::Rate(TooManyChanges { per_minute, retry_after }) => {
                Self::new(&table::CHANGE_QUOTA)
                    .detail(format!("the limit is {per_minute} changes per minute"))
                    .hint(
                        "Try again later. The operator can raise the setting \
                         `quotas.changes_per_minute`.",
                    )
                    .retry_after(u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).max(1))
            }
            DeployError::Channel(detail) => Self::new(&table::BAD_CHANNEL).detail(detail),
            DeployError::UnknownStore { .. } => Self::new(&table::UNKNOWN_STORE)
                .detail(error.to_string())
                .hint(
                    "Make it first: `mayfly store set NAME`. The operator can let deploys make stores by \
                     the setting `stores.create_on_deploy`.",
                ),
            DeployError::Stores(error) => Self::of_guest_store(error, ""),
            DeployError::MissingGrant(missing) => Self::new(&table::MISSING_GRANT)
                .detail(format!("no setting grants what it imports: {missing}"))
                .hint(
                    "Add these lines to the function's settings, with the name of a store; or set \
                     `ungranted` to \"deny\", if it never opens one.",
                ),
            DeployError::Settings(detail) => Self::new(&table::BAD_SETTINGS).detail(detail),
        }
    }
}
