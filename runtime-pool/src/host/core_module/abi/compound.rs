//! Options, results, tuples, and nothing.

use wasmtime::bail;

use super::{
    shape::{Abi, Shape},
    transfer::{Lift, Lifting, Lower, Lowering, Words, low},
};

impl Abi for () {
    const SHAPE: Shape = Shape::EMPTY;
}

impl Lift for () {
    fn from_words(_: &mut Lifting<'_>, _: &mut Words<'_>) -> wasmtime::Result<Self> {
        Ok(())
    }

    fn load(_: &mut Lifting<'_>, _: usize) -> wasmtime::Result<Self> {
        Ok(())
    }
}

impl Lower for () {
    fn store(self, _: &mut Lowering<'_, '_>, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn into_word(self, _: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
        Ok(0)
    }
}

impl<T: Abi> Abi for Option<T> {
    const SHAPE: Shape = Shape::variant(&[Shape::EMPTY, T::SHAPE]);
}

impl<T: Lift> Lift for Option<T> {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        let mut words = words.split(Self::SHAPE.flat.count);
        match low(words.next()) {
            0 => Ok(None),
            1 => T::from_words(lifting, &mut words).map(Some),
            _ => bail!("invalid option discriminant"),
        }
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        match lifting.read(at)? {
            [0] => Ok(None),
            [1] => T::load(lifting, at + Self::SHAPE.contents_at()).map(Some),
            _ => bail!("invalid option discriminant"),
        }
    }
}

impl<T: Lower> Lower for Option<T> {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        lowering.write(at, &[self.is_some().into()])?;
        self.map_or(Ok(()), |value| value.store(lowering, at + Self::SHAPE.contents_at()))
    }
}

impl<T: Abi, E: Abi> Abi for Result<T, E> {
    const SHAPE: Shape = Shape::variant(&[T::SHAPE, E::SHAPE]);
}

impl<T: Lift, E: Lift> Lift for Result<T, E> {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        let mut words = words.split(Self::SHAPE.flat.count);
        match low(words.next()) {
            0 => T::from_words(lifting, &mut words).map(Ok),
            1 => E::from_words(lifting, &mut words).map(Err),
            _ => bail!("invalid expected discriminant"),
        }
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        let contents = at + Self::SHAPE.contents_at();
        match lifting.read(at)? {
            [0] => T::load(lifting, contents).map(Ok),
            [1] => E::load(lifting, contents).map(Err),
            _ => bail!("invalid expected discriminant"),
        }
    }
}

impl<T: Lower, E: Lower> Lower for Result<T, E> {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        lowering.write(at, &[self.is_err().into()])?;
        let contents = at + Self::SHAPE.contents_at();
        match self {
            Ok(value) => value.store(lowering, contents),
            Err(error) => error.store(lowering, contents),
        }
    }

    /// Only a result without contents is one word.
    fn into_word(self, _: &mut Lowering<'_, '_>) -> wasmtime::Result<u64> {
        Ok(self.is_err().into())
    }
}

impl<A: Abi, B: Abi> Abi for (A, B) {
    const SHAPE: Shape = Shape::record(&[A::SHAPE, B::SHAPE]);
}

impl<A: Abi, B: Abi> Second for (A, B) {
    const AT: usize = A::SHAPE.size.next_multiple_of(B::SHAPE.align);
}

/// Where the second part of a pair begins.
trait Second {
    const AT: usize;
}

impl<A: Lift, B: Lift> Lift for (A, B) {
    fn from_words(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
        Ok((A::from_words(lifting, words)?, B::from_words(lifting, words)?))
    }

    fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
        Ok((A::load(lifting, at)?, B::load(lifting, at + <Self as Second>::AT)?))
    }
}

impl<A: Lower, B: Lower> Lower for (A, B) {
    fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
        self.0.store(lowering, at)?;
        self.1.store(lowering, at + <Self as Second>::AT)
    }
}
