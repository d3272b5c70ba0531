//! What every call has in common, whether it comes over a socket or from another function.

pub(super) mod targets;
pub(crate) mod within;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header, response::Parts};
use http_body_util::BodyExt as _;
use runtime_pool::{CdnLoop, FunctionCall, RequestBody, ResponseBody};

use crate::{
    config::{FieldNames, MinRate, ServerSection, TrustedProxies},
    edge::{
        calls::targets::Targets,
        rejections::Rejections,
        server_timing::{self, SERVER_TIMING},
        shadow::Shadows,
    },
    functions::{
        catalog::{Catalog, CatalogEntry},
        channels::revision_urls::RevisionUrls,
    },
    invoker::{Invoker, channel::ChannelCall},
    problem::{OUTCOME, Problem, REQUEST_ID},
    request::{
        forwarded::{self, OWN_PREFIX},
        limited_body::{self, ArrivingBody, BodyFaults, LimitedBody},
    },
    telemetry::request_id::id_header,
};

/// Says that a response is the function's own, whatever its status.
const FUNCTION_OUTCOME: HeaderValue = HeaderValue::from_static("function");

/// Makes calls.
pub(crate) struct Calls {
    pub(super) targets: Targets,
    invoker: Invoker,
    shadows: Shadows,
    pub(super) rejections: Arc<Rejections>,
    pub(super) target_bytes: usize,
    hops: usize,
    pub(super) proxies: TrustedProxies,
    pub(super) unwanted: FieldNames,
}

/// A call that is about to be made.
pub(super) struct PreparedCall {
    pub(super) target: Arc<CatalogEntry>,
    /// The channel that it goes through.
    pub(super) channel: Option<ChannelCall>,
    pub(super) call: Box<FunctionCall>,
    /// Where faults of its body are noted, if it has one.
    pub(super) faults: Option<BodyFaults>,
    /// Whether the caller may see the timing.
    pub(super) timing: bool,
}

impl Calls {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        revisions: RevisionUrls,
        invoker: Invoker,
        rejections: Arc<Rejections>,
        config: &ServerSection,
    ) -> Self {
        Self {
            targets: Targets::new(catalog, revisions),
            shadows: Shadows::new(invoker.clone(), &config.edge.shadow),
            invoker,
            rejections,
            target_bytes: config.listener.http.uri_bytes,
            hops: config.edge.hops,
            proxies: config.proxies.trusted.clone(),
            unwanted: config.proxies.strip_headers.clone(),
        }
    }

    /// The gateways that a request has passed, if it may pass another one.
    pub(super) fn cdn_loop(&self, headers: &HeaderMap) -> Result<Option<CdnLoop>, Problem> {
        let cdn_loop = CdnLoop::of(headers);
        if cdn_loop.as_ref().is_some_and(|cdn_loop| cdn_loop.hops() >= self.hops) {
            return Err(Problem::loop_detected(self.hops));
        }
        Ok(cdn_loop)
    }

    /// Makes a call, and returns its response without what is only the gateway's to say.
    pub(super) async fn call(
        &self,
        prepared: PreparedCall,
    ) -> Result<(Parts, ResponseBody), Problem> {
        let PreparedCall { target, channel, mut call, faults, timing } = prepared;
        self.shadows.follow(channel.as_ref(), &mut call);
        let result = self.invoker.invoke(&target, call).await;
        if let Some(channel) = &channel {
            channel.record(self.invoker.channel_metrics(), &result);
        }
        // The client learns what is wrong with its body, not what the function makes of half of it.
        if let Some(fault) = faults.and_then(|faults| faults.first()) {
            return Err(fault.into());
        }
        let (response, start) = result?;
        let (mut parts, body) = response.into_parts();
        // Only the gateway may set its own header fields.
        forwarded::remove(&mut parts.headers, |name| name.as_str().starts_with(OWN_PREFIX));
        if timing {
            parts.headers.append(SERVER_TIMING, server_timing::value(&start));
        }
        if let Some(channel) = channel {
            channel.tell(&mut parts.headers);
        }
        Ok((parts, body))
    }
}

/// Says in a response that it is the function's, and to which request.
pub(super) fn sign(headers: &mut HeaderMap, invocation: u128) {
    headers.insert(OUTCOME, FUNCTION_OUTCOME);
    headers.insert(REQUEST_ID, id_header(invocation));
}

/// Gives the call its body as the guest will read it. Returns where its faults will be noted. A body
/// whose `content-length` exceeds the limit is rejected before the function is called.
pub(super) async fn begin_body<B: ArrivingBody>(
    body: B,
    call: &mut FunctionCall,
    target: &CatalogEntry,
    min_rate: MinRate,
) -> Result<BodyFaults, Problem> {
    begin_limited_body(body, call, target.request_bytes, min_rate).await
}

/// The same with another limit than the function's.
pub(super) async fn begin_limited_body<B: ArrivingBody>(
    body: B,
    call: &mut FunctionCall,
    max: u64,
    min_rate: MinRate,
) -> Result<BodyFaults, Problem> {
    let headers = &call.head.headers;
    if limited_body::declared_length(headers).is_some_and(|declared| declared > max) {
        return Err(limited_body::too_large(max));
    }
    let faults = BodyFaults::default();
    let mut body = LimitedBody::new(body, max, min_rate, faults.clone());
    // With an expectation, the client sends nothing before the guest reads.
    if !headers.contains_key(header::EXPECT) {
        body.begin().await;
    }
    if let Some(fault) = faults.first() {
        return Err(fault.into());
    }
    call.body = RequestBody::Stream(body.boxed_unsync());
    Ok(faults)
}
