//! Tokens for the control plane.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token to create.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A description by which people tell tokens apart.
    #[schema(example = "ci")]
    pub name: String,
    /// `read`, `deploy` or `admin`. The default is `deploy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["deploy"]))]
    pub scopes: Option<Vec<String>>,
    /// Seconds until it expires. By default it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u32>,
}

/// A new token. No later answer contains its text, so it has no `Debug`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct FreshTokenView {
    /// The text to send.
    #[schema(example = "mfy_0123456789abcdef_…")]
    pub token: String,
    /// The token without its text.
    #[serde(flatten)]
    pub row: TokenView,
}

/// A token without its text.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Identifies it. The id alone permits nothing.
    pub id: String,
    /// The description by which people tell tokens apart.
    pub name: String,
    /// Its permissions.
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it expires (RFC 3339); null if it does not expire.
    pub expires_at: Option<String>,
    /// When it was revoked (RFC 3339); null if it was not.
    pub revoked_at: Option<String>,
}

/// All tokens, those that were revoked or have expired included.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokensView {
    /// In the order in which they were made.
    pub tokens: Vec<TokenView>,
}
