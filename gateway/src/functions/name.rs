//! The names of functions.

use std::{borrow::Borrow, fmt, sync::Arc};

/// A function's name: 1 to 63 of `a-z`, `0-9` and `-`, beginning with a letter and not ending
/// with a hyphen. It needs no escaping as a DNS label, a path segment or a label of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FunctionName(Arc<str>);

/// A text that is not a [`FunctionName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a function's name has 1 to 63 of a-z, 0-9 and -, begins with a letter and does not end with -"
)]
pub(crate) struct InvalidFunctionName;

impl FunctionName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is the name of a function. Allocates nothing.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl TryFrom<&str> for FunctionName {
    type Error = InvalidFunctionName;

    fn try_from(text: &str) -> Result<Self, InvalidFunctionName> {
        if is_name(text) { Ok(Self(text.into())) } else { Err(InvalidFunctionName) }
    }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dns_labels_that_begin_with_a_letter_are_names() {
        for name in ["a", "hello", "a-1", "x".repeat(63).as_str()] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn what_could_mean_something_else_anywhere_is_no_name() {
        for name in [
            "",
            "-a",
            "a-",
            "1a",
            "A",
            "a_b",
            "a.b",
            "../x",
            "%2e%2e",
            "a b",
            "a\0",
            "é",
            "-rf",
            "x".repeat(64).as_str(),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_never_leads_out_of_its_place(text in "\\PC{0,70}") {
            if is_name(&text) {
                prop_assert!(!text.contains(['/', '.', '%', ':', '\\', '\0']));
            }
        }
    }
}
