//! Calls from one function to another, which no socket carries.
//!
//! They pass what a request from outside passes: the checks of its head, its depth, the limits of the
//! function that is called. The permits of the data plane are held by the request that caused them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Response, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use prometheus::{IntCounterVec, Opts, Registry};
use runtime_pool::{
    FunctionAnswer, FunctionBody, FunctionCall, FunctionCalls, FunctionRequest, InvocationContext,
    RequestBody,
};
use store::Tenant;
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    config::MinRate,
    edge::{
        calls::{self, Calls, PreparedCall, targets::Way},
        panics,
        response_body::EdgeBody,
        routes::{At, Route},
    },
    functions::name::is_name,
    invoker::channel,
    problem::Problem,
    request::{cookies, forwarded::ConnectionOrigin, validate},
    server::Peer,
    telemetry::request_id::{RequestIds, id_header},
};

/// Names the function that calls. Only the gateway can set it.
const CALLER: HeaderName = HeaderName::from_static("mayfly-caller");
/// The request that the calling function serves.
const CALLER_REQUEST: HeaderName = HeaderName::from_static("mayfly-caller-request");

/// A guest may take its time: how long is the business of its own limits.
const ANY_RATE: MinRate = MinRate { bytes_per_s: 0, grace: std::time::Duration::ZERO };

/// Makes the calls of functions to others.
pub(crate) struct CallsWithin {
    calls: Arc<Calls>,
    request_ids: RequestIds,
    /// Where functions run. Guests call from other threads, too.
    runtime: Handle,
    /// Each of them comes from this machine.
    origin: ConnectionOrigin,
    no_mount: Arc<str>,
    count: IntCounterVec,
}

impl CallsWithin {
    pub(crate) fn new(
        calls: Arc<Calls>,
        request_ids: RequestIds,
        runtime: &Handle,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let count = IntCounterVec::new(
            Opts::new(
                "mayfly_internal_calls_total",
                "Calls from one function to another, by who has answered",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(count.clone()))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peer = Peer { addr, trusted: false, tls: false, certificate: None, local_user: None };
        Ok(Self {
            calls,
            request_ids,
            runtime: runtime.clone(),
            origin: ConnectionOrigin::new(peer),
            no_mount: "".into(),
            count,
        })
    }

    async fn answer(&self, request: FunctionRequest) -> Response<FunctionBody> {
        let invocation = self.request_ids.next();
        tracing::debug!(
            request = %format_args!("{invocation:032x}"),
            caller = &*request.caller,
            caller_request = %format_args!("{:032x}", request.invocation),
            function = &*request.function,
            "a function calls another",
        );
        let rejections = &self.calls.rejections;
        let call = pin!(async {
            let served = self.serve(request, invocation).await;
            let outcome = if served.is_ok() { "function" } else { "platform" };
            self.count.with_label_values(&[outcome]).inc();
            served.unwrap_or_else(|problem| rejections.answer(problem, invocation))
        });
        let response = panics::answer(call, rejections, invocation).await;
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    async fn serve(
        &self,
        request: FunctionRequest,
        invocation: u128,
    ) -> Result<Response<EdgeBody>, Problem> {
        let FunctionRequest {
            tenant,
            caller,
            invocation: caller_request,
            others,
            function,
            request,
        } = request;
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_11;
        let calls = &*self.calls;
        validate::check(&mut head, calls.target_bytes)?;
        let cdn_loop = calls.cdn_loop(&head.headers)?;
        let headers = &mut head.headers;
        let client = self.origin.rewrite(headers, &calls.proxies, &calls.unwanted);
        // There is no connection on which the guest would have to wait.
        headers.remove(header::EXPECT);
        if let Ok(caller) = HeaderValue::from_str(&caller) {
            headers.insert(CALLER, caller);
        }
        headers.insert(CALLER_REQUEST, id_header(caller_request));
        cookies::join(headers);
        let tenant = Tenant::try_from(&*tenant).ok().filter(|_| is_name(&function));
        let tenant = tenant.ok_or_else(|| Problem::function_not_found(&function))?;
        let route = Route { function: &function, at: At::Default, mount: 0 };
        let target = calls.targets.find(&tenant, &route, Way::Within).await?;
        let (target, channel) = channel::enter(target, headers, client.addr.ip(), invocation)?;
        let context = InvocationContext {
            invocation,
            peer: client.addr,
            https: client.https,
            mount: Arc::clone(&self.no_mount),
            cdn_loop,
            others,
            timeout: None,
        };
        let mut call = Box::new(FunctionCall { head, body: RequestBody::Empty, context });
        let faults = match body.is_end_stream() {
            true => None,
            false => Some(calls::begin_body(body, &mut call, &target, ANY_RATE).await?),
        };
        let timing = target.timing;
        let prepared = PreparedCall { target, channel, call, faults, timing };
        let (mut parts, body) = calls.call(prepared).await?;
        calls::sign(&mut parts.headers, invocation);
        Ok(Response::from_parts(parts, body.into()))
    }
}

impl FunctionCalls for CallsWithin {
    fn call(self: Arc<Self>, request: FunctionRequest) -> FunctionAnswer {
        let runtime = self.runtime.clone();
        // A task of its own: a guest cannot be polled within the poll of another. It ends when the
        // answer is not waited for any more.
        let mut task = JoinSet::new();
        task.spawn_on(async move { self.answer(request).await }, &runtime);
        Box::pin(async move {
            match task.join_next().await {
                Some(Ok(response)) => response,
                // Only the end of the runtime ends it early.
                Some(Err(_)) | None => std::future::pending().await,
            }
        })
    }
}
