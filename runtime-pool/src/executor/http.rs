//! `wasi:http/incoming-handler` 0.2.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::bindings::{ProxyPre, http::types::Scheme},
};

use super::{guest_error, start_error};
use crate::{
    InvokeError,
    call::{Head, Request},
    host::{Host, component_store},
    run::{FailUnlessDone, Run},
};

/// Makes an instance, gives it the request and waits until it returns.
pub(crate) async fn run(
    pre: &ProxyPre<Host>,
    host: Host,
    request: Request,
    head: oneshot::Sender<Head>,
    run: Arc<Run>,
) -> Result<(), InvokeError> {
    let started = Instant::now();
    let mut store = component_store(pre.engine(), host);
    let outcome = FailUnlessDone::new(&run.outcome);
    let proxy = match pre.instantiate_async(&mut store).await {
        Ok(proxy) => proxy,
        Err(error) => return Err(start_error(&error, &mut store)),
    };
    run.instantiated(started);

    let mut http = store.data_mut().http();
    let request = http
        .new_incoming_request(Scheme::Http, request)
        .map_err(|error| InvokeError::Request(error.to_string()))?;
    let outparam = http
        .new_response_outparam_from_callback(move |response| {
            // The receiver is gone when the caller is.
            let _ = head.send(response.map_err(|code| format!("it answered with {code:?}")));
        })
        .map_err(|error| InvokeError::Start(error.to_string()))?;

    match proxy.wasi_http_incoming_handler().call_handle(&mut store, request, outparam).await {
        Ok(()) => {
            outcome.done();
            Ok(())
        }
        Err(error) => Err(guest_error(&error, &mut store)),
    }
}
