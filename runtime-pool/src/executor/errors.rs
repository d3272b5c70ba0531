//! What an error of the engine means for an invocation.

use wasmtime::{PoolConcurrencyLimitError, Trap, component::ResourceTableError};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::FieldMapError;

use crate::{
    error::{CpuExceeded, HeadersExceeded, InvokeError, Limit},
    host::{HasStoreLimits, StoreLimits},
};

/// What an error from the engine means once the guest runs.
pub(super) fn guest_error(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl HasStoreLimits>,
) -> InvokeError {
    let control = store.data_mut().control();
    if error.is::<CpuExceeded>() {
        return InvokeError::Cpu(control.cpu_limit());
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return exited(*status, control);
    }
    failed(format!("{error:?}"), limit_of(error), control)
}

/// A guest that exits gives no response, whatever the status says.
pub(super) fn exited(status: i32, control: &StoreLimits) -> InvokeError {
    let detail = format!("it exited with status {status}");
    match control.refused_memory() {
        None => InvokeError::NoResponse(detail),
        Some(_) => failed(detail, None, control),
    }
}

/// A failure without an explanation of its own is explained by memory that was refused before.
fn failed(detail: String, limit: Option<Limit>, control: &StoreLimits) -> InvokeError {
    match limit.or(control.refused_memory()) {
        Some(Limit::NodeMemory) => InvokeError::NodeMemory,
        limit => InvokeError::Failed { detail, limit },
    }
}

/// The limit that an error says was hit.
fn limit_of(error: &wasmtime::Error) -> Option<Limit> {
    if error.downcast_ref() == Some(&Trap::StackOverflow) {
        return Some(Limit::Stack);
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(Limit::HostResources);
    }
    if error.is::<HeadersExceeded>() {
        return Some(Limit::FieldBytes);
    }
    if matches!(
        error.downcast_ref(),
        Some(FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields)
    ) {
        return Some(Limit::FieldBytes);
    }
    // Wasmtime keeps the types of these to itself; the tests of hostile guests would notice another
    // wording.
    let cause = error.root_cause().to_string();
    [
        ("fuel allocated for hostcalls has been exhausted", Limit::HostcallBytes),
        ("store handle limit exceeded", Limit::ComponentHandles),
        ("requested len", Limit::RandomBytes),
    ]
    .into_iter()
    .find_map(|(said, limit)| cause.contains(said).then_some(limit))
}

/// What an error from the engine means while the instance is made.
pub(super) fn start_error(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl HasStoreLimits>,
) -> InvokeError {
    if error.is::<PoolConcurrencyLimitError>() {
        InvokeError::Instances
    } else if error.is::<Trap>() || error.is::<CpuExceeded>() {
        guest_error(error, store)
    } else if store.data_mut().control().refused_memory() == Some(Limit::NodeMemory) {
        InvokeError::NodeMemory
    } else {
        InvokeError::Start(format!("{error:#}"))
    }
}
