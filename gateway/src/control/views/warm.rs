//! Waiting instances and isolation as the API shows them.

use serde::{Deserialize, Serialize};
use store::{DayOfWeek, IsolationMode, IsolationSetting, WarmWindow};
use utoipa::ToSchema;

/// A time of the week, in UTC, when more instances wait. One that ends before it begins ends on
/// the day after.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowView {
    /// The days on which it begins. None stand for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["mon", "tue"]))]
    days: Vec<DayOfWeek>,
    /// When it begins.
    #[schema(example = "08:30")]
    from: String,
    /// When it ends.
    #[schema(example = "18:00")]
    to: String,
    /// Instances that wait for calls meanwhile.
    min_warm: u64,
}

/// What a function's invocations share.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IsolationView {
    /// `request`: each invocation has a fresh instance. `reuse`: an instance serves one after the
    /// other, and what it keeps in memory stays.
    #[schema(value_type = String, example = "reuse")]
    mode: IsolationMode,
    /// Calls after which an instance is dropped: 1,000 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_uses: Option<u64>,
    /// Calls that an instance may serve at once: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_concurrent: Option<u64>,
    /// Time without a call after which it is dropped, in milliseconds: 60,000 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
}

/// A function's instances.
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct InstancesView {
    /// Those that serve an invocation now.
    running: u64,
    /// Those that wait for a call.
    waiting: u64,
}

impl From<&runtime_pool::Function> for InstancesView {
    fn from(function: &runtime_pool::Function) -> Self {
        Self {
            running: function.running_invocations() as u64,
            waiting: function.warm_instances() as u64,
        }
    }
}

impl InstancesView {
    /// Whether any waits.
    pub(crate) fn any_waits(&self) -> bool {
        self.waiting > 0
    }
}

impl From<WarmWindow> for WindowView {
    fn from(window: WarmWindow) -> Self {
        let WarmWindow { days, from, to, min_warm } = window;
        Self { days, from, to, min_warm }
    }
}

impl From<IsolationSetting> for IsolationView {
    fn from(isolation: IsolationSetting) -> Self {
        let IsolationSetting { mode, max_uses, max_concurrent, idle_ms } = isolation;
        Self { mode, max_uses, max_concurrent, idle_ms }
    }
}
