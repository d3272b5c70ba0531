//! The settings of a function.

/// What a function's settings hold besides the limits in [`LIMITS`](crate::LIMITS).
pub const OTHER_SETTINGS: &[&str] = &[
    "schedule",
    "isolation",
    "server_timing",
    "environment",
    "snapshot",
    "outbound",
    "credentials",
];
