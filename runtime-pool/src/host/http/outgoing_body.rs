//! The body of a response of WASI 0.2, as its guest writes it.
//!
//! The library's own body is a channel with room for dozens of chunks, another one for its end, and a
//! future in a box for each step of a write. A guest and the reader of its body run in the same task,
//! and most bodies are one chunk. So this one is two places under a lock; what a guest sees is the same.
//! Bodies of requests remain the library's.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError};
use wasmtime_wasi_http::{
    Error, FieldMap, WasiHttpView as _,
    p2::{
        bindings::http::types::{self, ErrorCode, Host as _},
        body::HostOutgoingBody,
        types::HostOutgoingResponse,
    },
};

use crate::host::Host;

const TYPES: &str = "wasi:http/types@0.2.12";

/// Replaces the functions of outgoing bodies. To the guest, bodies of both kinds are one type.
pub(in crate::host) fn write_responses(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: StoreContextMut<'_, Host>, (response,): (Resource<HostOutgoingResponse>,)| {
            Ok((body_of(store.data_mut(), &response)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |mut store: StoreContextMut<'_, Host>, (body,): (Resource<HostOutgoingBody>,)| {
            Ok((stream_of(store.data_mut(), body)?,))
        },
    )?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store: StoreContextMut<'_, Host>,
         (body, trailers): (Resource<HostOutgoingBody>, Option<Resource<FieldMap>>)| {
            Ok((finish(store.data_mut(), body, trailers)?,))
        },
    )?;
    let bodies = ResourceType::host::<HostOutgoingBody>();
    types.resource("outgoing-body", bodies, |mut store, body| {
        abandon(store.data_mut(), Resource::new_own(body))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Makes the body of a response, unless it has one.
pub(in crate::host) fn body_of(
    host: &mut Host,
    response: &Resource<HostOutgoingResponse>,
) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
    host.limits.make_response();
    let chunk_bytes = host.limits.body_chunk_bytes();
    let table = host.http().table;
    let response = table.get_mut(response)?;
    let (None, Ok(promised)) = (&response.body, content_length(&response.headers)) else {
        return Ok(Err(()));
    };
    let (body, reader) = ResponseWriter::new(promised, chunk_bytes);
    response.body = Some(reader.boxed_unsync());
    Ok(Ok(Resource::new_own(table.push(body)?.rep())))
}

/// Gives out the stream of a body once.
pub(in crate::host) fn stream_of(
    host: &mut Host,
    body: Resource<HostOutgoingBody>,
) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
    let mut http = host.http();
    let ours = own(&body);
    let Ok(writer) = http.table.get_mut(&ours) else {
        return types::HostOutgoingBody::write(&mut http, body);
    };
    let Some(stream) = writer.stream.take() else { return Ok(Err(())) };
    let stream: DynOutputStream = Box::new(stream);
    Ok(Ok(http.table.push_child(stream, &ours)?))
}

pub(in crate::host) fn finish(
    host: &mut Host,
    body: Resource<HostOutgoingBody>,
    trailers: Option<Resource<FieldMap>>,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    let mut http = host.http();
    if http.table.get(&own(&body)).is_err() {
        return match types::HostOutgoingBody::finish(&mut http, body, trailers) {
            Ok(()) => Ok(Ok(())),
            Err(error) => http.convert_error_code(error).map(Err),
        };
    }
    let writer = http.table.delete(own(&body))?;
    let trailers = trailers.map(|trailers| http.table.delete(trailers)).transpose()?;
    Ok(writer.finish(trailers.map(HeaderMap::from)))
}

/// Ends a body that its guest has dropped.
pub(in crate::host) fn abandon(
    host: &mut Host,
    body: Resource<HostOutgoingBody>,
) -> wasmtime::Result<()> {
    let mut http = host.http();
    if http.table.get(&own(&body)).is_err() {
        return types::HostOutgoingBody::drop(&mut http, body);
    }
    http.table.delete(own(&body))?.pipe.end(End::Aborted);
    Ok(())
}

/// The same place in the table, if what is there is ours.
fn own(body: &Resource<HostOutgoingBody>) -> Resource<ResponseWriter> {
    Resource::new_own(body.rep())
}

/// The length that the guest promises. An error if it promises several, or none that is a number.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    let length = std::str::from_utf8(digits)
        .ok()
        .filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
        .and_then(|text| text.parse().ok());
    length.filter(|_| values.next().is_none()).map(Some).ok_or(())
}

/// The body as its guest holds it.
pub(crate) struct ResponseWriter {
    /// Until the guest takes it.
    stream: Option<WriteStream>,
    pipe: Arc<Pipe>,
}

impl ResponseWriter {
    fn new(promised: Option<u64>, chunk_bytes: usize) -> (Self, ResponseReader) {
        let pipe = Arc::new(Pipe { promised, chunk_bytes, state: Mutex::default() });
        let stream = Some(WriteStream(Arc::clone(&pipe)));
        (Self { stream, pipe: Arc::clone(&pipe) }, ResponseReader(pipe))
    }

    fn finish(self, trailers: Option<HeaderMap>) -> Result<(), ErrorCode> {
        let written = self.pipe.lock().written;
        if self.pipe.promised.is_some_and(|promised| promised != written) {
            self.pipe.end(End::Aborted);
            return Err(ErrorCode::HttpResponseBodySize(Some(written)));
        }
        self.pipe.end(trailers.map_or(End::Finished, End::Trailers));
        Ok(())
    }
}

impl Drop for ResponseWriter {
    fn drop(&mut self) {
        // With its store. Who reads the body knows that the guest has failed, if it has.
        self.pipe.end(End::Finished);
    }
}

/// Two places for chunks.
struct Pipe {
    promised: Option<u64>,
    /// The most bytes of a chunk.
    chunk_bytes: usize,
    state: Mutex<BodyState>,
}

#[derive(Default)]
struct BodyState {
    next: Option<Bytes>,
    last: Option<Bytes>,
    written: u64,
    /// Only the first end counts.
    end: Option<End>,
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum End {
    Finished,
    Trailers(HeaderMap),
    Aborted,
    /// It was passed on.
    Over,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, BodyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        wake(state.reader.take());
    }

    /// What the guest may write at once: nothing while both places are taken.
    fn room(&self, state: &BodyState) -> Result<usize, StreamError> {
        match (state.abandoned, &state.last) {
            (true, _) => Err(StreamError::Closed),
            (false, Some(_)) => Ok(0),
            (false, None) => Ok(self.chunk_bytes),
        }
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<usize, StreamError>> {
        let mut state = self.lock();
        let room = self.room(&state);
        if matches!(room, Ok(0)) {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(room)
    }

    fn write(&self, bytes: Bytes) -> Result<(), StreamError> {
        let mut state = self.lock();
        let room = self.room(&state)?;
        if room == 0 || bytes.len() > room {
            // `errors` knows this text.
            return Err(StreamError::trap("write exceeded budget"));
        }
        state.written += bytes.len() as u64;
        let written = state.written;
        if state.next.is_none() {
            state.next = Some(bytes);
        } else {
            state.last = Some(bytes);
        }
        wake(state.reader.take());
        if self.promised.is_some_and(|promised| written > promised) {
            let error = ErrorCode::HttpResponseBodySize(Some(written));
            return Err(StreamError::LastOperationFailed(wasmtime::format_err!(error)));
        }
        Ok(())
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The stream that the guest writes to.
struct WriteStream(Arc<Pipe>);

#[wasmtime_wasi::async_trait]
impl Pollable for WriteStream {
    async fn ready(&mut self) {
        let _ = std::future::poll_fn(|cx| self.0.poll_room(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for WriteStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        if self.0.lock().abandoned { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.0.room(&self.0.lock())
    }

    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> Result<(), StreamError> {
        let pipe = &*self.0;
        loop {
            let room = std::future::poll_fn(|cx| pipe.poll_room(cx)).await?;
            pipe.write(bytes.split_to(room.min(bytes.len())))?;
            if bytes.is_empty() {
                break;
            }
        }
        // As the interface says: once it has returned, there is room again, or no reader.
        match std::future::poll_fn(|cx| pipe.poll_room(cx)).await {
            Ok(_) | Err(StreamError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The body as the gateway reads it.
struct ResponseReader(Arc<Pipe>);

impl Body for ResponseReader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.0.lock();
        if let Some(chunk) = state.next.take() {
            state.next = state.last.take();
            wake(state.writer.take());
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let Some(end) = &mut state.end else {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(match std::mem::replace(end, End::Over) {
            End::Finished | End::Over => None,
            End::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            End::Aborted => Some(Err(Error::HttpProtocolError)),
        })
    }
}

impl Drop for ResponseReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        (state.next, state.last) = (None, None);
        wake(state.writer.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 4;

    fn body(promised: Option<u64>) -> (ResponseWriter, WriteStream, ResponseReader) {
        let (mut writer, reader) = ResponseWriter::new(promised, CHUNK);
        let stream = writer.stream.take().unwrap();
        (writer, stream, reader)
    }

    fn read(reader: &mut ResponseReader) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(reader).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn data(reader: &mut ResponseReader) -> Option<Bytes> {
        match read(reader) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }

    #[test]
    fn chunks_arrive_in_their_order_and_two_fill_the_body() {
        let (writer, mut stream, mut reader) = body(None);
        assert!(read(&mut reader).is_pending());
        for (text, room) in [("ab", CHUNK), ("cd", 0)] {
            stream.write(Bytes::from_static(text.as_bytes())).unwrap();
            assert_eq!(stream.check_write().unwrap(), room);
        }
        assert!(matches!(stream.write(Bytes::from_static(b"e")), Err(StreamError::Trap(_))));
        assert_eq!(data(&mut reader).unwrap(), "ab");
        stream.write(Bytes::from_static(b"ef")).unwrap();
        assert_eq!(data(&mut reader).unwrap(), "cd");
        assert_eq!(data(&mut reader).unwrap(), "ef");
        assert!(read(&mut reader).is_pending());
        writer.finish(None).unwrap();
        assert!(matches!(read(&mut reader), Poll::Ready(None)));
    }

    #[test]
    fn a_chunk_is_no_longer_than_allowed() {
        let (_writer, mut stream, _reader) = body(None);
        assert!(matches!(stream.write(Bytes::from_static(b"abcde")), Err(StreamError::Trap(_))));
    }

    #[test]
    fn a_body_that_was_dropped_or_is_too_short_ends_with_an_error() {
        let (writer, _, mut reader) = body(None);
        writer.pipe.end(End::Aborted);
        drop(writer);
        assert!(matches!(read(&mut reader), Poll::Ready(Some(Err(_)))));
        let (writer, mut stream, mut reader) = body(Some(3));
        stream.write(Bytes::from_static(b"ab")).unwrap();
        assert!(matches!(writer.finish(None), Err(ErrorCode::HttpResponseBodySize(Some(2)))));
        assert_eq!(data(&mut reader).unwrap(), "ab");
        assert!(matches!(read(&mut reader), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn the_guest_learns_that_it_writes_more_than_it_has_promised() {
        let (_writer, mut stream, _reader) = body(Some(1));
        let written = stream.write(Bytes::from_static(b"ab"));
        assert!(matches!(written, Err(StreamError::LastOperationFailed(_))));
    }

    #[test]
    fn trailers_follow_the_last_chunk() {
        let (writer, mut stream, mut reader) = body(None);
        stream.write(Bytes::from_static(b"ab")).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-a", http::HeaderValue::from_static("1"));
        writer.finish(Some(trailers)).unwrap();
        assert_eq!(data(&mut reader).unwrap(), "ab");
        let Poll::Ready(Some(Ok(frame))) = read(&mut reader) else { panic!() };
        assert_eq!(frame.into_trailers().unwrap()["x-a"], "1");
        assert!(matches!(read(&mut reader), Poll::Ready(None)));
    }

    #[tokio::test]
    async fn a_guest_that_waits_for_room_goes_on_when_a_chunk_was_read_or_the_reader_has_left() {
        for leaves in [false, true] {
            let (_writer, mut stream, mut reader) = body(None);
            let writing = tokio::spawn(async move {
                stream.blocking_write_and_flush(Bytes::from_static(b"abcdefghijkl")).await
            });
            tokio::task::yield_now().await;
            if leaves {
                drop(reader);
                assert!(matches!(writing.await.unwrap(), Err(StreamError::Closed)));
                continue;
            }
            let mut read_back = Vec::new();
            while read_back.len() < 12 {
                let frame = reader.frame().await.unwrap().unwrap();
                read_back.extend_from_slice(&frame.into_data().unwrap());
            }
            writing.await.unwrap().unwrap();
            assert_eq!(read_back, b"abcdefghijkl");
        }
    }
}
