//! Guests that export `wasi:http/handler` 0.3.

use std::{future::poll_fn, pin::Pin};

use http::uri::{Authority, Scheme};
use tokio::{sync::oneshot, task};
use wasmtime::{Store, component::Accessor};
use wasmtime_wasi_http::{
    Error as WasiError, WasiHttpView as _,
    p3::{
        Request as GuestRequest,
        bindings::{Service, ServicePre},
    },
};

use crate::{
    InvokeError,
    executor::{
        errors::{guest_error, is_exit_without_error, start_error},
        request::{FunctionCall, GuestEnd, InvocationRequest, ResponseHead},
    },
    host::{HasStoreLimits as _, Host, component_store, instance::Guest},
};

/// Turns of the engine in which the end of a response may arrive after its guest has exited. A few
/// are enough unless the client reads slowly.
const TURNS_AFTER_EXIT: usize = 64;

/// Makes an instance.
pub(crate) async fn instantiate(
    pre: &ServicePre<Host>,
    host: Host,
) -> Result<Guest<Service, Host>, InvokeError> {
    let mut store = component_store(pre.engine(), host);
    match pre.instantiate_async(&mut store).await {
        Ok(exports) => Ok(Guest { store, exports }),
        Err(error) => Err(start_error(&error, &mut store)),
    }
}

/// Gives the guest a request, and waits until all of its tasks have ended, or it exits.
pub(crate) async fn call(
    guest: &mut Guest<Service, Host>,
    call: Box<FunctionCall>,
    head: oneshot::Sender<ResponseHead>,
) -> Result<GuestEnd, InvokeError> {
    let Guest { store, exports } = guest;
    let FunctionCall { head: mut request, body, context } = *call;
    complete_address(&mut request, context.https);
    let request = http::Request::from_parts(request, body);
    let served = store
        .run_concurrent(async |accessor| serve(accessor, exports, request, head).await)
        .await
        .and_then(|served| served);
    match served {
        Ok(()) => Ok(GuestEnd::Returned),
        Err(error) if is_exit_without_error(&error) && response_ends(store).await => {
            Ok(GuestEnd::Exited)
        }
        Err(error) => Err(guest_error(&error, store)),
    }
}

/// Whether the response of a guest that has exited is whole. The engine may not have passed on its
/// end yet.
async fn response_ends(store: &mut Store<Host>) -> bool {
    for _ in 0..TURNS_AFTER_EXIT {
        if store.data_mut().store_limits().has_responded() {
            return true;
        }
        // An error of the engine leaves things as they are.
        let _ = store.run_concurrent(async |_| task::yield_now().await).await;
        // The task that runs the guest reads the body now.
        task::yield_now().await;
    }
    false
}

async fn serve(
    accessor: &Accessor<Host>,
    service: &Service,
    request: InvocationRequest,
    head: oneshot::Sender<ResponseHead>,
) -> wasmtime::Result<()> {
    let (request, request_io) = accessor.with(|mut access| {
        let hooks = access.get().http().hooks;
        let (request, io) = GuestRequest::from_http(hooks, request);
        let io: Pin<Box<dyn Future<Output = Result<(), WasiError>> + Send>> = Box::pin(io);
        (request, io)
    });
    let response = match service.handle(accessor, request).await? {
        Ok(response) => Ok(accessor.with(|access| response.into_http(access, request_io))?),
        Err(code) => Err(format!("it answered with {code:?}")),
    };
    // There is no receiver if the client has left.
    let _ = head.send(response);
    // Tasks of the guest write the body, and may continue after it.
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
    Ok(())
}

/// Completes the URI, where WASI 0.3 expects the scheme and the authority: HTTP/1.1 has the one
/// nowhere and the other in `host`, and what HTTP/2 says about the scheme is only a claim.
fn complete_address(request: &mut http::request::Parts, https: bool) {
    let mut uri = request.uri.clone().into_parts();
    uri.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    if uri.authority.is_none()
        && let Some(host) = request.headers.get(http::header::HOST)
    {
        uri.authority = Authority::try_from(host.as_bytes()).ok();
    }
    if let Ok(uri) = http::Uri::from_parts(uri) {
        request.uri = uri;
    }
}
