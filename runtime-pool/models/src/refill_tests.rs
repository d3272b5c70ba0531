//! Refilling the warm set.

use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use crate::{
    explore::{Inside, every_order, orders_of_three},
    warm::refill::Refilling,
};

/// The number of warm instances, and the number wanted.
struct Waiting {
    making: Refilling,
    count: AtomicUsize,
    wanted: AtomicUsize,
    makers: Inside,
}

impl Waiting {
    fn is_short(&self) -> bool {
        self.count.load(Relaxed) < self.wanted.load(Relaxed)
    }

    async fn make(&self) -> bool {
        self.makers.stay(1);
        self.count.fetch_add(1, Relaxed);
        true
    }

    /// The product's steps when more instances are wanted.
    fn want(&self, wanted: usize) {
        self.wanted.fetch_max(wanted, Relaxed);
        if self.is_short() && self.making.begin() {
            block_on(self.making.until_enough(|| self.is_short(), || self.make()));
        }
    }
}

fn at_once(wanted: &'static [usize]) {
    let waiting = Arc::new(Waiting {
        making: Refilling::new(),
        count: AtomicUsize::new(0),
        wanted: AtomicUsize::new(0),
        makers: Inside::new(1),
    });
    let others: Vec<_> = wanted[1..]
        .iter()
        .map(|&wanted| {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || waiting.want(wanted))
        })
        .collect();
    waiting.want(wanted[0]);
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(Some(&waiting.count.load(Relaxed)), wanted.iter().max());
}

/// Case M02.
#[test]
fn the_wanted_number_is_made_whichever_thread_makes_them() {
    every_order(|| at_once(&[1, 2]));
    orders_of_three(|| at_once(&[1, 2, 2]));
}
