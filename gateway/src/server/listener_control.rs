//! What a listener and its connections are told while they serve.

use tokio::sync::watch;

/// What was told so far. Nothing, at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListenerControl {
    stop: bool,
    /// How often those connections that were open were told to end.
    dismissals: u32,
}

impl ListenerControl {
    /// To stop, for good.
    pub(crate) fn stop(orders: &watch::Sender<Self>) {
        orders.send_modify(|orders| orders.stop = true);
    }

    /// To end the connections that are open, each with its last answer; clients may open others.
    pub(crate) fn dismiss(orders: &watch::Sender<Self>) {
        orders.send_modify(|orders| orders.dismissals = orders.dismissals.wrapping_add(1));
    }

    /// Returns when there is the order to stop. The sender lives until then.
    pub(crate) async fn stopped(orders: &mut watch::Receiver<Self>) {
        drop(orders.wait_for(|orders| orders.stop).await);
    }

    /// Returns when connections that are open now shall end.
    pub(crate) async fn dismissed(orders: &mut watch::Receiver<Self>) {
        let before = orders.borrow().dismissals;
        drop(orders.wait_for(|orders| orders.stop || orders.dismissals != before).await);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn those_that_are_open_are_dismissed_and_later_ones_are_not_until_the_next_time() {
        let (sender, mut receiver) = watch::channel(ListenerControl::default());
        let mut other = receiver.clone();
        let mut early = Box::pin(ListenerControl::dismissed(&mut receiver));
        assert!(early.as_mut().now_or_never().is_none());
        ListenerControl::dismiss(&sender);
        assert!(early.now_or_never().is_some());
        let mut late = Box::pin(ListenerControl::dismissed(&mut other));
        assert!(late.as_mut().now_or_never().is_none());
        assert!(ListenerControl::stopped(&mut sender.subscribe()).now_or_never().is_none());
        ListenerControl::stop(&sender);
        assert!(late.now_or_never().is_some());
        assert!(ListenerControl::stopped(&mut sender.subscribe()).now_or_never().is_some());
    }
}
