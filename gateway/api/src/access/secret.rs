//! Secrets that the gateway adds to requests of functions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A secret to store. It holds the value, so it has no `Debug`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// Any value that a header field can have, up to 4 KiB. No answer contains it.
    #[schema(
        value_type = String,
        format = Password,
        min_length = 1,
        max_length = 4_096,
        pattern = r"^[^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?$"
    )]
    pub value: String,
    /// The hosts that it may be sent to, like entries of a function's `outbound`; over plain http
    /// only to those that are written with `http://`. `*` stands for every host that a function's
    /// settings name, over TLS.
    #[serde(default)]
    #[schema(required = true, min_items = 1, max_items = 64, example = json!(["https://api.example.com"]))]
    pub hosts: Vec<String>,
    /// Names of the functions that may use it. Without this field, or with `*`, all functions of
    /// its tenant may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 64, example = json!(["fetch"]))]
    pub functions: Option<Vec<String>>,
}

/// A secret without its value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// The name by which functions' settings refer to it.
    #[schema(example = "example-token")]
    pub name: String,
    /// The hosts that it may be sent to; `*` stands for every host, over TLS.
    pub hosts: Vec<String>,
    /// Names of the functions that may use it; `*` stands for every function.
    pub functions: Vec<String>,
    /// When it was first stored (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last replaced (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// All secrets.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretsView {
    /// Ordered by name.
    pub secrets: Vec<SecretView>,
}
