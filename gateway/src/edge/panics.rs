//! A panic ends one request, but not the other requests of its connection, nor the process.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin};

use futures_util::FutureExt as _;
use http::Response;

use crate::{
    edge::{rejections::Rejections, response_body::EdgeBody},
    problem::Problem,
};

/// The response of `call`, or a problem if it panics.
pub(crate) async fn answer(
    call: Pin<&mut impl Future<Output = Response<EdgeBody>>>,
    rejections: &Rejections,
    invocation: u128,
) -> Response<EdgeBody> {
    // Unwind safe: a panicking call leaves nothing half done but its own instance, which is
    // dropped. The panic hook has already logged the message.
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(response) => response,
        Err(_) => rejections.answer(Problem::broken(), invocation),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use prometheus::Registry;

    use super::*;

    /// Case G28.
    #[tokio::test]
    async fn a_panic_on_the_data_plane_is_a_500_that_is_counted() {
        let registry = Registry::new();
        let rejections = Rejections::new(&registry).unwrap();
        for _ in 0..2 {
            let broken = answer(pin!(async { panic!("on purpose") }), &rejections, 1).await;
            assert_eq!(broken.status(), 500);
            assert_eq!(broken.headers()["mayfly-outcome"], "platform");
        }
        let families = registry.gather();
        let counted = &families[0].get_metric()[0];
        assert_eq!(
            (counted.get_label()[0].value(), counted.get_counter().get_value()),
            ("internal", 2.0)
        );
        let rejected = async { rejections.answer(Problem::overloaded(), 2) };
        assert_eq!(answer(pin!(rejected), &rejections, 2).await.status(), 503);
    }
}
