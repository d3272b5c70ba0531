//! Routes: which requests go to which function.

mod auth;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::whole;

pub use self::auth::{ApiKeysView, BasicView, HmacView, JwtView};

/// Requests, and what happens to them. Exactly one of `function`, `flow`, `redirect` and `answer` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// The host: a name, or `*.` and a name for every host below it. Without it, any host; the
    /// addresses of functions then win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "api.example.com")]
    pub host: Option<String>,
    /// The path. A segment `:id` stands for any one segment, `*rest` at the end for any number of
    /// them. Of several paths that match, the one with the longest fixed beginning wins.
    #[serde(default)]
    #[schema(required = true, example = "/users/:id")]
    pub path: String,
    /// The methods; without any, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16, example = json!(["GET", "POST"]))]
    pub methods: Vec<String>,
    /// Header fields that a request must have, with their values; `*` stands for any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Of several routes with the same host and path, the highest comes first, and then the one with
    /// most conditions.
    #[serde(default, deserialize_with = "whole::required")]
    #[schema(minimum = -1_000, maximum = 1_000)]
    pub priority: i32,
    /// The function that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The channel of the function; without it, the function itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The flow that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Whether the function, or the first step of the flow, sees the path below the fixed beginning of `path`, and not all of it.
    #[serde(default)]
    pub strip: bool,
    /// Sends the client to another address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectView>,
    /// Answers with what is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<StaticAnswer>,
    /// Changes of the request's header fields.
    #[serde(default, skip_serializing_if = "HeaderRules::is_empty")]
    pub request_headers: HeaderRules,
    /// Changes of the response's header fields.
    #[serde(default, skip_serializing_if = "HeaderRules::is_empty")]
    pub response_headers: HeaderRules,
    /// Lets pages of other origins read the responses. The gateway then answers preflight requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsView>,
    /// The keys with one of which a caller must come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeysView>,
    /// The users with one of whose passwords a caller must come. Of several ways to say who one is, any
    /// suffices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicView>,
    /// The issuer with one of whose tokens a caller must come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtView>,
    /// The keys with one of which a caller must sign its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<HmacView>,
    /// Whether responses are compressed, or the codings in the order in which they are chosen: `br`,
    /// `zstd`, `gzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionView>,
    /// The time for a call, in milliseconds, if it is less than the function's.
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 1, maximum = 3_600_000, example = 2_000)]
    pub timeout_ms: Option<u64>,
    /// The bytes of a request's body, if they are less than the function's.
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(maximum = 1_099_511_627_776_i64, example = 65_536)]
    pub request_bytes: Option<u64>,
    /// How many requests a caller may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateView>,
}

/// Whether responses are compressed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CompressionView {
    /// Not at all, or with each of `br`, `zstd` and `gzip`.
    All(bool),
    /// With these codings.
    Codings(Vec<String>),
}

/// How many requests a caller may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateView {
    /// The requests in each window, at an even pace.
    #[serde(deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub requests: u32,
    /// The window, in seconds.
    #[serde(default = "one", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 3_600, default = 1)]
    pub window_s: u32,
    /// The requests that may come at once; as many as in a window if it is left out.
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub burst: Option<u32>,
    /// Who has a limit of its own: `client` (an address), `key` (the API key, the key of a signature,
    /// the user or the subject of a token), `header:NAME` (its value) or `route` (all share one);
    /// `client` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(client|key|route|header:.+)$", example = "client")]
    pub by: Option<String>,
}

/// The window of a rate that does not name one.
fn one() -> u32 {
    1
}

/// Another address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectView {
    /// An absolute path, or an address with a scheme. `{id}` is replaced by the segment `:id` of the
    /// path, `{rest}` by what `*rest` stands for. The query is kept.
    #[schema(example = "https://new.example.com/users/{id}")]
    pub location: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent", deserialize_with = "whole::required")]
    #[schema(minimum = 301, maximum = 308, default = 308)]
    pub status: u16,
}

/// The status of a redirect that does not name one.
fn permanent() -> u16 {
    308
}

/// A response that is always the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticAnswer {
    /// From 200 to 599.
    #[serde(deserialize_with = "whole::required")]
    #[schema(minimum = 200, maximum = 599)]
    pub status: u16,
    /// Its header fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    #[schema(max_length = 16_384)]
    pub body: String,
}

/// Changes of header fields: first those in `remove` are removed, then those in `set` are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderRules {
    /// Names of fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub remove: Vec<String>,
    /// Fields with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
}

impl HeaderRules {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}

/// What pages of other origins may do (the Fetch standard, section 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsView {
    /// Origins such as `https://app.example.com`, or `*`.
    #[schema(min_items = 1, max_items = 64)]
    pub origins: Vec<String>,
    /// Methods that they may use; without any, those of the route, or GET, HEAD and POST.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub methods: Vec<String>,
    /// Request header fields that they may send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub headers: Vec<String>,
    /// Response header fields that they may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub expose: Vec<String>,
    /// Whether they may send cookies and credentials. Not with the origin `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may remember the answer to a preflight request, in seconds.
    #[serde(default, deserialize_with = "whole::required")]
    #[schema(maximum = 86_400)]
    pub max_age_s: u32,
}

/// A route.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Unique within its tenant.
    #[schema(example = "users")]
    pub name: String,
    /// What it is.
    pub route: RouteSpec,
    /// When it was first set (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last set (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A page of routes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RoutesView {
    /// Ordered by name.
    pub routes: Vec<RouteView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}
