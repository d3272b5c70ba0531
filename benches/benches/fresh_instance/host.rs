//! The host of a guest: a context of WASI, a table of resources, and the receiver of its response.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::oneshot;
use wasmtime::{
    ResourceLimiter,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
};
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, Scheme},
        body::HyperOutgoingBody,
        types::{HostIncomingRequest, HostResponseOutparam},
    },
};

/// The receiver of a guest's response.
pub(crate) type Head = oneshot::Receiver<Result<http::Response<HyperOutgoingBody>, ErrorCode>>;

pub(crate) struct Host {
    wasi: Option<Box<WasiCtx>>,
    pub(crate) http: WasiHttpCtx,
    pub(crate) table: ResourceTable,
    outbound: Denied,
    pub(crate) memory: Memory,
}

impl Host {
    /// A host that makes the context of WASI before the guest asks for it.
    pub(crate) fn with_context() -> Self {
        let mut host = Self::new();
        host.wasi = Some(Box::new(context()));
        host
    }

    /// A host like the gateway's.
    pub(crate) fn new() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(16_384);
        Self {
            wasi: None,
            http: WasiHttpCtx::new(),
            table,
            outbound: Denied,
            memory: Memory::default(),
        }
    }

    /// Adds a request and the place for its response.
    pub(crate) fn add_request(
        &mut self,
    ) -> (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>, Head) {
        let request = http::Request::get("http://bench.localhost/");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let (sender, head) = oneshot::channel();
        let mut http = self.http();
        let request = http.new_incoming_request(Scheme::Http, request).unwrap();
        let answer = http
            .new_response_outparam_from_callback(move |response| {
                let _ = sender.send(response);
            })
            .unwrap();
        (request, answer, head)
    }
}

/// Reads a response that the guest has given.
pub(crate) async fn read(mut head: Head) -> Bytes {
    let response = head.try_recv().unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let content = response.into_body().collect().await.unwrap().to_bytes();
    assert!(content.starts_with(b"hello"));
    content
}

fn context() -> WasiCtx {
    WasiCtxBuilder::new()
        .envs(&[("LANG", "C")])
        .stdout(wasmtime_wasi::p2::pipe::SinkOutputStream)
        .stderr(wasmtime_wasi::p2::pipe::SinkOutputStream)
        .allow_blocking_current_thread(false)
        .allow_tcp(false)
        .allow_udp(false)
        .monotonic_clock(Clock)
        .wall_clock(Clock)
        .build()
}

struct Clock;

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        1
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// Counts memory and refuses none.
#[derive(Default)]
pub(crate) struct Memory(usize);

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.0 += desired - current;
        Ok(self.0 <= 128 << 20)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| Box::new(context()));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// Guests may make no outbound requests.
struct Denied;

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Denied {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(|_| false));
        Arc::clone(&FILTER)
    }

    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _request_errors: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
