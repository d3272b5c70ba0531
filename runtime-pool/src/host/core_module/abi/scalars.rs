//! Values of one word: numbers, and handles of resources.

use wasmtime::{component::Resource, format_err};

use super::{
    shape::{Abi, CoreType, Shape},
    transfer::{Lift, Lifting, Lower, Lowering, Words, low},
};
use crate::host::core_module::handles::HeldByGuest;

/// A resource that the guest gives away.
pub(in super::super) struct Own<T: 'static>(pub(in super::super) Resource<T>);

/// A resource that the guest lends for the call.
pub(in super::super) struct Lent<T: 'static>(pub(in super::super) Resource<T>);

macro_rules! handles {
    ($($type:ident)*) => { $(
        impl<T: HeldByGuest> Abi for $type<T> {
            const SHAPE: Shape = Shape::scalar(4, CoreType::I32);
        }
    )* };
}
handles!(Own Lent Resource);

impl<T: HeldByGuest> Lift for Own<T> {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        lifting.handles.take(low(words.next())).map(Self)
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        let handle = lifting.read_u32(at)?;
        lifting.handles.take(handle).map(Self)
    }
}

impl<T: HeldByGuest> Lift for Lent<T> {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        lifting.handles.borrow(low(words.next())).map(Self)
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        let handle = lifting.read_u32(at)?;
        lifting.handles.borrow(handle).map(Self)
    }
}

impl<T: HeldByGuest> Lower for Resource<T> {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        let handle = lowering.give(&self)?;
        lowering.write(at, &handle.to_le_bytes())
    }

    fn into_word(self, lowering: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
        lowering.give(&self).map(u64::from)
    }
}

macro_rules! numbers {
    ($($type:ty: $core:ident)*) => { $(
        impl Abi for $type {
            const SHAPE: Shape = Shape::scalar(size_of::<$type>(), CoreType::$core);
        }

        impl Lift for $type {
            #[expect(clippy::allow_attributes, reason = "not every type truncates")]
            #[allow(clippy::cast_possible_truncation, reason = "upper bits are not meant")]
            fn from_words(_: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
                Ok(words.next() as $type)
            }

            fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
                Ok(<$type>::from_le_bytes(lifting.read(at)?))
            }
        }

        impl Lower for $type {
            fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
                lowering.write(at, &self.to_le_bytes())
            }

            fn into_word(self, _: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
                Ok(self.into())
            }
        }
    )* };
}
numbers!(u16: I32 u32: I32 u64: I64);

impl Abi for u8 {
    const SHAPE: Shape = Shape::scalar(1, CoreType::I32);
}

impl Lift for u8 {
    #[expect(clippy::cast_possible_truncation, reason = "upper bits are not meant")]
    fn from_words(_: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        Ok(words.next() as Self)
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        lifting.read::<1>(at).map(|[byte]| byte)
    }

    fn load_many(
        lifting: &mut Lifting<'_>,
        at: usize,
        count: usize,
    ) -> wasmtime::Result<Vec<Self>> {
        let bytes = lifting.memory.get(at..).and_then(|rest| rest.get(..count));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| format_err!("pointer out of bounds of memory"))
    }
}

impl Lower for u8 {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        lowering.write(at, &[self])
    }

    fn into_word(self, _: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
        Ok(self.into())
    }

    fn store_many(
        list: Vec<Self>,
        lowering: &mut Lowering<'_, '_>,
        at: usize,
    ) -> wasmtime::Result<()> {
        lowering.write(at, &list)
    }
}

impl Abi for bool {
    const SHAPE: Shape = Shape::scalar(1, CoreType::I32);
}

impl Lower for bool {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        lowering.write(at, &[self.into()])
    }

    fn into_word(self, _: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
        Ok(self.into())
    }
}
