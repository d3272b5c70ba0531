//! Calls functions for which no client waits, and reads their answers.

use std::{sync::Arc, time::Instant};

use http_body_util::BodyExt as _;
use runtime_pool::{Fault, FunctionCall, Response};
use store::{StoredAnswer, StoredFields};

use crate::{
    functions::{catalog::CatalogEntry, channels::plan::NotInChannel},
    invoker::{self, Invoker, channel},
    problem::{Problem, table},
    request::forwarded::{self, OWN_PREFIX},
    triggers::{
        backoff::{AttemptEnd, of_status},
        queued_call,
    },
};

/// Bytes of an answer's body that are kept.
pub(super) const ANSWER_BYTES: usize = 64 << 10;
/// Bytes of the names and values of an answer's header fields that are kept.
const ANSWER_FIELD_BYTES: usize = 16 << 10;

/// How an attempt went, why it has failed, and its answer.
pub(super) struct Attempt {
    pub(super) end: AttemptEnd,
    pub(super) error: Option<String>,
    pub(super) answer: Option<StoredAnswer>,
}

impl Attempt {
    pub(super) fn without_answer(end: AttemptEnd, why: impl Into<String>) -> Self {
        Self { end, error: Some(why.into()), answer: None }
    }

    /// An attempt that a function has answered.
    fn answered(answer: StoredAnswer) -> Self {
        let end = of_status(answer.status);
        let error = (end != AttemptEnd::Succeeded)
            .then(|| format!("the function answered with the status {}", answer.status));
        Self { end, error, answer: Some(answer) }
    }
}

/// Why a call has no answer.
pub(super) struct Unanswered {
    pub(super) end: AttemptEnd,
    /// Boxed, because most calls have an answer.
    pub(super) problem: Box<Problem>,
}

/// Calls functions.
#[derive(Clone)]
pub(crate) struct FunctionCaller {
    invoker: Invoker,
}

impl FunctionCaller {
    pub(crate) fn new(invoker: Invoker) -> Self {
        Self { invoker }
    }

    /// Whether the node has no time for calls whose clients do not wait.
    pub(super) fn is_busy(&self) -> bool {
        self.invoker.is_busy(Instant::now())
    }

    /// Calls a function once. The beginning of its answer is kept.
    pub(super) async fn attempt(
        &self,
        entry: &Arc<CatalogEntry>,
        request: Box<FunctionCall>,
    ) -> Attempt {
        match self.answer(entry, request, ANSWER_BYTES).await {
            Ok(answer) => Attempt::answered(answer),
            Err(Unanswered { end, problem }) => Attempt::without_answer(end, problem.summary()),
        }
    }

    /// Calls a function, and keeps so many bytes of the answer's body.
    pub(super) async fn answer(
        &self,
        entry: &Arc<CatalogEntry>,
        request: Box<FunctionCall>,
        most: usize,
    ) -> Result<StoredAnswer, Unanswered> {
        let response = self.invoke(entry, request).await?;
        let read = read(response, most).await;
        read.map_err(|why| {
            let problem = Problem::new(&table::FUNCTION_FAILED).detail(why);
            Unanswered { end: AttemptEnd::Failed, problem: Box::new(problem) }
        })
    }

    /// Calls the revision that a channel chooses.
    async fn invoke(
        &self,
        entry: &Arc<CatalogEntry>,
        mut request: Box<FunctionCall>,
    ) -> Result<Response, Unanswered> {
        let (client, id) = (request.context.peer.ip(), request.context.invocation);
        let entered = channel::enter(Arc::clone(entry), &mut request.head.headers, client, id);
        let (chosen, channel) = entered.map_err(|error: NotInChannel| Unanswered {
            end: AttemptEnd::Final,
            problem: Box::new(error.into()),
        })?;
        let result = self.invoker.invoke(&chosen, request).await;
        if let Some(channel) = &channel {
            channel.record(self.invoker.channel_metrics(), &result);
        }
        match result {
            Ok((response, _)) => Ok(response),
            Err(error) => {
                let end = end_of(&error);
                Err(Unanswered { end, problem: Box::new(error.into()) })
            }
        }
    }
}

fn end_of(error: &invoker::Error) -> AttemptEnd {
    let fault = match error {
        invoker::Error::Load(error) => error.fault(),
        invoker::Error::LoadTimeout(_) => Fault::Platform,
        invoker::Error::Invoke(error) => error.fault(),
    };
    match fault {
        Fault::Function => AttemptEnd::Failed,
        Fault::Caller => AttemptEnd::Final,
        Fault::Platform => AttemptEnd::NotRun,
    }
}

/// Keeps the first of an answer's header fields.
pub(super) fn keep_some(fields: &mut StoredFields) {
    let mut bytes = 0;
    fields.0.retain(|(name, value)| {
        bytes += name.len() + value.len();
        bytes <= ANSWER_FIELD_BYTES
    });
}

/// Reads an answer to its end, and keeps the beginning.
async fn read(response: Response, most: usize) -> Result<StoredAnswer, String> {
    let (mut parts, mut body) = response.into_parts();
    forwarded::remove(&mut parts.headers, |name| name.as_str().starts_with(OWN_PREFIX));
    let (mut kept, mut cut) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else { continue };
        let room = most - kept.len();
        cut |= data.len() > room;
        kept.extend_from_slice(&data[..data.len().min(room)]);
    }
    let mut fields = queued_call::fields(&parts.headers);
    keep_some(&mut fields);
    Ok(StoredAnswer { status: parts.status.as_u16(), fields, body: kept, cut })
}
