//! The variants behind HTTP, to see what they save inside a server: a path for each, and `/` for the
//! server alone, in one process. `load` or any other load generator measures them.

use std::net::SocketAddr;

use axum::{Router, routing::get, serve::ListenerExt as _};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{component, host::Host, module};

/// Serves until the process is ended.
pub(crate) fn serve(wasm: &[u8], listen: SocketAddr) {
    let component = component::pre_fresh(wasm);
    let two_modules = component::pre_two_modules();
    let module = module::pre(wasm, true);
    let app = Router::new()
        .route("/", get(async || "hello from axum\n"))
        .route("/component", get(async move || component::answer(&component, Host::new()).await))
        .route(
            "/two-modules",
            get(async move || component::answer(&two_modules, Host::new()).await),
        )
        .route("/module", get(async move || module::answer(&module, true).await));
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind(listen).await.unwrap().tap_io(|stream| {
            // A failure costs only latency.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, app).await.unwrap();
    });
}
