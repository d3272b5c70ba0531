//! The handles by which a guest names resources of the host.
//!
//! A guest can only name what it was given: a handle is a place in this table, and the place says which
//! resource lies there and of which kind it is. Everything that a guest of WASI 0.2 is given, it owns; what
//! it lends is lent for one call of the host.

use wasmtime::{bail, component::Resource};

/// The largest handle, as the component model sets it.
const HANDLE_MAX: u32 = 1 << 28;

/// The kinds of resources that guests hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResourceKind {
    Fields,
    IncomingRequest,
    OutgoingRequest,
    RequestOptions,
    ResponseOutparam,
    IncomingResponse,
    IncomingBody,
    FutureTrailers,
    OutgoingResponse,
    OutgoingBody,
    FutureIncomingResponse,
    IoError,
    Pollable,
    InputStream,
    OutputStream,
    TerminalInput,
    TerminalOutput,
}

/// A type whose values lie in the host's table of resources.
pub(super) trait HeldByGuest: 'static {
    const KIND: ResourceKind;
}

/// A place of the table.
#[derive(Clone, Copy, Debug)]
enum HandleSlot {
    Free { next: u32 },
    Taken { kind: ResourceKind, index: u32 },
}

/// The handles of one guest.
#[derive(Debug)]
pub(super) struct Handles {
    slots: Vec<HandleSlot>,
    /// The free slot that is taken next.
    next: u32,
    live: usize,
    /// Handles that are lent to the call of the host that is under way.
    lent: usize,
    most: usize,
}

impl Handles {
    /// A table for at most `most` handles.
    pub(super) fn new(most: usize) -> Self {
        Self { slots: Vec::new(), next: 0, live: 0, lent: 0, most }
    }

    /// Gives the guest a resource.
    pub(super) fn give<T: HeldByGuest>(&mut self, resource: &Resource<T>) -> wasmtime::Result<u32> {
        let place = self.next;
        if place + 1 >= HANDLE_MAX {
            bail!("cannot allocate another handle: index overflow");
        }
        if self.live >= self.most {
            bail!("cannot allocate another handle: store handle limit exceeded");
        }
        let taken = HandleSlot::Taken { kind: T::KIND, index: resource.rep() };
        match self.slots.get_mut(place as usize) {
            Some(slot) => {
                let HandleSlot::Free { next } = *slot else { bail!("a free handle is taken") };
                self.next = next;
                *slot = taken;
            }
            None => {
                self.slots.push(taken);
                self.next = place + 1;
            }
        }
        self.live += 1;
        Ok(place + 1)
    }

    /// Begins a call of the host, which gives back what was lent to the one before.
    pub(super) fn begin_call(&mut self) {
        self.lent = 0;
    }

    /// A resource that the guest lends to the host for this call.
    pub(super) fn borrow<T: HeldByGuest>(&mut self, handle: u32) -> wasmtime::Result<Resource<T>> {
        let index = self.find::<T>(handle)?.1;
        // As in the engine: each loan counts as one more handle.
        if self.live + self.lent >= self.most {
            bail!("cannot lend resource: store handle limit exceeded");
        }
        self.lent += 1;
        Ok(Resource::new_borrow(index))
    }

    /// Takes a resource away from the guest.
    pub(super) fn take<T: HeldByGuest>(&mut self, handle: u32) -> wasmtime::Result<Resource<T>> {
        let next = self.next;
        let (slot, index) = self.find::<T>(handle)?;
        *slot = HandleSlot::Free { next };
        self.next = handle - 1;
        self.live -= 1;
        Ok(Resource::new_own(index))
    }

    fn find<T: HeldByGuest>(&mut self, handle: u32) -> wasmtime::Result<(&mut HandleSlot, u32)> {
        let place = handle.checked_sub(1).and_then(|place| self.slots.get_mut(place as usize));
        match place {
            Some(slot @ HandleSlot::Taken { .. }) => match *slot {
                HandleSlot::Taken { kind, index } if kind == T::KIND => Ok((slot, index)),
                _ => bail!(
                    "handle index {handle} used with the wrong type, expected guest-defined \
                     resource but found a different guest-defined resource"
                ),
            },
            Some(HandleSlot::Free { .. }) | None => bail!("unknown handle index {handle}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Left;
    struct Right;

    impl HeldByGuest for Left {
        const KIND: ResourceKind = ResourceKind::Fields;
    }

    impl HeldByGuest for Right {
        const KIND: ResourceKind = ResourceKind::Pollable;
    }

    fn give(handles: &mut Handles, index: u32) -> u32 {
        handles.give(&Resource::<Left>::new_own(index)).unwrap()
    }

    #[test]
    fn a_handle_leads_to_what_was_given_and_to_nothing_else() {
        let mut handles = Handles::new(10);
        let handle = give(&mut handles, 7);
        assert_eq!(handle, 1);
        assert_eq!(handles.borrow::<Left>(handle).unwrap().rep(), 7);
        let wrong = handles.borrow::<Right>(handle).unwrap_err().to_string();
        assert!(wrong.contains("used with the wrong type"), "{wrong}");
        assert!(handles.take::<Right>(handle).is_err());
        for unknown in [0, 2, 8, u32::MAX] {
            let error = handles.take::<Left>(unknown).unwrap_err().to_string();
            assert_eq!(error, format!("unknown handle index {unknown}"));
        }
        assert_eq!(handles.take::<Left>(handle).unwrap().rep(), 7);
        assert!(handles.take::<Left>(handle).is_err(), "taken twice");
        assert!(handles.borrow::<Left>(handle).is_err(), "lent after it was taken");
    }

    #[test]
    fn handles_are_given_again_in_the_order_in_which_they_were_freed() {
        let mut handles = Handles::new(10);
        for index in 0..3 {
            give(&mut handles, index);
        }
        handles.take::<Left>(2).unwrap();
        handles.take::<Left>(1).unwrap();
        assert_eq!(
            [give(&mut handles, 8), give(&mut handles, 9), give(&mut handles, 10)],
            [1, 2, 4]
        );
    }

    #[test]
    fn there_are_no_more_handles_and_loans_than_allowed() {
        let mut handles = Handles::new(2);
        let first = give(&mut handles, 1);
        handles.begin_call();
        handles.borrow::<Left>(first).unwrap();
        assert!(handles.borrow::<Left>(first).is_err());
        handles.begin_call();
        handles.borrow::<Left>(first).unwrap();
        give(&mut handles, 2);
        let error = handles.give(&Resource::<Left>::new_own(3)).unwrap_err().to_string();
        assert!(error.contains("store handle limit exceeded"), "{error}");
    }
}
