//! How a function of the host becomes an import of a core module.
//!
//! The types of a function say what is lifted, what is lowered and which words that takes. That these
//! words are those of the import is checked when this is compiled.

use wasmtime::{Caller, Linker, Trap, WasmRet, WasmTy, WasmTyList};

use super::{
    abi::{Abi, CoreType, Flat, Lift, Lifting, Lower, Lowering, Words, low},
    guest::CoreHost,
};
use crate::host::Host;

/// A word of core WebAssembly.
pub(super) trait Word: WasmTy + 'static {
    const TYPE: CoreType;

    fn into_u64(self) -> u64;
    fn from_u64(word: u64) -> Self;
}

impl Word for u32 {
    const TYPE: CoreType = CoreType::I32;

    fn into_u64(self) -> u64 {
        self.into()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the upper half is empty")]
    fn from_u64(word: u64) -> Self {
        word as Self
    }
}

impl Word for u64 {
    const TYPE: CoreType = CoreType::I64;

    fn into_u64(self) -> u64 {
        self
    }

    fn from_u64(word: u64) -> Self {
        word
    }
}

/// The result of an import: nothing, or a word.
pub(super) trait ReturnedWord: Send + 'static {
    const TYPE: Option<CoreType>;

    fn from_u64(word: u64) -> Self;
}

impl ReturnedWord for () {
    const TYPE: Option<CoreType> = None;

    fn from_u64(_: u64) -> Self {}
}

macro_rules! returned {
    ($($word:ty)*) => { $(
        impl ReturnedWord for $word {
            const TYPE: Option<CoreType> = Some(<$word as Word>::TYPE);

            fn from_u64(word: u64) -> Self {
                Word::from_u64(word)
            }
        }
    )* };
}
returned!(u32 u64);

/// The type of an import, written as `fn(u32, u64) -> u32`.
pub(super) trait Import: 'static {
    const WORDS: &'static [CoreType];

    type Arguments: WasmTyList + Send + 'static;
    type Words: AsRef<[u64]> + Send;
    type Returned: ReturnedWord;

    fn words(arguments: Self::Arguments) -> Self::Words;

    /// Defines a function that does not wait.
    fn define(
        linker: &mut Linker<CoreHost>,
        module: &str,
        name: &str,
        function: impl Fn(&mut Caller<'_, CoreHost>, &[u64]) -> wasmtime::Result<u64>
        + Send
        + Sync
        + 'static,
    ) -> wasmtime::Result<()>;
}

macro_rules! imports {
    ($($count:literal ($($word:ident)*))*) => { $(
        #[expect(clippy::allow_attributes, reason = "for the one without arguments")]
        #[allow(non_snake_case, reason = "each argument has the name of its type")]
        impl<Returned: ReturnedWord, $($word: Word + Send + Sync),*> Import
            for fn($($word),*) -> Returned
        where
            wasmtime::Result<Returned>: WasmRet,
        {
            const WORDS: &'static [CoreType] = &[$($word::TYPE),*];

            type Arguments = ($($word,)*);
            type Words = [u64; $count];
            type Returned = Returned;

            fn words(($($word,)*): Self::Arguments) -> Self::Words {
                [$($word.into_u64()),*]
            }

            fn define(
                linker: &mut Linker<CoreHost>,
                module: &str,
                name: &str,
                function: impl Fn(&mut Caller<'_, CoreHost>, &[u64]) -> wasmtime::Result<u64>
                + Send
                + Sync
                + 'static,
            ) -> wasmtime::Result<()> {
                let function = move |mut caller: Caller<'_, CoreHost>, $($word: $word),*| {
                    function(&mut caller, &[$($word.into_u64()),*]).map(Returned::from_u64)
                };
                linker.func_wrap(module, name, function)?;
                Ok(())
            }
        }
    )* };
}
imports!(0 () 1 (A) 2 (A B) 3 (A B C) 4 (A B C D) 5 (A B C D E) 6 (A B C D E F)
    9 (A B C D E F G H I));

/// The parameters of a function.
pub(super) trait Parameters: Sized {
    const FLAT: Flat;

    fn lift(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self>;
}

macro_rules! parameters {
    ($(($($part:ident)*))*) => { $(
        impl<$($part: Lift),*> Parameters for ($($part,)*) {
            const FLAT: Flat = Flat::NONE$(.then($part::SHAPE.flat))*;

            #[expect(clippy::allow_attributes, reason = "for the one without parts")]
            #[allow(unused_variables, reason = "for the one without parts")]
            fn lift(lifting: &mut Lifting<'_>, words: &mut Words<'_>) -> wasmtime::Result<Self> {
                Ok(($($part::from_words(lifting, words)?,)*))
            }
        }
    )* };
}
parameters!(() (A) (A B) (A B C));

/// Whether an import has exactly the words of these parameters and this result. A result of more than
/// one word goes into memory, at an address that the guest passes last.
const fn fits<I: Import, P: Parameters, R: Abi>() -> bool {
    let result = R::SHAPE.flat;
    let (words, returned) = match result.count {
        0 => (P::FLAT, I::Returned::TYPE.is_none()),
        1 => (
            P::FLAT,
            match I::Returned::TYPE {
                Some(word) => result.is(&[word]),
                None => false,
            },
        ),
        _ => (P::FLAT.with(CoreType::I32), I::Returned::TYPE.is_none()),
    };
    words.is(I::WORDS) && returned
}

/// Reads the arguments of a call, unless the guest may not make it.
pub(super) fn lift<P: Parameters>(
    caller: &mut Caller<'_, CoreHost>,
    words: &[u64],
) -> wasmtime::Result<P> {
    let guest = &caller.data().guest;
    if guest.is_allocating {
        return Err(Trap::CannotLeaveComponent.into());
    }
    let memory = guest.memory;
    let (memory, data) = match memory {
        Some(memory) => memory.data_and_store_mut(&mut *caller),
        // The module's own start function runs: it has handed no memory to the host yet.
        None => (&mut [][..], caller.data_mut()),
    };
    let bytes = data.host.limits.guest.hostcall_bytes;
    let mut lifting = Lifting::new(memory, &mut data.guest.handles, bytes);
    P::lift(&mut lifting, &mut Words(words))
}

/// Hands a result to the guest. Returns the word that the import returns, if it does.
pub(super) fn lower<R: Lower>(
    caller: &mut Caller<'_, CoreHost>,
    words: &[u64],
    result: R,
) -> wasmtime::Result<u64> {
    let lowering = &mut Lowering { caller };
    if R::SHAPE.flat.count <= 1 {
        return result.into_word(lowering);
    }
    let address = words.last().copied().unwrap_or_default();
    let at = lowering.check_place(&R::SHAPE, low(address))?;
    result.store(lowering, at).map(|()| 0)
}

/// Where functions are defined: in a linker, or only by their names.
pub(super) enum Functions<'a> {
    Linker(&'a mut Linker<CoreHost>),
    Names(Vec<(&'static str, &'static str)>),
}

/// An interface whose functions are being defined.
pub(super) struct Interface<'a, 'b> {
    pub(super) name: &'static str,
    pub(super) functions: &'a mut Functions<'b>,
}

impl Interface<'_, '_> {
    /// Defines a function that does not wait.
    pub(super) fn call<I: Import, P: Parameters + Send, R: Lower + Send>(
        &mut self,
        name: &'static str,
        function: impl Fn(&mut Host, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<&mut Self> {
        const { assert!(fits::<I, P, R>(), "these are not the words of the import") };
        match self.functions {
            Functions::Names(names) => names.push((self.name, name)),
            Functions::Linker(linker) => {
                I::define(linker, self.name, name, move |caller, words| {
                    let parameters = lift::<P>(caller, words)?;
                    let result = function(&mut caller.data_mut().host, parameters)?;
                    lower(caller, words, result)
                })?;
            }
        }
        Ok(self)
    }

    /// Defines a function that may wait; [`waiting`] writes it down.
    pub(super) fn call_waiting<I: Import, P: Parameters, R: Lower>(
        &mut self,
        name: &'static str,
        function: impl for<'a> Fn(Caller<'a, CoreHost>, I::Arguments) -> Waiting<'a, I::Returned>
        + Send
        + Sync
        + 'static,
    ) -> wasmtime::Result<&mut Self>
    where
        wasmtime::Result<I::Returned>: WasmRet,
    {
        const {
            assert!(fits::<I, P, R>(), "these are not the words of the import");
            assert!(!R::SHAPE.has_lists, "place lists first");
        }
        match self.functions {
            Functions::Names(names) => names.push((self.name, name)),
            Functions::Linker(linker) => {
                linker.func_wrap_async(self.name, name, function)?;
            }
        }
        Ok(self)
    }
}

/// What an import that waits returns.
pub(super) type Waiting<'a, R> = Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>;

/// Defines a function that may wait: in one box, as `define` has no name for its future.
macro_rules! waiting {
    ($interface:expr, $name:literal, $import:ty,
     |$caller:ident, ($($parameters:tt)*): $of:ty| -> $result:ty $body:block) => {
        $interface.call_waiting::<$import, $of, $result>($name, |mut $caller, arguments| {
            Box::new(async move {
                let words = <$import as Import>::words(arguments);
                let ($($parameters)*): $of = lift(&mut $caller, words.as_ref())?;
                let $caller = &mut $caller;
                let result: wasmtime::Result<$result> = async { $body }.await;
                lower($caller, words.as_ref(), result?).map(ReturnedWord::from_u64)
            })
        })
    };
}

pub(super) use waiting;
