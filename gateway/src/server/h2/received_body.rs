//! The body of a request of HTTP/2.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

/// The body of a request, as it arrives on its stream.
#[derive(Debug)]
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// How many bytes are to come, if the client told.
    left: Option<u64>,
    has_trailers_left: bool,
    /// Asks the client to send the body.
    want: Option<oneshot::Sender<()>>,
}

impl Http2Body {
    /// `expects` says that the client sends the body only if it is asked to. Then the receiver
    /// resolves when it must be asked.
    pub(crate) fn new(
        stream: RecvStream,
        headers: &HeaderMap,
        expects: bool,
    ) -> (Self, Option<oneshot::Receiver<()>>) {
        let is_empty = stream.is_end_stream();
        let left = if is_empty { Some(0) } else { told_length(headers) };
        let (want, wanted) = (expects && !is_empty).then(oneshot::channel).unzip();
        (Self { stream, left, has_trailers_left: false, want }, wanted)
    }
}

/// The length that the client told. The protocol library holds it to that.
fn told_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next()?.to_str().ok()?.parse().ok()?;
    // A request with two of them is refused elsewhere.
    lengths.next().is_none().then_some(length)
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.has_trailers_left {
            let polled = this.stream.poll_data(cx);
            if let Some(want) = this.want.take()
                && polled.is_pending()
            {
                // If nobody listens, then the response has begun, or the client has left.
                let _ = want.send(());
            }
            if let Some(data) = ready!(polled).transpose()? {
                let bytes = data.len();
                // It fails only when the stream has ended: then no more is to come.
                let _ = this.stream.flow_control().release_capacity(bytes);
                this.left = this.left.map(|left| left.saturating_sub(bytes as u64));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.has_trailers_left = true;
        }
        let trailers = ready!(this.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
