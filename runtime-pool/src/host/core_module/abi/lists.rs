//! Lists and texts.

use wasmtime::{Caller, bail, format_err};

use super::{
    shape::{Abi, Shape},
    transfer::{Lift, Lifting, Lower, Lowering, Words, low},
};
use crate::host::core_module::{allocate::allocate_waiting, guest::CoreHost};

/// The longest text that is handed to a guest.
const TEXT_MAX: usize = (1 << 31) - 1;

impl<T: Abi> Abi for Vec<T> {
    const SHAPE: Shape = Shape::list();
}

impl Abi for String {
    const SHAPE: Shape = Shape::list();
}

impl<T: Lift> Lift for Vec<T> {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        let (at, count) = (low(words.next()), low(words.next()));
        list(lifting, at, count)
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        let (list_at, count) = (lifting.read_u32(at)?, lifting.read_u32(at + 4)?);
        list(lifting, list_at, count)
    }
}

/// Checks the whole list before any of it is copied.
fn list<T: Lift>(lifting: &mut Lifting<'_>, at: u32, count: u32) -> wasmtime::Result<Vec<T>> {
    let (at, count) = (at as usize, count as usize);
    let end = count.checked_mul(T::SHAPE.size).and_then(|bytes| at.checked_add(bytes));
    if end.is_none_or(|end| end > lifting.memory.len()) {
        bail!("list pointer/length out of bounds of memory");
    }
    lifting.spend(count.checked_mul(size_of::<T>()))?;
    if !at.is_multiple_of(T::SHAPE.align) {
        bail!("list pointer is not aligned");
    }
    T::load_many(lifting, at, count)
}

impl Lift for String {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        let (at, bytes) = (low(words.next()), low(words.next()));
        text(lifting, at, bytes)
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        let (text_at, bytes) = (lifting.read_u32(at)?, lifting.read_u32(at + 4)?);
        text(lifting, text_at, bytes)
    }
}

fn text(lifting: &mut Lifting<'_>, at: u32, bytes: u32) -> wasmtime::Result<String> {
    let (at, bytes) = (at as usize, bytes as usize);
    let memory = lifting.memory;
    let text = memory
        .get(at..)
        .and_then(|rest| rest.get(..bytes))
        .ok_or_else(|| format_err!("string pointer/length out of bounds of memory"))?;
    lifting.spend(Some(bytes))?;
    Ok(std::str::from_utf8(text)?.to_owned())
}

impl<T: Lower> Lower for Vec<T> {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        let count = u32::try_from(self.len())?;
        let list_at = lowering.allocate(T::SHAPE.align, bytes_of::<T>(self.len())?)?;
        T::store_many(self, lowering, list_at)?;
        store_pair(lowering, at, list_at, count)
    }
}

impl Lower for String {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        if self.len() > TEXT_MAX {
            bail!("string length of {} too large to copy into wasm", self.len());
        }
        let text_at = lowering.allocate(1, self.len())?;
        lowering.write(text_at, self.as_bytes())?;
        store_pair(lowering, at, text_at, u32::try_from(self.len())?)
    }
}

fn bytes_of<T: Abi>(count: usize) -> wasmtime::Result<usize> {
    let bytes = count.checked_mul(T::SHAPE.size);
    bytes.ok_or_else(|| format_err!("size overflow copying a list"))
}

fn store_pair(
    lowering: &mut Lowering<'_, '_>,
    at: usize,
    list_at: usize,
    count: u32,
) -> wasmtime::Result<()> {
    let list_at = u32::try_from(list_at)?;
    lowering.write(at, &list_at.to_le_bytes())?;
    lowering.write(at + 4, &count.to_le_bytes())
}

/// A list that lies in the guest's memory already.
pub(in super::super) struct PlacedList {
    at: u32,
    count: u32,
}

impl Abi for PlacedList {
    const SHAPE: Shape = Shape { has_lists: false, ..Shape::list() };
}

impl Lower for PlacedList {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        lowering.write(at, &self.at.to_le_bytes())?;
        lowering.write(at + 4, &self.count.to_le_bytes())
    }
}

/// Copies a list into the guest's memory, for functions of the host that wait.
pub(in super::super) async fn place_list<T: Lower + Send>(
    caller: &mut Caller<'_, CoreHost>,
    list: Vec<T>,
) -> wasmtime::Result<PlacedList> {
    const { assert!(!T::SHAPE.has_lists, "its items would need memory, too") };
    let count = u32::try_from(list.len())?;
    let at = allocate_waiting(caller, T::SHAPE.align, bytes_of::<T>(list.len())?).await?;
    T::store_many(list, &mut Lowering { caller }, at)?;
    Ok(PlacedList { at: u32::try_from(at)?, count })
}
