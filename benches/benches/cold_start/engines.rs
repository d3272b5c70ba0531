//! `engine/<strategy>/<guest>`: Wasmtime alone, with different ways to hold instances.
//!
//! One iteration creates a store and an instance, calls its handler and drops everything. The
//! gateway uses `pooling-scan`, with the settings of `runtime-pool/src/engine.rs` that affect an
//! instance. `limited` adds all limits and deadlines that the gateway sets, and `unlimited` has
//! none: their difference is the cost of the limits.

use std::{cell::OnceCell, sync::Arc, thread, time::Duration};

use benches::guest;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use http_body_util::{BodyExt as _, Empty};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
    ResourceLimiter, Store, UpdateDeadline,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
    p2::bindings::{ProxyPre, http::types::Scheme},
};

use crate::report_skipped;

/// Components for `wasi:http` 0.2. Each is compiled for each strategy; the last takes seconds.
const GUESTS: [&str; 3] = ["c-hello", "hello", "js-hello"];

/// A way to allocate instances.
#[derive(Clone, Copy, Debug)]
enum Strategy {
    OnDemand,
    Pooling,
    PoolingDecommitBatch,
    PoolingScan,
    /// `PoolingScan` on an engine that can run WASI 0.3.
    Concurrent,
    /// `PoolingScan` with all limits and deadlines, and a clock that ticks.
    Limited,
    /// `PoolingScan` without any.
    Unlimited,
}

impl Strategy {
    const ALL: [Self; 7] = [
        Self::OnDemand,
        Self::Pooling,
        Self::PoolingDecommitBatch,
        Self::PoolingScan,
        Self::Concurrent,
        Self::Limited,
        Self::Unlimited,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Pooling => "pooling-defaults",
            Self::PoolingDecommitBatch => "pooling-decommit-batch",
            Self::PoolingScan => "pooling-scan",
            Self::Concurrent => "concurrent",
            Self::Limited => "limited",
            Self::Unlimited => "unlimited",
        }
    }

    fn needs_scan(self) -> bool {
        !matches!(self, Self::OnDemand | Self::Pooling | Self::PoolingDecommitBatch)
    }

    fn engine(self) -> Engine {
        let mut config = Config::new();
        config
            .epoch_interruption(!matches!(self, Self::Unlimited))
            .gc_support(false)
            .concurrency_support(matches!(self, Self::Concurrent))
            .max_wasm_stack(512 << 10)
            .async_stack_size(2 << 20);
        let mut pooling = PoolingAllocationConfig::default();
        pooling.max_memory_size(512 << 20).max_component_instance_size(1 << 20);
        match self {
            Self::OnDemand | Self::Pooling => {}
            Self::PoolingDecommitBatch => {
                pooling.decommit_batch_size(128);
            }
            Self::PoolingScan | Self::Concurrent | Self::Limited | Self::Unlimited => {
                pooling
                    .pagemap_scan(Enabled::Yes)
                    .linear_memory_keep_resident(8 << 20)
                    .table_keep_resident(64 << 10);
            }
        }
        config.allocation_strategy(match self {
            Self::OnDemand => InstanceAllocationStrategy::OnDemand,
            _ => InstanceAllocationStrategy::Pooling(pooling),
        });
        let engine = Engine::new(&config).unwrap();
        if matches!(self, Self::Limited) {
            tick(engine.weak());
        }
        engine
    }
}

/// Advances the epoch, as the gateway does, until the engine is dropped.
fn tick(engine: EngineWeak) {
    thread::spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            thread::sleep(Duration::from_millis(5));
        }
    });
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("engine");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for strategy in Strategy::ALL {
        if strategy.needs_scan() && !PoolingAllocationConfig::is_pagemap_scan_available() {
            report_skipped(strategy.name(), "this kernel has no scan of written pages");
            continue;
        }
        let prepared: OnceCell<Linker<Host>> = OnceCell::new();
        for name in GUESTS {
            let Ok(guest) = guest::Guest::read(&guest::dist(), name) else {
                report_skipped(strategy.name(), &format!("{name} is not built"));
                continue;
            };
            let pre: OnceCell<ProxyPre<Host>> = OnceCell::new();
            group.bench_function(BenchmarkId::new(strategy.name(), name), |bencher| {
                let linker = prepared.get_or_init(|| linker(&strategy.engine()));
                let pre = pre.get_or_init(|| {
                    let component = Component::new(linker.engine(), &guest.wasm).unwrap();
                    ProxyPre::new(linker.instantiate_pre(&component).unwrap()).unwrap()
                });
                let limited = matches!(strategy, Strategy::Limited);
                answer(&runtime, pre, limited);
                bencher.to_async(&runtime).iter(|| call(pre, limited));
            });
        }
    }
    group.finish();
}

fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
    linker
}

/// Checks that a guest answers before it is measured.
fn answer(runtime: &Runtime, pre: &ProxyPre<Host>, limited: bool) {
    assert_eq!(runtime.block_on(call(pre, limited)), 200);
}

/// Creates an instance, calls it and drops it. Returns the status of its response.
async fn call(pre: &ProxyPre<Host>, limited: bool) -> u16 {
    let mut store = Store::new(pre.engine(), Host::default());
    store.set_epoch_deadline(1);
    if limited {
        store.limiter(|host| &mut host.memory);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store.set_hostcall_fuel(1 << 20);
        store.set_max_component_handles(16_384);
        store.data_mut().table.set_max_capacity(16_384);
    }
    let proxy = pre.instantiate_async(&mut store).await.unwrap();
    let (sender, head) = oneshot::channel();
    let request = http::Request::get("http://bench.localhost/");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request).unwrap();
    let answer = http
        .new_response_outparam_from_callback(move |response| {
            let _ = sender.send(response);
        })
        .unwrap();
    let handler = proxy.wasi_http_incoming_handler();
    let read = async {
        let response = head.await.unwrap().unwrap();
        let status = response.status().as_u16();
        // The body must be read: otherwise the guest waits or gives up.
        response.into_body().collect().await.unwrap();
        status
    };
    let (returned, status) = tokio::join!(handler.call_handle(&mut store, request, answer), read);
    returned.unwrap();
    status
}

/// A host that gives a component nothing to reach.
#[derive(Default)]
struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outbound: Denied,
    memory: Memory,
}

/// Counts memory and refuses none.
#[derive(Default)]
struct Memory(usize);

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
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// Guests may make no outbound requests.
#[derive(Default)]
struct Denied;

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Denied {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|_| false)
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
