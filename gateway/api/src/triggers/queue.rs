//! Named queues: messages that wait until a function has taken them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{InvocationWord, objects, whole};

/// Who gets the messages of a queue, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueSpec {
    /// The function that gets the messages; without one, they wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "orders")]
    pub function: Option<String>,
    /// The channel of the function; without it, the function itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The path of the request that the function gets, and its query if there is one.
    #[serde(default = "root")]
    #[schema(default = "/", max_length = 2_048)]
    pub path: String,
    /// The most messages of one request. With 1, the request has the message itself; with more, it has a
    /// JSON document of messages in the form of an SQS event.
    #[serde(default = "one", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    pub batch_size: u32,
    /// The most requests at once. The function's limit `queued_concurrency` holds besides.
    #[serde(default = "concurrency", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 256, default = 8)]
    pub concurrency: u32,
    /// How long the function has the messages of a request to itself, in milliseconds. A request that takes
    /// longer has failed, and its messages are delivered again.
    #[serde(default = "visibility_ms", deserialize_with = "whole::required")]
    #[schema(minimum = 100, maximum = 43_200_000, default = 30_000)]
    pub visibility_ms: u64,
    /// Attempts for each message, the first included. Then it is dead.
    #[serde(default = "attempts", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 1_000, default = 3)]
    pub attempts: u32,
    /// Seconds after which a message that was not delivered is dead.
    #[serde(default = "max_age_s", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 1_209_600, default = 345_600)]
    pub max_age_s: u32,
    /// The queue that gets dead messages; without one, they stay here until they are redriven or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_queue: Option<String>,
    /// Seconds for which a dead message is kept.
    #[serde(default = "dead_retention_s", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 31_536_000, default = 1_209_600)]
    pub dead_retention_s: u32,
    /// Whether nothing is delivered for now. Messages are still taken in, and grow old.
    #[serde(default)]
    pub paused: bool,
}

fn root() -> String {
    "/".to_owned()
}

fn one() -> u32 {
    1
}

fn concurrency() -> u32 {
    8
}

fn visibility_ms() -> u64 {
    30_000
}

fn attempts() -> u32 {
    3
}

fn max_age_s() -> u32 {
    345_600
}

fn dead_retention_s() -> u32 {
    1_209_600
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            function: None,
            channel: None,
            path: root(),
            batch_size: one(),
            concurrency: concurrency(),
            visibility_ms: visibility_ms(),
            attempts: attempts(),
            max_age_s: max_age_s(),
            dead_letter_queue: None,
            dead_retention_s: dead_retention_s(),
            paused: false,
        }
    }
}

/// A change of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeQueue {
    /// Whether nothing is delivered for now.
    pub paused: bool,
}

/// A queue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Unique within its tenant.
    #[schema(example = "orders")]
    pub name: String,
    /// What it is.
    pub queue: QueueSpec,
    /// What is in it.
    pub messages: DepthView,
    /// When it was first set (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last set, paused or resumed (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// How many messages a queue has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DepthView {
    /// Messages that wait, delayed ones and those that wait for another attempt included.
    pub waiting: u64,
    /// Messages that a function has just now.
    pub running: u64,
    /// Dead messages.
    pub dead: u64,
    /// Messages that were delivered, as far as that is still known.
    pub delivered: u64,
    /// The bytes of those that wait or run.
    pub bytes: u64,
    /// The age of the oldest message that waits, in seconds; null if none does.
    pub oldest_s: Option<f64>,
}

/// A page of queues.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct QueuesView {
    /// Ordered by name.
    pub queues: Vec<QueueView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// Messages to be published: all of them are, or none.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishMessages {
    /// The messages.
    #[serde(deserialize_with = "objects::list")]
    #[schema(min_items = 1, max_items = 100)]
    pub messages: Vec<PublishedBody>,
}

/// A message to be published. It has at most one of `body` and `body_base64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PublishedBody {
    /// The body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "{\"order\":17}")]
    pub body: Option<String>,
    /// The body in Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// What the body is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "application/json")]
    pub content_type: Option<String>,
    /// Texts by names of `a-z`, `0-9`, `-`, `_` and `.`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Seconds before which it is not delivered.
    #[serde(deserialize_with = "whole::required")]
    #[schema(maximum = 1_209_600)]
    pub delay_s: u32,
    /// A name for it: another message of the same name is not added, as long as this one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub idempotency_key: Option<String>,
}

/// Messages that were published: they are on the disk.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PublishedView {
    /// In the order in which they were sent.
    pub messages: Vec<PublishedMessage>,
}

/// A message that was published.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PublishedMessage {
    /// Its id. The function sees it as `idempotency-key`.
    pub id: String,
    /// Whether an earlier message of this `idempotency_key` is there, whose id this is.
    pub repeated: bool,
}

/// A message of a queue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageView {
    /// Its id.
    pub id: String,
    /// How far it is: `due`, `running`, `succeeded`, `dead` or `cancelled`.
    #[schema(value_type = InvocationWord, example = "due")]
    pub state: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// When it was published (RFC 3339), moved here, or last redriven.
    pub published_at: String,
    /// When it may be delivered.
    pub due_at: String,
    /// When it is given up.
    pub expires_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Why the last attempt has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The queue in which it died, if it was moved here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_of: Option<String>,
    /// What its body is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its attributes. Their values, and the body, only for tokens that may deploy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// The bytes of its body. One that was delivered keeps none.
    pub body_bytes: u64,
    /// The beginning of its body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The same in Base64, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Whether the body is longer.
    pub truncated: bool,
}

/// A page of messages, the oldest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MessagesView {
    /// The messages.
    pub messages: Vec<MessageView>,
    /// The cursor of the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
