//! Stores: what functions keep.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{StoreKindWord, whole};

/// Where the data of a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreBackend {
    /// In a file of the gateway. A write that was answered survives a power cut.
    #[default]
    Embedded,
    /// In the gateway's memory. After a restart the store is empty.
    Memory,
}

/// What a store is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSpec {
    /// Where its data is. It stays there.
    pub backend: StoreBackend,
    /// How much it may have.
    #[serde(deserialize_with = "crate::objects::one")]
    pub quota: StoreQuotaView,
}

/// How much a store may have. What is not said is as the operator has set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreQuotaView {
    /// Bytes of all keys, values and metadata.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole::optional")]
    #[schema(maximum = 17_592_186_044_416_i64, example = 1_048_576)]
    pub bytes: Option<u64>,
    /// Keys.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole::optional")]
    #[schema(maximum = 1_000_000_000_000_i64, example = 1_000)]
    pub keys: Option<u64>,
}

/// A store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// What it keeps.
    #[schema(value_type = StoreKindWord, example = "keyvalue")]
    pub kind: String,
    /// Unique within its tenant and kind.
    #[schema(example = "carts")]
    pub name: String,
    /// Where its data is.
    pub backend: StoreBackend,
    /// How much it may have.
    pub quota: StoreUsageView,
    /// What it has.
    pub usage: StoreUsageView,
    /// The functions that may open it, and their channels as `NAME@CHANNEL`.
    #[serde(default)]
    pub granted_to: Vec<String>,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When its quota was last set (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Bytes and keys of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreUsageView {
    /// Bytes of all keys, values and metadata.
    pub bytes: u64,
    /// Keys. Those that have expired count until they are removed, some seconds later.
    pub keys: u64,
}

/// A page of stores.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StoresView {
    /// Ordered by kind and name.
    pub stores: Vec<StoreView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A key of a store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EntryKeyView {
    /// The key.
    #[schema(example = "customer/17")]
    pub key: String,
    /// When the entry expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The text that was written with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// A page of the keys of a store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EntriesView {
    /// In the order of their bytes.
    pub entries: Vec<EntryKeyView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A line of an export, and of an import. It has exactly one of `value` and `value_base64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryLine {
    /// The key.
    pub key: String,
    /// The value, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in Base64, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// When the entry expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The text that was written with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// What an import has written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportedView {
    /// Entries that were written. Those that have expired before are left out.
    pub entries: u64,
}
