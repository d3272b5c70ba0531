//! A guest's body, checked against its limits and its head.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, header};
use http_body::{Body as _, Frame};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

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
    /// What is wrong with the body, and what its owner can change.
    why: Option<String>,
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
            why: None,
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

    /// What is wrong with the body, once it has failed for a reason that nothing else explains.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
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
                Some(Err(error)) => Err(self.failed(&error)),
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
            let before = self.written - len;
            match promised.checked_sub(len) {
                Some(left) => *promised = left,
                None => {
                    let length = before + *promised;
                    return Err(self.fails_because(format!(
                        "its content-length says {length} bytes, and it writes more: set the length \
                         of what it writes, or no content-length"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The meaning of an error in place of a frame.
    fn failed(&mut self, error: &WasiError) -> BodyError {
        if self.state.outcome.failed() {
            return BodyError::Function;
        }
        let why = match (error, self.promised) {
            (_, Some(left @ 1..)) => return self.too_short(left),
            // The engine's word for a body that was dropped.
            (WasiError::HttpProtocolError, _) => {
                "it dropped its body before its end: call outgoing-body.finish after the last write"
                    .into()
            }
            (error, _) => format!("it ended its body with an error: {error}"),
        };
        self.fails_because(why)
    }

    fn too_short(&mut self, left: u64) -> BodyError {
        let (length, written) = (self.written + left, self.written);
        self.fails_because(format!(
            "its content-length says {length} bytes, and it wrote {written}: set the length of what it \
             writes, or no content-length"
        ))
    }

    fn fails_because(&mut self, why: String) -> BodyError {
        self.why = Some(why);
        BodyError::Function
    }

    fn count_empty_write(&mut self) -> Result<(), BodyError> {
        let left = self.empty_writes.checked_sub(1);
        self.empty_writes = left.ok_or(BodyError::Limit(Limit::EmptyWrites))?;
        Ok(())
    }

    /// Trailers must not contain fields that belong in a head.
    fn check_trailers(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        self.check_end()?;
        let mut names = frame.trailers_ref().into_iter().flat_map(http::HeaderMap::keys);
        names.find(|name| belongs_to_a_head(name)).map_or(Ok(()), |name| {
            Err(self.fails_because(format!(
                "its trailers have the field `{name}`, which belongs in a head: set it before the body"
            )))
        })
    }

    fn check_end(&mut self) -> Result<(), BodyError> {
        if self.state.outcome.failed() {
            return Err(BodyError::Function);
        }
        if let Some(left @ 1..) = self.promised {
            return Err(self.too_short(left));
        }
        self.state.outcome.respond();
        Ok(())
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
