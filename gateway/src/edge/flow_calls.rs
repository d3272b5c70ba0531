//! Requests to flows, which routes lead to: a client waits for the answer, or asks for it later.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use runtime_pool::FunctionCall;
use store::Tenant;

use crate::{
    edge::{
        asynchronous::{self, AcceptedCall},
        owned_routes::RouteCaller,
        response_body::EdgeBody,
    },
    functions::routes::route::Route,
    problem::{FLOW_STEP, OUTCOME, Problem, REQUEST_ID, table},
    request::limited_body::{BodyFault, BodyFaults},
    telemetry::request_id::id_header,
    triggers::{
        flows::{FlowAnswer, FlowError, FlowRequest, Flows},
        queued_call::{CallOrigin, stored},
    },
};

/// Says that a response is that of the functions of a flow.
const FUNCTION_OUTCOME: HeaderValue = HeaderValue::from_static("function");

/// A request to a flow, as its first step will see it.
pub(super) struct FlowCall<'a> {
    pub(super) flow: &'a str,
    pub(super) call: Box<FunctionCall>,
    /// Where faults of its body are noted, if it has one.
    pub(super) faults: Option<BodyFaults>,
    /// The route that has led to it.
    pub(super) route: &'a Route,
}

/// Runs flows.
pub(super) struct FlowCalls {
    flows: Flows,
    /// The tenant whose flows run here.
    tenant: Tenant,
}

impl FlowCalls {
    pub(super) fn new(flows: Flows, tenant: Tenant) -> Self {
        Self { flows, tenant }
    }

    /// The most bytes of a request.
    pub(super) fn request_bytes(&self) -> u64 {
        self.flows.request_bytes()
    }

    /// Runs a flow, or starts it if the client does not want to wait.
    pub(super) async fn answer(&self, asked: FlowCall<'_>) -> Result<Response<EdgeBody>, Problem> {
        let FlowCall { flow, mut call, faults, route } = asked;
        let invocation = call.context.invocation;
        let head_only = call.head.method == Method::HEAD;
        let waits = !asynchronous::prefers(&call.head.headers);
        let key = asynchronous::client_key(&mut call.head.headers)?;
        let origin = CallOrigin {
            peer: Some(call.context.peer),
            https: call.context.https,
            mount: call.context.mount.to_string(),
            route: Some(route.name.to_str().unwrap_or_default().to_owned()),
            key: route.auth.as_ref().and_then(|auth| auth.mark(&call.head.headers)),
            timeout_ms: CallOrigin::in_ms(call.context.timeout),
        };
        let body = read(&mut call, faults).await?;
        for name in [asynchronous::PREFER, header::EXPECT, header::CONTENT_LENGTH] {
            call.head.headers.remove(name);
        }
        let request = stored(&call.head, body);
        if waits {
            let (others, timeout) = (call.context.others, call.context.timeout);
            let asked = FlowRequest { request, origin, others, timeout };
            let answer = self.flows.run(&self.tenant, flow, asked).await?;
            return Ok(response(answer, head_only, invocation));
        }
        let caller = call.head.extensions.get::<RouteCaller>();
        let dedup = key.map(|key| asynchronous::dedup(&key, &request, &origin, caller));
        let started = self.flows.start(&self.tenant, flow, (request, origin), dedup).await;
        let started = started.map_err(|error| problem(error, flow))?;
        let accepted = AcceptedCall { id: &started.id, preferred: true, head_only, invocation };
        Ok(asynchronous::accepted(accepted))
    }
}

/// The problem of a run that was not started.
fn problem(error: FlowError, flow: &str) -> Problem {
    match error {
        FlowError::NotFound => Problem::flow_not_found(flow),
        FlowError::TooLarge { max } => Problem::queued_body_too_large(max),
        FlowError::OtherRun => asynchronous::key_reused(),
        // A flow within it is gone.
        FlowError::Refused(why) | FlowError::InUse(why) => {
            Problem::new(&table::FLOW_NOT_FOUND).detail(format!("the flow {flow:?}: {why}"))
        }
        FlowError::Random(error) => Problem::internal(&error),
        FlowError::Store(error) => Problem::of_store(&error),
    }
}

/// Reads all of a body. Its length is limited already.
async fn read(call: &mut FunctionCall, faults: Option<BodyFaults>) -> Result<Vec<u8>, Problem> {
    let (mut body, mut bytes) = (std::mem::take(&mut call.body), Vec::new());
    while let Some(frame) = body.frame().await {
        let fault = || faults.as_ref().and_then(BodyFaults::first);
        let frame = frame.map_err(|_| fault().unwrap_or(BodyFault::Broken))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    match faults.and_then(|faults| faults.first()) {
        Some(fault) => Err(fault.into()),
        None => Ok(bytes),
    }
}

fn response(answer: FlowAnswer, head_only: bool, invocation: u128) -> Response<EdgeBody> {
    let FlowAnswer { status, content_type, body, failed_step } = answer;
    let length = body.len();
    let mut response = Response::new(EdgeBody::from(if head_only { Bytes::new() } else { body }));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    if let Some(Ok(content_type)) = content_type.map(HeaderValue::try_from) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(Ok(step)) = failed_step.map(HeaderValue::try_from) {
        headers.insert(FLOW_STEP, step);
    }
    if head_only {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(OUTCOME, FUNCTION_OUTCOME);
    headers.insert(REQUEST_ID, id_header(invocation));
    response
}
