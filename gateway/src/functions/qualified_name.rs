//! Names of functions with their tenant.
//!
//! They have a file of their own because the fuzzer compiles `name.rs` without the store.

use papaya::Equivalent;
use store::{FunctionRecord, Tenant};

use crate::functions::name::{FunctionName, InvalidFunctionName};

/// Identifies a function: its owner, and its name among the functions of that owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QualifiedName {
    pub(crate) tenant: Tenant,
    pub(crate) name: FunctionName,
}

impl QualifiedName {
    pub(crate) fn borrowed(&self) -> BorrowedName<'_> {
        BorrowedName { tenant: &self.tenant, name: self.name.as_str() }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
