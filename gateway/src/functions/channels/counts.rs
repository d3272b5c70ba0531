//! How many calls of a channel went how.

use std::sync::Arc;

use prometheus::{IntCounterVec, Opts, Registry};

use crate::functions::channels::ok_counter::OkCounter;

/// The labels of a channel in metrics.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChannelLabel {
    pub(crate) function: Arc<str>,
    pub(crate) channel: Arc<str>,
}

/// Why a call went to its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is the channel's own.
    Own,
    /// It has a share of the requests.
    Weight,
    /// A tester has named it.
    Tester,
    /// It got a copy.
    Shadow,
}

impl Role {
    const ALL: [Self; 4] = [Self::Own, Self::Weight, Self::Tester, Self::Shadow];

    fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Weight => "weight",
            Self::Tester => "tester",
            Self::Shadow => "shadow",
        }
    }
}

/// How a call ended, as far as the head of its answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// The function answered with a status below 500.
    Ok,
    /// The function answered with another status.
    Error,
    /// The function failed, or exceeded a limit.
    Failed,
    /// The caller or the platform was at fault.
    Refused,
    /// A copy was not sent, because the node had no time for it.
    DroppedBusy,
    /// A copy was not sent, because its body was too large.
    DroppedLarge,
    /// A copy was not sent, because the real call did not read its body to the end.
    DroppedUnread,
}

impl CallEnd {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Error,
        Self::Failed,
        Self::Refused,
        Self::DroppedBusy,
        Self::DroppedLarge,
        Self::DroppedUnread,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::DroppedBusy => "dropped-busy",
            Self::DroppedLarge => "dropped-large",
            Self::DroppedUnread => "dropped-unread",
        }
    }
}

/// The metric of calls through channels.
#[derive(Clone, Debug)]
pub(crate) struct ChannelMetrics(IntCounterVec);

impl ChannelMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "mayfly_channel_requests_total",
                "Requests through channels that were set, by why they went to their revision and \
                 how they ended",
            ),
            &["function", "channel", "role", "outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self(requests))
    }

    /// Removes the series of a channel that no call uses any more.
    pub(crate) fn forget(&self, label: &ChannelLabel) {
        for (role, ended) in pairs() {
            // An error says that there is no such series.
            let _ = self.0.remove_label_values(&values(label, role, ended));
        }
    }
}

fn pairs() -> impl Iterator<Item = (Role, CallEnd)> {
    Role::ALL.into_iter().flat_map(|role| CallEnd::ALL.map(|ended| (role, ended)))
}

fn values(label: &ChannelLabel, role: Role, ended: CallEnd) -> [&str; 4] {
    [&label.function, &label.channel, role.as_str(), ended.as_str()]
}

/// The counters of one channel. The first call of each kind looks its counter up.
#[derive(Debug)]
pub(crate) struct ChannelCounts {
    label: Arc<ChannelLabel>,
    counters: [[OkCounter; CallEnd::ALL.len()]; Role::ALL.len()],
}

impl ChannelCounts {
    pub(crate) fn new(label: Arc<ChannelLabel>) -> Self {
        Self { label, counters: Default::default() }
    }

    /// Counts a call.
    pub(crate) fn count(&self, metrics: &ChannelMetrics, role: Role, ended: CallEnd) {
        let find = || metrics.0.with_label_values(&values(&self.label, role, ended));
        self.counters[role as usize][ended as usize].inc(find);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_channel_role_and_outcome_until_the_channel_is_forgotten() {
        let registry = Registry::new();
        let metrics = ChannelMetrics::register(&registry).unwrap();
        let label = ChannelLabel { function: "f".into(), channel: "prod".into() };
        let counts = ChannelCounts::new(Arc::new(label));
        for (role, ended) in pairs() {
            counts.count(&metrics, role, ended);
        }
        counts.count(&metrics, Role::Own, CallEnd::Ok);
        let series = || registry.gather().first().map_or(0, |family| family.get_metric().len());
        assert_eq!(series(), Role::ALL.len() * CallEnd::ALL.len());
        assert_eq!(metrics.0.with_label_values(&["f", "prod", "own", "ok"]).get(), 2);
        metrics.forget(&counts.label);
        assert_eq!(series(), 0);
    }
}
