//! The guest's core module alone. What the canonical ABI does between a component and its host is
//! written out here, for the functions that the guests call; the rest traps.

use std::{
    cell::RefCell,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::runtime::Runtime;
use wasmparser::{Parser, Payload};
use wasmtime::{
    Caller, InstancePre, Linker, Memory, Module, Store, TypedFunc, UpdateDeadline,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_http::{
    FieldMap, WasiHttpView as _,
    p2::{
        bindings::http::types::{
            HostFields as _, HostIncomingRequest as RequestFunctions, HostOutgoingBody as _,
            HostOutgoingResponse as ResponseFunctions, HostResponseOutparam as OutparamFunctions,
        },
        body::HostOutgoingBody,
        types::{HostIncomingRequest, HostOutgoingResponse, HostResponseOutparam},
    },
};

use crate::{
    Variant,
    engine::engine,
    host::{self, read},
    run,
};

/// The versions of the interfaces that the guests import.
const VERSIONS: [&str; 2] = ["0.2.0", "0.2.12"];

/// A guest's function for requests.
type Handler = TypedFunc<(u32, u32), ()>;

/// The data of a store.
pub(crate) struct ModuleHost {
    host: host::Host,
    memory: Option<Memory>,
}

pub(crate) fn variants(wasm: &[u8]) -> Vec<Variant> {
    let variant = |name, waits| {
        let pre = pre(wasm, waits);
        let pass = move |runtime: &Runtime, passes| {
            run(runtime, async {
                for _ in 0..passes {
                    answer(&pre, waits).await;
                }
            });
        };
        Variant { name, pass: Box::new(pass) }
    };
    vec![variant("module", true), variant("module, no fiber", false), kept(pre(wasm, true))]
}

fn kept(pre: InstancePre<ModuleHost>) -> Variant {
    let kept = RefCell::new(None);
    let pass = move |runtime: &Runtime, passes| {
        let (mut store, handler) =
            kept.take().unwrap_or_else(|| run(runtime, instance(&pre, true)));
        run(runtime, async {
            for _ in 0..passes {
                call(&mut store, &handler, true).await;
            }
        });
        kept.replace(Some((store, handler)));
    };
    Variant { name: "module, kept", pass: Box::new(pass) }
}

/// The first module of a component: what follows it in the guests is made by the linker.
fn core_module(component: &[u8]) -> &[u8] {
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload.unwrap() {
            return &component[unchecked_range];
        }
    }
    panic!("the component has no module");
}

/// The core module of a component, linked with functions of our own.
pub(crate) fn pre(wasm: &[u8], waits: bool) -> InstancePre<ModuleHost> {
    let engine = engine();
    let module = Module::new(&engine, core_module(wasm)).unwrap();
    let mut linker = Linker::new(&engine);
    for version in VERSIONS {
        add_functions(&mut linker, version, waits).unwrap();
    }
    linker.define_unknown_imports_as_traps(&module).unwrap();
    linker.instantiate_pre(&module).unwrap()
}

/// Answers one request with a fresh instance.
pub(crate) async fn answer(pre: &InstancePre<ModuleHost>, waits: bool) -> Bytes {
    let (mut store, handler) = instance(pre, waits).await;
    call(&mut store, &handler, waits).await
}

async fn instance(pre: &InstancePre<ModuleHost>, waits: bool) -> (Store<ModuleHost>, Handler) {
    let host = ModuleHost { host: host::Host::new(), memory: None };
    let mut store = Store::new(pre.module().engine(), host);
    store.set_epoch_deadline(1);
    store.limiter(|host| &mut host.host.memory);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    let instance = if waits {
        pre.instantiate_async(&mut store).await.unwrap()
    } else {
        pre.instantiate(&mut store).unwrap()
    };
    store.data_mut().memory = instance.get_memory(&mut store, "memory");
    let handler = VERSIONS.iter().find_map(|version| {
        let name = format!("wasi:http/incoming-handler@{version}#handle");
        instance.get_typed_func(&mut store, &name).ok()
    });
    (store, handler.unwrap())
}

async fn call(store: &mut Store<ModuleHost>, handler: &Handler, waits: bool) -> Bytes {
    let (request, answer, head) = store.data_mut().host.add_request();
    let handles = (handle(&request), handle(&answer));
    if waits {
        handler.call_async(&mut *store, handles).await.unwrap();
    } else {
        handler.call(&mut *store, handles).unwrap();
    }
    read(head).await
}

/// The handle of a resource. None is 0.
fn handle<T>(resource: &Resource<T>) -> u32 {
    resource.rep() + 1
}

fn resource<T: 'static>(handle: u32) -> Resource<T> {
    Resource::new_own(handle.wrapping_sub(1))
}

impl ModuleHost {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.host.table
    }
}

fn parts<'a>(caller: &'a mut Caller<'_, ModuleHost>) -> (&'a mut [u8], &'a mut host::Host) {
    let memory = caller.data().memory.unwrap();
    let (memory, host) = memory.data_and_store_mut(caller);
    (memory, &mut host.host)
}

fn bytes(memory: &[u8], at: u32, length: u32) -> wasmtime::Result<&[u8]> {
    let at = at as usize;
    memory.get(at..at + length as usize).ok_or_else(|| wasmtime::format_err!("out of bounds"))
}

fn word(memory: &[u8], at: u32) -> wasmtime::Result<u32> {
    Ok(u32::from_le_bytes(bytes(memory, at, 4)?.try_into().unwrap()))
}

/// Writes a result with a handle, or with an error that has no payload.
fn give(memory: &mut [u8], at: u32, handle: Option<u32>) -> wasmtime::Result<()> {
    bytes(memory, at, 8)?;
    let at = at as usize;
    memory[at] = u8::from(handle.is_none());
    memory[at + 4..at + 8].copy_from_slice(&handle.unwrap_or(0).to_le_bytes());
    Ok(())
}

fn add_functions(
    linker: &mut Linker<ModuleHost>,
    version: &str,
    waits: bool,
) -> wasmtime::Result<()> {
    let http = format!("wasi:http/types@{version}");
    linker.func_wrap(
        &http,
        "[resource-drop]incoming-request",
        |mut caller: Caller<'_, ModuleHost>, request: u32| {
            let request: Resource<HostIncomingRequest> = resource(request);
            RequestFunctions::drop(&mut caller.data_mut().host.http(), request)
        },
    )?;
    linker.func_wrap(
        &http,
        "[static]fields.from-list",
        |mut caller: Caller<'_, ModuleHost>, list: u32, count: u32, result: u32| {
            let (memory, host) = parts(&mut caller);
            let mut entries = Vec::with_capacity(count.min(64) as usize);
            for entry in 0..count {
                let at = list + 16 * entry;
                let name = bytes(memory, word(memory, at)?, word(memory, at + 4)?)?;
                let value = bytes(memory, word(memory, at + 8)?, word(memory, at + 12)?)?;
                entries.push((String::from_utf8(name.to_vec())?, value.to_vec()));
            }
            let fields = host.http().from_list(entries).ok();
            give(memory, result, fields.as_ref().map(handle))
        },
    )?;
    linker.func_wrap(
        &http,
        "[constructor]outgoing-response",
        |mut caller: Caller<'_, ModuleHost>, fields: u32| {
            let fields: Resource<FieldMap> = resource(fields);
            Ok(handle(&ResponseFunctions::new(&mut caller.data_mut().host.http(), fields)?))
        },
    )?;
    linker.func_wrap(
        &http,
        "[method]outgoing-response.body",
        |mut caller: Caller<'_, ModuleHost>, response: u32, result: u32| {
            let (memory, host) = parts(&mut caller);
            let response: Resource<HostOutgoingResponse> = resource(response);
            let body = host.http().body(response)?.ok();
            give(memory, result, body.as_ref().map(handle))
        },
    )?;
    linker.func_wrap(
        &http,
        "[static]response-outparam.set",
        |mut caller: Caller<'_, ModuleHost>,
         param: u32,
         failed: u32,
         response: u32,
         _: u32,
         _: u64,
         _: u32,
         _: u32,
         _: u32,
         _: u32| {
            assert_eq!(failed, 0);
            let param: Resource<HostResponseOutparam> = resource(param);
            let mut http = caller.data_mut().host.http();
            OutparamFunctions::set(&mut http, param, Ok(resource(response)))
        },
    )?;
    add_bodies(linker, version)?;
    add_streams(linker, version, waits)
}

fn add_bodies(linker: &mut Linker<ModuleHost>, version: &str) -> wasmtime::Result<()> {
    let http = format!("wasi:http/types@{version}");
    linker.func_wrap(
        &http,
        "[method]outgoing-body.write",
        |mut caller: Caller<'_, ModuleHost>, body: u32, result: u32| {
            let (memory, host) = parts(&mut caller);
            let body: Resource<HostOutgoingBody> = resource(body);
            let stream = host.http().write(body)?.ok();
            give(memory, result, stream.as_ref().map(handle))
        },
    )?;
    linker.func_wrap(
        &http,
        "[static]outgoing-body.finish",
        |mut caller: Caller<'_, ModuleHost>, body: u32, has_trailers: u32, _: u32, result: u32| {
            assert_eq!(has_trailers, 0);
            let (memory, host) = parts(&mut caller);
            let body: Resource<HostOutgoingBody> = resource(body);
            let finished = host.http().finish(body, None).is_ok();
            bytes(memory, result, 40)?;
            memory[result as usize] = u8::from(!finished);
            Ok(())
        },
    )?;
    Ok(())
}

fn add_streams(
    linker: &mut Linker<ModuleHost>,
    version: &str,
    waits: bool,
) -> wasmtime::Result<()> {
    let streams = format!("wasi:io/streams@{version}");
    linker.func_wrap(
        &streams,
        "[resource-drop]output-stream",
        |mut caller: Caller<'_, ModuleHost>, stream: u32| {
            let stream: Resource<DynOutputStream> = resource(stream);
            caller.data_mut().table().delete(stream)?;
            Ok(())
        },
    )?;
    let write = "[method]output-stream.blocking-write-and-flush";
    if waits {
        linker.func_wrap_async(
            &streams,
            write,
            |mut caller: Caller<'_, ModuleHost>,
             (stream, at, length, result): (u32, u32, u32, u32)| {
                Box::new(async move {
                    let (memory, host) = parts(&mut caller);
                    let content = bytes(memory, at, length)?.to_vec();
                    let stream: Resource<DynOutputStream> = resource(stream);
                    let stream = host.table.get_mut(&stream)?;
                    let written = stream.blocking_write_and_flush(content.into()).await;
                    written_to(memory, result, written.is_ok())
                })
            },
        )?;
    } else {
        linker.func_wrap(
            &streams,
            write,
            |mut caller: Caller<'_, ModuleHost>, stream: u32, at: u32, length: u32, result: u32| {
                let (memory, host) = parts(&mut caller);
                let content = bytes(memory, at, length)?.to_vec();
                let stream: Resource<DynOutputStream> = resource(stream);
                let stream = host.table.get_mut(&stream)?;
                let mut writing = stream.blocking_write_and_flush(content.into());
                match writing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(written) => written_to(memory, result, written.is_ok()),
                    Poll::Pending => panic!("the guest had to wait"),
                }
            },
        )?;
    }
    Ok(())
}

fn written_to(memory: &mut [u8], result: u32, well: bool) -> wasmtime::Result<()> {
    bytes(memory, result, 12)?;
    memory[result as usize] = u8::from(!well);
    Ok(())
}
