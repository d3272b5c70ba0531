//! Bodies of the data plane's responses.

pub(crate) mod compression;
mod encoder;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use runtime_pool::{BodyError, ResponseBody};

use self::encoder::EncodedBody;
use crate::edge::admission::CallPermit;

/// A response's body with the request's permit, which it holds until it has ended or was dropped.
pub(crate) struct EdgeBody {
    body: ResponseBody,
    /// Compresses it. Most bodies stay as they are.
    encoded: Option<Box<EncodedBody>>,
    permit: Option<CallPermit>,
}

impl EdgeBody {
    /// Holds `permit` until the body has ended.
    pub(crate) fn holding(mut self, permit: CallPermit) -> Self {
        self.permit = Some(permit);
        self
    }

    fn encoded(mut self, encoded: EncodedBody) -> Self {
        self.encoded = Some(Box::new(encoded));
        self
    }
}

impl From<ResponseBody> for EdgeBody {
    fn from(body: ResponseBody) -> Self {
        Self { body, encoded: None, permit: None }
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.encoded {
            None => Pin::new(&mut this.body).poll_frame(cx),
            Some(encoded) => encoded.poll_frame(&mut this.body, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.encoded {
            None => self.body.is_end_stream(),
            Some(encoded) => encoded.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.encoded {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
