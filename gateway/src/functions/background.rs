//! How the calls of a function are enqueued, as its settings and limits say.

use gateway_api::{FunctionLimit, LimitValues};
use store::Settings;

/// How the calls of a function are enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackgroundSettings {
    /// Calls that may wait or run.
    pub(crate) calls: u64,
    /// How many run at once.
    pub(crate) concurrency: u32,
    /// Attempts of each.
    pub(crate) attempts: u32,
    /// When one that has not succeeded is given up.
    pub(crate) age_ms: i64,
    /// Whom to tell of their ends. Most functions tell no other.
    pub(crate) told: Option<Box<ToldFunctions>>,
}

/// Functions and addresses that are told of the ends of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToldFunctions {
    pub(crate) on_success: Option<String>,
    pub(crate) on_failure: Option<String>,
    /// The secret that signs what an address is told.
    pub(crate) secret: Option<String>,
}

/// Whether a callback goes to an address, not to a function.
pub(crate) fn is_address(told: &str) -> bool {
    told.starts_with("https://") || told.starts_with("http://")
}

impl BackgroundSettings {
    pub(crate) fn new(settings: &Settings, limits: &LimitValues) -> Self {
        let number = |limit| u32::try_from(limits[limit]).unwrap_or(u32::MAX);
        let Settings { on_success, on_failure, callback_secret, .. } = settings;
        let told = (on_success.is_some() || on_failure.is_some()).then(|| {
            let (on_success, on_failure) = (on_success.clone(), on_failure.clone());
            let secret = callback_secret.clone();
            Box::new(ToldFunctions { on_success, on_failure, secret })
        });
        Self {
            calls: limits[FunctionLimit::Queued],
            concurrency: number(FunctionLimit::QueuedConcurrency),
            attempts: number(FunctionLimit::QueuedAttempts),
            age_ms: i64::try_from(limits[FunctionLimit::QueuedAgeMs]).unwrap_or(i64::MAX),
            told,
        }
    }
}
