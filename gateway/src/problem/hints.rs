//! What hints say about settings.

/// How to raise the limit `key` of a function.
pub(crate) fn function_setting(key: &str) -> String {
    format!("Raise the function's setting `{key}`.")
}

/// How to raise the limit `key` of the gateway.
pub(crate) fn operator_setting(key: &str) -> String {
    format!("The operator can raise the setting `{key}`.")
}
