//! Tokens for the control plane.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ScopeWord, whole};

/// A token to create.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A description by which people tell tokens apart.
    #[schema(example = "ci")]
    pub name: String,
    /// `read`, `deploy` or `admin`. The default is `deploy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ScopeWord>>, example = json!(["deploy"]))]
    pub scopes: Option<Vec<String>>,
    /// Seconds until it expires. By default it does not expire.
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(format = Int64, maximum = 4_294_967_295_i64)]
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
    #[schema(pattern = "^[0-9a-f]{16}$")]
    pub id: String,
    /// The description by which people tell tokens apart.
    pub name: String,
    /// Its permissions.
    #[schema(value_type = Vec<ScopeWord>)]
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it expires (RFC 3339); null if it does not expire.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// When it was revoked (RFC 3339); null if it was not.
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
}

/// All tokens, those that were revoked or have expired included.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokensView {
    /// In the order in which they were made.
    pub tokens: Vec<TokenView>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_time_is_a_whole_number_in_any_form() {
        let read = |seconds: Value| {
            let token = json!({"name": "t", "expires_in_s": seconds});
            from_value::<CreateToken>(token).map(|token| token.expires_in_s)
        };
        assert_eq!(read(json!(60)).unwrap(), Some(60));
        assert_eq!(read(json!(60.0)).unwrap(), Some(60));
        assert_eq!(read(json!(4_294_967_295.0)).unwrap(), Some(u32::MAX));
        assert_eq!(read(Value::Null).unwrap(), None);
        assert_eq!(from_value::<CreateToken>(json!({"name": "t"})).unwrap().expires_in_s, None);
        for wrong in [json!(0.5), json!(-1), json!(-1.0), json!(4_294_967_296.0), json!("60")] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
