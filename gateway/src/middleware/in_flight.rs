//! At most so many requests at once, bodies included.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::sync::Semaphore;
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
    S: Service<Request<B>, Response = Response<EdgeBody>, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<EdgeBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let refusal = self.refusals.refuse(Problem::overloaded());
            return Box::pin(async { Ok(refusal) });
        };
        let response = self.inner.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| body.holding(place))) })
    }
}
