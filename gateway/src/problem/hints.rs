//! Hints about settings.

use gateway_api::FunctionLimit;

/// A hint to raise a limit of a function. The key is that of the table of limits.
pub(crate) fn function_setting(limit: FunctionLimit) -> String {
    format!("Raise the function's setting `{}`.", limit.key())
}

/// A hint to raise the limit `key` of the gateway.
pub(crate) fn operator_setting(key: &str) -> String {
    format!("The operator can raise the setting `{key}`.")
}
