//! Bodies of the data plane's responses.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use runtime_pool::{BodyError, ResponseBody};

use crate::edge::admission::CallPermit;

/// A response's body with the request's permit, which it holds until it has ended or was dropped.
#[derive(Debug)]
pub(crate) struct EdgeBody {
    body: ResponseBody,
    permit: Option<CallPermit>,
}

impl EdgeBody {
    /// Holds `permit` until the body has ended.
    pub(crate) fn holding(mut self, permit: CallPermit) -> Self {
        self.permit = Some(permit);
        self
    }
}

impl From<ResponseBody> for EdgeBody {
    fn from(body: ResponseBody) -> Self {
        Self { body, permit: None }
    }
}

impl From<Bytes> for EdgeBody {
    fn from(bytes: Bytes) -> Self {
        ResponseBody::full(bytes).into()
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
