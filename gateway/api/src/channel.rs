//! Channels of functions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

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
    /// Settings that it has instead of those of its revisions: limits, `environment` and
    /// `credentials`, as a JSON merge patch (RFC 7396) on those of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SettingsPatch>)]
    pub settings: Option<Value>,
    /// A header field by which a tester names one of the channel's revisions. Functions do not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[xX]-.+$", max_length = 64, example = "x-revision")]
    pub tester_header: Option<String>,
}

/// The channels of a function.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelsView {
    /// Ordered by name, `default` first.
    pub channels: Vec<ChannelView>,
}
