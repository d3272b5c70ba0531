//! Wraps the service of a connection, to note when its requests begin and end.

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

use crate::server::{
    activity::{ActiveRequest, Activity},
    h1::inspecting_io::REJECTED_METHOD,
};

pub(crate) struct TrackedService<S> {
    pub(crate) inner: S,
    pub(crate) activity: Arc<Activity>,
    /// Whether responses ask clients to close the connection, and so to use another gateway.
    pub(crate) draining: Arc<AtomicBool>,
}

impl<S, B> Service<Request<Incoming>> for TrackedService<S>
where
    S: Service<Request<IncomingBody>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<TrackedBody<B>>;
    type Error = S::Error;
    type Future = TrackedFuture<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let active = self.activity.begin();
        if let Some(rejection) = self.activity.rejection()
            && request.method().as_str() == REJECTED_METHOD
        {
            request.extensions_mut().insert(rejection);
        }
        // HTTP/2 has a GOAWAY frame for this, which is sent when the drain begins.
        let draining = (request.version() < Version::HTTP_2).then(|| Arc::clone(&self.draining));
        let active = Some(active);
        let (is_head, version) = (request.method() == Method::HEAD, request.version());
        let request = request.map(|body| {
            let reading = (!body.is_end_stream()).then(|| self.activity.begin());
            IncomingBody { body, _reading: reading }
        });
        TrackedFuture { response: self.inner.call(request), active, draining, is_head, version }
    }
}

/// The body of a request. The connection counts as active until it is dropped, even after the
/// response.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    body: Incoming,
    _reading: Option<ActiveRequest>,
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
        let (active, draining) = (this.active, this.draining);
        let (is_head, version) = (*this.is_head, *this.version);
        this.response.poll(cx).map_ok(|mut response| {
            if draining.as_ref().is_some_and(|draining| draining.load(Relaxed)) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            let content = Content::of(&mut response, is_head, version);
            let pending = active.take().map(PendingChunk::new);
            response.map(|body| TrackedBody { body, content, pending })
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

pin_project! {
    /// The body of a response. Its request is active until the body has ended or was dropped.
    pub(crate) struct TrackedBody<B> {
        #[pin]
        body: B,
        content: Content,
        pending: Option<PendingChunk>,
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
