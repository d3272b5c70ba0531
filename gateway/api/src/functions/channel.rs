//! Channels of functions.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, Schema, schema::Type},
};

use crate::{FollowWord, SettingsPatch, whole};

/// A named pointer to revisions of a function.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Unique within its function. `default` is what calls of the function itself reach.
    #[schema(pattern = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", example = "prod")]
    pub name: String,
    /// What moves it: `revision` (only its owner does), `range` (each publish of a newer version in
    /// the range does) or `newest` (each publish does, which only `default` can).
    #[schema(value_type = FollowWord, example = "range")]
    pub follows: String,
    /// The range of versions; null if it follows none.
    #[schema(example = "~1.2")]
    pub range: Option<String>,
    /// The revision that gets the requests that the weights leave over.
    pub revision: u32,
    /// The shares of other revisions.
    pub weights: Vec<WeightView>,
    /// By what a caller stays with a revision: `none`, `client` (its address), `header:NAME` or
    /// `cookie:NAME`.
    #[schema(pattern = "^(none|client|header:.+|cookie:.+)$", example = "cookie:session")]
    pub sticky: String,
    /// The settings that it has instead of those of its revisions: a JSON merge patch (RFC 7396) on
    /// them. Null: that of the revision is taken away.
    #[serde(default)]
    #[schema(value_type = SettingsPatch)]
    pub settings: Value,
    /// The header field by which a tester names one of its revisions; null if there is none.
    #[serde(default)]
    #[schema(example = "x-revision")]
    pub tester_header: Option<String>,
    /// The revision that gets copies of some requests; null if there is none.
    #[serde(default)]
    pub shadow: Option<ShadowView>,
    /// The automatic canary that runs in it; null if none does.
    #[serde(default)]
    pub canary: Option<CanaryView>,
    /// The address at which it answers.
    #[schema(format = "uri", example = "http://127.0.0.1:8080/f/hello@prod/")]
    pub url: String,
    /// When it was last changed (RFC 3339); null if it was never set.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// The share of a revision in the requests of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightView {
    /// Its number.
    #[serde(deserialize_with = "whole::required")]
    #[schema(format = Int64, maximum = 4_294_967_295_i64)]
    pub revision: u32,
    /// From 1 to 100.
    #[serde(deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 100)]
    pub percent: u8,
}

/// What a channel is to be. Exactly one of `revision` and `range` is given.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutChannel {
    /// It points to this revision until its owner moves it.
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(format = Int64, maximum = 4_294_967_295_i64)]
    pub revision: Option<u32>,
    /// It points to the revision with the newest version in this range, such as `~1.2` or
    /// `>=1.3.0-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "~1.2")]
    pub range: Option<String>,
    /// The shares of other revisions. Together at most 100 percent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 8)]
    pub weights: Vec<WeightView>,
    /// By what a caller stays with a revision: `none`, `client`, `header:NAME` or `cookie:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(none|client|header:.+|cookie:.+)$", example = "client")]
    pub sticky: Option<String>,
    /// Settings that it has instead of those of its revisions: limits, `environment`,
    /// `credentials`, `grants` and `config`, as a JSON merge patch (RFC 7396) on those of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SettingsPatch>)]
    pub settings: Option<Value>,
    /// A header field by which a tester names one of the channel's revisions. Functions do not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[xX]-.+$", max_length = 64, example = "x-revision")]
    pub tester_header: Option<String>,
    /// Another revision gets copies of some requests. Its answers are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowView>,
    /// An automatic canary: another revision gets a growing share of the requests, and replaces the
    /// channel's own unless it is worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<PutCanary>,
}

/// The requests of a channel that are copied to another revision.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowView {
    /// Its number.
    #[serde(deserialize_with = "whole::required")]
    #[schema(format = Int64, maximum = 4_294_967_295_i64)]
    pub revision: u32,
    /// The share of the requests, from 1 to 100.
    #[serde(deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 100)]
    pub percent: u8,
    /// `safe`: requests with GET, HEAD or OPTIONS. `all`: also those that may change something, which
    /// the shadow then changes again.
    #[serde(default = "safe")]
    #[schema(pattern = "^(safe|all)$", example = "safe")]
    pub methods: String,
}

fn safe() -> String {
    "safe".to_owned()
}

/// An automatic canary.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCanary {
    /// The candidate.
    #[serde(deserialize_with = "whole::required")]
    #[schema(format = Int64, maximum = 4_294_967_295_i64)]
    pub revision: u32,
    /// Its shares in percent, one after the other. They grow and end with 100. By default 5, 25, 100.
    #[serde(default, deserialize_with = "whole::list", skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = shares)]
    pub steps: Vec<u8>,
    /// The requests that both revisions must have had before a step is judged. By default 200.
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(minimum = 20, maximum = 1_000_000)]
    pub requests: Option<u64>,
}

/// The description of a canary's shares, with the bounds of each.
fn shares() -> Schema {
    let share = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(100));
    ArrayBuilder::new()
        .items(share)
        .min_items(Some(2))
        .max_items(Some(8))
        .description(Some(
            "Its shares in percent, one after the other. They grow and end with 100.",
        ))
        .examples([json!([5, 25, 100])])
        .into()
}

/// An automatic canary that runs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CanaryView {
    /// The candidate.
    pub revision: u32,
    /// Its shares in percent, one after the other.
    pub steps: Vec<u8>,
    /// The step that it is in; 1 is the first.
    pub step: u64,
    /// The requests that both revisions must have had before the step is judged.
    pub requests: u64,
    /// Those of the channel's own revision since the step began, or since the gateway started. In a
    /// step of 100 percent, those of the step before.
    pub old_requests: u64,
    /// Those of the candidate.
    pub new_requests: u64,
    /// When the step began (RFC 3339).
    #[schema(format = DateTime)]
    pub since: String,
}

/// The channels of a function.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelsView {
    /// Ordered by name, `default` first.
    pub channels: Vec<ChannelView>,
}
