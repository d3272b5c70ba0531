//! The body of a response, on its way to the connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::{executor::request::BodyError, invocation::response_pipe::StreamedBody};

/// The response of a guest.
pub type Response = http::Response<ResponseBody>;

/// The body of a response.
#[derive(Debug)]
pub struct ResponseBody(BodySource);

#[derive(Debug)]
enum BodySource {
    Full(Bytes),
    Stream(Box<StreamedBody>),
}

impl ResponseBody {
    /// A body that is complete.
    pub fn full(bytes: Bytes) -> Self {
        Self(BodySource::Full(bytes))
    }

    pub(crate) fn streamed(body: StreamedBody) -> Self {
        Self(BodySource::Stream(Box::new(body)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            BodySource::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            BodySource::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            BodySource::Stream(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, BodySource::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodySource::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodySource::Stream(_) => SizeHint::default(),
        }
    }
}
