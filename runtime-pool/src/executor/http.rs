//! Guests that export `wasi:http/incoming-handler` 0.2.

use tokio::sync::oneshot;
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::bindings::{Proxy, ProxyPre, http::types::Scheme},
};

use crate::{
    InvokeError,
    executor::{
        errors::{guest_error, start_error},
        request::{InvocationRequest, ResponseHead},
    },
    host::{Host, component_store, instance::Guest},
};

/// Makes an instance.
pub(crate) async fn instantiate(
    pre: &ProxyPre<Host>,
    host: Host,
) -> Result<Guest<Proxy, Host>, InvokeError> {
    let mut store = component_store(pre.engine(), host);
    match pre.instantiate_async(&mut store).await {
        Ok(exports) => Ok(Guest { store, exports }),
        Err(error) => Err(start_error(&error, &mut store)),
    }
}

/// Gives the guest a request, and waits until it returns.
pub(crate) async fn call(
    guest: &mut Guest<Proxy, Host>,
    request: InvocationRequest,
    head: oneshot::Sender<ResponseHead>,
) -> Result<(), InvokeError> {
    let Guest { store, exports } = guest;
    let mut http = store.data_mut().http();
    let request = http
        .new_incoming_request(Scheme::Http, request)
        .map_err(|error| InvokeError::Request(error.to_string()))?;
    let outparam = http
        .new_response_outparam_from_callback(move |response| {
            // There is no receiver if the client has left.
            let _ = head.send(response.map_err(|code| format!("it answered with {code:?}")));
        })
        .map_err(|error| InvokeError::Start(error.to_string()))?;
    exports
        .wasi_http_incoming_handler()
        .call_handle(&mut *store, request, outparam)
        .await
        .map_err(|error| guest_error(&error, store))
}
