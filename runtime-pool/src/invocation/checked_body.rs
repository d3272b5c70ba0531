//! A guest's body, checked against its limits and its head.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, header};
use http_body::{Body as _, Frame};
use wasmtime_wasi_http::WasiBody;

use crate::{
    error::Limit, executor::request::BodyError, host::invocation_state::InvocationState,
    limits::Limits,
};

/// The frames of a guest's body, checked against the limits and the `content-length`.
#[derive(Debug)]
pub(crate) struct CheckedBody {
    body: WasiBody,
    /// Bytes that the guest has written.
    written: u64,
    /// Bytes that it may write.
    most: u64,
    /// Bytes that the `content-length` still promises.
    promised: Option<u64>,
    /// Whether nothing of it leaves: a response to HEAD has no content, whatever the guest writes.
    is_discarded: bool,
    /// Empty writes that the limit still allows.
    empty_writes: u32,
    state: Arc<InvocationState>,
}

impl CheckedBody {
    pub(crate) fn new(
        body: WasiBody,
        promised: Option<u64>,
        limits: &Limits,
        state: Arc<InvocationState>,
    ) -> Self {
        Self {
            body,
            written: 0,
            most: limits.response_bytes,
            promised,
            is_discarded: false,
            empty_writes: limits.guest.empty_writes,
            state,
        }
    }

    /// A body of which nothing leaves. It has no frames, but ends when the guest has ended it, and
    /// the limits hold for it.
    pub(crate) fn discarded(body: WasiBody, limits: &Limits, state: Arc<InvocationState>) -> Self {
        Self { is_discarded: true, ..Self::new(body, None, limits, state) }
    }

    pub(crate) fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// How many bytes the guest has written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The next frame that is not empty. The end of the body is an error if the guest has failed or
    /// has promised more.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let checked = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.data_ref().map(Bytes::len) {
                    Some(0) => match self.count_empty_write() {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    },
                    Some(len) => match self.count(len as u64) {
                        Ok(()) if self.is_discarded => continue,
                        counted => counted.map(|()| frame),
                    },
                    None if self.is_discarded => continue,
                    None => self.check_trailers(&frame).map(|()| frame),
                },
                // Such as a `content-length` that differs from the body, which it may.
                Some(Err(_)) if self.is_discarded => return Poll::Ready(None),
                Some(Err(_)) => Err(BodyError::Function),
                None => match self.check_end() {
                    Ok(()) => return Poll::Ready(None),
                    Err(error) => Err(error),
                },
            };
            return Poll::Ready(Some(checked));
        }
    }

    fn count(&mut self, len: u64) -> Result<(), BodyError> {
        self.written += len;
        if self.written > self.most {
            return Err(BodyError::Limit(Limit::ResponseBytes));
        }
        if let Some(promised) = &mut self.promised {
            *promised = promised.checked_sub(len).ok_or(BodyError::Function)?;
        }
        Ok(())
    }

    fn count_empty_write(&mut self) -> Result<(), BodyError> {
        let left = self.empty_writes.checked_sub(1);
        self.empty_writes = left.ok_or(BodyError::Limit(Limit::EmptyWrites))?;
        Ok(())
    }

    /// Trailers must not contain fields that belong in a head.
    fn check_trailers(&self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        self.check_end()?;
        match frame.trailers_ref() {
            Some(trailers) if trailers.keys().any(belongs_to_a_head) => Err(BodyError::Function),
            _ => Ok(()),
        }
    }

    fn check_end(&self) -> Result<(), BodyError> {
        if self.state.outcome.failed() || self.promised.is_some_and(|left| left > 0) {
            Err(BodyError::Function)
        } else {
            self.state.outcome.respond();
            Ok(())
        }
    }
}

/// Whether a field frames a message, routes it, or says how to interpret it. A recipient that took
/// such a field from trailers would read another message than the gateway has sent.
fn belongs_to_a_head(name: &HeaderName) -> bool {
    const HEAD_ONLY: [HeaderName; 12] = [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    HEAD_ONLY.contains(name)
}
