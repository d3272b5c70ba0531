//! One request of a guest to another function, and the limits of its answer.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{header, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{sync::OwnedSemaphorePermit, time};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::outbound::{
    connection::StepTimeouts,
    exchange::{Admitted, Lease, UpstreamBody},
    failure::OutboundFailure,
    framing::framed,
    functions::{FunctionBody, FunctionRequest},
    policy::Policy,
    rules::target::default_port,
};

impl Policy {
    /// Sends a request to a function, and waits for the head of its response.
    pub(in crate::outbound) async fn call_function(
        self: Arc<Self>,
        mut admitted: Admitted,
        permit: OwnedSemaphorePermit,
    ) -> Result<http::Response<WasiBody>, Error> {
        let times = StepTimeouts::of(&self.client.config, &admitted.options);
        match self.function_answer(&mut admitted, &times).await {
            Ok(response) => {
                let mut report = admitted.report;
                report.responded();
                let lease = Lease { policy: self, connection: None, _permit: permit };
                Ok(response.map(|body| {
                    UpstreamBody::new(body, times.between_bytes, report, lease).boxed_unsync()
                }))
            }
            Err(failure) => Err(admitted.report.failed(&failure)),
        }
    }

    async fn function_answer(
        &self,
        admitted: &mut Admitted,
        times: &StepTimeouts,
    ) -> Result<http::Response<AnswerBody>, OutboundFailure> {
        let Admitted { request, target, origin, invocation, .. } = admitted;
        let http = target.scheme == Scheme::HTTP && target.port == default_port(&target.scheme);
        let function = target.function().filter(|_| http);
        let function = function.ok_or(OutboundFailure::FunctionAddress)?.into();
        // The pool outlives the gateway's data plane, and a benchmark has none.
        let calls = self.client.functions();
        let calls = calls.ok_or(OutboundFailure::NoFunctions)?;
        let request = self.prepare(std::mem::take(request), target, origin.cdn_loop.as_ref())?;
        let failed = Arc::new(SentBodyFailure::default());
        let request = framed(request).await?;
        let length = request.headers().get(header::CONTENT_LENGTH);
        let left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let sent = |body| SentBody { body, left, failed: Arc::clone(&failed) }.boxed_unsync();
        let request = request.map(sent);
        let answer = calls.call(FunctionRequest {
            tenant: Arc::clone(&self.tenant),
            caller: Arc::clone(&self.name),
            invocation: *invocation,
            others: origin.others,
            function,
            request,
        });
        let response = time::timeout(times.first_byte, answer)
            .await
            .map_err(|_| OutboundFailure::FirstByteTime(times.first_byte))?;
        // A guest learns of its own fault, not what the function made of half a body.
        failed.check()?;
        let max = self.client.config.response_bytes;
        if response.body().size_hint().lower() > max {
            return Err(OutboundFailure::ResponseBytes(max));
        }
        Ok(response.map(|body| AnswerBody { body, failed }))
    }
}

/// The body of an answer. Its end is none if the body of the request was not whole.
struct AnswerBody {
    body: FunctionBody,
    failed: Arc<SentBodyFailure>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = OutboundFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutboundFailure>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(frame.map_err(OutboundFailure::from))),
            None => Poll::Ready(self.failed.check().err().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.failed.check().is_ok()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Notes that the body of a request was not whole.
#[derive(Default)]
struct SentBodyFailure {
    failed: AtomicBool,
    /// The length that was sent in place of the one that was named.
    length: OnceLock<Option<u64>>,
}

impl SentBodyFailure {
    /// Returns what the function is told.
    fn note(&self, error: &Error) -> Box<dyn StdError + Send + Sync> {
        if let Error::HttpRequestBodySize(sent) = error {
            let _ = self.length.set(*sent);
        }
        self.failed.store(true, Relaxed);
        "the calling function has not sent all of it".into()
    }

    fn check(&self) -> Result<(), OutboundFailure> {
        match self.length.get() {
            Some(sent) => Err(OutboundFailure::RequestLength(*sent)),
            None if self.failed.load(Relaxed) => Err(OutboundFailure::RequestBody),
            None => Ok(()),
        }
    }
}

/// The body of a request, which the function reads as fast as it likes.
struct SentBody {
    body: WasiBody,
    /// What is left of the length that the guest has named.
    left: Option<u64>,
    failed: Arc<SentBodyFailure>,
}

impl SentBody {
    fn count(&mut self, data: &Bytes) -> Result<(), Error> {
        let Some(left) = &mut self.left else { return Ok(()) };
        *left = left.checked_sub(data.len() as u64).ok_or(Error::HttpRequestBodySize(None))?;
        Ok(())
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.count(frame.data_ref().unwrap_or(&Bytes::new())).map(|()| Some(frame))
            }
            Some(Err(error)) => Err(error),
            None if self.left.is_some_and(|left| left > 0) => Err(Error::HttpRequestBodySize(None)),
            None => Ok(None),
        };
        Poll::Ready(frame.map_err(|error| self.failed.note(&error)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.left.unwrap_or_default() == 0
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
