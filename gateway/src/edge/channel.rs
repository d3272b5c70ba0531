//! A call through a channel: which revision it goes to, and how it went.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use runtime_pool::{Response, Start};

use crate::{
    functions::{
        catalog::CatalogEntry,
        channels::{
            counts::{ChannelMetrics, Ended, Role},
            plan::{ChannelPlan, NotInChannel},
        },
    },
    invoker,
    problem::Problem,
    request::forwarded::RequestClient,
};

/// Says which revision has answered, where the channel has several.
const REVISION: HeaderName = HeaderName::from_static("mayfly-revision");

/// What a call through a channel is to remember until it has its answer.
pub(crate) struct ChannelCall {
    /// The channel, under its own revision.
    channel: Arc<CatalogEntry>,
    role: Role,
    revision: u32,
}

/// The revision that a request goes to, and the channel that sends it there. A request that reaches no
/// channel costs one test.
pub(crate) fn enter(
    target: Arc<CatalogEntry>,
    headers: &mut HeaderMap,
    client: &RequestClient,
    request: u128,
) -> Result<(Arc<CatalogEntry>, Option<ChannelCall>), Problem> {
    let Some(plan) = &target.channel else { return Ok((target, None)) };
    let choice = plan.choose(headers, client.addr.ip(), request);
    let choice = choice.map_err(|NotInChannel { header, revisions }| {
        Problem::revision_not_in_channel(header.as_str(), &revisions)
    })?;
    let entry = choice.entry.unwrap_or_else(|| Arc::clone(&target));
    let revision = entry.key.revision;
    Ok((entry, Some(ChannelCall { channel: target, role: choice.role, revision })))
}

impl ChannelCall {
    fn plan(&self) -> Option<&ChannelPlan<CatalogEntry>> {
        self.channel.channel.as_deref()
    }

    /// Counts how the call went.
    pub(crate) fn record(
        &self,
        metrics: &ChannelMetrics,
        result: &Result<(Response, Start), invoker::Error>,
    ) {
        if let Some(plan) = self.plan() {
            plan.counts.count(metrics, self.role, ended(result));
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

/// How a call ended, as far as the head of its answer tells.
fn ended(result: &Result<(Response, Start), invoker::Error>) -> Ended {
    match result {
        Ok((response, _)) if response.status() < StatusCode::INTERNAL_SERVER_ERROR => Ended::Ok,
        Ok(_) => Ended::Error,
        Err(error) => error.ended(),
    }
}
