//! The stores for which the host keeps much memory. When the node runs out of memory, those that
//! hold most are ended.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// All such stores of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Arc<Mutex<Vec<Weak<Holder>>>>);

/// One store, and what the host keeps for it.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    bytes: AtomicUsize,
    /// Bytes of its scratch directory.
    scratch: AtomicUsize,
    ended: AtomicBool,
    task: AtomicWaker,
}

impl Holders {
    /// Adds a store.
    pub(crate) fn join(&self) -> Arc<Holder> {
        let holder = Arc::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&holder));
        holder
    }

    /// Ends the stores that hold most, until `bytes` will be free. Returns how many it has ended, and
    /// what they hold.
    pub(crate) fn end_largest(&self, bytes: u64) -> (usize, u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        all.retain(|holder| holder.bytes() > 0 && !holder.ended.load(Relaxed));
        all.sort_unstable_by_key(|holder| std::cmp::Reverse(holder.bytes()));
        let (mut ended, mut freed) = (0, 0);
        for holder in all {
            if freed >= bytes {
                break;
            }
            freed += holder.bytes() as u64;
            ended += 1;
            holder.end();
        }
        (ended, freed)
    }
}

impl Holder {
    fn bytes(&self) -> usize {
        self.bytes.load(Relaxed) + self.scratch.load(Relaxed)
    }

    /// Sets what the host keeps for the store, without its scratch directory.
    pub(crate) fn set(&self, bytes: usize) {
        self.bytes.store(bytes, Relaxed);
    }

    /// Sets what the scratch directory of the store takes.
    pub(crate) fn set_scratch(&self, bytes: usize) {
        self.scratch.store(bytes, Relaxed);
    }

    /// Ready once the store must end.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        // Registered before the check: an end between the two would wake nobody.
        self.task.register(cx.waker());
        if self.ended.load(Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn end(&self) {
        self.ended.swap(true, AcqRel);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_hold_most_are_ended_and_only_as_many_as_needed() {
        let holders = Holders::default();
        let [small, large, none, gone] = std::array::from_fn(|_| holders.join());
        small.set(10);
        large.set(100);
        gone.set(1_000);
        drop(gone);
        assert_eq!(holders.end_largest(50), (1, 100));
        let ended = |holder: &Holder| holder.ended.load(Relaxed);
        assert!(ended(&large) && !ended(&small) && !ended(&none));
        assert_eq!(holders.end_largest(50), (1, 10));
        assert_eq!(holders.end_largest(50), (0, 0));
    }

    #[tokio::test]
    async fn a_store_that_waits_is_woken_to_end() {
        let holders = Holders::default();
        let holder = holders.join();
        holder.set(1);
        let waits = Arc::clone(&holder);
        let task = tokio::spawn(async move {
            std::future::poll_fn(|cx| waits.poll_ended(cx)).await;
        });
        tokio::task::yield_now().await;
        assert_eq!(holders.end_largest(1), (1, 1));
        task.await.unwrap();
    }
}
