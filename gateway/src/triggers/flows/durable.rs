//! Asynchronous runs: what is stored of them, and one attempt.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use store::{
    Cause, Dedup, EnqueueOutcome, Enqueued, Finished, Invocation, Lane, NewInvocation,
    StoredAnswer, StoredFields, StoredRequest, Tenant,
};
use tokio::time::Instant;

use crate::{
    telemetry::clock::now_ms,
    triggers::{
        backoff::{AttemptEnd, Retries},
        call_queue::{random_id, random_number},
        calling::{ANSWER_BYTES, Attempt},
        flows::{
            FlowError, Flows, outcome,
            plan::FlowPlan,
            progress::RunProgress,
            run::{FailedStep, FailedWhy, FlowFailure, FlowRun},
            state::StateValue,
            table::NamedFlow,
        },
        queued_call::CallOrigin,
    },
};

/// What is stored of a run besides its request: where it came from, and what it does.
#[derive(Serialize, Deserialize)]
struct RunContext {
    #[serde(flatten)]
    origin: CallOrigin,
    plan: FlowPlan,
}

impl Flows {
    /// Starts an asynchronous run. When this returns, it survives a power cut.
    pub(crate) async fn start(
        &self,
        tenant: &Tenant,
        name: &str,
        (request, origin): (StoredRequest, CallOrigin),
        dedup: Option<Dedup>,
    ) -> Result<Enqueued, FlowError> {
        let flow = self.by_name(tenant, name)?;
        let max = self.state.calls.settings().body_bytes.min(self.request_bytes());
        if request.body.len() as u64 > max {
            return Err(FlowError::TooLarge { max });
        }
        let plan = self.plan(&flow).map_err(FlowError::Refused)?;
        let source = flow.name.clone();
        let context = serde_json::to_string(&RunContext { origin, plan });
        let now = now_ms();
        let run = NewInvocation {
            id: random_id()?,
            tenant: tenant.clone(),
            lane: Lane::Flow(flow.id),
            // Each step has its own.
            function: String::new(),
            function_id: 0,
            channel: None,
            revision: None,
            cause: Cause::Flow,
            source: Some(source),
            context: context.expect("texts and numbers have JSON"),
            request,
            created_ms: now,
            due_ms: now,
            expires_ms: now.saturating_add(i64::from(flow.spec.max_age_s) * 1_000),
            dedup,
        };
        let enqueued = self.state.calls.enqueue(run, self.state.runs_max).await?;
        match enqueued.outcome {
            EnqueueOutcome::Mismatch => Err(FlowError::OtherRun),
            EnqueueOutcome::New | EnqueueOutcome::Known | EnqueueOutcome::NotAdded => Ok(enqueued),
        }
    }

    /// How many runs of a flow may go on at once; none of one that is gone.
    pub(in crate::triggers) fn concurrency(&self, flow: i64) -> Option<u32> {
        self.state.table.load().by_id(flow).map(|flow| flow.spec.concurrency)
    }

    /// Makes an attempt of a run, and returns what becomes of it. A run of which another attempt has begun, or
    /// whose flow is gone, has no end. `refused` says why it may not go on.
    pub(in crate::triggers) async fn attempt(
        &self,
        flow: i64,
        call: Invocation,
        refused: Option<&str>,
    ) -> Option<(Cause, Finished)> {
        let flow = self.state.table.load().by_id(flow).cloned()?;
        let refused = refused.map(str::to_owned).or_else(|| too_late(&flow, &call));
        let Attempt { end, error, answer } = match refused {
            Some(why) => Attempt::without_answer(AttemptEnd::Final, why),
            None => self.go_on(&flow, &call).await?,
        };
        let (now, settings) = (now_ms(), self.state.calls.settings());
        let retries = Retries {
            attempt: call.attempt,
            attempts: flow.spec.attempts,
            now_ms: now,
            expires_ms: call.expires_ms,
            retry_ms: settings.retry_ms,
            retry_max_ms: settings.retry_max_ms,
            random: random_number(),
        };
        let next = retries.next(end);
        let Invocation { id, attempt, cause, .. } = call;
        let follow_ups = Vec::new();
        Some((cause, Finished { id, attempt, next, error, answer, follow_ups, now_ms: now }))
    }

    /// Goes on with a run where its last attempt has ended.
    async fn go_on(&self, flow: &NamedFlow, call: &Invocation) -> Option<Attempt> {
        let context: RunContext = match serde_json::from_str(&call.context) {
            Ok(context) => context,
            Err(error) => {
                tracing::error!(%error, "the plan of a run cannot be read");
                let why = "what is stored of the run is no flow";
                return Some(Attempt::without_answer(AttemptEnd::Final, why));
            }
        };
        let Ok(progress) = RunProgress::stored(&self.state.store, &call.id).await else {
            let why = "what the run has done could not be read";
            return Some(Attempt::without_answer(AttemptEnd::NotRun, why));
        };
        let started = Instant::now();
        let of_route = context.origin.timeout_ms.unwrap_or(u64::MAX);
        let timeout = Duration::from_millis(context.plan.flow.timeout_ms.min(of_route));
        let run = FlowRun {
            parts: self.state.parts.clone(),
            tenant: call.tenant.clone(),
            id: call.id.clone(),
            attempt: call.attempt,
            plan: context.plan,
            label: Arc::clone(&flow.label),
            request: call.request.clone(),
            origin: context.origin,
            others: None,
            deadline: started + timeout,
            progress,
        };
        let ended = Arc::new(run).run().await;
        let seconds = started.elapsed().as_secs_f64();
        self.state.parts.metrics.run(&flow.label, outcome(ended.as_ref().err()), seconds);
        match ended {
            Ok(value) => {
                let answer = Some(answer(200, &value));
                Some(Attempt { end: AttemptEnd::Succeeded, error: None, answer })
            }
            Err(failure) => failed(failure, timeout),
        }
    }
}

/// What becomes of an attempt that has failed; `None` if another one has begun.
fn failed(failure: FlowFailure, timeout: Duration) -> Option<Attempt> {
    Some(match failure {
        FlowFailure::Step(failed) => {
            let why = format!("step {} ({}): {}", failed.path, failed.target, failed.reason());
            let FailedStep { status, end, why: cause, .. } = *failed;
            let answer = match cause {
                FailedWhy::Answer(value) => Some(answer(status, &value)),
                FailedWhy::Problem(_) => None,
            };
            Attempt { end, error: Some(why), answer }
        }
        FlowFailure::TooLarge => {
            let why = "the state of the run is larger than `flows.state_bytes` allows";
            Attempt::without_answer(AttemptEnd::Final, why)
        }
        FlowFailure::OutOfTime => {
            let why = format!("the attempt took longer than {} ms", timeout.as_millis());
            Attempt::without_answer(AttemptEnd::Failed, why)
        }
        FlowFailure::Store(error) => {
            tracing::warn!(%error, "a step of a run could not be stored");
            Attempt::without_answer(AttemptEnd::NotRun, "a step could not be stored")
        }
        FlowFailure::Superseded => return None,
    })
}

/// An answer as calls keep it: its beginning.
fn answer(status: u16, value: &StateValue) -> StoredAnswer {
    let content_type = value.content_type.iter();
    let fields = content_type.map(|text| ("content-type".to_owned(), text.as_bytes().to_vec()));
    let kept = value.body.len().min(ANSWER_BYTES);
    StoredAnswer {
        status,
        fields: StoredFields(fields.collect()),
        body: value.body[..kept].to_vec(),
        cut: value.body.len() > kept,
    }
}

/// Why a run does not go on, although it was claimed.
fn too_late(flow: &NamedFlow, call: &Invocation) -> Option<String> {
    if now_ms() >= call.expires_ms {
        Some("it has waited for longer than the flow's `max_age_s` allows".to_owned())
    } else if call.attempt > flow.spec.attempts {
        let why = call.last_error.as_deref();
        Some(why.unwrap_or("the gateway ended during the attempt").to_owned())
    } else {
        None
    }
}
