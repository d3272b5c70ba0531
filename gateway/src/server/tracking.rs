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
use http::{HeaderValue, Request, Response, Version, header};
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
        let request = request.map(|body| {
            let reading = (!body.is_end_stream()).then(|| self.activity.begin());
            IncomingBody { body, _reading: reading }
        });
        TrackedFuture { response: self.inner.call(request), active, draining }
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
        this.response.poll(cx).map_ok(|mut response| {
            if draining.as_ref().is_some_and(|draining| draining.load(Relaxed)) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response.map(|body| TrackedBody { body, pending: active.take().map(PendingChunk::new) })
        })
    }
}

pin_project! {
    /// The body of a response. Its request is active until the body has ended or was dropped.
    pub(crate) struct TrackedBody<B> {
        #[pin]
        body: B,
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
