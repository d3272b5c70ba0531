//! `wasi:io` 0.2: streams, what they wait for, and their errors.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, StreamError as HostStreamError,
};
use wasmtime_wasi_io::bindings::wasi::io::{
    error::HostError,
    poll::{Host as _, HostPollable},
    streams::{Host as _, HostInputStream, HostOutputStream, StreamError},
};

use crate::host::{
    Host,
    core_module::{
        abi::{Abi, Lent, Lower, Lowering, Own, PlacedList, Shape, place_list},
        call::{Functions, Import, Interface, ReturnedWord, lift, lower, waiting},
        handles::{HeldByGuest, ResourceKind},
    },
};

impl HeldByGuest for wasmtime::Error {
    const KIND: ResourceKind = ResourceKind::IoError;
}

impl HeldByGuest for DynPollable {
    const KIND: ResourceKind = ResourceKind::Pollable;
}

impl HeldByGuest for DynInputStream {
    const KIND: ResourceKind = ResourceKind::InputStream;
}

impl HeldByGuest for DynOutputStream {
    const KIND: ResourceKind = ResourceKind::OutputStream;
}

impl Abi for StreamError {
    const SHAPE: Shape = Shape::variant(&[<Resource<wasmtime::Error>>::SHAPE, Shape::EMPTY]);
}

impl Lower for StreamError {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        match self {
            Self::LastOperationFailed(error) => {
                lowering.write(at, &[0])?;
                error.store(lowering, at + Self::SHAPE.contents_at())
            }
            Self::Closed => lowering.write(at, &[1]),
        }
    }
}

pub(super) fn add_functions(functions: &mut Functions<'_>) -> wasmtime::Result<()> {
    errors(&mut Interface { name: "wasi:io/error", functions })?;
    pollables(&mut Interface { name: "wasi:io/poll", functions })?;
    let mut streams = Interface { name: "wasi:io/streams", functions };
    input(&mut streams)?;
    output(&mut streams)?;
    output_waiting(&mut streams)
}

fn errors(errors: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    errors
        .call::<fn(u32, u32), _, String>(
            "[method]error.to-debug-string",
            |host, (Lent(error),)| host.table().to_debug_string(error),
        )?
        .call::<fn(u32), _, ()>("[resource-drop]error", |host, (Own(error),)| {
            HostError::drop(host.table(), error)
        })?;
    Ok(())
}

fn pollables(poll: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    type Lists = Vec<Lent<DynPollable>>;

    poll.call::<fn(u32), _, ()>("[resource-drop]pollable", |host, (Own(pollable),)| {
        HostPollable::drop(host.table(), pollable)
    })?;
    waiting!(poll, "[method]pollable.ready", fn(u32) -> u32, |caller,
                                                              (Lent(pollable),): (
        Lent<DynPollable>,
    )|
     -> bool {
        caller.data_mut().host.table().ready(pollable).await
    })?;
    waiting!(poll, "[method]pollable.block", fn(u32), |caller,
                                                       (Lent(pollable),): (Lent<DynPollable>,)|
     -> () {
        caller.data_mut().host.table().block(pollable).await
    })?;
    waiting!(poll, "poll", fn(u32, u32, u32), |caller, (pollables,): (Lists,)| -> PlacedList {
        let pollables = pollables.into_iter().map(|Lent(pollable)| pollable).collect();
        let ready = caller.data_mut().host.table().poll(pollables).await?;
        place_list(caller, ready).await
    })?;
    Ok(())
}

/// What became of a use of a stream.
fn used<T>(
    host: &mut Host,
    result: Result<T, HostStreamError>,
) -> wasmtime::Result<Result<T, StreamError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => host.table().convert_stream_error(error).map(Err),
    }
}

type Count = Result<u64, StreamError>;
type Done = Result<(), StreamError>;
type LentInput = Lent<DynInputStream>;
type LentOutput = Lent<DynOutputStream>;

fn input(streams: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    streams
        .call::<fn(u32, u64, u32), _, Result<Vec<u8>, StreamError>>(
            "[method]input-stream.read",
            |host, (Lent(stream), length): (LentInput, u64)| {
                let read = HostInputStream::read(host.table(), stream, length);
                used(host, read)
            },
        )?
        .call::<fn(u32, u64, u32), _, Count>(
            "[method]input-stream.skip",
            |host, (Lent(stream), length): (LentInput, u64)| {
                let skipped = HostInputStream::skip(host.table(), stream, length);
                used(host, skipped)
            },
        )?
        .call::<fn(u32) -> u32, _, Resource<DynPollable>>(
            "[method]input-stream.subscribe",
            |host, (Lent(stream),)| HostInputStream::subscribe(host.table(), stream),
        )?;
    waiting!(streams, "[method]input-stream.blocking-read", fn(u32, u64, u32), |caller,
                                                                                (
        Lent(stream),
        length,
    ): (
        LentInput,
        u64
    )|
     -> Result<
        PlacedList,
        StreamError,
    > {
        let host = &mut caller.data_mut().host;
        let read = host.table().blocking_read(stream, length).await;
        match used(host, read)? {
            Ok(bytes) => place_list(caller, bytes).await.map(Ok),
            Err(error) => Ok(Err(error)),
        }
    })?;
    waiting!(streams, "[method]input-stream.blocking-skip", fn(u32, u64, u32), |caller,
                                                                                (
        Lent(stream),
        length,
    ): (
        LentInput,
        u64
    )|
     -> Count {
        let host = &mut caller.data_mut().host;
        let skipped = host.table().blocking_skip(stream, length).await;
        used(host, skipped)
    })?;
    waiting!(streams, "[resource-drop]input-stream", fn(u32), |caller,
                                                               (Own(stream),): (
        Own<DynInputStream>,
    )|
     -> () {
        HostInputStream::drop(caller.data_mut().host.table(), stream).await
    })?;
    Ok(())
}

fn output(streams: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    streams
        .call::<fn(u32, u32), _, Count>(
            "[method]output-stream.check-write",
            |host, (Lent(stream),)| {
                let room = host.table().check_write(stream);
                used(host, room)
            },
        )?
        .call::<fn(u32, u32, u32, u32), _, Done>(
            "[method]output-stream.write",
            |host, (Lent(stream), bytes): (LentOutput, Vec<u8>)| {
                let written = HostOutputStream::write(host.table(), stream, bytes);
                used(host, written)
            },
        )?
        .call::<fn(u32, u64, u32), _, Done>(
            "[method]output-stream.write-zeroes",
            |host, (Lent(stream), length): (LentOutput, u64)| {
                let written = host.table().write_zeroes(stream, length);
                used(host, written)
            },
        )?
        .call::<fn(u32, u32), _, Done>("[method]output-stream.flush", |host, (Lent(stream),)| {
            let flushed = HostOutputStream::flush(host.table(), stream);
            used(host, flushed)
        })?
        .call::<fn(u32) -> u32, _, Resource<DynPollable>>(
            "[method]output-stream.subscribe",
            |host, (Lent(stream),)| HostOutputStream::subscribe(host.table(), stream),
        )?
        .call::<fn(u32, u32, u64, u32), _, Count>(
            "[method]output-stream.splice",
            |host, (Lent(stream), Lent(source), length): (LentOutput, LentInput, u64)| {
                let moved = host.table().splice(stream, source, length);
                used(host, moved)
            },
        )?;
    Ok(())
}

fn output_waiting(streams: &mut Interface<'_, '_>) -> wasmtime::Result<()> {
    waiting!(
        streams,
        "[method]output-stream.blocking-write-and-flush",
        fn(u32, u32, u32, u32),
        |caller, (Lent(stream), bytes): (LentOutput, Vec<u8>)| -> Done {
            let host = &mut caller.data_mut().host;
            let written = host.table().blocking_write_and_flush(stream, bytes).await;
            used(host, written)
        }
    )?;
    waiting!(
        streams,
        "[method]output-stream.blocking-flush",
        fn(u32, u32),
        |caller, (Lent(stream),): (LentOutput,)| -> Done {
            let host = &mut caller.data_mut().host;
            let flushed = host.table().blocking_flush(stream).await;
            used(host, flushed)
        }
    )?;
    waiting!(
        streams,
        "[method]output-stream.blocking-write-zeroes-and-flush",
        fn(u32, u64, u32),
        |caller, (Lent(stream), length): (LentOutput, u64)| -> Done {
            let host = &mut caller.data_mut().host;
            let written = host.table().blocking_write_zeroes_and_flush(stream, length).await;
            used(host, written)
        }
    )?;
    waiting!(
        streams,
        "[method]output-stream.blocking-splice",
        fn(u32, u32, u64, u32),
        |caller, (Lent(stream), Lent(source), length): (LentOutput, LentInput, u64)| -> Count {
            let host = &mut caller.data_mut().host;
            let moved = host.table().blocking_splice(stream, source, length).await;
            used(host, moved)
        }
    )?;
    waiting!(streams, "[resource-drop]output-stream", fn(u32), |caller,
                                                                (Own(stream),): (
        Own<DynOutputStream>,
    )|
     -> () {
        HostOutputStream::drop(caller.data_mut().host.table(), stream).await
    })?;
    Ok(())
}
