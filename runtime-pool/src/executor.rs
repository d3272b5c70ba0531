//! The ways to run one request.

pub(crate) mod cgi;
pub(crate) mod cgi_environment;
pub(crate) mod cgi_head;
pub(crate) mod http;
pub(crate) mod http_async;

use wasmtime::PoolConcurrencyLimitError;

use crate::{
    InvokeError,
    error::CpuExceeded,
    host::{Control, Controlled},
};

/// What an error from the engine means once the guest runs.
fn guest_error(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl Controlled>,
) -> InvokeError {
    guest_error_with(error, store.data_mut().control())
}

fn guest_error_with(error: &wasmtime::Error, control: &Control) -> InvokeError {
    if error.is::<CpuExceeded>() {
        return InvokeError::Cpu(control.cpu_limit());
    }
    let out_of_memory = control.limiter.memory_refused;
    InvokeError::Failed { detail: format!("{error:?}"), out_of_memory }
}

/// What an error from the engine means while the instance is made.
pub(crate) fn start_error(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl Controlled>,
) -> InvokeError {
    if error.is::<PoolConcurrencyLimitError>() {
        InvokeError::Instances
    } else if error.is::<wasmtime::Trap>() || error.is::<CpuExceeded>() {
        guest_error(error, store)
    } else {
        InvokeError::Start(format!("{error:#}"))
    }
}
