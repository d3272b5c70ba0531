//! Bodies of the data plane.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use runtime_pool::{BodyError, ResponseBody};

use crate::middleware::Place;

/// A response's body, with what must be held until it has ended or was dropped.
#[derive(Debug)]
pub(crate) struct EdgeBody {
    body: ResponseBody,
    held: Option<Place>,
}

impl EdgeBody {
    /// Keeps `place` for as long as there is something to send.
    pub(crate) fn holding(mut self, place: Place) -> Self {
        self.held = Some(place);
        self
    }
}

impl From<ResponseBody> for EdgeBody {
    fn from(body: ResponseBody) -> Self {
        Self { body, held: None }
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

/// A client's body that may not be longer than it may be.
#[derive(Debug)]
pub(crate) struct BoundedBody {
    body: Incoming,
    max: u64,
    left: u64,
}

impl BoundedBody {
    pub(crate) fn new(body: Incoming, max: u64) -> Self {
        Self { body, max, left: max }
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        Pin::new(&mut this.body).poll_frame(cx).map(|frame| {
            Some(frame?.map_err(|error| BodyError::Client(error.into())).and_then(|frame| {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.left =
                    this.left.checked_sub(len).ok_or(BodyError::RequestTooLarge(this.max))?;
                Ok(frame)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
