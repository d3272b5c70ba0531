//! The size of a type, its alignment, and the words that it takes as an argument.

/// A type of the component model.
pub(in super::super) trait Abi: Sized {
    const SHAPE: Shape;
}

/// A type of core WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum CoreType {
    I32,
    I64,
}

/// The most words of an argument list. A longer one would be passed in memory, and none is.
const WORDS_MAX: usize = 16;

/// How a type lies in memory and in words.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Shape {
    pub(in super::super) size: usize,
    pub(in super::super) align: usize,
    /// Whether there are lists or texts in it, for which the guest has to give memory.
    pub(in super::super) has_lists: bool,
    pub(in super::super) flat: Flat,
}

/// The words of a type.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Flat {
    pub(in super::super) types: [CoreType; WORDS_MAX],
    pub(in super::super) count: usize,
}

impl Flat {
    pub(in super::super) const NONE: Self = Self { types: [CoreType::I32; WORDS_MAX], count: 0 };

    const fn of(core: CoreType) -> Self {
        Self::NONE.with(core)
    }

    /// The same and one word more.
    pub(in super::super) const fn with(mut self, core: CoreType) -> Self {
        assert!(self.count < WORDS_MAX, "too many words");
        self.types[self.count] = core;
        self.count += 1;
        self
    }

    /// The words of one after those of the other.
    pub(in super::super) const fn then(mut self, other: Self) -> Self {
        let mut index = 0;
        while index < other.count {
            self = self.with(other.types[index]);
            index += 1;
        }
        self
    }

    /// The words that hold either.
    const fn or(mut self, other: Self) -> Self {
        let mut index = 0;
        while index < other.count {
            if index >= self.count {
                self = self.with(other.types[index]);
            } else if matches!(other.types[index], CoreType::I64) {
                self.types[index] = CoreType::I64;
            }
            index += 1;
        }
        self
    }

    /// Whether both are the same words.
    pub(in super::super) const fn is(&self, other: &[CoreType]) -> bool {
        let mut index = 0;
        while index < self.count && index < other.len() {
            if matches!(self.types[index], CoreType::I32) != matches!(other[index], CoreType::I32) {
                return false;
            }
            index += 1;
        }
        self.count == other.len()
    }
}

impl Shape {
    /// A type without contents.
    pub(in super::super) const EMPTY: Self =
        Self { size: 0, align: 1, has_lists: false, flat: Flat::NONE };

    pub(in super::super) const fn scalar(size: usize, core: CoreType) -> Self {
        Self { size, align: size, has_lists: false, flat: Flat::of(core) }
    }

    /// An address and a number.
    pub(in super::super) const fn list() -> Self {
        let flat = Flat::of(CoreType::I32).with(CoreType::I32);
        Self { size: 8, align: 4, has_lists: true, flat }
    }

    /// The contents of a variant's case.
    pub(in super::super) const fn or_of<T: Abi>(self) -> Self {
        T::SHAPE
    }

    /// Fields one after the other.
    pub(in super::super) const fn record(fields: &[Self]) -> Self {
        let mut whole = Self::EMPTY;
        let mut index = 0;
        while index < fields.len() {
            let field = fields[index];
            whole.size = whole.size.next_multiple_of(field.align) + field.size;
            whole.align = max(whole.align, field.align);
            whole.has_lists |= field.has_lists;
            whole.flat = whole.flat.then(field.flat);
            index += 1;
        }
        whole.size = whole.size.next_multiple_of(whole.align);
        whole
    }

    /// A number of one byte, and the contents of the case that it names.
    pub(in super::super) const fn variant(contents: &[Self]) -> Self {
        let (mut size, mut align, mut has_lists, mut flat) = (0, 1, false, Flat::NONE);
        let mut index = 0;
        while index < contents.len() {
            let case = contents[index];
            size = max(size, case.size);
            align = max(align, case.align);
            has_lists |= case.has_lists;
            flat = flat.or(case.flat);
            index += 1;
        }
        let size = (contents_at(align) + size).next_multiple_of(align);
        Self { size, align, has_lists, flat: Flat::of(CoreType::I32).then(flat) }
    }

    /// Where the contents of a variant begin.
    pub(in super::super) const fn contents_at(&self) -> usize {
        contents_at(self.align)
    }
}

/// The number of the case is before the contents, which are aligned for the largest of them.
const fn contents_at(align: usize) -> usize {
    align
}

const fn max(left: usize, right: usize) -> usize {
    if left > right { left } else { right }
}
