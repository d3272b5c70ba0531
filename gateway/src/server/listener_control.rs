//! Tells a listener and its connections to stop, or to recycle connections.

use tokio::sync::watch;

/// The orders that a listener has received so far: at first, none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListenerControl {
    stop: bool,
    /// How often the connections that were open then have been recycled.
    recycles: u32,
}

impl ListenerControl {
    /// Stops the listener for good.
    pub(crate) fn stop(control: &watch::Sender<Self>) {
        control.send_modify(|control| control.stop = true);
    }

    /// Ends each connection that is open after its current response. Clients may open new ones.
    pub(crate) fn recycle(control: &watch::Sender<Self>) {
        control.send_modify(|control| control.recycles = control.recycles.wrapping_add(1));
    }

    /// Returns when the listener is stopped. The sender lives until then.
    pub(crate) async fn stopped(control: &mut watch::Receiver<Self>) {
        drop(control.wait_for(|control| control.stop).await);
    }

    /// Returns when a connection that is open at the time of this call must end.
    pub(crate) async fn recycled(control: &mut watch::Receiver<Self>) {
        let before = control.borrow().recycles;
        drop(control.wait_for(|control| control.stop || control.recycles != before).await);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn open_connections_are_recycled_and_later_ones_only_the_next_time() {
        let (sender, mut receiver) = watch::channel(ListenerControl::default());
        let mut other = receiver.clone();
        let mut early = Box::pin(ListenerControl::recycled(&mut receiver));
        assert!(early.as_mut().now_or_never().is_none());
        ListenerControl::recycle(&sender);
        assert!(early.now_or_never().is_some());
        let mut late = Box::pin(ListenerControl::recycled(&mut other));
        assert!(late.as_mut().now_or_never().is_none());
        assert!(ListenerControl::stopped(&mut sender.subscribe()).now_or_never().is_none());
        ListenerControl::stop(&sender);
        assert!(late.now_or_never().is_some());
        assert!(ListenerControl::stopped(&mut sender.subscribe()).now_or_never().is_some());
    }
}
