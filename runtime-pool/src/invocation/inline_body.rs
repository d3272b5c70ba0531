//! The part of a body that is collected before its guest gets a task of its own.

use bytes::{Bytes, BytesMut};

use crate::invocation::response_body::ResponseBody;

/// The collected part of a body. A single frame is passed on without a copy; several are merged.
#[derive(Default)]
pub(super) struct InlineBody {
    first: Bytes,
    more: BytesMut,
    pub(super) trailers: Option<http::HeaderMap>,
}

impl InlineBody {
    pub(super) fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.more.is_empty() {
            self.first = data;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&data);
        }
    }

    pub(super) fn into_full(self) -> ResponseBody {
        if self.more.is_empty() {
            ResponseBody::full(self.first)
        } else {
            ResponseBody::full(self.more.freeze())
        }
    }

    pub(super) fn into_buffer(self) -> BytesMut {
        if self.more.is_empty() { BytesMut::from(self.first) } else { self.more }
    }
}
