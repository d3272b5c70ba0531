//! Accepts connections.

use std::{future::Future, io};

use tokio::sync::watch;

use crate::server::{listener::accept_failures::AcceptFailures, listener_control::ListenerControl};

/// Hands over what is accepted, until the listener stops. An accept that fails is handed over as
/// `None`.
pub(super) async fn accept_until_stopped<T, F>(
    accept: impl Fn() -> F,
    mut control: watch::Receiver<ListenerControl>,
    take: impl Fn(Option<T>),
) where
    F: Future<Output = io::Result<T>>,
{
    let mut failures = AcceptFailures::default();
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = ListenerControl::stopped(&mut control) => return,
        };
        match accepted {
            Ok(accepted) => take(Some(accepted)),
            Err(error) => {
                take(None);
                failures.pause(&error).await;
            }
        }
    }
}
