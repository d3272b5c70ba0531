//! Memory that the guest gives for what the host hands to it.

use wasmtime::{Caller, Trap, TypedFunc, ValRaw, bail, format_err};

use super::guest::CoreHost;

/// What the guest's allocator takes: no old memory, its bytes, the alignment, the bytes.
type Allocator = TypedFunc<(u32, u32, u32, u32), u32>;

/// Lets the guest allocate `bytes`, on the stack on which it runs.
pub(super) fn allocate(
    caller: &mut Caller<'_, CoreHost>,
    align: usize,
    bytes: usize,
) -> wasmtime::Result<usize> {
    let arguments = arguments(align, bytes)?;
    let mut values = arguments.map(ValRaw::u32);
    let allocator = begin(caller)?;
    #[expect(unsafe_code, reason = "the safe call needs another stack for each list and text")]
    // SAFETY: `link` has checked that the function takes four words and returns one, so that the values
    // have its types and room for its result, and none of them is a reference. The function is this
    // store's. The call is one on the fiber of a guest that has called the host, which the safe call
    // refuses, because it may be interrupted and go on on another thread: then what lies on the stack
    // must be `Send`. It is: above are our own functions, which hold the caller (`Send`, as `CoreHost`
    // is) and values of the interfaces, which are `Send` (`Interface::define` demands it). It cannot
    // nest either: `lift` refuses calls of the host while the guest allocates. The engine does the
    // same for a component.
    let called = unsafe { allocator.call_unchecked(&mut *caller, &raw mut values[..]) };
    caller.data_mut().guest.is_allocating = false;
    called?;
    check(caller, values[0].get_u32(), align, bytes)
}

/// The same for a function of the host that waits: it is polled, so that the guest cannot be interrupted
/// on its own stack, and gets another.
pub(super) async fn allocate_waiting(
    caller: &mut Caller<'_, CoreHost>,
    align: usize,
    bytes: usize,
) -> wasmtime::Result<usize> {
    let [none, nothing, alignment, size] = arguments(align, bytes)?;
    let allocator: Allocator = begin(caller)?.typed(&*caller)?;
    let called = allocator.call_async(&mut *caller, (none, nothing, alignment, size)).await;
    caller.data_mut().guest.is_allocating = false;
    check(caller, called?, align, bytes)
}

fn arguments(align: usize, bytes: usize) -> wasmtime::Result<[u32; 4]> {
    Ok([0, 0, u32::try_from(align)?, u32::try_from(bytes)?])
}

fn begin(caller: &mut Caller<'_, CoreHost>) -> wasmtime::Result<wasmtime::Func> {
    let guest = &mut caller.data_mut().guest;
    if guest.is_allocating {
        return Err(Trap::CannotLeaveComponent.into());
    }
    let allocator = guest.allocator.ok_or_else(|| format_err!("the guest has no allocator"))?;
    guest.is_allocating = true;
    Ok(allocator)
}

/// Checks what the guest has returned.
fn check(
    caller: &mut Caller<'_, CoreHost>,
    at: u32,
    align: usize,
    bytes: usize,
) -> wasmtime::Result<usize> {
    let at = at as usize;
    if !at.is_multiple_of(align) {
        bail!("realloc return: result not aligned");
    }
    let memory = caller.data().guest.memory.map_or(0, |memory| memory.data_size(&*caller));
    if at.checked_add(bytes).is_none_or(|end| end > memory) {
        bail!("realloc return: beyond end of memory");
    }
    Ok(at)
}
