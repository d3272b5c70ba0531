//! CGI: one run of a command per request. The body of the request is its standard input, the response
//! its standard output. Standard error goes to the log of the function.

pub(crate) mod buffer;
pub(crate) mod environment;
pub(crate) mod head;

mod stdin;
mod stdout;

use std::future::poll_fn;

use tokio::sync::oneshot;
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::{
    I32Exit, WasiCtxBuilder,
    p2::bindings::{Command, CommandPre},
    p3::bindings::{Command as AsyncCommand, CommandPre as AsyncCommandPre},
};

use crate::{
    InvokeError,
    executor::{
        cgi::{
            stdin::Stdin,
            stdout::{InvalidOutput, Stdout},
        },
        errors::{exited, guest_error, start_error},
        request::{RequestBody, ResponseHead},
    },
    host::{
        HasStoreLimits, Host, ModuleHost, component_store, instance::Guest, module_store,
        wasi::variables::GuestVariables,
    },
};

/// A request as a command sees it: its arguments, its environment and its streams.
pub(crate) struct CgiInput {
    /// The context, without its streams.
    pub(crate) wasi: WasiCtxBuilder,
    /// The arguments and the environment.
    pub(crate) variables: GuestVariables,
    pub(crate) body: RequestBody,
    pub(crate) head: oneshot::Sender<ResponseHead>,
}

/// Makes an instance of a `wasi:cli/command` component.
pub(crate) async fn instantiate_component(
    pre: &CommandPre<Host>,
    host: Host,
) -> Result<Guest<Command, Host>, InvokeError> {
    let mut store = component_store(pre.engine(), host);
    match pre.instantiate_async(&mut store).await {
        Ok(exports) => Ok(Guest { store, exports }),
        Err(error) => Err(start_error(&error, &mut store)),
    }
}

/// Makes an instance of a `wasi:cli/command` component of WASI 0.3.
pub(crate) async fn instantiate_async_component(
    pre: &AsyncCommandPre<Host>,
    host: Host,
) -> Result<Guest<AsyncCommand, Host>, InvokeError> {
    let mut store = component_store(pre.engine(), host);
    match pre.instantiate_async(&mut store).await {
        Ok(exports) => Ok(Guest { store, exports }),
        Err(error) => Err(start_error(&error, &mut store)),
    }
}

/// Makes an instance of a preview1 module.
pub(crate) async fn instantiate_module(
    pre: &InstancePre<ModuleHost>,
    host: ModuleHost,
) -> Result<Guest<wasmtime::Instance, ModuleHost>, InvokeError> {
    let mut store = module_store(pre.module().engine(), host);
    match pre.instantiate_async(&mut store).await {
        Ok(exports) => Ok(Guest { store, exports }),
        Err(error) => Err(start_error(&error, &mut store)),
    }
}

/// Connects a command's streams to the body and the response.
fn connect(
    store: &mut Store<impl HasStoreLimits>,
    input: CgiInput,
) -> (WasiCtxBuilder, GuestVariables, Stdout) {
    let CgiInput { mut wasi, variables, body, head } = input;
    let stdout = Stdout::new(head, store.data_mut().store_limits().body_chunk_bytes());
    wasi.stdin(Stdin::new(body)).stdout(stdout.clone());
    (wasi, variables, stdout)
}

/// Runs a `wasi:cli/command` component to its end.
pub(crate) async fn call_component(
    guest: &mut Guest<Command, Host>,
    input: CgiInput,
) -> Result<(), InvokeError> {
    let Guest { store, exports } = guest;
    let (mut wasi, variables, stdout) = connect(store, input);
    store.data_mut().set_input(wasi.build(), variables);
    match exports.wasi_cli_run().call_run(&mut *store).await {
        Ok(Ok(())) => {}
        Ok(Err(())) => return Err(failed_run(store)),
        Err(error) => end_of_command(&error, store)?,
    }
    stdout.close()
}

/// Runs a `wasi:cli/command` component of WASI 0.3 until all of its tasks have ended.
pub(crate) async fn call_async_component(
    guest: &mut Guest<AsyncCommand, Host>,
    input: CgiInput,
) -> Result<(), InvokeError> {
    let Guest { store, exports } = guest;
    let (mut wasi, variables, stdout) = connect(store, input);
    store.data_mut().set_input(wasi.build(), variables);
    let run = store.run_concurrent(async |accessor| {
        let result = exports.wasi_cli_run().call_run(accessor).await?;
        // What the command has written may still be on its way.
        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        Ok::<_, wasmtime::Error>(result)
    });
    let ended = tokio::select! {
        biased;
        ended = run => ended.and_then(|result| result),
        // A write fails then, which the command may ignore.
        () = stdout.becomes_invalid() => return stdout.close(),
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(())) => return Err(failed_run(store)),
        // To write on after a failed write is a trap.
        Err(_) if stdout.is_invalid() => {}
        Err(error) => end_of_command(&error, store)?,
    }
    stdout.close()
}

fn failed_run(store: &mut Store<Host>) -> InvokeError {
    exited("its `run` returned an error".to_owned(), store.data_mut().store_limits())
}

/// Runs a preview1 module to its end.
pub(crate) async fn call_module(
    guest: &mut Guest<wasmtime::Instance, ModuleHost>,
    input: CgiInput,
) -> Result<(), InvokeError> {
    let Guest { store, exports } = guest;
    let (mut wasi, variables, stdout) = connect(store, input);
    store.data_mut().set_input(wasi.build_p1(), variables);
    let start = exports
        .get_typed_func::<(), ()>(&mut *store, "_start")
        .map_err(|error| InvokeError::Start(error.to_string()))?;
    if let Err(error) = start.call_async(&mut *store, ()).await {
        end_of_command(&error, store)?;
    }
    stdout.close()
}

/// A command may return or exit, and only the exit status 0 is a success. One that was ended for its
/// output has nothing more to say than that output.
fn end_of_command(
    error: &wasmtime::Error,
    store: &mut Store<impl HasStoreLimits>,
) -> Result<(), InvokeError> {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ok(()),
        None if error.is::<InvalidOutput>() => Ok(()),
        Some(_) | None => Err(guest_error(error, store)),
    }
}
