//! Every problem that the gateway reports, as one table.
//!
//! `docs/problems.md` describes each row, and a test compares both. Two rows have the same slug
//! where the same cause ends a call in one status and an upload in another: clients match on the
//! slug, and the row's name says which of the two it is.

use runtime_pool::Fault::{self, Caller, Function, Platform};
use serde::Serialize;
use utoipa::ToSchema;

use self::RequestPhase::{
    Admit, Authenticate, Compile, Guest, Load, Request, Route, Store, Upload,
};

/// Where on its way a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Phase)]
pub(crate) enum RequestPhase {
    /// Reading the request.
    Request,
    /// Finding the function.
    Route,
    /// Waiting for a concurrency slot or an instance.
    Admit,
    /// Making the function resident.
    Load,
    /// Running the guest.
    Guest,
    /// Checking the token.
    Authenticate,
    /// Receiving an upload.
    Upload,
    /// Inspecting, compiling and trying an artifact.
    Compile,
    /// Reading or writing the database or the artifacts.
    Store,
}

/// A type of problem.
#[derive(Debug)]
pub(crate) struct ProblemType {
    /// The last part of `urn:mayfly:problem:…`. Stable: clients match on it.
    pub(crate) slug: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// Where on its way the request ended.
    pub(crate) phase: RequestPhase,
    /// The party that must act.
    pub(crate) fault: Fault,
    /// A description of the problem, in the words of the reader.
    pub(crate) title: &'static str,
}

macro_rules! problem_types {
    ($($name:ident: $slug:literal, $status:literal, $phase:ident, $fault:ident, $title:literal;)*) => {
        $(pub(crate) static $name: ProblemType = ProblemType {
            slug: $slug,
            status: $status,
            phase: $phase,
            fault: $fault,
            title: $title,
        };)*

        /// Every row.
        #[cfg(test)]
        pub(crate) static ALL: &[&ProblemType] = &[$(&$name),*];
    };
}

problem_types! {
    // Reading a request, on both planes.
    MALFORMED_REQUEST: "malformed-request", 400, Request, Caller, "Malformed HTTP request";
    BAD_HOST: "bad-host", 400, Request, Caller, "Missing or invalid host";
    BAD_TARGET: "bad-target", 400, Request, Caller, "Invalid request target";
    BAD_BODY: "bad-body", 400, Request, Caller, "Request body could not be read";
    REQUEST_TOO_SLOW: "request-too-slow", 408, Request, Caller, "Request body sent too slowly";
    REQUEST_TOO_LARGE: "request-too-large", 413, Request, Caller, "Request body too large";
    QUEUED_BODY_TOO_LARGE: "queued-body-too-large", 413, Request, Caller, "Body of an enqueued call too large";
    TARGET_TOO_LONG: "target-too-long", 414, Request, Caller, "Request target too long";
    EXPECTATION_FAILED: "expectation-failed", 417, Request, Caller, "Unsupported expectation";
    TOO_MANY_HEADERS: "too-many-headers", 431, Request, Caller, "Too many header fields";
    HEAD_TOO_LARGE: "head-too-large", 431, Request, Caller, "Request head too large";
    INTERNAL: "internal", 500, Request, Platform, "Internal error";
    METHOD_NOT_SUPPORTED: "method-not-supported", 501, Request, Caller, "HTTP method not supported";
    VERSION_NOT_SUPPORTED: "version-not-supported", 505, Request, Caller, "HTTP version not supported";
    LOOP_DETECTED: "loop-detected", 508, Request, Function, "Request loop detected";

    // Finding a function.
    MISDIRECTED_REQUEST: "misdirected-request", 421, Route, Caller, "Host has another certificate than the connection";
    NO_ROUTE: "no-route", 404, Route, Caller, "Address does not name a function";
    INVOCATION_NOT_FOUND: "invocation-not-found", 404, Route, Caller, "Enqueued call not found";
    INVOCATION_BEGUN: "invocation-begun", 409, Route, Caller, "Enqueued call has begun or ended";
    FLOW_NOT_FOUND: "flow-not-found", 404, Route, Caller, "Flow not found";
    FUNCTION_NOT_FOUND: "function-not-found", 404, Route, Caller, "Function not found";

    // Admitting a call.
    CONCURRENCY_LIMIT: "concurrency-limit", 429, Admit, Platform, "Function concurrency limit reached";
    CALL_QUEUE_FULL: "call-queue-full", 429, Admit, Platform, "Too many calls wait for the function";
    FLOW_FULL: "flow-full", 429, Admit, Platform, "Too many runs of the flow wait";
    QUEUE_FULL: "queue-full", 429, Admit, Platform, "Too many messages wait in the queue";
    CALL_QUEUE_BYTES: "call-queue-bytes", 429, Admit, Platform, "Too many bytes of calls wait on the node";
    ADDRESS_LIMIT: "address-limit", 429, Admit, Caller, "Too many requests in flight from one address";
    OVERLOADED: "overloaded", 503, Admit, Platform, "Gateway request limit reached";
    CPU_PRESSURE: "cpu-pressure", 503, Admit, Platform, "Gateway is short of CPU time";
    MEMORY_PRESSURE: "memory-pressure", 503, Admit, Platform, "Gateway is short of memory";
    QUEUE_LIMIT: "queue-limit", 503, Admit, Platform, "Node queue limit reached";
    INSTANCE_LIMIT: "instance-limit", 503, Admit, Platform, "Node instance limit reached";
    NODE_MEMORY: "node-memory", 503, Admit, Platform, "Node memory limit for instances reached";

    // Loading a published function.
    COMPILER_BUSY: "compiler-busy", 503, Load, Platform, "Compilation queue is full";
    LOAD_TIMEOUT: "load-timeout", 503, Load, Platform, "Function is still being loaded";
    ASYNC_ENGINE_OFF: "async-engine-off", 503, Load, Platform, "WASI 0.3 components are disabled on this node";
    LOAD_FAILED: "load-failed", 500, Load, Platform, "Function could not be loaded";
    FILES_DAMAGED: "files-damaged", 500, Load, Platform, "Files of the function are damaged or missing";
    ARTIFACT_DAMAGED: "artifact-damaged", 500, Load, Platform, "Function artifact is damaged or missing";

    // Running a function.
    BUFFER_LIMIT: "buffer-limit", 503, Admit, Platform, "Buffers for request bodies are full";
    START_FAILED: "start-failed", 500, Guest, Platform, "Function could not be started";
    FUNCTION_FAILED: "function-failed", 502, Guest, Function, "Function failed";
    MEMORY_LIMIT: "memory-limit", 502, Guest, Function, "Function memory limit reached";
    STACK_OVERFLOW: "stack-overflow", 502, Guest, Function, "Function stack limit reached";
    RESOURCE_LIMIT: "resource-limit", 502, Guest, Function, "Function open resource limit reached";
    HOSTCALL_LIMIT: "hostcall-limit", 502, Guest, Function, "Function host call size limit reached";
    HEADER_LIMIT: "header-limit", 502, Guest, Function, "Function header size limit reached";
    RESPONSE_TOO_LARGE: "response-too-large", 502, Guest, Function, "Function response too large";
    EMPTY_WRITES: "empty-writes", 502, Guest, Function, "Function empty write limit reached";
    NO_RESPONSE: "no-response", 502, Guest, Function, "Function returned no valid response";
    CPU_LIMIT: "cpu-limit", 504, Guest, Function, "Function CPU time limit reached";
    TIMEOUT: "timeout", 504, Guest, Function, "Function timed out";

    // Running a flow.
    FLOW_STATE_TOO_LARGE: "flow-state-too-large", 502, Guest, Function, "State of the flow too large";
    FLOW_TIMEOUT: "flow-timeout", 504, Guest, Function, "Flow timed out";

    // Uploading a function.
    BAD_NAME: "bad-name", 400, Request, Caller, "Invalid function name";
    BAD_DIGEST: "bad-digest", 400, Upload, Caller, "Invalid digest header";
    BAD_RELEASE: "bad-release", 400, Upload, Caller, "Invalid version or labels";
    BAD_IDEMPOTENCY_KEY: "bad-idempotency-key", 400, Upload, Caller, "Invalid idempotency key";
    FUNCTION_QUOTA: "function-quota", 409, Store, Caller, "Function quota reached";
    STORAGE_QUOTA: "storage-quota", 409, Store, Caller, "Artifact storage quota reached";
    CERTIFICATE_QUOTA: "certificate-quota", 409, Store, Caller, "Certificate quota reached";
    HOST_TAKEN: "host-taken", 409, Store, Caller, "Host belongs to another certificate";
    CERTIFICATE_IN_USE: "certificate-in-use", 409, Store, Caller, "Certificate is in use";
    FILES_QUOTA: "files-quota", 409, Store, Caller, "Quota of files reached";
    SETTINGS_QUOTA: "settings-quota", 409, Store, Caller, "Settings quota reached";
    ROUTE_QUOTA: "route-quota", 409, Store, Caller, "Route quota reached";
    SCHEDULE_QUOTA: "schedule-quota", 409, Store, Caller, "Schedule quota reached";
    QUEUE_QUOTA: "queue-quota", 409, Store, Caller, "Queue quota reached";
    FLOW_QUOTA: "flow-quota", 409, Store, Caller, "Flow quota reached";
    STORE_QUOTA: "store-quota", 409, Store, Caller, "Store quota reached";
    STORE_FULL: "store-full", 409, Store, Caller, "Store is full";
    STORE_IN_USE: "store-in-use", 409, Store, Caller, "Store is in use";
    OTHER_BACKEND: "other-backend", 409, Store, Caller, "Store has its data in another backend";
    FLOW_IN_USE: "flow-in-use", 409, Store, Caller, "Flow is in use";
    QUEUE_NOT_EMPTY: "queue-not-empty", 409, Store, Caller, "Queue has messages";
    ROUTE_CONFLICT: "route-conflict", 409, Request, Caller, "Route takes the requests of another one";
    CHANNEL_QUOTA: "channel-quota", 409, Store, Caller, "Channel quota reached";
    VERSION_TAKEN: "version-taken", 409, Store, Caller, "Version belongs to another artifact";
    PRECONDITION_FAILED: "precondition-failed", 412, Request, Caller, "Function does not match the precondition";
    ARTIFACT_TOO_LARGE: "artifact-too-large", 413, Store, Caller, "Artifact too large";
    UNSUPPORTED_MEDIA_TYPE: "unsupported-media-type", 415, Upload, Caller, "Unsupported content type";
    UNSUPPORTED_CONTENT_ENCODING: "unsupported-content-encoding", 415, Upload, Caller, "Unsupported content encoding";
    FILES_TOO_LARGE: "files-too-large", 413, Upload, Caller, "Files too large";
    BAD_ARCHIVE: "bad-archive", 422, Upload, Caller, "Archive of files cannot be used";
    DIGEST_MISMATCH: "digest-mismatch", 422, Upload, Caller, "Upload does not match its digest";
    IDEMPOTENCY_KEY_REUSED: "idempotency-key-reused", 422, Upload, Caller, "Idempotency key belongs to another request";
    BAD_SETTINGS: "bad-settings", 422, Request, Caller, "Invalid function settings";
    FILES_NOT_FOUND_AT_DEPLOY: "files-not-found", 422, Store, Caller, "Tree of files not found";
    ARTIFACT_NOT_FOUND_AT_APPLY: "artifact-not-found", 422, Store, Caller, "Artifact not found";
    INVALID_WASM: "invalid-wasm", 422, Compile, Caller, "Invalid or unsupported wasm binary";
    NO_ENTRY_POINT: "no-entry-point", 422, Compile, Caller, "Artifact has no supported entry point";
    UNKNOWN_IMPORTS: "unknown-imports", 422, Compile, Caller, "Artifact has unknown imports";
    MISSING_GRANT: "missing-grant", 422, Compile, Caller, "Artifact imports what no setting grants";
    ARTIFACT_LIMIT: "artifact-limit", 422, Compile, Caller, "Artifact exceeds a limit";
    COMPILE_LIMIT: "compile-limit", 422, Compile, Caller, "Compilation exceeds a limit";
    ISOLATION_NOT_SUPPORTED: "isolation-not-supported", 422, Compile, Caller, "Artifact does not support the isolation setting";
    SNAPSHOT_FAILED: "snapshot-failed", 422, Compile, Caller, "Start-up function failed before the snapshot";
    START_FAILED_AT_DEPLOY: "start-failed", 422, Compile, Caller, "Function could not be started";
    ASYNC_ENGINE_OFF_AT_DEPLOY: "async-engine-off", 422, Compile, Caller, "WASI 0.3 components are disabled on this node";
    COMPILE_QUOTA: "compile-quota", 429, Compile, Caller, "Compilation rate limit reached";
    CHANGE_QUOTA: "change-quota", 429, Store, Caller, "Change rate limit reached";
    IDEMPOTENCY_QUOTA: "idempotency-quota", 429, Store, Caller, "Idempotency key quota reached";
    COMPILER_BUSY_AT_DEPLOY: "compiler-busy", 503, Compile, Platform, "Compilation queue is full";
    SANDBOX_MISSING: "sandbox-missing", 503, Compile, Platform, "Compiler sandbox is not complete";

    // The rest of the control plane.
    FOREIGN_ORIGIN: "foreign-origin", 403, Request, Caller, "Request comes from another host's page";
    FOREIGN_HOST: "foreign-host", 421, Request, Caller, "Host is not one of the control plane";
    BAD_QUERY: "bad-query", 400, Request, Caller, "Invalid query or path parameter";
    BAD_JSON: "bad-json", 400, Request, Caller, "Invalid JSON document";
    UNKNOWN_SCOPE: "unknown-scope", 400, Request, Caller, "Unknown token scope";
    TOKEN_IN_QUERY: "token-in-query", 400, Authenticate, Caller, "Token sent in the query string";
    API_KEY_REQUIRED: "api-key-required", 401, Authenticate, Caller, "Valid API key required";
    AUTHENTICATION_REQUIRED: "authentication-required", 401, Authenticate, Caller, "Valid credentials required";
    NOT_PERMITTED: "not-permitted", 403, Authenticate, Caller, "Token does not permit this call";
    ISSUER_UNAVAILABLE: "issuer-unavailable", 503, Authenticate, Function, "Keys of the token's issuer are not available";
    AUTHENTICATION_BUSY: "authentication-busy", 503, Authenticate, Platform, "Too many credentials are being checked";
    RATE_LIMITED: "rate-limited", 429, Admit, Caller, "Too many requests";
    UNAUTHORIZED: "unauthorized", 401, Authenticate, Caller, "Valid token required";
    FORBIDDEN: "forbidden", 403, Authenticate, Caller, "Token scope is not sufficient";
    RESOURCE_NOT_FOUND: "resource-not-found", 404, Route, Caller, "API resource not found";
    REVISION_NOT_FOUND: "revision-not-found", 404, Route, Caller, "Revision not found";
    ARTIFACT_NOT_FOUND: "artifact-not-found", 404, Route, Caller, "Artifact not found";
    FILES_NOT_FOUND: "files-not-found", 404, Route, Caller, "Tree of files not found";
    CERTIFICATE_NOT_FOUND: "certificate-not-found", 404, Route, Caller, "Certificate not found";
    ROUTE_NOT_FOUND: "route-not-found", 404, Route, Caller, "Route not found";
    SCHEDULE_NOT_FOUND: "schedule-not-found", 404, Route, Caller, "Schedule not found";
    QUEUE_NOT_FOUND: "queue-not-found", 404, Route, Caller, "Queue not found";
    STORE_NOT_FOUND: "store-not-found", 404, Route, Caller, "Store not found";
    ENTRY_NOT_FOUND: "entry-not-found", 404, Route, Caller, "Entry not found";
    CHANNEL_NOT_FOUND: "channel-not-found", 404, Route, Caller, "Channel not found";
    REVISION_NOT_IN_CHANNEL: "revision-not-in-channel", 404, Route, Caller, "Revision not in the channel";
    SECRET_NOT_FOUND: "secret-not-found", 404, Route, Caller, "Secret not found";
    TOKEN_NOT_FOUND: "token-not-found", 404, Route, Caller, "Token not found";
    METHOD_NOT_ALLOWED: "method-not-allowed", 405, Route, Caller, "Method not allowed for this resource";
    NO_PREVIOUS_REVISION: "no-previous-revision", 409, Store, Caller, "No previous revision";
    PLAN_CHANGED: "plan-changed", 409, Store, Caller, "Plan has changed";
    CONFLICT: "conflict", 409, Store, Caller, "Conflict with another change";
    ENTRY_CONFLICT: "entry-conflict", 412, Store, Caller, "Entry does not match the precondition";
    ENTRY_TOO_LARGE: "entry-too-large", 413, Request, Caller, "Entry too large";
    DOCUMENT_TOO_LARGE: "document-too-large", 413, Request, Caller, "JSON document too large";
    BAD_MANIFEST: "bad-manifest", 422, Request, Caller, "Invalid manifest";
    BAD_ROUTE: "bad-route", 422, Request, Caller, "Invalid route";
    BAD_SCHEDULE: "bad-schedule", 422, Request, Caller, "Invalid schedule";
    BAD_FLOW: "bad-flow", 422, Request, Caller, "Invalid flow";
    BAD_QUEUE: "bad-queue", 422, Request, Caller, "Invalid queue";
    BAD_MESSAGE: "bad-message", 422, Request, Caller, "Invalid message";
    BAD_STORE: "bad-store", 422, Request, Caller, "Invalid store";
    UNKNOWN_STORE: "unknown-store", 422, Request, Caller, "Settings grant a store that does not exist";
    BAD_ENTRY: "bad-entry", 422, Request, Caller, "Invalid entry";
    BAD_CHANNEL: "bad-channel", 422, Request, Caller, "Invalid channel";
    BAD_CERTIFICATE: "bad-certificate", 422, Request, Caller, "Invalid certificate";
    BAD_SECRET: "bad-secret", 422, Request, Caller, "Invalid secret";
    TOO_MANY_ATTEMPTS: "too-many-attempts", 429, Authenticate, Caller, "Too many invalid tokens from this address";
    CONTROL_OVERLOADED: "control-overloaded", 503, Admit, Platform, "Control plane request limit reached";
    BACKUP_RUNNING: "backup-running", 409, Store, Caller, "Another backup is being made";
    BACKEND_BUSY: "backend-busy", 503, Store, Platform, "Store is busy";
    BACKEND_UNAVAILABLE: "backend-unavailable", 503, Store, Platform, "Store is not available";
    STORE_BUSY: "store-busy", 503, Store, Platform, "Database is busy";
    NO_SPACE: "no-space", 507, Store, Platform, "No disk space left";
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// The entries of `docs/problems.md`, each on one line without its bullet.
    fn entries(document: &str) -> Vec<String> {
        let mut entries: Vec<String> = Vec::new();
        let mut is_open = false;
        for line in document.lines() {
            if let Some(entry) = line.strip_prefix("- **`") {
                entries.push(format!("**`{entry}"));
                is_open = true;
            } else if let (true, Some(more)) = (is_open, line.strip_prefix("  ")) {
                let entry = entries.last_mut().unwrap();
                entry.push(' ');
                entry.push_str(more);
            } else {
                is_open = false;
            }
        }
        entries
    }

    /// The beginning of the entry that describes a row.
    fn described(row: &ProblemType) -> String {
        let ProblemType { slug, status, phase, fault, title } = row;
        let (phase, fault) = (format!("{phase:?}"), format!("{fault:?}"));
        let (phase, fault) = (phase.to_lowercase(), fault.to_lowercase());
        format!("**`{slug}`** ({status}, {phase}, {fault}): {title}. ")
    }

    #[test]
    fn the_documentation_has_an_entry_for_each_row_and_no_other() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/problems.md");
        let entries = entries(&fs::read_to_string(path).unwrap());
        for row in ALL {
            let beginning = described(row);
            let found = entries.iter().any(|entry| entry.starts_with(&beginning));
            assert!(found, "docs/problems.md has no entry that begins with {beginning}");
        }
        let rows: Vec<String> = ALL.iter().map(|row| described(row)).collect();
        for entry in entries {
            let known = rows.iter().any(|beginning| entry.starts_with(beginning));
            assert!(known, "the table has no row for {entry}");
        }
    }

    #[test]
    fn all_rows_of_one_type_have_the_same_title_and_no_two_rows_are_alike() {
        let titles: BTreeSet<_> = ALL.iter().map(|row| (row.slug, row.title)).collect();
        let slugs: BTreeSet<_> = ALL.iter().map(|row| row.slug).collect();
        assert_eq!(titles.len(), slugs.len(), "{titles:#?}");
        let rows: BTreeSet<_> = ALL.iter().map(|row| described(row)).collect();
        assert_eq!(rows.len(), ALL.len());
    }

    #[test]
    fn statuses_are_errors_and_agree_with_the_fault() {
        for row in ALL {
            let caller = row.fault == Caller;
            match row.status {
                // A full function is its owner's or the node's business; a method or version that
                // is not supported is the caller's.
                429 | 501 | 505 => {}
                400..500 => assert!(caller, "{row:?}"),
                500..600 => assert!(!caller, "{row:?}"),
                _ => panic!("not the status of an error: {row:?}"),
            }
        }
    }
}
