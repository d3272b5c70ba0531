//! Shadow calls: copies of some requests of a channel, to a revision whose answers are dropped.
//!
//! A shadow call must not be felt by the real one. It runs in a task of its own, begins only while the
//! node has nothing waiting and leaves half of its revision's slots, and never gets an instance of the
//! last eighth. A body is copied while the function reads it, and sent when the function has read all of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use runtime_pool::{BodyError, FunctionCall, RequestBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::ShadowSettings,
    functions::{
        catalog::CatalogEntry,
        channels::counts::{CallEnd, Role},
    },
    invoker::{self, Invoker, channel::ChannelCall},
};

/// Tells a guest that its answer will be dropped. Only the gateway can set it.
const SHADOW: HeaderName = HeaderName::from_static("mayfly-shadow");
const SHADOW_VALUE: HeaderValue = HeaderValue::from_static("1");
/// What a shadow call counts as having in flight, so that it gets no instance that is reserved.
const MANY: usize = 1 << 32;

/// Makes shadow calls.
pub(crate) struct Shadows {
    invoker: Invoker,
    /// One for each shadow call, also while its body is copied.
    permits: Arc<Semaphore>,
    body_bytes: usize,
}

/// A shadow call that has not begun.
pub(crate) struct ShadowCall {
    invoker: Invoker,
    /// The channel, under its own revision.
    channel: Arc<CatalogEntry>,
    target: Arc<CatalogEntry>,
    call: Box<FunctionCall>,
    body_bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Shadows {
    pub(crate) fn new(invoker: Invoker, settings: &ShadowSettings) -> Self {
        let permits = Arc::new(Semaphore::new(settings.calls));
        Self { invoker, permits, body_bytes: settings.body_bytes }
    }

    /// Copies a call that goes through a channel, if the channel wants that.
    pub(crate) fn follow(&self, channel: Option<&ChannelCall>, call: &mut FunctionCall) {
        if let Some(shadow) = channel.and_then(|channel| self.copy(channel, call)) {
            shadow.attach(&mut call.body);
        }
    }

    /// A copy of a call without its body, if its channel wants one and the node has time for it.
    fn copy(&self, channel: &ChannelCall, call: &FunctionCall) -> Option<Box<ShadowCall>> {
        let target = channel.shadow(&call.head.method, call.context.invocation)?;
        let idle = !self.invoker.is_busy(Instant::now())
            && target.resident.peek().is_none_or(|function| function.has_half_its_slots());
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok().filter(|_| idle);
        let Some(permit) = permit else {
            count(&self.invoker, channel.entry(), CallEnd::DroppedBusy);
            return None;
        };
        let (mut head, mut context) = (call.head.clone(), call.context.clone());
        head.headers.insert(SHADOW, SHADOW_VALUE);
        head.headers.remove(header::EXPECT);
        // Its lines in the log are not those of the real call, and can be found from there.
        context.invocation ^= 1;
        context.others = MANY;
        Some(Box::new(ShadowCall {
            invoker: self.invoker.clone(),
            channel: Arc::clone(channel.entry()),
            target: Arc::clone(target),
            call: Box::new(FunctionCall { head, body: RequestBody::Empty, context }),
            body_bytes: self.body_bytes,
            _permit: permit,
        }))
    }
}

fn count(invoker: &Invoker, channel: &CatalogEntry, ended: CallEnd) {
    if let Some(plan) = &channel.channel {
        plan.counts.count(invoker.channel_metrics(), Role::Shadow, ended);
    }
}

impl ShadowCall {
    /// Begins the call: at once if the real call has no body, otherwise when that was read.
    fn attach(self: Box<Self>, body: &mut RequestBody) {
        match std::mem::take(body) {
            RequestBody::Empty => self.begin(Bytes::new()),
            real @ RequestBody::Stream(_) => {
                let copied = CopiedBody { real, copy: BytesMut::new(), shadow: Some(self) };
                *body = RequestBody::Stream(copied.boxed_unsync());
            }
        }
    }

    fn begin(mut self: Box<Self>, body: Bytes) {
        if !body.is_empty() {
            let body = Full::new(body).map_err(|never| match never {});
            self.call.body = RequestBody::Stream(body.boxed_unsync());
        }
        tokio::spawn(self.run());
    }

    async fn run(self: Box<Self>) {
        // The permit is held to the end of the answer.
        let Self { invoker, channel, target, call, _permit, .. } = *self;
        let (shadow, revision) = (call.context.invocation, target.key.revision);
        let result = invoker.invoke(&target, call).await;
        let ended = invoker::ended(&result);
        count(&invoker, &channel, ended);
        tracing::debug!(
            request = %format_args!("{:032x}", shadow ^ 1),
            shadow = %format_args!("{shadow:032x}"),
            revision,
            ended = ended.as_str(),
            "a shadow call has its answer",
        );
        if let Ok((response, _)) = result {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        }
    }

    fn drop_as(self, ended: CallEnd) {
        count(&self.invoker, &self.channel, ended);
    }
}

/// The body of a real call, of which a copy is kept for the shadow call.
struct CopiedBody {
    real: RequestBody,
    copy: BytesMut,
    /// `None` when it has begun, or was dropped.
    shadow: Option<Box<ShadowCall>>,
}

impl CopiedBody {
    fn add(&mut self, data: &Bytes) {
        let Some(shadow) = &self.shadow else { return };
        if self.copy.len() + data.len() <= shadow.body_bytes {
            self.copy.extend_from_slice(data);
            return;
        }
        self.copy = BytesMut::new();
        if let Some(shadow) = self.shadow.take() {
            shadow.drop_as(CallEnd::DroppedLarge);
        }
    }

    fn finish(&mut self) {
        if let Some(shadow) = self.shadow.take() {
            shadow.begin(std::mem::take(&mut self.copy).freeze());
        }
    }
}

impl Body for CopiedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.real).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.add(data);
                }
                if self.real.is_end_stream() {
                    self.finish();
                }
            }
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.real.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.real.size_hint()
    }
}

impl Drop for CopiedBody {
    fn drop(&mut self) {
        // The function has not read all of it, or it broke off.
        if let Some(shadow) = self.shadow.take() {
            shadow.drop_as(CallEnd::DroppedUnread);
        }
    }
}
