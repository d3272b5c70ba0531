//! One attempt of a queued call.

use std::sync::Arc;

use store::{
    Cause, DEFAULT_CHANNEL, Finished, Invocation, Lane, LaneTotals, NextState, StoredAnswer,
};

use crate::{
    functions::{
        catalog::{Catalog, CatalogEntry},
        channels::revision_urls::RevisionUrls,
        name::FunctionName,
        qualified_name::QualifiedName,
        routes::Routes,
    },
    telemetry::clock::now_ms,
    triggers::{
        backoff::{AttemptEnd, Retries, of_status},
        call_queue::{CallQueue, random_number},
        calling::{ANSWER_BYTES, Attempt, FunctionCaller, keep_some},
        delivery::{Deliveries, NotDelivered},
        flows::Flows,
        queued_call::{self, CallOrigin},
        queues::consume::{Consumers, Delivery},
        told,
    },
};

/// Runs queued calls.
pub(crate) struct Attempts {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) routes: Routes,
    pub(crate) revisions: RevisionUrls,
    pub(crate) functions: FunctionCaller,
    pub(crate) queue: CallQueue,
    pub(crate) deliveries: Deliveries,
    pub(crate) consumers: Consumers,
    pub(crate) flows: Flows,
}

impl Attempts {
    /// Whether the node has no time for calls whose clients do not wait.
    pub(super) fn is_busy(&self) -> bool {
        self.functions.is_busy()
    }

    /// How many attempts of a lane may run at once, and of how many calls each is. One for a function that
    /// is gone: its calls are only marked as dead.
    pub(super) fn delivery(&self, lane: &LaneTotals) -> Option<Delivery> {
        let id = match lane.lane {
            Lane::Queue(queue) => return self.consumers.delivery(queue),
            Lane::Flow(flow) => {
                let concurrency = self.flows.concurrency(flow)?;
                return Some(Delivery { concurrency, batch: 1 });
            }
            Lane::Function(id) | Lane::Delivery(id) => id,
        };
        let entry = self.catalog.get(&lane.tenant, &lane.function);
        let entry = entry.filter(|entry| entry.key.function == id);
        let concurrency = entry.map_or(1, |entry| entry.background.concurrency);
        Some(Delivery { concurrency, batch: 1 })
    }

    /// Makes one attempt of calls that were claimed together, and returns what becomes of each.
    pub(super) async fn run(&self, calls: Vec<Invocation>) -> Vec<(Cause, Finished)> {
        if let Some(Lane::Queue(queue)) = calls.first().map(|call| call.lane) {
            return self.consumers.run(queue, calls).await;
        }
        let mut finished = Vec::with_capacity(calls.len());
        for call in calls {
            match call.lane {
                Lane::Flow(flow) => {
                    let refused = self.still_admitted(&call).await.err();
                    finished.extend(self.flows.attempt(flow, call, refused).await);
                }
                Lane::Function(_) | Lane::Delivery(_) | Lane::Queue(_) => {
                    finished.push(self.run_call(call).await);
                }
            }
        }
        finished
    }

    async fn run_call(&self, call: Invocation) -> (Cause, Finished) {
        let target = self.target(&call).await;
        let attempt = match &target {
            Err(attempt) => Attempt { error: attempt.error.clone(), answer: None, ..*attempt },
            Ok(entry) => match too_late(entry, &call) {
                Some(attempt) => attempt,
                None if matches!(call.lane, Lane::Delivery(_)) => self.deliver(entry, &call).await,
                None => self.call(entry, &call).await,
            },
        };
        let entry = target.ok();
        let attempts = entry.as_ref().map_or(1, |entry| entry.background.attempts);
        let settings = self.queue.settings();
        let now = now_ms();
        let retries = Retries {
            attempt: call.attempt,
            attempts,
            now_ms: now,
            expires_ms: call.expires_ms,
            retry_ms: settings.retry_ms,
            retry_max_ms: settings.retry_max_ms,
            random: random_number(),
        };
        let next = retries.next(attempt.end);
        let (error, answer) = (attempt.error, attempt.answer);
        let follow_ups = entry.and_then(|entry| {
            let end = (next, error.as_deref(), answer.as_ref());
            told::of_end(&self.catalog, &entry, &call, end, now)
        });
        if next == NextState::Dead {
            tracing::warn!(
                function = call.function,
                cause = call.cause.as_str(),
                attempts = call.attempt,
                error = error.as_deref().unwrap_or_default(),
                "a queued call has failed for good",
            );
        }
        let follow_ups = follow_ups.into_iter().collect();
        let (id, attempt) = (call.id, call.attempt);
        (call.cause, Finished { id, attempt, next, error, answer, follow_ups, now_ms: now })
    }

    /// What a call goes to, if it may still run.
    async fn target(&self, call: &Invocation) -> Result<Arc<CatalogEntry>, Attempt> {
        let dead = |why: &str| Err(Attempt::without_answer(AttemptEnd::Final, why));
        let default = self.catalog.get(&call.tenant, &call.function);
        let default = default.filter(|entry| entry.key.function == call.function_id);
        let Some(default) = default else { return dead("the function is gone") };
        if let Err(why) = self.still_admitted(call).await {
            return dead(why);
        }
        if let Some(revision) = call.revision {
            return self.revision(call, &default, revision).await;
        }
        match call.channel.as_deref() {
            None | Some(DEFAULT_CHANNEL) => Ok(default),
            Some(channel) => self
                .catalog
                .channel(&call.tenant, &call.function, channel)
                .ok_or_else(|| Attempt::without_answer(AttemptEnd::Final, "the channel is gone")),
        }
    }

    async fn revision(
        &self,
        call: &Invocation,
        default: &CatalogEntry,
        revision: u32,
    ) -> Result<Arc<CatalogEntry>, Attempt> {
        let dead = |why: &str| Attempt::without_answer(AttemptEnd::Final, why);
        if !default.revision_urls {
            return Err(dead("the revisions of the function have no addresses of their own"));
        }
        let name = FunctionName::try_from(call.function.as_str())
            .map_err(|_| dead("the function is gone"))?;
        let name = QualifiedName { tenant: call.tenant.clone(), name };
        match self.revisions.get(&name, default, revision).await {
            Ok(found) => found.ok_or_else(|| dead("the revision is gone")),
            Err(_) => Err(Attempt::without_answer(
                AttemptEnd::NotRun,
                "the revision could not be read from the store",
            )),
        }
    }

    /// Whether the route and the API key by which a call came in would still let it in.
    async fn still_admitted(&self, call: &Invocation) -> Result<(), &'static str> {
        let origin = CallOrigin::of(call);
        let Some(name) = &origin.route else { return Ok(()) };
        let route = self.routes.find(&call.tenant, name).await;
        let route = route.ok_or("the route that the call came through is gone")?;
        match &route.auth {
            Some(auth) if !auth.still_admits(origin.key.as_deref()) => {
                Err("the API key that the call came with is gone")
            }
            _ => Ok(()),
        }
    }

    /// Sends a callback to its address.
    async fn deliver(&self, entry: &CatalogEntry, call: &Invocation) -> Attempt {
        let secret = entry.background.told.as_ref().and_then(|told| told.secret.as_deref());
        match self.deliveries.send(call, secret, (now_ms(), ANSWER_BYTES)).await {
            Err(NotDelivered::Final(why)) => Attempt::without_answer(AttemptEnd::Final, why),
            Err(NotDelivered::Failed(why)) => Attempt::without_answer(AttemptEnd::Failed, why),
            Ok(answer) => {
                let status = answer.status.as_u16();
                // Redirects are not followed.
                let end = if answer.status.is_redirection() {
                    AttemptEnd::Final
                } else {
                    of_status(status)
                };
                let error = (end != AttemptEnd::Succeeded)
                    .then(|| format!("the server answered with the status {status}"));
                let mut fields = queued_call::fields(&answer.headers);
                keep_some(&mut fields);
                let (body, cut) = (answer.body.to_vec(), answer.truncated);
                let answer = Some(StoredAnswer { status, fields, body, cut });
                Attempt { end, error, answer }
            }
        }
    }

    /// Calls the function.
    async fn call(&self, entry: &Arc<CatalogEntry>, call: &Invocation) -> Attempt {
        let origin = CallOrigin::of(call);
        let Some(request) = queued_call::call(call, &origin) else {
            let why = "what is stored of the call is no request";
            return Attempt::without_answer(AttemptEnd::Final, why);
        };
        self.functions.attempt(entry, request).await
    }
}

/// What has become of a call that does not run any more, although it was claimed.
fn too_late(entry: &CatalogEntry, call: &Invocation) -> Option<Attempt> {
    let why = if now_ms() >= call.expires_ms {
        "it has waited for longer than the function's setting `queued_age_ms` allows"
    } else if call.attempt > entry.background.attempts {
        call.last_error.as_deref().unwrap_or("the gateway ended during the attempt")
    } else {
        return None;
    };
    Some(Attempt::without_answer(AttemptEnd::Final, why))
}
