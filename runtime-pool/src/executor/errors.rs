//! The outcome of an invocation that ends with an error of the engine.

use wasmtime::{PoolConcurrencyLimitError, Trap, component::ResourceTableError};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::FieldMapError;

use crate::{
    error::{CpuExceeded, ExitedWithError, InvokeError, Limit},
    host::{HasStoreLimits, StoreLimits},
};

/// The meaning of an error while the guest runs.
pub(super) fn guest_error(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl HasStoreLimits>,
) -> InvokeError {
    let limits = store.data_mut().store_limits();
    if error.is::<CpuExceeded>() {
        return InvokeError::Cpu(limits.cpu_limit());
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        // The statuses of preview1 are unsigned.
        return exited(format!("it exited with status {}", status.cast_unsigned()), limits);
    }
    if error.is::<ExitedWithError>() {
        return exited(ExitedWithError.to_string(), limits);
    }
    // A guest also needs a stack to run on, and the engine has as many as instances.
    if error.is::<PoolConcurrencyLimitError>() {
        return InvokeError::Instances;
    }
    if let Some((limit, bytes)) = limits.kept_too_much() {
        let detail = format!(
            "the host kept {bytes} bytes for it (guests.host_bytes), and it asked for more: drop \
             fields, requests and bodies as soon as they are used, or hold fewer at once\n{error:?}"
        );
        return failed(detail, Some(limit), limits);
    }
    let detail = match advice(error) {
        Some(advice) => format!("{advice}\n{error:?}"),
        None => format!("{error:?}"),
    };
    failed(detail, limit_of(error), limits)
}

/// What the owner of a guest can change that was ended for its use of an interface.
fn advice(error: &wasmtime::Error) -> Option<&'static str> {
    if matches!(error.downcast_ref(), Some(ResourceTableError::HasChildren)) {
        return Some(
            "it dropped a resource before those that were made from it: drop a stream before its \
             body, and a body's pollables before the stream",
        );
    }
    error.root_cause().to_string().contains("write exceeded budget").then_some(
        "it wrote more to a body than there was room for: ask check-write before each write, or use \
         blocking-write-and-flush",
    )
}

/// Whether the guest has exited with the status of success.
pub(super) fn is_exit_without_error(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(I32Exit(0)))
}

/// A guest that exits before its response is whole has given none, whatever its status.
pub(super) fn exited(detail: String, limits: &StoreLimits) -> InvokeError {
    match limits.refused_memory() {
        None => InvokeError::NoResponse(detail),
        Some(_) => failed(detail, None, limits),
    }
}

/// A failure that no limit explains is explained by memory that the guest was refused before.
fn failed(detail: String, limit: Option<Limit>, limits: &StoreLimits) -> InvokeError {
    match limit.or(limits.refused_memory()) {
        Some(Limit::NodeMemory) => InvokeError::NodeMemory,
        limit => InvokeError::Failed { detail, limit },
    }
}

/// The limit that an error names.
fn limit_of(error: &wasmtime::Error) -> Option<Limit> {
    if error.downcast_ref() == Some(&Trap::StackOverflow) {
        return Some(Limit::Stack);
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(Limit::HostResources);
    }
    if matches!(
        error.downcast_ref(),
        Some(FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields)
    ) {
        return Some(Limit::FieldBytes);
    }
    // The types of these errors are private to Wasmtime. If their texts change, then the tests with
    // hostile guests fail.
    let cause = error.root_cause().to_string();
    [
        ("fuel allocated for hostcalls has been exhausted", Limit::HostcallBytes),
        ("store handle limit exceeded", Limit::ComponentHandles),
        ("requested len", Limit::RandomBytes),
    ]
    .into_iter()
    .find_map(|(text, limit)| cause.contains(text).then_some(limit))
}

/// The meaning of an error while the instance is made.
pub(super) fn start_error(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl HasStoreLimits>,
) -> InvokeError {
    if error.is::<PoolConcurrencyLimitError>() {
        InvokeError::Instances
    } else if error.is::<Trap>() || error.is::<CpuExceeded>() {
        guest_error(error, store)
    } else if store.data_mut().store_limits().refused_memory() == Some(Limit::NodeMemory) {
        InvokeError::NodeMemory
    } else {
        InvokeError::Start(format!("{error:#}"))
    }
}
