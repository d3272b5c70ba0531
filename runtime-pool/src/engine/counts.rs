//! What one artifact may hold. Checked in the compile worker, and held by the engines.

/// Core instances that one component may hold: Python components hold several dozen.
pub(crate) const CORE_INSTANCES: u32 = 64;
/// Linear memories that one component may hold.
pub(crate) const MEMORIES: u32 = 4;
/// Tables that one component may hold.
pub(crate) const TABLES: u32 = 16;
