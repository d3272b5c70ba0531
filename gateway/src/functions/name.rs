//! The names of functions.

use std::{borrow::Borrow, fmt, sync::Arc};

use papaya::Equivalent;
use store::{FunctionRecord, Tenant};

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

/// Identifies a function: its owner, and its name among the functions of that owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QualifiedName {
    pub(crate) tenant: Tenant,
    pub(crate) name: FunctionName,
}

impl TryFrom<&FunctionRecord> for QualifiedName {
    type Error = InvalidFunctionName;

    fn try_from(function: &FunctionRecord) -> Result<Self, InvalidFunctionName> {
        let name = function.name.as_str().try_into()?;
        Ok(Self { tenant: function.tenant.clone(), name })
    }
}

/// A [`QualifiedName`] that borrows both parts, so that a look-up allocates nothing. Its hash is
/// that of the [`QualifiedName`].
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct BorrowedName<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) name: &'a str,
}

impl Equivalent<QualifiedName> for BorrowedName<'_> {
    fn equivalent(&self, key: &QualifiedName) -> bool {
        self.name == key.name.as_str() && *self.tenant == key.tenant
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

    #[test]
    fn a_borrowed_name_finds_what_an_owned_name_has_stored() {
        let tenant = |name| Tenant::try_from(name).unwrap();
        let key = |owner| QualifiedName {
            tenant: tenant(owner),
            name: FunctionName::try_from("hello").unwrap(),
        };
        let map = papaya::HashMap::new();
        map.pin().insert(key("one"), 1);
        map.pin().insert(key("two"), 2);
        let get =
            |owner, name| map.pin().get(&BorrowedName { tenant: &tenant(owner), name }).copied();
        assert_eq!((get("one", "hello"), get("two", "hello")), (Some(1), Some(2)));
        assert_eq!((get("three", "hello"), get("one", "other")), (None, None));
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
