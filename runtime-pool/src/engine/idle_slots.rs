//! Gives back the memory that unused slots keep.
//!
//! A slot keeps pages of its last instance, so that the next one starts fast. Wasmtime returns them
//! only in part when another module takes the slot, and it has no function that returns them all.
//! But whoever has an instance in a slot owns the slot's pages. So a tiny module takes the unused
//! slots, one after the other, and unmaps them. No slot in use can be met in that way.
//!
//! How Wasmtime chooses a slot decides how to reach them all. It prefers those that the same module
//! used last, so each step uses a new module. While few slots are unused, it prefers one that was
//! never used; such a step adds to the unused ones, and after some dozens of them Wasmtime chooses the
//! one that was unused for longest. And each thread begins at one part of the slots, so that each part
//! needs a thread.

use std::{collections::HashSet, ptr, thread, time::Duration};

use rustix::mm::{Advice, madvise};
use wasmtime::{Engine, Instance, Module, Store};

/// The share of all slots that must be free, so that a call never lacks the one that is taken.
const FREE_SHARE: usize = 8;
/// The most parts into which Wasmtime divides the slots.
const PARTS_MAX: usize = 16;
/// The pause between two slots. Unmapping interrupts the other threads of the process.
const PAUSE: Duration = Duration::from_micros(500);
/// A module with one memory of one page, exported as `m`.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01\x07\x05\x01\x01m\x02\0";

/// Unmaps the unused slots of `engines`, of which each has `slots` for memories of up to
/// `slot_bytes`, while `go_on` permits it. Takes one at a time. Returns the number of slots. Blocks.
pub(crate) fn give_back(
    engines: &[Engine],
    slots: usize,
    slot_bytes: usize,
    go_on: &(dyn Fn() -> bool + Sync),
) -> usize {
    let parts = thread::available_parallelism().map_or(1, usize::from).min(PARTS_MAX);
    let mut given_back = 0;
    for engine in engines {
        let pool = || engine.pooling_allocator_metrics().expect("the engine has a pool");
        let go_on = || go_on() && pool().memories() + (slots / FREE_SHARE).max(2) <= slots;
        let mut done = HashSet::new();
        // Threads get the parts in turn, and other threads of the process get some of the turns.
        for _ in 0..2 * parts {
            if done.len() >= pool().unused_warm_memories() as usize {
                break;
            }
            let part = || while go_on() && step(engine, slot_bytes, &mut done) {};
            thread::scope(|scope| {
                let named = thread::Builder::new().name("mayfly-idle".into());
                // If no thread can be started, then the machine is far from idle.
                let _ = named.spawn_scoped(scope, part);
            });
        }
        given_back += done.len();
    }
    given_back
}

/// Unmaps the slot that is next in this thread's part, and adds its address to `done`. Returns
/// whether there may be another.
fn step(engine: &Engine, slot_bytes: usize, done: &mut HashSet<usize>) -> bool {
    thread::sleep(PAUSE);
    let unmapped = Module::new(engine, MODULE)
        .and_then(|module| Slot::take(&module))
        .and_then(|slot| slot.unmap(slot_bytes).map(|()| slot.address));
    // An error means that no slot is free, and then there is nothing to give back.
    unmapped.is_ok_and(|address| done.insert(address))
}

/// A slot that this module holds.
struct Slot {
    /// Holds the instance, and with it the slot.
    _store: Store<()>,
    address: usize,
}

impl Slot {
    fn take(module: &Module) -> wasmtime::Result<Self> {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[])?;
        let memory = instance.get_memory(&mut store, "m").expect("the module exports it");
        let address = memory.data_ptr(&store).expose_provenance();
        Ok(Self { _store: store, address })
    }

    fn unmap(&self, slot_bytes: usize) -> wasmtime::Result<()> {
        #[expect(unsafe_code, reason = "no safe function gives pages back")]
        // SAFETY: the pages belong to the slot, and the slot to this instance, of which nobody else
        // knows. They are zero and stay zero: the memory has no image, and no code has run.
        unsafe {
            let start = ptr::with_exposed_provenance_mut(self.address);
            madvise(start, slot_bytes, Advice::LinuxDontNeed)?;
        }
        Ok(())
    }
}
