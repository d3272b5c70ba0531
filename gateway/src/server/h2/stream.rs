//! One stream of HTTP/2: a request and its response.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use crate::server::h2::{date, send_body::SendBody};

/// Fields of HTTP/1 connections, which HTTP/2 forbids (RFC 9113, section 8.2.2). The library refuses
/// to send them.
const CONNECTION_FIELDS: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

pin_project! {
    /// Waits for the response to a request, and sends it.
    pub(crate) struct Http2Stream<F, B> {
        reply: SendResponse<Bytes>,
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Waiting {
            #[pin]
            response: F,
            // Resolves when the client must be asked for the body. Gone when it has been, or need
            // not be.
            wanted: Option<oneshot::Receiver<()>>,
        },
        Sending {
            #[pin]
            body: SendBody<B>,
        },
    }
}

impl<F, B> Http2Stream<F, B> {
    pub(crate) fn new(
        response: F,
        reply: SendResponse<Bytes>,
        wanted: Option<oneshot::Receiver<()>>,
    ) -> Self {
        Self { reply, state: State::Waiting { response, wanted } }
    }
}

impl<F, B, E> Future for Http2Stream<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let reply = this.reply;
        loop {
            let body = match this.state.as_mut().project() {
                StateProjection::Sending { body } => return body.poll(cx),
                StateProjection::Waiting { response, wanted } => match response.poll(cx) {
                    Poll::Ready(Ok(response)) => begin(reply, response),
                    Poll::Ready(Err(_)) => {
                        reply.send_reset(Reason::INTERNAL_ERROR);
                        None
                    }
                    Poll::Pending => {
                        ready!(poll_interim(reply, wanted, cx));
                        // The client has left.
                        None
                    }
                },
            };
            let Some(body) = body else { return Poll::Ready(()) };
            this.state.set(State::Sending { body });
        }
    }
}

/// Sends the interim response when the client must be asked for the body. Ready when the client has
/// reset the stream.
fn poll_interim(
    reply: &mut SendResponse<Bytes>,
    wanted: &mut Option<oneshot::Receiver<()>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    // First, because nothing may be sent after a reset.
    if reply.poll_reset(cx).is_ready() {
        return Poll::Ready(());
    }
    if let Some(receiver) = wanted {
        let is_wanted = ready!(Pin::new(receiver).poll(cx)).is_ok();
        *wanted = None;
        if is_wanted {
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            // If it fails, so will the response.
            let _ = reply.send_informational(interim);
        }
    }
    Poll::Pending
}

/// Sends the head of a response. Returns what is to be sent after it.
fn begin<B: Body<Data = Bytes>>(
    reply: &mut SendResponse<Bytes>,
    response: Response<B>,
) -> Option<SendBody<B>> {
    let (mut head, body) = response.into_parts();
    remove_connection_fields(&mut head.headers);
    head.headers.entry(header::DATE).or_insert_with(date::now);
    let is_whole = body.is_end_stream();
    if !is_whole && let Some(length) = body.size_hint().exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    match reply.send_response(Response::from_parts(head, ()), is_whole) {
        Ok(stream) => (!is_whole).then(|| SendBody::new(body, stream)),
        Err(error) => {
            tracing::debug!(%error, "a response could not be sent");
            reply.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}

fn remove_connection_fields(headers: &mut HeaderMap) {
    for name in &CONNECTION_FIELDS {
        headers.remove(name);
    }
    let Some(connection) = headers.remove(header::CONNECTION) else { return };
    for name in connection.to_str().unwrap_or_default().split(',') {
        headers.remove(name.trim());
    }
}
