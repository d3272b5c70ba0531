//! Why a snapshot was not taken.

/// Why there is no snapshot. The texts complete sentences about the guest.
#[derive(Debug)]
pub(crate) enum SnapshotFailure {
    /// This guest cannot have a snapshot. It runs without one.
    Unfit(String),
    /// The start-up function failed, as it would at every start.
    Failed(String),
}

impl From<wasmtime::Error> for SnapshotFailure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Unfit(format!("{error:#}"))
    }
}
