//! CGI: one run of a command per request. The request's body is its standard input, the answer
//! its standard output; standard error goes to the function's log.

pub(crate) mod environment;
pub(crate) mod head;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use wasmtime::InstancePre;
use wasmtime_wasi::{
    I32Exit, WasiCtxBuilder,
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{
        InputStream, OutputStream, Pollable, StreamError,
        bindings::{Command, CommandPre},
    },
};
use wasmtime_wasi_http::Error as WasiError;

use crate::{
    InvokeError,
    executor::{
        errors::{exited, guest_error, start_error},
        request::{Head, RequestBody},
    },
    host::{HasStoreLimits, Host, ModuleHost, component_store, instance::Guest, module_store},
};

/// A request as a command sees it: its arguments, its environment and its streams.
pub(crate) struct CgiInput {
    /// With its arguments and its environment.
    pub(crate) wasi: WasiCtxBuilder,
    pub(crate) body: RequestBody,
    pub(crate) head: oneshot::Sender<Head>,
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

/// Runs a `wasi:cli/command` component to its end.
pub(crate) async fn call_component(
    guest: &mut Guest<Command, Host>,
    input: CgiInput,
) -> Result<(), InvokeError> {
    let Guest { store, exports } = guest;
    let CgiInput { mut wasi, body, head } = input;
    let stdout = Stdout::new(head, store.data_mut().control().body_chunk_bytes());
    wasi.stdin(Stdin::new(body)).stdout(stdout.clone());
    store.data_mut().set_wasi(wasi.build());
    match exports.wasi_cli_run().call_run(&mut *store).await {
        Ok(Ok(())) => {}
        Ok(Err(())) => {
            return Err(exited(1, store.data_mut().control()));
        }
        Err(error) => end_of_command(&error, store)?,
    }
    stdout.close()
}

/// Runs a preview1 module to its end.
pub(crate) async fn call_module(
    guest: &mut Guest<wasmtime::Instance, ModuleHost>,
    input: CgiInput,
) -> Result<(), InvokeError> {
    let Guest { store, exports } = guest;
    let CgiInput { mut wasi, body, head } = input;
    let stdout = Stdout::new(head, store.data_mut().control().body_chunk_bytes());
    wasi.stdin(Stdin::new(body)).stdout(stdout.clone());
    store.data_mut().set_wasi(wasi.build_p1());
    let start = exports
        .get_typed_func::<(), ()>(&mut *store, "_start")
        .map_err(|error| InvokeError::Start(error.to_string()))?;
    if let Err(error) = start.call_async(&mut *store, ()).await {
        end_of_command(&error, store)?;
    }
    stdout.close()
}

/// A command may end by returning or by exiting; only the status 0 is a success.
fn end_of_command(
    error: &wasmtime::Error,
    store: &mut wasmtime::Store<impl HasStoreLimits>,
) -> Result<(), InvokeError> {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ok(()),
        Some(_) | None => Err(guest_error(error, store)),
    }
}

/// Standard output: first the head of the answer, then its body.
#[derive(Clone)]
struct Stdout {
    answer: Arc<Mutex<Answer>>,
    chunk_bytes: usize,
}

enum Answer {
    /// The head is not complete.
    Head { bytes: BytesMut, head: oneshot::Sender<Head> },
    /// The head was sent; this is the body's end of the pipe.
    Body(PipeWriter),
    /// What was written is no answer.
    Invalid(String),
    /// The command is done.
    Closed,
}

impl Stdout {
    fn new(head: oneshot::Sender<Head>, chunk_bytes: usize) -> Self {
        let answer = Answer::Head { bytes: BytesMut::new(), head };
        Self { answer: Arc::new(Mutex::new(answer)), chunk_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the body, and says what is wrong with the answer if there is none.
    fn close(&self) -> Result<(), InvokeError> {
        match std::mem::replace(&mut *self.lock(), Answer::Closed) {
            Answer::Body(_) | Answer::Closed => Ok(()),
            Answer::Invalid(why) => Err(InvokeError::NoResponse(why)),
            Answer::Head { bytes, .. } if bytes.is_empty() => {
                Err(InvokeError::NoResponse("it wrote nothing to standard output".into()))
            }
            Answer::Head { .. } => Err(InvokeError::NoResponse(
                "the empty line after the header lines is missing".into(),
            )),
        }
    }

    /// Takes what the command writes; a broken answer swallows the rest.
    fn accept(&self, data: &[u8]) {
        let mut answer = self.lock();
        *answer = match std::mem::replace(&mut *answer, Answer::Closed) {
            Answer::Head { mut bytes, head } => {
                bytes.extend_from_slice(data);
                after_head(bytes, head, self.chunk_bytes)
            }
            Answer::Body(writer) => {
                writer.write(data);
                Answer::Body(writer)
            }
            other @ (Answer::Invalid(_) | Answer::Closed) => other,
        };
    }

    fn poll_space(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match &*self.lock() {
            Answer::Body(writer) => writer.poll_space(cx),
            Answer::Head { .. } | Answer::Invalid(_) | Answer::Closed => {
                Poll::Ready(self.chunk_bytes)
            }
        }
    }
}

fn after_head(bytes: BytesMut, head: oneshot::Sender<Head>, chunk_bytes: usize) -> Answer {
    let Some((length, empty_line)) = head::end_of_head(&bytes) else {
        return if bytes.len() > head::HEAD_BYTES {
            Answer::Invalid(format!("its header is longer than {} bytes", head::HEAD_BYTES))
        } else {
            Answer::Head { bytes, head }
        };
    };
    let parsed = match head::parse(&bytes[..length]) {
        Ok(parsed) => parsed,
        Err(why) => return Answer::Invalid(why),
    };
    let pipe = Arc::new(Pipe::new(chunk_bytes));
    let (writer, reader) = (PipeWriter(Arc::clone(&pipe)), PipeReader(pipe));
    writer.write(&bytes[length + empty_line..]);
    let mut response = http::Response::new(reader.boxed_unsync());
    *response.status_mut() = parsed.status;
    *response.headers_mut() = parsed.headers;
    // The receiver is gone when the caller is.
    let _ = head.send(Ok(response));
    Answer::Body(writer)
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdout {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll_space(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.accept(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(match &*self.lock() {
            Answer::Body(writer) => writer.space(),
            Answer::Head { .. } | Answer::Invalid(_) | Answer::Closed => self.chunk_bytes,
        })
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_space(cx).map(|space| {
            let taken = bytes.len().min(space);
            self.accept(&bytes[..taken]);
            Ok(taken)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A byte pipe that merges small writes.
struct Pipe {
    /// This much may wait.
    chunk_bytes: usize,
    state: Mutex<PipeState>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Default)]
struct PipeState {
    bytes: BytesMut,
    closed: bool,
}

impl Pipe {
    fn new(chunk_bytes: usize) -> Self {
        Self {
            chunk_bytes,
            state: Mutex::default(),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct PipeWriter(Arc<Pipe>);

impl PipeWriter {
    fn write(&self, data: &[u8]) {
        if !data.is_empty() {
            self.0.lock().bytes.extend_from_slice(data);
            self.0.reader.wake();
        }
    }

    fn space(&self) -> usize {
        self.0.chunk_bytes.saturating_sub(self.0.lock().bytes.len())
    }

    fn poll_space(&self, cx: &mut Context<'_>) -> Poll<usize> {
        // Registered before the check: the reader may make space between the two.
        self.0.writer.register(cx.waker());
        match self.space() {
            0 => Poll::Pending,
            space => Poll::Ready(space),
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.reader.wake();
    }
}

struct PipeReader(Arc<Pipe>);

impl Body for PipeReader {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        // Registered before the check: the writer may write between the two.
        self.0.reader.register(cx.waker());
        let mut state = self.0.lock();
        if !state.bytes.is_empty() {
            let data = state.bytes.split().freeze();
            drop(state);
            self.0.writer.wake();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if state.closed { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Standard input: the request's body. All streams that a guest opens read from the same one.
#[derive(Clone)]
struct Stdin(Arc<Mutex<Input>>);

struct Input {
    body: RequestBody,
    chunk: Bytes,
    ended: bool,
    error: Option<String>,
}

impl Stdin {
    fn new(body: RequestBody) -> Self {
        let input = Input { body, chunk: Bytes::new(), ended: false, error: None };
        Self(Arc::new(Mutex::new(input)))
    }

    fn lock(&self) -> MutexGuard<'_, Input> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Input {
    /// Ready as soon as there is something to read, an end or an error.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.chunk.is_empty() && !self.ended && self.error.is_none() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => self.error = Some(error.to_string()),
                None => self.ended = true,
            }
        }
        Poll::Ready(())
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // Commands of WASI 0.3 would use it; there are none.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.lock().poll_ready(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let mut input = self.lock();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if input.poll_ready(&mut cx).is_pending() {
            return Ok(Bytes::new());
        }
        if let Some(error) = &input.error {
            return Err(StreamError::LastOperationFailed(wasmtime::Error::msg(error.clone())));
        }
        if input.chunk.is_empty() {
            return Err(StreamError::Closed);
        }
        let length = size.min(input.chunk.len());
        Ok(input.chunk.split_to(length))
    }
}
