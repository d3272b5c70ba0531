//! The WASI context of a guest. It grants nothing: no files, no network, no environment of the gateway.
//! The guest's output goes to its log.
//!
//! A context has two random generators with their seeds, two clocks and the standard streams. Making
//! one costs as much as a tenth of an instance, and many guests that serve HTTP never need it. So it is
//! made when a guest first asks for something of it.

pub(crate) mod clock;
mod output;
pub(in crate::host) mod preview1;
pub(crate) mod variables;

use std::{sync::Arc, time::Instant};

use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView as _, p1::WasiP1Ctx};

use self::{
    clock::{GuestMonotonicClock, GuestWallClock},
    output::GuestOutput,
};
use crate::{
    limits::GuestLimits,
    metrics::guest_log::{InvocationLog, LogStream},
};

/// What the context of one guest is made of.
pub(crate) struct WasiSource {
    /// Where output goes.
    pub(crate) log: Arc<InvocationLog>,
    /// From when on the monotonic clock counts.
    pub(crate) clock_start: Instant,
}

impl WasiSource {
    /// A context, which may be given other streams.
    pub(crate) fn builder(&self, limits: &GuestLimits) -> WasiCtxBuilder {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(GuestOutput::new(&self.log, LogStream::Stdout, limits))
            .stderr(GuestOutput::new(&self.log, LogStream::Stderr, limits))
            .allow_blocking_current_thread(false)
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(limits.random_bytes)
            .monotonic_clock(GuestMonotonicClock { start: self.clock_start })
            .wall_clock(GuestWallClock);
        wasi
    }
}

/// A context, or what it will be made of.
pub(super) enum LazyWasi<C> {
    Later(WasiSource),
    Made(Box<C>),
}

impl<C> LazyWasi<C> {
    fn get(&mut self, make: impl FnOnce(&WasiSource) -> C) -> &mut C {
        if let Self::Later(source) = self {
            *self = Self::Made(Box::new(make(source)));
        }
        match self {
            Self::Made(context) => context,
            Self::Later(_) => unreachable!("made above"),
        }
    }
}

impl LazyWasi<WasiCtx> {
    pub(super) fn context(&mut self, limits: &GuestLimits) -> &mut WasiCtx {
        self.get(|source| source.builder(limits).build())
    }
}

impl LazyWasi<WasiP1Ctx> {
    pub(super) fn module_context(&mut self, limits: &GuestLimits) -> &mut WasiP1Ctx {
        self.get(|source| limited(source.builder(limits).build_p1(), limits))
    }
}

/// A module's context, whose table holds no more than `limits` allows.
pub(super) fn limited(mut context: WasiP1Ctx, limits: &GuestLimits) -> WasiP1Ctx {
    context.ctx().table.set_max_capacity(limits.host_resources);
    context
}
