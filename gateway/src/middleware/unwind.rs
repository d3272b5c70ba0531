//! A panic ends one request, not its connection's other requests and not the process.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::CatchUnwind};
use http::{Request, Response};
use tower::Service;

use crate::{body::EdgeBody, problem::Problem, refusals::Refusals};

/// Turns a panic into a problem.
#[derive(Clone)]
pub(crate) struct Unwind<S> {
    inner: S,
    refusals: Arc<Refusals>,
}

impl<S> Unwind<S> {
    pub(crate) fn new(inner: S, refusals: Arc<Refusals>) -> Self {
        Self { inner, refusals }
    }
}

impl<S, B> Service<Request<B>> for Unwind<S>
where
    S: Service<Request<B>, Response = Response<EdgeBody>>,
    S::Future: Unpin,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Caught<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // What a panicking call leaves half done is its own instance, which is dropped.
        Caught {
            call: AssertUnwindSafe(self.inner.call(request)).catch_unwind(),
            refusals: Arc::clone(&self.refusals),
        }
    }
}

/// The future of a call that may panic.
pub(crate) struct Caught<F> {
    call: CatchUnwind<AssertUnwindSafe<F>>,
    refusals: Arc<Refusals>,
}

impl<F, E> Future for Caught<F>
where
    F: Future<Output = Result<Response<EdgeBody>, E>> + Unpin,
{
    type Output = Result<Response<EdgeBody>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The panic's message is in the log already: the hook wrote it.
        Pin::new(&mut self.call)
            .poll(cx)
            .map(|result| result.unwrap_or_else(|_| Ok(self.refusals.refuse(Problem::broken()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_internal_problem() {
        let panicking = tower::service_fn(|request: Request<()>| {
            let call: Pin<Box<dyn Future<Output = Result<Response<EdgeBody>, ()>> + Send>> =
                Box::pin(async move {
                    assert!(request.headers().is_empty(), "on purpose");
                    panic!("on purpose")
                });
            call
        });
        let response = Unwind::new(
            panicking,
            Arc::new(Refusals::new(1, &prometheus::Registry::new()).unwrap()),
        )
        .call(Request::new(()))
        .await
        .unwrap();
        assert_eq!(response.status(), 500);
    }
}
