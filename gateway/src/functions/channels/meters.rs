//! What the two revisions of a canary have shown in its current step.
//!
//! The catalog replaces its entries with each change of a function, and what was counted must survive
//! that. So meters are kept by the step that they count for, as long as an entry uses them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use store::{Canary, CanaryDecision};

use crate::functions::{
    channels::{
        counts::{CallEnd, Role},
        judge::{self, BUCKETS, Findings, Observed, Timing},
    },
    qualified_name::QualifiedName,
};

/// Counts what one revision shows.
#[derive(Debug)]
struct Side {
    requests: AtomicU64,
    errors: AtomicU64,
    cold: AtomicU64,
    latencies: Box<[AtomicU64]>,
}

impl Side {
    fn new() -> Self {
        let latencies = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        let zero = AtomicU64::default;
        Self { requests: zero(), errors: zero(), cold: zero(), latencies }
    }

    fn sample(&self) -> Observed {
        let mut latencies: Vec<u64> =
            self.latencies.iter().map(|count| count.load(Relaxed)).collect();
        let used = latencies.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        latencies.truncate(used);
        Observed {
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            cold: self.cold.load(Relaxed),
            latencies,
        }
    }
}

/// Counts what the two revisions of a canary show in one of its steps.
#[derive(Debug)]
pub(crate) struct CanaryMeter {
    pub(crate) function: QualifiedName,
    pub(crate) function_id: i64,
    pub(crate) channel: String,
    /// The revision that the candidate may replace.
    pub(crate) old_revision: u32,
    pub(crate) canary: Canary,
    old: Side,
    new: Side,
    /// The quarters of the step after which its errors were looked at.
    looked: AtomicU8,
    /// Whether its step is over.
    closed: AtomicBool,
}

/// A step of a canary that has been judged.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) old: Observed,
    pub(crate) new: Observed,
    pub(crate) verdict: Findings,
    pub(crate) decision: CanaryDecision,
}

impl CanaryMeter {
    pub(crate) fn new(
        function: QualifiedName,
        function_id: i64,
        channel: String,
        old_revision: u32,
        canary: Canary,
    ) -> Self {
        let (old, new) = (Side::new(), Side::new());
        let (looked, closed) = (AtomicU8::new(0), AtomicBool::new(false));
        Self { function, function_id, channel, old_revision, canary, old, new, looked, closed }
    }

    /// Counts a call. What a tester has asked for, or the caller or the node has prevented, says
    /// nothing of either revision.
    pub(crate) fn count(&self, role: Role, ended: CallEnd, cold: bool, latency: Duration) {
        let side = match role {
            Role::Own => &self.old,
            Role::Weight => &self.new,
            Role::Tester | Role::Shadow => return,
        };
        match ended {
            CallEnd::Refused
            | CallEnd::DroppedBusy
            | CallEnd::DroppedLarge
            | CallEnd::DroppedUnread => {
                return;
            }
            CallEnd::Error | CallEnd::Failed => &side.errors,
            CallEnd::Ok if cold => &side.cold,
            CallEnd::Ok => &side.latencies[judge::bucket(latency)],
        }
        .fetch_add(1, Relaxed);
        // Last: a step is judged when there are enough requests.
        side.requests.fetch_add(1, Relaxed);
    }

    /// The requests of the old revision, and of the candidate.
    pub(crate) fn requests(&self) -> (u64, u64) {
        (self.old_sample().requests, self.new.requests.load(Relaxed))
    }

    /// While the candidate has all requests, the old revision is what it was in the step before.
    fn old_sample(&self) -> Observed {
        match self.canary.percent() {
            100 => serde_json::from_value(self.canary.old.clone()).unwrap_or_default(),
            _ => self.old.sample(),
        }
    }

    /// Ends the step: calls may use the meter for longer.
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    /// Judges the step. `None` while either has too few requests, unless the candidate clearly fails, and
    /// when the step is over.
    pub(crate) fn judge(&self) -> Option<Judged> {
        let wanted = self.canary.requests;
        let quarter = (self.new.requests.load(Relaxed) * 4 / wanted.max(1)).min(4) as u8;
        // One look at each quarter: looking more often would find what chance offers.
        if self.closed.load(Relaxed) || quarter < 4 && quarter == self.looked.load(Relaxed) {
            return None;
        }
        let (old, new) = (self.old_sample(), self.new.sample());
        if quarter < 4 || old.requests < wanted {
            if old.requests * 4 < wanted * u64::from(quarter) {
                return None;
            }
            if !judge::fails_early(&old, &new) {
                self.looked.store(quarter, Relaxed);
                return None;
            }
        }
        let timing = if self.canary.percent() == 100 { Timing::Before } else { Timing::Together };
        let verdict = judge::judge(&old, &new, timing);
        let decision = if !verdict.worse().is_empty() {
            CanaryDecision::RollBack
        } else if self.canary.is_last() {
            CanaryDecision::Promote
        } else {
            CanaryDecision::Advance(serde_json::to_value(&old).unwrap_or_default())
        };
        Some(Judged { old, new, verdict, decision })
    }
}

impl Judged {
    /// The figures of the decision, for the history.
    pub(crate) fn figures(&self, meter: &CanaryMeter) -> Value {
        let Canary { revision, steps, step, requests, .. } = &meter.canary;
        let shown = |revision: u32, sample: &Observed| {
            json!({
                "revision": revision,
                "requests": sample.requests,
                "errors": sample.errors,
                "cold": sample.cold,
                "p50_ms": sample.quantile_ms(0.5),
                "p99_ms": sample.quantile_ms(0.99),
            })
        };
        let worse = self.verdict.worse();
        let summary = match &self.decision {
            CanaryDecision::RollBack => format!("{revision} is worse in {}", worse.join(", ")),
            _ => format!("{revision} is not worse with {} %", meter.canary.percent()),
        };
        json!({
            "canary": {"revision": revision, "steps": steps, "step": step + 1, "requests": requests},
            "old": shown(meter.old_revision, &self.old),
            "new": shown(*revision, &self.new),
            "tests": self.verdict,
            "worse": worse,
            "summary": summary,
        })
    }
}

/// The function, the channel, the candidate, the step, and when that began.
type Step = (i64, String, u32, usize, i64);

/// The meters of all canaries.
#[derive(Debug, Default)]
pub(crate) struct CanaryMeters(Mutex<HashMap<Step, Weak<CanaryMeter>>>);

impl CanaryMeters {
    /// The meter of the same step, or `fresh`.
    pub(crate) fn get_or(&self, fresh: CanaryMeter) -> Arc<CanaryMeter> {
        let Canary { revision, step, since_ms, .. } = fresh.canary;
        let key = (fresh.function_id, fresh.channel.clone(), revision, step, since_ms);
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = meters.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let meter = Arc::new(fresh);
        meters.insert(key, Arc::downgrade(&meter));
        meter
    }

    /// The meters that an entry of the catalog, or a call, uses.
    pub(crate) fn live(&self) -> Vec<Arc<CanaryMeter>> {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|_, meter| meter.strong_count() > 0);
        meters.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(step: usize, old: serde_json::Value) -> CanaryMeter {
        let name = "f".try_into().unwrap();
        let function = QualifiedName { tenant: store::Tenant::default(), name };
        let steps = vec![5, 100];
        let canary = Canary { revision: 8, steps, requests: 20, step, since_ms: 1, old };
        CanaryMeter::new(function, 1, "default".to_owned(), 7, canary)
    }

    fn call(meter: &CanaryMeter, role: Role, ended: CallEnd, times: usize) {
        (0..times).for_each(|_| meter.count(role, ended, false, Duration::from_millis(2)));
    }

    fn decided(meter: &CanaryMeter) -> Option<CanaryDecision> {
        meter.judge().map(|judged| judged.decision)
    }

    /// Case R12.
    #[test]
    fn a_step_is_judged_when_both_revisions_have_enough_requests() {
        let first = meter(0, serde_json::Value::Null);
        call(&first, Role::Own, CallEnd::Ok, 400);
        call(&first, Role::Weight, CallEnd::Ok, 19);
        call(&first, Role::Weight, CallEnd::Refused, 9);
        call(&first, Role::Tester, CallEnd::Failed, 9);
        assert_eq!((decided(&first), first.requests()), (None, (400, 19)));
        call(&first, Role::Weight, CallEnd::Ok, 1);
        let Some(CanaryDecision::Advance(old)) = decided(&first) else { panic!() };

        // The old revision has no requests any more: it is what it was.
        let last = meter(1, old);
        assert_eq!(last.requests(), (400, 0));
        call(&last, Role::Weight, CallEnd::Ok, 20);
        assert_eq!(decided(&last), Some(CanaryDecision::Promote));
        last.close();
        assert_eq!(decided(&last), None);
    }

    /// Case R12.
    #[test]
    fn a_candidate_that_fails_is_rolled_back_in_any_step() {
        for ended in [CallEnd::Error, CallEnd::Failed] {
            let first = meter(0, serde_json::Value::Null);
            call(&first, Role::Own, CallEnd::Ok, 400);
            call(&first, Role::Weight, ended, 20);
            assert_eq!(decided(&first), Some(CanaryDecision::RollBack));
            let old = serde_json::to_value(first.old.sample()).unwrap();
            let last = meter(1, old);
            call(&last, Role::Weight, ended, 20);
            assert_eq!(decided(&last), Some(CanaryDecision::RollBack));
        }
    }

    /// Case R12.
    #[test]
    fn a_candidate_that_clearly_fails_is_rolled_back_at_a_quarter_of_its_step() {
        let failing = meter(0, serde_json::Value::Null);
        call(&failing, Role::Own, CallEnd::Ok, 100);
        call(&failing, Role::Weight, CallEnd::Failed, 4);
        assert_eq!(decided(&failing), None);
        call(&failing, Role::Weight, CallEnd::Failed, 1);
        assert_eq!(decided(&failing), Some(CanaryDecision::RollBack));
        assert_eq!(
            decided(&failing),
            Some(CanaryDecision::RollBack),
            "the store may have been busy"
        );

        // What looks well at a quarter is not looked at again before the next one.
        let later = meter(0, serde_json::Value::Null);
        call(&later, Role::Own, CallEnd::Ok, 100);
        call(&later, Role::Weight, CallEnd::Ok, 5);
        assert_eq!(decided(&later), None);
        call(&later, Role::Weight, CallEnd::Failed, 4);
        assert_eq!(decided(&later), None);
        call(&later, Role::Weight, CallEnd::Failed, 1);
        assert_eq!(decided(&later), Some(CanaryDecision::RollBack));
    }

    #[test]
    fn the_meter_of_a_step_outlives_a_change_and_no_longer_than_its_users() {
        let meters = CanaryMeters::default();
        let first = meters.get_or(meter(0, serde_json::Value::Null));
        assert!(Arc::ptr_eq(&first, &meters.get_or(meter(0, serde_json::Value::Null))));
        let next = meters.get_or(meter(1, serde_json::Value::Null));
        assert_eq!(meters.live().len(), 2);
        drop((first, next));
        assert!(meters.live().is_empty());
    }
}
