//! The service of one connection, around that of its plane: notes when requests begin and end.

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
    activity::{Activity, InFlight},
    h1::wire::REFUSED_METHOD,
};

pub(crate) struct TrackedService<S> {
    pub(crate) inner: S,
    pub(crate) activity: Arc<Activity>,
    /// Whether clients are asked to come back over another connection, and so to another gateway.
    pub(crate) leaving: Arc<AtomicBool>,
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
        let in_flight = self.activity.begin();
        if let Some(refused) = self.activity.refused()
            && request.method().as_str() == REFUSED_METHOD
        {
            request.extensions_mut().insert(refused);
        }
        // HTTP/2 has a frame of its own for this, which is sent when the drain begins.
        let leaving = (request.version() < Version::HTTP_2).then(|| Arc::clone(&self.leaving));
        let in_flight = Some(in_flight);
        let request = request.map(|body| {
            let reading = (!body.is_end_stream()).then(|| self.activity.begin());
            IncomingBody { body, _reading: reading }
        });
        TrackedFuture { answer: self.inner.call(request), in_flight, leaving }
    }
}

/// The body of a request. Whoever reads it keeps the connection at work, even if the answer has
/// long been sent.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    body: Incoming,
    _reading: Option<InFlight>,
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
    /// The future of one answer.
    pub(crate) struct TrackedFuture<F> {
        #[pin]
        answer: F,
        in_flight: Option<InFlight>,
        leaving: Option<Arc<AtomicBool>>,
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
        let (in_flight, leaving) = (this.in_flight, this.leaving);
        this.answer.poll(cx).map_ok(|mut response| {
            if leaving.as_ref().is_some_and(|leaving| leaving.load(Relaxed)) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response.map(|body| TrackedBody { body, given: in_flight.take().map(Given::new) })
        })
    }
}

pin_project! {
    /// A body that is part of a request until it has ended or was dropped.
    pub(crate) struct TrackedBody<B> {
        #[pin]
        body: B,
        given: Option<Given>,
    }
}

/// Whether the client has something of the body before it that it did not take yet.
struct Given {
    in_flight: InFlight,
    since: Option<usize>,
}

impl Given {
    fn new(in_flight: InFlight) -> Self {
        Self { in_flight, since: None }
    }

    fn taken(&mut self) {
        if let Some(generation) = self.since.take() {
            self.in_flight.wanted(generation);
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.taken();
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
        if let Some(given) = this.given {
            given.taken();
            if matches!(frame, Poll::Ready(Some(Ok(_)))) && !this.body.is_end_stream() {
                given.since = Some(given.in_flight.waits());
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
