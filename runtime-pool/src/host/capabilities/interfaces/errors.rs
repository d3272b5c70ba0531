//! The errors of the interfaces. A guest's own words for why an operation was refused.

use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use crate::host::capabilities::{bucket::Cas, refused::Refused};

/// `wasi:keyvalue`, in both drafts.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum WasiError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<Refused> for WasiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoStore => Self::NoSuchStore,
            Refused::Denied => Self::AccessDenied,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Spin's key-value interfaces.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum SpinError {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<Refused> for SpinError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Handles { .. } => Self::StoreTableFull,
            Refused::NoStore => Self::NoSuchStore,
            Refused::Denied => Self::AccessDenied,
            other => Self::Other(other.to_string()),
        }
    }
}

/// `mayfly:keyvalue`.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum MayflyError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
    #[component(name = "too-large")]
    TooLarge(String),
    #[component(name = "quota")]
    Quota(String),
    #[component(name = "busy")]
    Busy,
}

impl From<Refused> for MayflyError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoStore => Self::NoSuchStore,
            Refused::Denied => Self::AccessDenied,
            Refused::TooLarge { .. } => Self::TooLarge(refused.to_string()),
            Refused::Quota { .. } => Self::Quota(refused.to_string()),
            Refused::Busy => Self::Busy,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Why a value was not replaced, in the second draft of `wasi:keyvalue`.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
pub(super) enum CasError {
    #[component(name = "store-error")]
    Store(WasiError),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}
