//! Loom's primitives, under the names that the product's files import.

use std::{
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

pub(crate) use crate::semaphore::Semaphore;

/// The timeout expired.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// No time passes in a model. A timeout of zero expires if the future is not ready at once: as loom
/// tries every order, any event can happen between the poll and the expiry. Any other timeout
/// never expires, so that a lost wakeup is a deadlock.
pub(crate) async fn timeout<F: Future>(wait: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    std::future::poll_fn(|context: &mut Context<'_>| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending if wait.is_zero() => {
            loom::thread::yield_now();
            Poll::Ready(Err(Elapsed))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}
