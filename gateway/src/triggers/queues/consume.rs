//! Delivers messages to the function of their queue.

use std::{collections::HashSet, time::Duration};

use store::{Cause, Finished, Invocation, Lane, NextState};

use crate::{
    telemetry::clock::now_ms,
    triggers::{
        backoff::{AttemptEnd, Retries},
        call_queue::random_number,
        calling::{Attempt, FunctionCaller},
        queued_call::{self, CallOrigin, request_id_text},
        queues::{Queues, TOO_OLD, batch, table::NamedQueue},
    },
};

/// Delivers messages.
pub(crate) struct Consumers {
    queues: Queues,
    functions: FunctionCaller,
}

/// How the messages of a queue are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::triggers) struct Delivery {
    /// Requests at once.
    pub(in crate::triggers) concurrency: u32,
    /// Messages of a request.
    pub(in crate::triggers) batch: u32,
}

/// What has become of the messages of a request.
struct BatchOutcome {
    end: AttemptEnd,
    error: Option<String>,
    /// Those that have failed although the request has not; all have ended like the request without any.
    failed: HashSet<String>,
}

impl Consumers {
    pub(crate) fn new(queues: Queues, functions: FunctionCaller) -> Self {
        Self { queues, functions }
    }

    /// How the messages of a queue are delivered; not at all while it is paused, or has no function.
    pub(in crate::triggers) fn delivery(&self, queue: i64) -> Option<Delivery> {
        let queue = self.queues.by_id(queue).filter(|queue| !queue.spec.paused)?;
        let target = self.queues.target(&queue.tenant, &queue.spec).ok()?;
        let concurrency = queue.spec.concurrency.min(target.background.concurrency);
        Some(Delivery { concurrency, batch: queue.spec.batch_size })
    }

    /// Delivers messages of a queue in one request, and returns what becomes of each.
    pub(in crate::triggers) async fn run(
        &self,
        queue: i64,
        messages: Vec<Invocation>,
    ) -> Vec<(Cause, Finished)> {
        // A queue that is gone has taken its messages with it.
        let Some(queue) = self.queues.by_id(queue) else { return Vec::new() };
        let now = now_ms();
        let mut given_up = Vec::new();
        let mut delivered = Vec::new();
        for message in messages {
            match too_late(&queue, &message, now) {
                Some(why) => given_up.push((message, why)),
                None => delivered.push(message),
            }
        }
        let mut finished = Vec::with_capacity(given_up.len() + delivered.len());
        for (message, why) in given_up {
            finished.push(self.finished(&queue, message, (AttemptEnd::Final, Some(why))));
        }
        if delivered.is_empty() {
            return finished;
        }
        let BatchOutcome { end, error, failed } = self.deliver(&queue, &delivered).await;
        for message in delivered {
            let ended = match failed.contains(&message.id) {
                true => {
                    let why = "the function has named it among the messages that have failed";
                    (AttemptEnd::Failed, Some(why.to_owned()))
                }
                false => (end, error.clone()),
            };
            finished.push(self.finished(&queue, message, ended));
        }
        finished
    }

    /// Sends the request of messages.
    async fn deliver(&self, queue: &NamedQueue, messages: &[Invocation]) -> BatchOutcome {
        let not_run = |why: String| BatchOutcome {
            end: AttemptEnd::NotRun,
            error: Some(why),
            failed: HashSet::new(),
        };
        let target = match self.queues.target(&queue.tenant, &queue.spec) {
            Ok(target) => target,
            Err(why) => return not_run(why),
        };
        let batch::BatchRequest { request, id, attempt } = batch::request(queue, messages);
        let call = queued_call::request(&request, (&id, attempt), &CallOrigin::default());
        let Some(mut call) = call else {
            let error = Some("what is stored of the message is no request".to_owned());
            return BatchOutcome { end: AttemptEnd::Final, error, failed: HashSet::new() };
        };
        call.context.timeout = Some(Duration::from_millis(queue.spec.visibility_ms));
        let Attempt { end, error, answer } = self.functions.attempt(&target, call).await;
        if queue.spec.batch_size == 1 {
            return BatchOutcome { end, error, failed: HashSet::new() };
        }
        // A 4xx does not say which of the messages it is about: all are tried again.
        let end = if end == AttemptEnd::Final { AttemptEnd::Failed } else { end };
        match answer.filter(|_| end == AttemptEnd::Succeeded) {
            None => BatchOutcome { end, error, failed: HashSet::new() },
            Some(answer) => match batch::failures(&answer, messages) {
                Ok(failed) => BatchOutcome { end, error, failed },
                Err(why) => BatchOutcome {
                    end: AttemptEnd::Failed,
                    error: Some(why),
                    failed: HashSet::new(),
                },
            },
        }
    }

    /// What becomes of a message.
    fn finished(
        &self,
        queue: &NamedQueue,
        message: Invocation,
        (end, error): (AttemptEnd, Option<String>),
    ) -> (Cause, Finished) {
        let now = now_ms();
        let settings = self.queues.settings();
        let retries = Retries {
            attempt: message.attempt,
            attempts: queue.spec.attempts,
            now_ms: now,
            expires_ms: message.expires_ms,
            retry_ms: settings.retry_ms,
            retry_max_ms: settings.retry_max_ms,
            random: random_number(),
        };
        let next = match retries.next(end) {
            NextState::Dead => {
                tracing::info!(
                    queue = queue.name,
                    request = request_id_text(&message.id, message.attempt),
                    attempts = message.attempt,
                    error = error.as_deref().unwrap_or_default(),
                    "a message is dead",
                );
                self.dead(queue, &message, now)
            }
            next => next,
        };
        self.queues.metrics().ended(queue, next);
        let Invocation { id, attempt, cause, .. } = message;
        let (answer, follow_ups) = (None, Vec::new());
        (cause, Finished { id, attempt, next, error, answer, follow_ups, now_ms: now })
    }

    /// A dead message goes to the queue for them, if there is one and it has not been moved before: two
    /// queues could pass it on for ever.
    fn dead(&self, queue: &NamedQueue, message: &Invocation, now_ms: i64) -> NextState {
        let other = self.queues.dead_letter_queue(queue);
        match other.filter(|_| batch::moved_from(queue, message).is_none()) {
            None => NextState::Dead,
            Some(other) => NextState::Moved {
                lane: Lane::Queue(other.id),
                expires_ms: now_ms.saturating_add(other.max_age_ms()),
            },
        }
    }
}

/// Why a message is not delivered any more, although it was claimed.
fn too_late(queue: &NamedQueue, message: &Invocation, now_ms: i64) -> Option<String> {
    if now_ms >= message.expires_ms {
        Some(TOO_OLD.to_owned())
    } else if message.attempt > queue.spec.attempts {
        let why = message.last_error.as_deref();
        Some(why.unwrap_or("the gateway ended during the attempt").to_owned())
    } else {
        None
    }
}
