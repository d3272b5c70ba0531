//! Lists of the control plane, a page at a time.

use serde::Deserialize;
use utoipa::IntoParams;

/// Entries on a page by default, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Entries on the page. The default is 100; more than 1,000 count as 1,000.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

/// Which page of a function's revisions, or of its history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NumbersPage {
    /// Entries on the page. The default is 100; more than 1,000 count as 1,000.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(format = Int64, maximum = 4_294_967_295_i64)]
    pub(crate) cursor: Option<u32>,
}

impl Page {
    pub(crate) fn limit(&self) -> u32 {
        entries(self.limit)
    }
}

impl NumbersPage {
    pub(crate) fn limit(&self) -> u32 {
        entries(self.limit)
    }
}

/// Entries on a page of so many that a client wants.
pub(crate) fn entries(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

/// The cursor of the next page, made of the last entry of this one. `None` if this page is not
/// full.
pub(crate) fn next_cursor<T>(
    entries: &[T],
    limit: u32,
    cursor: impl Fn(&T) -> String,
) -> Option<String> {
    (entries.len() >= limit as usize).then(|| entries.last().map(cursor)).flatten()
}
