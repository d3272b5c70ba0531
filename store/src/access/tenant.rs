//! Tenants: the owners whose functions, secrets, tokens and idempotency keys are kept apart.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{Error, Result};

/// The longest name, as for a DNS label.
const MAX_BYTES: usize = 63;

/// Shared, so that the default tenant needs no allocation.
static DEFAULT: LazyLock<Tenant> = LazyLock::new(|| Tenant("default".into()));

/// The name of an owner. It is part of the key of everything that the owner names: two tenants may
/// use the same names and do not see each other's.
///
/// A name is a DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or a digit at both ends.
/// It therefore fits into a host name, and a separator such as `/` or a zero byte is never part of
/// it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the column `tenant`.
pub(crate) fn read_tenant(row: &SqliteRow) -> Result<Tenant> {
    let name: &str = row.try_get("tenant")?;
    name.try_into()
        .map_err(|error| Error::Inconsistent { reason: format!("tenant {name:?}: {error}") })
}

/// The tenant `default`.
impl Default for Tenant {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

/// A text that is not the name of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a tenant has 1 to 63 characters of a-z, 0-9 and -, and does not begin or end \
     with a hyphen"
)]
pub struct InvalidTenant;

impl TryFrom<&str> for Tenant {
    type Error = InvalidTenant;

    fn try_from(name: &str) -> Result<Self, InvalidTenant> {
        if name == DEFAULT.as_str() {
            return Ok(DEFAULT.clone());
        }
        let bytes = name.as_bytes();
        let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let valid = (1..=MAX_BYTES).contains(&bytes.len())
            && bytes.iter().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if valid { Ok(Self(name.into())) } else { Err(InvalidTenant) }
    }
}

impl From<Tenant> for Arc<str> {
    fn from(tenant: Tenant) -> Self {
        tenant.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// As a string.
impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_dns_label() {
        let longest = "a".repeat(63);
        for name in ["a", "0", "acme", "a-b", "1st", "default", &longest] {
            let tenant = Tenant::try_from(name).unwrap();
            assert_eq!((tenant.as_str(), tenant.to_string().as_str()), (name, name));
        }
        let too_long = "a".repeat(64);
        for name in ["", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "a\0b", "../a", "ä", &too_long]
        {
            assert_eq!(Tenant::try_from(name), Err(InvalidTenant), "{name:?}");
        }
    }

    #[test]
    fn the_default_is_the_tenant_of_that_name_and_is_not_allocated_again() {
        let (default, named) = (Tenant::default(), Tenant::try_from("default").unwrap());

        assert_eq!(default, named);
        assert!(Arc::ptr_eq(&default.0, &named.0));
        assert_ne!(default, Tenant::try_from("other").unwrap());
    }
}
