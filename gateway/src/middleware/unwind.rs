//! A panic ends one request, not its connection's other requests and not the process.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt as _;

/// What `call` comes to, or nothing if it panics.
pub(crate) fn caught<T>(call: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    // What a panicking call leaves half done is its own instance, which is dropped. The panic's
    // message is in the log already: the hook wrote it.
    AssertUnwindSafe(call).catch_unwind().map(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_call_alone() {
        assert_eq!(caught(async { 1 }).await, Some(1));
        let panics: Option<()> = caught(async { panic!("on purpose") }).await;
        assert_eq!(panics, None);
    }
}
