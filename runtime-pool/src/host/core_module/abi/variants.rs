//! Records and variants of the interfaces, whose types the bindings define.

use super::shape::Abi;

/// Lays out a record, whose fields are given in their order.
macro_rules! record {
    ($type:ty { $($field:ident: $of:ty),* $(,)? }) => {
        const _: () = {
            use $crate::host::core_module::abi::{
                Abi, FieldPlaces, Lift, Lifting, Lower, Lowering, Shape, Words,
            };

            impl Abi for $type {
                const SHAPE: Shape = Shape::record(&[$(<$of>::SHAPE),*]);
            }

            impl Lift for $type {
                fn from_words(
                    lifting: &mut Lifting<'_>,
                    words: &mut Words<'_>,
                ) -> wasmtime::Result<Self> {
                    Ok(Self { $($field: Lift::from_words(lifting, words)?),* })
                }

                fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
                    let mut places = FieldPlaces::from(at);
                    Ok(Self { $($field: <$of>::load(lifting, places.next::<$of>())?),* })
                }
            }

            impl Lower for $type {
                fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
                    let mut places = FieldPlaces::from(at);
                    $(self.$field.store(lowering, places.next::<$of>())?;)*
                    Ok(())
                }
            }
        };
    };
}

/// Lays out a variant, whose cases are given with their numbers and contents.
macro_rules! variant {
    ($type:ty { $($number:literal $case:ident $(($value:ident: $of:ty))?),* $(,)? }) => {
        const _: () = {
            use $crate::host::core_module::abi::{
                Abi, Lift, Lifting, Lower, Lowering, Shape, Words, low,
            };

            impl Abi for $type {
                const SHAPE: Shape = Shape::variant(&[$(
                    { let contents = Shape::EMPTY; $(let contents = contents.or_of::<$of>();)? contents }
                ),*]);
            }

            impl Lift for $type {
                fn from_words(
                    lifting: &mut Lifting<'_>,
                    words: &mut Words<'_>,
                ) -> wasmtime::Result<Self> {
                    let mut words = words.split(Self::SHAPE.flat.count);
                    let number = low(words.next());
                    $(if number == $number {
                        $(let $value = <$of>::from_words(lifting, &mut words)?;)?
                        return Ok(Self::$case $(($value))?);
                    })*
                    let _ = lifting;
                    wasmtime::bail!("unexpected discriminant: {number}")
                }

                fn load(lifting: &mut Lifting<'_>, at: usize) -> wasmtime::Result<Self> {
                    let ([number], contents) = (lifting.read(at)?, at + Self::SHAPE.contents_at());
                    $(if number == $number {
                        $(let $value = <$of>::load(lifting, contents)?;)?
                        return Ok(Self::$case $(($value))?);
                    })*
                    wasmtime::bail!("unexpected discriminant: {number} (contents at {contents})")
                }
            }

            impl Lower for $type {
                fn store(self, lowering: &mut Lowering<'_, '_>, at: usize) -> wasmtime::Result<()> {
                    let contents = at + Self::SHAPE.contents_at();
                    match self {
                        $(Self::$case $(($value))? => {
                            lowering.write(at, &[$number])?;
                            $($value.store(lowering, contents)?;)?
                        })*
                    }
                    let _ = contents;
                    Ok(())
                }
            }
        };
    };
}

pub(in super::super) use {record, variant};

/// The places of a record's fields, one after the other.
pub(in super::super) struct FieldPlaces(usize);

impl From<usize> for FieldPlaces {
    fn from(at: usize) -> Self {
        Self(at)
    }
}

impl FieldPlaces {
    pub(in super::super) fn next<T: Abi>(&mut self) -> usize {
        let at = self.0.next_multiple_of(T::SHAPE.align);
        self.0 = at + T::SHAPE.size;
        at
    }
}
