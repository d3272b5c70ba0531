//! A call through a channel: which revision it goes to, and how it went.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use runtime_pool::{Response, Start, Tier};

use crate::{
    functions::{
        catalog::CatalogEntry,
        channels::{
            counts::{ChannelMetrics, Role},
            plan::{ChannelPlan, NotInChannel},
        },
    },
    invoker,
};

/// Says which revision has answered, where the channel has several.
const REVISION: HeaderName = HeaderName::from_static("mayfly-revision");

/// What a call through a channel is to remember until it has its answer.
pub(crate) struct ChannelCall {
    /// The channel, under its own revision.
    channel: Arc<CatalogEntry>,
    role: Role,
    revision: u32,
    /// When it began, if it counts for a canary.
    since: Option<Instant>,
}

/// The revision that a request goes to, and the channel that sends it there. A request that reaches no
/// channel costs one test.
pub(crate) fn enter(
    target: Arc<CatalogEntry>,
    headers: &mut HeaderMap,
    client: IpAddr,
    request: u128,
) -> Result<(Arc<CatalogEntry>, Option<ChannelCall>), NotInChannel> {
    let Some(plan) = &target.channel else { return Ok((target, None)) };
    let since = plan.meter.as_ref().map(|_| Instant::now());
    let choice = plan.choose(headers, client, request)?;
    let entry = choice.entry.unwrap_or_else(|| Arc::clone(&target));
    let revision = entry.key.revision;
    Ok((entry, Some(ChannelCall { channel: target, role: choice.role, revision, since })))
}

impl ChannelCall {
    fn plan(&self) -> Option<&ChannelPlan<CatalogEntry>> {
        self.channel.channel.as_deref()
    }

    /// The channel, under its own revision.
    pub(crate) fn entry(&self) -> &Arc<CatalogEntry> {
        &self.channel
    }

    /// The revision that gets a copy of this request, if one does.
    pub(crate) fn shadow(&self, method: &Method, request: u128) -> Option<&Arc<CatalogEntry>> {
        self.plan()?.shadow(method, request)
    }

    /// Counts how the call went.
    pub(crate) fn record(
        &self,
        metrics: &ChannelMetrics,
        result: &Result<(Response, Start), invoker::Error>,
    ) {
        let Some(plan) = self.plan() else { return };
        let ended = invoker::ended(result);
        plan.counts.count(metrics, self.role, ended);
        if let (Some(meter), Some(since)) = (&plan.meter, self.since) {
            let cold = result
                .as_ref()
                .is_ok_and(|(_, start)| matches!(start.tier, Tier::Cold | Tier::Frozen));
            meter.count(self.role, ended, cold, since.elapsed());
        }
    }

    /// Says in an answer which revision gave it, and by which header field a caller can get another.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Some(plan) = self.plan().filter(|plan| plan.names_revision()) else { return };
        headers.insert(REVISION, HeaderValue::from(self.revision));
        if let Some(header) = plan.tester_header() {
            headers.append(header::VARY, HeaderValue::from(header.clone()));
        }
    }
}
