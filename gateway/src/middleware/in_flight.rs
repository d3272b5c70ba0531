//! At most so many requests at once, bodies included.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use crate::{body::EdgeBody, problem::Problem, refusals::Refusals};

/// Refuses at once what would be too much. The tower crate's own limit lets go at the response's
/// head, so that streams would not be counted.
#[derive(Clone)]
pub(crate) struct InFlight<S> {
    inner: S,
    places: Arc<Semaphore>,
    refusals: Arc<Refusals>,
}

impl<S> InFlight<S> {
    pub(crate) fn new(inner: S, max: usize, refusals: Arc<Refusals>) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(max)), refusals }
    }
}

impl<S, B> Service<Request<B>> for InFlight<S>
where
    S: Service<Request<B>, Response = Response<EdgeBody>>,
    S::Future: Unpin,
{
    type Response = Response<EdgeBody>;
    type Error = S::Error;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Admitted::Yes { call: self.inner.call(request), place: Some(place) },
            Err(_) => Admitted::No(Some(self.refusals.refuse(Problem::overloaded()))),
        }
    }
}

/// The future of a call that had a place, or had none.
pub(crate) enum Admitted<F> {
    Yes { call: F, place: Option<OwnedSemaphorePermit> },
    No(Option<Response<EdgeBody>>),
}

impl<F, E> Future for Admitted<F>
where
    F: Future<Output = Result<Response<EdgeBody>, E>> + Unpin,
{
    type Output = Result<Response<EdgeBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Yes { call, place } => Pin::new(call).poll(cx).map_ok(|response| {
                let place = place.take().expect("a future is not polled after its end");
                response.map(|body| body.holding(place))
            }),
            Self::No(refusal) => {
                Poll::Ready(Ok(refusal.take().expect("a future is not polled after its end")))
            }
        }
    }
}
