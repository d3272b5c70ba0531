//! The guest as a component.

use std::{
    cell::RefCell,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::runtime::Runtime;
use wasmtime::{
    Store, StoreContextMut, UpdateDeadline,
    component::{Component, InstancePre, Linker, Resource, ResourceTable, ResourceType},
};
use wasmtime_wasi::p2::{
    DynOutputStream,
    bindings::io::streams::{Host as _, StreamError},
};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre, sync};
use wasmtime_wasi_io::IoView;

use crate::{
    Variant,
    engine::engine,
    host::{Host, read},
    run,
};

impl IoView for Host {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

pub(crate) fn variants(wasm: &[u8]) -> Vec<Variant> {
    let pre = pre_fresh(wasm);
    let sync_pre = sync::ProxyPre::new(self::pre(wasm, &sync_linker())).unwrap();
    let no_fiber = move |runtime: &Runtime, passes| {
        run(runtime, async {
            for _ in 0..passes {
                answer_sync(&sync_pre).await;
            }
        });
    };
    vec![
        fresh("component", &pre, Host::new),
        fresh("component, context made ahead", &pre, Host::with_context),
        Variant { name: "component, no fiber", pass: Box::new(no_fiber) },
        kept(pre),
    ]
}

/// The component that is linked without the modules that pass calls on.
pub(crate) fn two_modules() -> Variant {
    fresh("component, two modules", &pre_two_modules(), Host::new)
}

/// The component, linked like the gateway's.
pub(crate) fn pre_fresh(wasm: &[u8]) -> ProxyPre<Host> {
    ProxyPre::new(pre(wasm, &linker())).unwrap()
}

pub(crate) fn pre_two_modules() -> ProxyPre<Host> {
    pre_fresh(include_bytes!("two_modules.wat"))
}

fn fresh(name: &'static str, pre: &ProxyPre<Host>, host: fn() -> Host) -> Variant {
    let pre = pre.clone();
    let pass = move |runtime: &Runtime, passes| {
        run(runtime, async {
            for _ in 0..passes {
                answer(&pre, host()).await;
            }
        });
    };
    Variant { name, pass: Box::new(pass) }
}

fn kept(pre: ProxyPre<Host>) -> Variant {
    let kept = RefCell::new(None);
    let pass = move |runtime: &Runtime, passes| {
        // Nothing else runs on this thread.
        let (mut store, proxy) =
            kept.take().unwrap_or_else(|| run(runtime, instance(&pre, Host::new())));
        run(runtime, async {
            for _ in 0..passes {
                call(&mut store, &proxy).await;
            }
        });
        kept.replace(Some((store, proxy)));
    };
    Variant { name: "component, kept", pass: Box::new(pass) }
}

fn pre(wasm: &[u8], linker: &Linker<Host>) -> InstancePre<Host> {
    let wasm = wat::parse_bytes(wasm).unwrap();
    let component = Component::new(linker.engine(), wasm).unwrap();
    linker.instantiate_pre(&component).unwrap()
}

fn linker() -> Linker<Host> {
    let mut linker = Linker::new(&engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
    linker.allow_shadowing(true);
    // Otherwise streams would make the context.
    wasmtime_wasi_io::add_to_linker_async(&mut linker).unwrap();
    linker
}

/// A linker without functions that wait.
fn sync_linker() -> Linker<Host> {
    let mut linker = Linker::new(&engine());
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker).unwrap();
    linker.allow_shadowing(true);
    // The library's own enter a runtime, to wait there.
    let write = |mut store: StoreContextMut<'_, Host>,
                 (stream, content): (Resource<DynOutputStream>, Vec<u8>)|
     -> wasmtime::Result<(Result<(), StreamError>,)> {
        let table = &mut store.data_mut().table;
        let mut written = table.get_mut(&stream)?.blocking_write_and_flush(content.into());
        let polled = written.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(written);
        let Poll::Ready(written) = polled else { panic!("the guest had to wait") };
        Ok((match written {
            Ok(()) => Ok(()),
            Err(error) => Err(table.convert_stream_error(error)?),
        },))
    };
    let drop = |mut store: StoreContextMut<'_, Host>, stream| {
        let stream: Resource<DynOutputStream> = Resource::new_own(stream);
        store.data_mut().table.delete(stream)?;
        Ok(())
    };
    let mut streams = linker.instance("wasi:io/streams@0.2.12").unwrap();
    streams.func_wrap("[method]output-stream.blocking-write-and-flush", write).unwrap();
    let stream = ResourceType::host::<DynOutputStream>();
    streams.resource("output-stream", stream, drop).unwrap();
    linker
}

fn limit(store: &mut Store<Host>) {
    store.set_epoch_deadline(1);
    store.limiter(|host| &mut host.memory);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    store.set_hostcall_fuel(1 << 20);
    store.set_max_component_handles(16_384);
}

async fn instance(pre: &ProxyPre<Host>, host: Host) -> (Store<Host>, Proxy) {
    let mut store = Store::new(pre.engine(), host);
    limit(&mut store);
    let proxy = pre.instantiate_async(&mut store).await.unwrap();
    (store, proxy)
}

/// Answers one request with a fresh instance.
pub(crate) async fn answer(pre: &ProxyPre<Host>, host: Host) -> Bytes {
    let (mut store, proxy) = instance(pre, host).await;
    call(&mut store, &proxy).await
}

async fn call(store: &mut Store<Host>, proxy: &Proxy) -> Bytes {
    let (request, answer, head) = store.data_mut().add_request();
    let handler = proxy.wasi_http_incoming_handler();
    handler.call_handle(&mut *store, request, answer).await.unwrap();
    read(head).await
}

async fn answer_sync(pre: &sync::ProxyPre<Host>) -> Bytes {
    let mut store = Store::new(pre.engine(), Host::new());
    limit(&mut store);
    let proxy = pre.instantiate(&mut store).unwrap();
    let (request, answer, head) = store.data_mut().add_request();
    proxy.wasi_http_incoming_handler().call_handle(&mut store, request, answer).unwrap();
    read(head).await
}
