//! Schedules: calls of functions at times of the calendar.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{RunOutcomeWord, whole};

/// When a function is called, and with which request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// The function that is called.
    #[schema(example = "report")]
    pub function: String,
    /// The channel of the function; without it, the function itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// When: minute, hour, day of the month, month and day of the week; with six fields, seconds come
    /// first, with seven, the year comes last. Or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schema(max_length = 256, example = "30 2 * * MON-FRI")]
    pub cron: String,
    /// The time zone in which that is read, by its name in the IANA database.
    #[serde(default = "utc")]
    #[schema(default = "UTC", max_length = 64, example = "Europe/Berlin")]
    pub time_zone: String,
    /// The request that the function gets.
    #[serde(default, skip_serializing_if = "ScheduledRequest::is_default")]
    pub request: ScheduledRequest,
    /// What happens when a run is due and the one before it has not ended.
    #[serde(default)]
    pub overlap: OverlapPolicy,
    /// Which due times run later that nothing could run on time: the gateway was stopped, or its clock
    /// was set forward.
    #[serde(default)]
    pub catch_up: CatchUpPolicy,
    /// With `catch_up` `all`: the most runs that are caught up with, the newest of them.
    #[serde(default = "catch_up_runs", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 1_000, default = 100)]
    pub catch_up_runs: u32,
    /// A due time that is longer ago than this, in seconds, is not caught up with.
    #[serde(default = "catch_up_age_s", deserialize_with = "whole::required")]
    #[schema(minimum = 1, maximum = 2_592_000, default = 86_400)]
    pub catch_up_age_s: u32,
    /// Whether nothing is due for now. Due times that pass meanwhile are not caught up with.
    #[serde(default)]
    pub paused: bool,
}

/// The zone of a schedule that does not name one.
fn utc() -> String {
    "UTC".to_owned()
}

fn catch_up_runs() -> u32 {
    100
}

fn catch_up_age_s() -> u32 {
    86_400
}

/// What happens when a run is due and the one before it is still queued or running: `skip`: it does not
/// run; `allow`: it runs all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverlapPolicy {
    /// It does not run.
    #[default]
    Skip,
    /// It runs all the same.
    Allow,
}

/// Which due times run later that nothing could run on time: `none`, the `last` of them, or `all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatchUpPolicy {
    /// None of them.
    None,
    /// The last of them.
    #[default]
    Last,
    /// All of them, within bounds.
    All,
}

/// The request that a function gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduledRequest {
    /// The method.
    #[schema(default = "POST", example = "POST")]
    pub method: String,
    /// The path, and the query if there is one, as the function sees them.
    #[schema(default = "/", max_length = 2_048, example = "/reports?of=yesterday")]
    pub path: String,
    /// Its header fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 65_536)]
    pub body: String,
}

impl Default for ScheduledRequest {
    fn default() -> Self {
        Self {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            body: String::new(),
        }
    }
}

impl ScheduledRequest {
    /// Whether it is the request of a schedule that names none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A change of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSchedule {
    /// Whether nothing is due for now.
    pub paused: bool,
}

/// A schedule.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// Unique within its tenant.
    #[schema(example = "nightly")]
    pub name: String,
    /// What it is.
    pub schedule: ScheduleSpec,
    /// The next due times (RFC 3339, in UTC); empty while it is paused, and when there are no more.
    pub next: Vec<String>,
    /// The last runs, the newest first; empty in a list of schedules.
    pub runs: Vec<RunView>,
    /// When it was first set (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last set, paused or resumed (RFC 3339).
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A run of a schedule, or a due time at which there was none.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// When it was due (RFC 3339).
    #[schema(format = DateTime)]
    pub due_at: String,
    /// What became of it: `queued`, `running`, `succeeded`, `failed` or `cancelled`; `skipped` if the
    /// run before it had not ended, `missed` if nothing could run it on time, `refused` if the queue did
    /// not take it or there was no such function; `forgotten` if the queue keeps it no longer.
    #[schema(value_type = RunOutcomeWord, example = "succeeded")]
    pub outcome: String,
    /// Whether it was asked for, and not due by the calendar.
    pub manual: bool,
    /// The id of the invocation; null if there was none.
    pub invocation: Option<String>,
    /// How many other due times before it had the same outcome for the same reason.
    #[serde(default)]
    pub others: u64,
}

/// A page of schedules.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SchedulesView {
    /// Ordered by name.
    pub schedules: Vec<ScheduleView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A run that was asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StartedRun {
    /// The id of the invocation.
    pub invocation: String,
    /// When it was asked for (RFC 3339).
    #[schema(format = DateTime)]
    pub due_at: String,
}
