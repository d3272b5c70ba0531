//! Wraps the service of a connection, to note when its requests begin and end.

mod received_body;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use crate::{
    config::LingerLimits,
    server::{
        activity::{ActiveRequest, Activity},
        h1::{framing::RequestRejection, inspecting_io::REJECTED_METHOD},
        h2::received_body::Http2Body,
        linger::Linger,
        tracking::received_body::{BodyBroken, ReceivedBody},
    },
};

pub(crate) struct TrackedService<S> {
    pub(crate) inner: S,
    pub(crate) activity: Arc<Activity>,
    /// Whether responses ask clients to close the connection, and so to use another gateway.
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) linger: LingerLimits,
    /// The longest head of an HTTP/2 request.
    pub(crate) http2_header_bytes: usize,
}

impl<S, B> Service<Request<Incoming>> for TrackedService<S>
where
    S: Service<Request<IncomingBody>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<TrackedBody<B>>;
    type Error = S::Error;
    type Future = TrackedFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.track(request.map(ReceivedBody::Http1))
    }
}

impl<S, B> Service<Request<Http2Body>> for TrackedService<S>
where
    S: Service<Request<IncomingBody>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<TrackedBody<B>>;
    type Error = S::Error;
    type Future = TrackedFuture<S::Future>;

    fn call(&self, request: Request<Http2Body>) -> Self::Future {
        self.track(request.map(ReceivedBody::Http2))
    }
}

impl<S> TrackedService<S> {
    fn track<B>(&self, mut request: Request<ReceivedBody>) -> TrackedFuture<S::Future>
    where
        S: Service<Request<IncomingBody>, Response = Response<B>>,
    {
        let active = self.activity.begin();
        if let Some(rejection) = self.rejection(&request) {
            request.extensions_mut().insert(rejection);
        }
        let version = request.version();
        // HTTP/2 has a GOAWAY frame for this, which is sent when the drain begins.
        let draining = (version < Version::HTTP_2).then(|| Arc::clone(&self.draining));
        let is_head = request.method() == Method::HEAD;
        let (answer, linger) = if request.body().is_end_stream() {
            (None, None)
        } else {
            let expects = request.headers().contains_key(header::EXPECT);
            let (answer, linger) = Linger::new(self.activity.begin(), self.linger, expects);
            (Some(answer), Some(linger))
        };
        let request = request.map(|body| IncomingBody { body: Some(body), linger });
        let (response, active) = (self.inner.call(request), Some(active));
        TrackedFuture { response, active, draining, is_head, version, answer }
    }

    /// Why a request must be refused, if that shows before it is read further.
    fn rejection<B>(&self, request: &Request<B>) -> Option<RequestRejection> {
        if request.version() == Version::HTTP_2 {
            let max = self.http2_header_bytes;
            return (head_bytes(request) > max).then_some(RequestRejection::HeadBytes(max));
        }
        let rejection = self.activity.rejection()?;
        (request.method().as_str() == REJECTED_METHOD).then_some(rejection)
    }
}

/// The size that the head of an HTTP/2 request would have in HTTP/1.1.
fn head_bytes<B>(request: &Request<B>) -> usize {
    const PUNCTUATION: usize = ": \r\n".len();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let authority = request.uri().authority().map_or(0, |authority| authority.as_str().len());
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + PUNCTUATION);
    target + authority + fields.sum::<usize>()
}

/// The body of a request. If it is dropped before its end, the rest is read and discarded. The
/// connection counts as active until then, even after the response.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    /// `None` only while it is dropped.
    body: Option<ReceivedBody>,
    /// `None` if the head of the request is its end.
    linger: Option<Linger>,
}

impl IncomingBody {
    /// Ends the connection or the stream with the response: the client does not send the body as it
    /// must.
    pub(crate) fn give_up(&mut self) {
        self.linger = None;
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        if let (Some(body), Some(linger)) = (self.body.take(), self.linger.take()) {
            linger.discard(body);
        }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        if let Some(linger) = &mut self.linger {
            linger.was_asked_for();
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

pin_project! {
    /// The future of a response.
    pub(crate) struct TrackedFuture<F> {
        #[pin]
        response: F,
        active: Option<ActiveRequest>,
        draining: Option<Arc<AtomicBool>>,
        is_head: bool,
        version: Version,
        answer: Option<oneshot::Sender<()>>,
    }
}

impl<F, B, E> Future for TrackedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<TrackedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (active, draining, answer) = (this.active, this.draining, this.answer);
        let (is_head, version) = (*this.is_head, *this.version);
        this.response.poll(cx).map_ok(|mut response| {
            if draining.as_ref().is_some_and(|draining| draining.load(Relaxed)) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            let content = Content::of(&mut response, is_head, version);
            let open_ended = content == Content::Body && is_open_ended(&response, version);
            if let Some(active) = active.as_ref().filter(|_| open_ended) {
                active.activity().set_open_ended(true);
            }
            let (pending, answer) = (active.take().map(PendingChunk::new), answer.take());
            response.map(|body| TrackedBody { body, content, pending, open_ended, _answer: answer })
        })
    }
}

/// What follows the head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Its body.
    Body,
    /// Nothing.
    Nothing,
    /// Nothing, though the head tells a length. The library passes on the length of a 304 over
    /// HTTP/1 only if a body of unknown length seems to follow, which it then does not read.
    NothingOfLength,
}

impl Content {
    /// What may follow (RFC 9110, sections 6.4.1 and 8.6). The library sees to that itself, but over
    /// HTTP/1 alone. Corrects the length that the head tells.
    fn of<B: Body>(response: &mut Response<B>, is_head: bool, version: Version) -> Self {
        let length = response.body().size_hint().exact();
        let status = response.status();
        let headers = response.headers_mut();
        match status {
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => {
                headers.remove(header::CONTENT_LENGTH);
                Self::Nothing
            }
            StatusCode::NOT_MODIFIED => {
                let told = !is_head && headers.contains_key(header::CONTENT_LENGTH);
                if told && version < Version::HTTP_2 {
                    Self::NothingOfLength
                } else {
                    Self::Nothing
                }
            }
            _ if is_head => {
                if let Some(length @ 1..) = length {
                    headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
                }
                Self::Nothing
            }
            _ => Self::Body,
        }
    }
}

/// Whether only the end of the connection says where the body of this response ends.
fn is_open_ended<B: Body>(response: &Response<B>, version: Version) -> bool {
    version == Version::HTTP_10
        && !response.headers().contains_key(header::CONTENT_LENGTH)
        && response.body().size_hint().exact().is_none()
}

pin_project! {
    /// The body of a response. Its request is active until the body has ended or was dropped.
    pub(crate) struct TrackedBody<B> {
        #[pin]
        body: B,
        content: Content,
        pending: Option<PendingChunk>,
        open_ended: bool,
        // Dropped with the body: then the answer has left.
        _answer: Option<oneshot::Sender<()>>,
    }
}

/// Whether the client has yet to read the chunk that the body handed over last.
struct PendingChunk {
    active: ActiveRequest,
    since: Option<usize>,
}

impl PendingChunk {
    fn new(active: ActiveRequest) -> Self {
        Self { active, since: None }
    }

    fn was_read(&mut self) {
        if let Some(generation) = self.since.take() {
            self.active.resumed(generation);
        }
    }
}

impl Drop for PendingChunk {
    fn drop(&mut self) {
        self.was_read();
    }
}

impl<B: Body> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        if *this.content != Content::Body {
            return Poll::Ready(None);
        }
        let frame = this.body.as_mut().poll_frame(cx);
        if let Some(pending) = this.pending {
            // The protocol library polls again when the client has read what came before.
            pending.was_read();
            if matches!(frame, Poll::Ready(Some(Ok(_)))) && !this.body.is_end_stream() {
                pending.since = Some(pending.active.waits());
            }
            let ended = matches!(frame, Poll::Ready(None)) || this.body.is_end_stream();
            if *this.open_ended && ended {
                *this.open_ended = false;
                pending.active.activity().set_open_ended(false);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self.content {
            Content::Body => self.body.is_end_stream(),
            Content::Nothing => true,
            Content::NothingOfLength => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.content {
            Content::Body => self.body.size_hint(),
            Content::Nothing => SizeHint::with_exact(0),
            Content::NothingOfLength => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    /// What follows the head of a response, and the length that the head then tells.
    fn sent(
        status: u16,
        told: Option<u64>,
        is_head: bool,
        version: Version,
    ) -> (Content, Option<u64>) {
        let mut response = Response::builder().status(status);
        if let Some(length) = told {
            response = response.header(header::CONTENT_LENGTH, length);
        }
        let mut response = response.body(Full::new(Bytes::from_static(b"abc"))).unwrap();
        let content = Content::of(&mut response, is_head, version);
        let length = response.headers().get(header::CONTENT_LENGTH);
        (content, length.map(|length| length.to_str().unwrap().parse().unwrap()))
    }

    #[test]
    fn nothing_follows_a_head_that_must_have_no_content() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(sent(200, None, false, version), (Content::Body, None));
            assert_eq!(sent(204, Some(3), false, version), (Content::Nothing, None));
            assert_eq!(sent(205, Some(3), false, version), (Content::Nothing, None));
            assert_eq!(sent(304, None, false, version), (Content::Nothing, None));
            assert_eq!(sent(304, Some(3), true, version), (Content::Nothing, Some(3)));
            assert_eq!(sent(200, None, true, version), (Content::Nothing, Some(3)));
            assert_eq!(sent(404, Some(9), true, version), (Content::Nothing, Some(9)));
        }
        let of_length = (Content::NothingOfLength, Some(3));
        assert_eq!(sent(304, Some(3), false, Version::HTTP_11), of_length);
        assert_eq!(sent(304, Some(3), false, Version::HTTP_2), (Content::Nothing, Some(3)));
    }
}
