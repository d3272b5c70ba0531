//! A function's slots and its queue.

use std::time::Duration;

use loom::{future::block_on, sync::Arc, thread};

use crate::{
    explore::{Inside, every_order, orders_of_three},
    slots::{NoSlot, Slots},
};

const PATIENT: Duration = Duration::MAX;

/// A function with one slot.
struct Function {
    slots: Slots,
    running: Inside,
}

impl Function {
    fn new(queue: usize, wait: Duration) -> Arc<Self> {
        Arc::new(Self { slots: Slots::new(1, queue, wait), running: Inside::new(1) })
    }

    /// What the product does for an invocation.
    fn invoke(&self) -> Result<(), NoSlot> {
        if !self.slots.take() {
            block_on(self.slots.join_queue()?.slot())?;
        }
        self.running.stay(1);
        self.slots.give_back();
        Ok(())
    }

    /// Calls it from so many threads at once, and says how many of the calls were refused.
    /// Afterwards everything is back that was taken.
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
        assert!(function.slots.take(), "the slot is not free");
        refused
    }
}

#[test]
fn m02_who_may_wait_is_served_in_the_end() {
    every_order(|| {
        assert_eq!(Function::invoke_at_once(&Function::new(1, PATIENT), 2), 0);
    });
    orders_of_three(|| {
        assert_eq!(Function::invoke_at_once(&Function::new(2, PATIENT), 3), 0);
    });
}

#[test]
fn m02_who_finds_the_queue_full_is_refused_and_no_place_in_it_is_lost() {
    orders_of_three(|| {
        let function = Function::new(1, PATIENT);
        assert!(Function::invoke_at_once(&function, 3) <= 1, "one runs, one waits");
        assert!(function.slots.join_queue().is_ok(), "a place in the queue was lost");
    });
}

#[test]
fn m02_who_gives_up_while_a_slot_is_on_its_way_passes_it_on() {
    every_order(|| {
        let function = Function::new(1, Duration::ZERO);
        assert!(Function::invoke_at_once(&function, 2) <= 1, "nobody was served");
        assert!(function.slots.join_queue().is_ok(), "a place in the queue was lost");
    });
    orders_of_three(|| {
        let function = Function::new(2, Duration::ZERO);
        assert!(Function::invoke_at_once(&function, 3) <= 2, "nobody was served");
    });
}
