//! The pool's metrics, and the log lines of functions.
//!
//! Knows nothing of the code, the engine or the pool: it is given numbers and words.

mod capabilities;
pub(crate) mod guest_log;
pub(crate) mod idle;
mod outbound;
mod phases;
pub(crate) mod printable;
pub(crate) mod series;
pub(crate) mod start;

use std::{ops::Deref, sync::Arc, time::Duration};

use prometheus::{
    CounterVec, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

use self::{
    capabilities::CapabilityMetrics, idle::IdleMemoryMetrics, outbound::OutboundMetrics,
    phases::PhaseHistograms,
};
use crate::{
    error::{Fault, Limit},
    metrics::start::{Phase, Start},
};

/// Upper bounds of the phases' histograms, in seconds: fine below a millisecond, because that is
/// where starts differ.
const PHASE_BUCKETS: &[f64] = &[
    2e-6, 5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.2,
    1.0, 5.0, 30.0,
];
/// Upper bounds of the histogram of long polls, in seconds. It counts those that are longer than the
/// first.
const POLL_BUCKETS: &[f64] = &[5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0];
const COMPILE_BUCKETS: &[f64] = &[5e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// The pool's metric families. Cheap to clone: each invocation holds them.
#[derive(Clone, Debug)]
pub struct PoolMetrics(Arc<Families>);

impl Deref for PoolMetrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0
    }
}

/// The families themselves.
#[derive(Debug)]
pub struct Families {
    /// Instances that serve an invocation now.
    pub(crate) live_instances: IntGauge,
    pub(crate) instance_slots: IntGauge,
    /// Memory of all instances: linear, and what the host keeps for them.
    pub(crate) memory_bytes: IntGauge,
    /// Request bodies of unknown length that are buffered for programs.
    pub(crate) buffered_body_bytes: IntGauge,
    pub(crate) waiting_invocations: IntGauge,
    /// How long a guest waits in the run queue for a processor.
    pub(crate) scheduling_delay_seconds: Gauge,
    /// Instances that were made beforehand and serve no invocation yet.
    pub(crate) warm_instances: IntGauge,
    pub(crate) resident_functions: IntGauge,
    pub(crate) resident_bytes: Gauge,
    pub(crate) evictions: IntCounterVec,
    pub(crate) log_lines_dropped: IntCounter,
    pub(crate) log_bytes_dropped: IntCounter,
    pub(crate) responses_aborted: IntCounter,
    pub(crate) load_seconds: HistogramVec,
    pub(crate) cpu_seconds: CounterVec,
    poll_seconds: Histogram,
    pub(crate) outbound: OutboundMetrics,
    pub(crate) capabilities: CapabilityMetrics,
    pub(crate) idle_memory: IdleMemoryMetrics,
    /// Which barriers stand around the compile worker.
    pub(crate) sandbox: IntGaugeVec,
    phases: PhaseHistograms,
    limit_hits: IntCounterVec,
    /// Files of functions that were damaged on disk.
    pub(crate) files_damaged: IntCounter,
    /// Native code that has left the disk, because there was too much.
    pub(crate) code_removed: IntCounter,
    compile_seconds: Histogram,
    compilations: IntCounterVec,
}

impl PoolMetrics {
    /// Registers the families with `registry`.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let phase =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(PHASE_BUCKETS.to_vec());
        let (gauge, counter) = (IntGauge::new::<&str, &str>, IntCounter::new::<&str, &str>);
        let families = Families {
            live_instances: gauge("mayfly_live_instances", "Instances that serve a call now")?,
            warm_instances: gauge(
                "mayfly_warm_instances",
                "Instances that were made beforehand and are ready for a call",
            )?,
            instance_slots: gauge(
                "mayfly_instance_slots",
                "Instances that may exist at once in each engine",
            )?,
            memory_bytes: gauge("mayfly_instance_memory_bytes", "Memory of all instances")?,
            buffered_body_bytes: buffered_body_bytes()?,
            waiting_invocations: gauge(
                "mayfly_waiting_invocations",
                "Invocations that wait for a slot of their function",
            )?,
            scheduling_delay_seconds: Gauge::new(
                "mayfly_scheduling_delay_seconds",
                "How long a request waits for a thread, and its guest in the run queue",
            )?,
            resident_functions: gauge("mayfly_resident_functions", "Functions in memory")?,
            resident_bytes: resident_bytes()?,
            evictions: counters(
                "mayfly_evictions_total",
                "Functions that left memory, by cause",
                "cause",
            )?,
            log_lines_dropped: counter(
                "mayfly_log_lines_dropped_total",
                "Log lines of functions that were dropped",
            )?,
            log_bytes_dropped: counter(
                "mayfly_log_bytes_dropped_total",
                "Bytes of functions' output that were dropped",
            )?,
            responses_aborted: counter(
                "mayfly_responses_aborted_total",
                "Responses that were aborted after their head was sent",
            )?,
            load_seconds: HistogramVec::new(
                phase("mayfly_load_seconds", "Making a function resident, by tier"),
                &["tier"],
            )?,
            cpu_seconds: cpu_seconds()?,
            poll_seconds: poll_seconds()?,
            outbound: OutboundMetrics::register(registry)?,
            capabilities: CapabilityMetrics::register(registry)?,
            idle_memory: IdleMemoryMetrics::register(registry)?,
            sandbox: sandbox()?,
            phases: PhaseHistograms::new()?,
            limit_hits: limit_hits()?,
            files_damaged: files_damaged()?,
            code_removed: code_removed()?,
            compile_seconds: compile_seconds()?,
            compilations: counters(
                "mayfly_compilations_total",
                "Artifacts compiled, by outcome",
                "outcome",
            )?,
        };
        families.collectors().into_iter().try_for_each(|family| registry.register(family))?;
        Ok(Self(Arc::new(families)))
    }
}

fn counters(name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), &[label])
}

/// The hits of each limit, from 0 on.
fn limit_hits() -> prometheus::Result<IntCounterVec> {
    let hits = counters("mayfly_limit_hits_total", "Limits that invocations hit", "limit")?;
    for limit in Limit::ALL {
        hits.with_label_values(&[limit.as_str()]);
    }
    Ok(hits)
}

fn files_damaged() -> prometheus::Result<IntCounter> {
    let help = "Files of functions that were damaged on disk";
    IntCounter::new("mayfly_files_damaged_total", help)
}

fn code_removed() -> prometheus::Result<IntCounter> {
    let help = "Files of native code that were removed because there was too much of it";
    IntCounter::new("mayfly_native_code_removed_total", help)
}

fn buffered_body_bytes() -> prometheus::Result<IntGauge> {
    let help = "Request bodies of unknown length that are buffered for programs";
    IntGauge::new("mayfly_buffered_body_bytes", help)
}

fn resident_bytes() -> prometheus::Result<Gauge> {
    Gauge::new("mayfly_resident_code_bytes", "Native code that is mapped into memory")
}

fn cpu_seconds() -> prometheus::Result<CounterVec> {
    let opts = Opts::new("mayfly_cpu_seconds_total", "CPU time of guests, by function");
    CounterVec::new(opts, &["function"])
}

fn poll_seconds() -> prometheus::Result<Histogram> {
    let help = "CPU time for which a guest kept its thread at most, where that is more than 5 ms";
    let opts = HistogramOpts::new("mayfly_guest_poll_seconds", help);
    Histogram::with_opts(opts.buckets(POLL_BUCKETS.to_vec()))
}

fn compile_seconds() -> prometheus::Result<Histogram> {
    let opts = HistogramOpts::new("mayfly_compile_seconds", "Compiling one artifact");
    Histogram::with_opts(opts.buckets(COMPILE_BUCKETS.to_vec()))
}

fn sandbox() -> prometheus::Result<IntGaugeVec> {
    let help = "Whether a barrier around the compile worker stands, by its kind";
    IntGaugeVec::new(Opts::new("mayfly_compile_sandbox", help), &["kind"])
}

impl Families {
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.live_instances.clone()),
            Box::new(self.instance_slots.clone()),
            Box::new(self.memory_bytes.clone()),
            Box::new(self.buffered_body_bytes.clone()),
            Box::new(self.waiting_invocations.clone()),
            Box::new(self.scheduling_delay_seconds.clone()),
            Box::new(self.resident_functions.clone()),
            Box::new(self.resident_bytes.clone()),
            Box::new(self.evictions.clone()),
            Box::new(self.log_lines_dropped.clone()),
            Box::new(self.log_bytes_dropped.clone()),
            Box::new(self.responses_aborted.clone()),
            Box::new(self.load_seconds.clone()),
            Box::new(self.phases.clone()),
            Box::new(self.warm_instances.clone()),
            Box::new(self.cpu_seconds.clone()),
            Box::new(self.poll_seconds.clone()),
            Box::new(self.limit_hits.clone()),
            Box::new(self.sandbox.clone()),
            Box::new(self.files_damaged.clone()),
            Box::new(self.code_removed.clone()),
            Box::new(self.compile_seconds.clone()),
            Box::new(self.compilations.clone()),
        ]
    }

    /// Removes the series of a function that was deleted. No call may run under its label.
    pub fn forget_function(&self, label: &str) {
        // There is none if the function was never resident.
        let _ = self.cpu_seconds.remove_label_values(&[label]);
        self.outbound.forget(label);
        self.capabilities.forget(label);
    }

    /// Calls so far, counted when they were answered or have failed.
    pub(crate) fn calls(&self) -> u64 {
        self.phases.count(Phase::Total)
    }

    /// Counts the tier of an invocation's start and the time of each phase.
    pub fn started(&self, start: &Start) {
        self.phases.observe(start);
    }

    /// Counts a limit that ended an invocation, unless it was counted when the guest's request to
    /// grow was refused.
    pub(crate) fn limit_ended(&self, limit: Limit) {
        if !limit.is_refused_growth() {
            self.limit_hit(limit);
        }
    }

    /// Counts the longest poll of an invocation's guest, if it is a long one.
    pub(crate) fn polled(&self, longest: Duration) {
        if longest.as_secs_f64() > POLL_BUCKETS[0] {
            self.poll_seconds.observe(longest.as_secs_f64());
        }
    }

    pub(crate) fn limit_hit(&self, limit: Limit) {
        self.limit_hits.with_label_values(&[limit.as_str()]).inc();
    }

    /// Counts a compilation, and whose fault it was if it failed.
    pub(crate) fn compiled(&self, took: Duration, fault: Option<Fault>) {
        let outcome = match fault {
            None => "ok",
            Some(Fault::Caller | Fault::Function) => "refused",
            Some(Fault::Platform) => "failed",
        };
        self.compilations.with_label_values(&[outcome]).inc();
        self.compile_seconds.observe(took.as_secs_f64());
    }
}

/// Holds a gauge one higher while it lives.
#[derive(Debug)]
pub(crate) struct GaugeGuard(IntGauge);

impl GaugeGuard {
    pub(crate) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
