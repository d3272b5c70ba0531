//! Sends the body of a response of HTTP/2.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use pin_project_lite::pin_project;

pin_project! {
    /// Sends a body on its stream, as fast as the client reads. Ends early if the client resets the
    /// stream or the connection ends.
    pub(crate) struct SendBody<B> {
        #[pin]
        body: B,
        stream: SendStream<Bytes>,
        // The chunk that waits for the client to read, and whether it is the last one.
        waiting: Option<(Bytes, bool)>,
    }
}

impl<B> SendBody<B> {
    pub(crate) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: None }
    }
}

impl<B: Body<Data = Bytes>> Future for SendBody<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let stream = this.stream;
        loop {
            // Wakes the task also when the client resets the stream.
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some((chunk, is_last)) = this.waiting {
                // An empty chunk needs no capacity.
                if !chunk.is_empty() && !ready!(poll_capacity(stream, cx)) {
                    return Poll::Ready(());
                }
                let (chunk, is_last) = (std::mem::take(chunk), *is_last);
                *this.waiting = None;
                if stream.send_data(chunk, is_last).is_err() || is_last {
                    return Poll::Ready(());
                }
            }
            // Capacity is asked for only when there is a chunk, and then for one byte: more is asked
            // for when the chunk is sent. A body that waits for its guest takes nothing of the
            // connection's window from others.
            let Some(frame) = ready!(this.body.as_mut().poll_frame(cx)) else {
                let _ = stream.send_data(Bytes::new(), true);
                return Poll::Ready(());
            };
            let Ok(frame) = frame else {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(());
            };
            match frame.into_data() {
                Ok(chunk) => {
                    if !chunk.is_empty() {
                        stream.reserve_capacity(1);
                    }
                    *this.waiting = Some((chunk, this.body.is_end_stream()));
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    stream.reserve_capacity(0);
                    let _ = stream.send_trailers(trailers);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// Waits until the client accepts bytes. Whether it will.
fn poll_capacity(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<bool> {
    while stream.capacity() == 0 {
        if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
            return Poll::Ready(false);
        }
    }
    Poll::Ready(true)
}
