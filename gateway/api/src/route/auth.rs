//! How callers of a route say who they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::whole;

/// Keys of callers. A key should be long and random: `openssl rand -hex 32`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeysView {
    /// The SHA-256 of each key in hexadecimal digits, by a name for it, which the function sees.
    pub sha256: BTreeMap<String, String>,
    /// The header field that it comes in, with or without `Bearer ` before it; `x-api-key` if it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "x-api-key")]
    pub header: Option<String>,
}

/// Tokens of an issuer: JSON Web Tokens (RFC 7519) in `authorization: Bearer …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtView {
    /// The claim `iss` of its tokens, to the letter.
    #[schema(max_length = 1_024, example = "https://login.example.com/")]
    pub issuer: String,
    /// A token must be for one of these: the claim `aud`.
    #[schema(min_items = 1, max_items = 16, example = json!(["https://api.example.com"]))]
    pub audiences: Vec<String>,
    /// Where its keys are: an `https` address of a JSON Web Key Set (RFC 7517). Without it, the one that
    /// `{issuer}/.well-known/openid-configuration` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, example = "https://login.example.com/jwks.json")]
    pub jwks_url: Option<String>,
    /// The algorithms that are taken: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.
    /// Without any: RS256, ES256 and EdDSA.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub algorithms: Vec<String>,
    /// What the function sees of a token: `{"email": "email"}` is the claim `email` in the header field
    /// `mayfly-auth-email`. Without any, the claim `sub` in `mayfly-auth-sub`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// The scopes that a token must have, all of them: the claim `scope` or `scp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub scopes: Vec<String>,
    /// Claims that a token must have, with their values. A list must contain the value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub require: BTreeMap<String, String>,
}

/// Requests that are signed with a secret (HMAC-SHA256).
///
/// What is signed are four lines, with a line feed between two: the time, the method, the path with its
/// query, and the SHA-256 of the body in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacView {
    /// The secret of each key, by the name of the key. Two while a secret is being replaced.
    pub keys: BTreeMap<String, String>,
    /// How far the time of a request may be from the gateway's, in seconds.
    #[serde(default = "five_minutes", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 3_600, default = 300)]
    pub window_s: u32,
    /// The field with the name of the key; `x-key-id` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_header: Option<String>,
    /// The field with the time, in Unix seconds; `x-timestamp` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_header: Option<String>,
    /// The field with the signature, in hexadecimal digits; `x-signature` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_header: Option<String>,
    /// The field with the SHA-256 of the body, in hexadecimal digits; `x-content-sha256` if it is left
    /// out. A request without a body need not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_header: Option<String>,
}

/// The window of signed requests that do not name one.
fn five_minutes() -> u32 {
    300
}

/// Users with passwords (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicView {
    /// The hash of each user's password, as `mayfly route password` prints it, by the name of the user.
    pub users: BTreeMap<String, String>,
    /// What browsers show when they ask for a password; the name of the route if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub realm: Option<String>,
}
