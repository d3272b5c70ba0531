//! A function's slots and its queue.

use std::time::Duration;

use loom::{future::block_on, sync::Arc, thread};

use crate::{
    explore::{Inside, every_order, orders_of_three},
    slots::{NoSlot, NodeQueue, QueueTicket, Slots},
};

const PATIENT: Duration = Duration::MAX;

/// A function with one slot.
struct Function {
    slots: Slots,
    running: Inside,
}

impl Function {
    fn new(queue: usize, wait: Duration) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(1, queue, Arc::new(NodeQueue::new(100)), wait),
            running: Inside::new(1),
        })
    }

    /// The product's steps for an invocation.
    fn invoke(&self) -> Result<(), NoSlot> {
        if !self.slots.try_take() {
            block_on(self.slots.join_queue()?.wait())?;
        }
        self.running.stay(1);
        self.slots.release();
        Ok(())
    }

    /// Calls it from this many threads at once, and returns the number of refused calls.
    /// Asserts that all slots and places are free afterwards.
    fn invoke_at_once(function: &Arc<Self>, threads: usize) -> usize {
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let function = Arc::clone(function);
                thread::spawn(move || usize::from(function.invoke().is_err()))
            })
            .collect();
        let here = usize::from(function.invoke().is_err());
        let refused = here + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>();
        assert_eq!(function.slots.taken(), 0, "a slot was lost");
        assert!(function.slots.try_take(), "the slot is not free");
        refused
    }
}

/// Case M02.
#[test]
fn every_queued_invocation_is_served() {
    every_order(|| {
        assert_eq!(Function::invoke_at_once(&Function::new(1, PATIENT), 2), 0);
    });
    orders_of_three(|| {
        assert_eq!(Function::invoke_at_once(&Function::new(2, PATIENT), 3), 0);
    });
}

/// Case M02.
#[test]
fn a_full_queue_refuses_and_loses_no_ticket() {
    orders_of_three(|| {
        let function = Function::new(1, PATIENT);
        assert!(Function::invoke_at_once(&function, 3) <= 1, "one runs, one waits");
        assert!(function.slots.join_queue().is_ok(), "a place in the queue was lost");
    });
}

/// Case M02.
#[test]
fn a_cancelled_waiter_passes_its_slot_on() {
    every_order(|| {
        let function = Function::new(1, Duration::ZERO);
        assert!(Function::invoke_at_once(&function, 2) <= 1, "all calls were refused");
        assert!(function.slots.join_queue().is_ok(), "a place in the queue was lost");
    });
    orders_of_three(|| {
        let function = Function::new(2, Duration::ZERO);
        assert!(Function::invoke_at_once(&function, 3) <= 2, "all calls were refused");
    });
}

/// A function without a free slot, whose callers wait in this queue.
fn full(line: &Arc<NodeQueue>) -> Slots {
    let slots = Slots::new(1, 5, Arc::clone(line), PATIENT);
    assert!(slots.try_take());
    slots
}

/// Takes places until the queue refuses. Returns the places and the reason of the refusal.
fn fill(slots: &Slots) -> (Vec<QueueTicket<'_>>, NoSlot) {
    let mut places = Vec::new();
    loop {
        match slots.join_queue() {
            Ok(place) => places.push(place),
            Err(reason) => return (places, reason),
        }
    }
}

/// Case O01.
#[test]
fn a_function_may_take_as_many_tickets_as_it_leaves_to_others() {
    every_order(|| {
        let line = Arc::new(NodeQueue::new(8));
        let (first, second, third) = (full(&line), full(&line), full(&line));
        let (firsts, reason) = fill(&first);
        assert_eq!((firsts.len(), reason), (4, NoSlot::Node));
        let (seconds, _) = fill(&second);
        assert_eq!(seconds.len(), 2);
        let (thirds, _) = fill(&third);
        assert_eq!(thirds.len(), 1, "a new function still gets a place");
        drop((firsts, seconds));
        assert_eq!(fill(&first).0.len(), 4, "half of what the third has left");
    });
}

/// Case O01.
#[test]
fn a_function_takes_no_more_tickets_than_its_own_queue() {
    every_order(|| {
        let line = Arc::new(NodeQueue::new(100));
        let slots = full(&line);
        for _ in 0..2 {
            let (places, reason) = fill(&slots);
            assert_eq!((places.len(), reason), (5, NoSlot::Function));
        }
    });
}

/// Case M02.
#[test]
fn simultaneous_arrivals_never_exceed_the_nodes_queue() {
    every_order(|| {
        let line = Arc::new(NodeQueue::new(1));
        let slots = Arc::new(full(&line));
        let other = Arc::clone(&slots);
        let joined = thread::spawn(move || other.join_queue().map(std::mem::forget).is_ok());
        let here = slots.join_queue().map(std::mem::forget).is_ok();
        let both = usize::from(joined.join().unwrap()) + usize::from(here);
        // Both may see the other's attempt, so that neither gets the place; both never get it.
        assert!(both <= 1, "{both}");
    });
}
