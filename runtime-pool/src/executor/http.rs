//! Guests that export `wasi:http/incoming-handler` 0.2.

use tokio::sync::oneshot;
use wasmtime::{
    Func,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::{
        bindings::{Proxy, ProxyPre, http::types::Scheme},
        body::HostOutgoingBody,
        types::{HostIncomingRequest, HostResponseOutparam},
    },
};

use crate::{
    InvokeError,
    executor::{
        errors::{guest_error, is_exit_without_error, start_error},
        request::{FunctionCall, GuestEnd, ResponseHead},
    },
    host::{
        Host, component_store,
        core_module::{CoreHost, CorePre, core_store},
        http::outgoing_body::ResponseWriter,
        instance::Guest,
    },
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

/// Makes an instance of a component that runs as its core module.
pub(crate) async fn instantiate_core(
    pre: &CorePre,
    host: Host,
) -> Result<Guest<Func, CoreHost>, InvokeError> {
    let counted = pre.count().ok_or(InvokeError::Instances)?;
    let mut store = core_store(pre.engine(), host, counted);
    match pre.instantiate(&mut store).await {
        Ok(exports) => Ok(Guest { store, exports }),
        Err(error) => Err(start_error(&error, &mut store)),
    }
}

/// Gives the guest a request, and waits until it returns or exits.
pub(crate) async fn call(
    guest: &mut Guest<Proxy, Host>,
    call: Box<FunctionCall>,
    head: oneshot::Sender<ResponseHead>,
) -> Result<GuestEnd, InvokeError> {
    let Guest { store, exports } = guest;
    let (request, outparam) = give(store.data_mut(), call, head)?;
    let handler = exports.wasi_http_incoming_handler();
    match handler.call_handle(&mut *store, request, outparam).await {
        Ok(()) => Ok(GuestEnd::Returned),
        Err(error) if has_exited(&error, store.data_mut()) => Ok(GuestEnd::Exited),
        Err(error) => Err(guest_error(&error, store)),
    }
}

/// The same for a component that runs as its core module.
pub(crate) async fn call_core(
    guest: &mut Guest<Func, CoreHost>,
    call: Box<FunctionCall>,
    head: oneshot::Sender<ResponseHead>,
) -> Result<GuestEnd, InvokeError> {
    let Guest { store, exports } = guest;
    let (request, outparam) = give(&mut store.data_mut().host, call, head)?;
    let handled = async {
        let handles = store.data_mut().give_request(&request, &outparam)?;
        let handler = exports.typed::<(u32, u32), ()>(&*store)?;
        handler.call_async(&mut *store, handles).await
    };
    match handled.await {
        Ok(()) => Ok(GuestEnd::Returned),
        Err(error) if has_exited(&error, &mut store.data_mut().host) => Ok(GuestEnd::Exited),
        Err(error) => Err(guest_error(&error, store)),
    }
}

type Given = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);

/// Makes the resources of a call: the request, and the place for its answer.
fn give(
    host: &mut Host,
    call: Box<FunctionCall>,
    head: oneshot::Sender<ResponseHead>,
) -> Result<Given, InvokeError> {
    let FunctionCall { head: request, body, context } = *call;
    let request = ::http::Request::from_parts(request, body);
    let scheme = if context.https { Scheme::Https } else { Scheme::Http };
    let mut http = host.http();
    let request = http
        .new_incoming_request(scheme, request)
        .map_err(|error| InvokeError::Request(error.to_string()))?;
    let outparam = http
        .new_response_outparam_from_callback(move |response| {
            // There is no receiver if the client has left.
            let _ = head.send(response.map_err(|code| format!("it answered with {code:?}")));
        })
        .map_err(|error| InvokeError::Start(error.to_string()))?;
    Ok((request, outparam))
}

fn has_exited(error: &wasmtime::Error, host: &mut Host) -> bool {
    is_exit_without_error(error) && owes_nothing(host.http().table)
}

/// Whether the guest has given its response and finished all bodies: both take a resource of it.
fn owes_nothing(table: &mut ResourceTable) -> bool {
    !table.iter_mut().any(|resource| {
        resource.is::<HostResponseOutparam>()
            || resource.is::<HostOutgoingBody>()
            || resource.is::<ResponseWriter>()
    })
}
