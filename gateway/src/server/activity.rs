//! What one connection is doing, and when it has done nothing useful for too long.
//!
//! The protocol libraries' own timers leave silent clients, half a preface, idle HTTP/2
//! connections and clients that do not read alone, and cost a timer for each request. Here each
//! connection has one coarse timer, and reading, answering and writing only note the time.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{self, Instant};

use crate::{
    config::Timeouts,
    server::{h1::framing::Refused, metrics::End},
};

/// The shortest pause between two looks at a connection.
const PAUSE: Duration = Duration::from_millis(10);
/// Generations of bodies that wait for their client.
const GENERATIONS: usize = 4;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Times in milliseconds since the connection began; 0 stands for never.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    in_flight: AtomicU64,
    /// When the last request ended.
    quiet_since: AtomicU64,
    /// Since when a head has been there that is not complete.
    head_since: AtomicU64,
    /// Since when the client's system has taken nothing that was written.
    blocked_since: AtomicU64,
    /// Bodies that wait until their client takes more, by the generation in which that began.
    waiting: [AtomicU32; GENERATIONS],
    generation: AtomicU32,
    refused: OnceLock<Refused>,
    end: OnceLock<End>,
}

impl Activity {
    /// That of a connection which was accepted at `began`.
    pub(crate) fn new(began: Instant) -> Arc<Self> {
        Arc::new(Self {
            began,
            in_flight: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            waiting: Default::default(),
            generation: AtomicU32::new(0),
            refused: OnceLock::new(),
            end: OnceLock::new(),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        // One more, so that "at once" is not "never".
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }

    /// Notes whether part of a head is there.
    pub(crate) fn head_waits(&self, waits: bool) {
        if !waits {
            self.head_since.store(0, Relaxed);
        } else if self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Notes whether the client's system took what was written.
    pub(crate) fn writes(&self, taken: bool) {
        let blocked = self.blocked_since.load(Relaxed) != 0;
        if taken && blocked {
            self.blocked_since.store(0, Relaxed);
            self.quiet_since.store(self.now(), Relaxed);
        } else if !taken && !blocked {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// Notes that what the client sent is refused.
    pub(crate) fn refuse(&self, refused: Refused) {
        // The first reason is the reason.
        let _ = self.refused.set(refused);
        self.end(End::Malformed);
    }

    /// Why what the client sent last is refused, if it is.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused.get().copied()
    }

    /// Notes why the connection will end, unless that is known.
    pub(crate) fn end(&self, end: End) {
        let _ = self.end.set(end);
    }

    /// Why the connection ends, if it is not for the client's own reasons.
    pub(crate) fn ended(&self) -> Option<End> {
        self.end.get().copied()
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// How long the connection may go on as it is, or why its time is over.
    fn patience(&self, spoken: Protocol, patience: &Timeouts) -> Result<Duration, End> {
        let left = |since: u64, limit: Duration, end: End| {
            let passed = Duration::from_millis(self.now().saturating_sub(since));
            limit.checked_sub(passed).ok_or(end)
        };
        let blocked = self.blocked_since.load(Relaxed);
        if blocked > 0 {
            return left(blocked, patience.stall, End::Stalled);
        }
        if self.in_flight.load(Relaxed) > 0 {
            return Ok(patience.idle);
        }
        let quiet_since = self.quiet_since.load(Relaxed);
        let quiet = if quiet_since == 0 {
            left(0, patience.head, End::Head)?
        } else {
            left(quiet_since, patience.idle, End::Idle)?
        };
        match (spoken, self.head_since.load(Relaxed)) {
            // What arrives on an idle HTTP/2 connection may be pings, which are no request.
            (Protocol::Http2, _) | (Protocol::Http1, 0) => Ok(quiet),
            (Protocol::Http1, since) => Ok(left(since, patience.head, End::Head)?.min(quiet)),
        }
    }

    /// How much is left of `rest`, the time after which a connection rests that has nothing to do.
    fn restless(&self, rest: Duration) -> Duration {
        let quiet_since = self.quiet_since.load(Relaxed);
        let at_work = self.in_flight.load(Relaxed) > 0 || self.blocked_since.load(Relaxed) > 0;
        if quiet_since == 0 || at_work || self.head_since.load(Relaxed) > 0 {
            return rest;
        }
        rest.saturating_sub(Duration::from_millis(self.now().saturating_sub(quiet_since)))
    }

    /// `Err` when the connection has done nothing useful for too long. `Ok` when it may rest,
    /// because there was no request and nothing of one for as long as `rest` says.
    pub(crate) async fn over(
        &self,
        spoken: Protocol,
        patience: &Timeouts,
        rest: Option<Duration>,
    ) -> Result<(), End> {
        // Three generations are at least as long as a client may take nothing.
        let generation = patience.stall / 2;
        let mut next = time::Instant::now() + generation;
        loop {
            let left = self.patience(spoken, patience)?;
            let restless = rest.map_or(Duration::MAX, |rest| self.restless(rest));
            if restless.is_zero() {
                return Ok(());
            }
            // A connection may become slow right after it was looked at: never sleep for longer
            // than the shortest of its times.
            let sleep = left.min(patience.head).min(generation).min(restless).max(PAUSE);
            time::sleep(sleep).await;
            if time::Instant::now() >= next {
                next += generation;
                if self.age() {
                    return Err(End::Stalled);
                }
            }
        }
    }

    /// Begins the next generation. Whether a body has waited for all of the last ones.
    fn age(&self) -> bool {
        let generation = self.generation.load(Relaxed).wrapping_add(1);
        self.generation.store(generation, Relaxed);
        let oldest = generation.wrapping_add(1) as usize % GENERATIONS;
        self.waiting[oldest].load(Relaxed) > 0
    }
}

/// A request that is being answered; its end is noted when this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl InFlight {
    /// A body has given something away and waits until its client wants more. Returns what to
    /// call [`Self::wanted`] with.
    pub(crate) fn waits(&self) -> usize {
        let generation = self.0.generation.load(Relaxed) as usize % GENERATIONS;
        self.0.waiting[generation].fetch_add(1, Relaxed);
        generation
    }

    /// The client wants more.
    pub(crate) fn wanted(&self, generation: usize) {
        self.0.waiting[generation].fetch_sub(1, Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.now(), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Timeouts = Timeouts {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        stall: Duration::from_secs(30),
    };

    /// A connection that began so long ago.
    fn aged(seconds: u64) -> Arc<Activity> {
        Activity::new(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap())
    }

    fn patience(activity: &Activity, spoken: Protocol) -> Result<u64, End> {
        activity.patience(spoken, &PATIENCE).map(|left| left.as_secs())
    }

    #[test]
    fn the_first_request_has_its_time_and_those_after_it_another() {
        for spoken in [Protocol::Http1, Protocol::Http2] {
            assert!(patience(&aged(9), spoken).unwrap() <= 1);
            assert_eq!(patience(&aged(11), spoken), Err(End::Head));
            let activity = aged(80);
            activity.quiet_since.store(6_000, Relaxed);
            assert!(patience(&activity, spoken).unwrap() <= 1);
            activity.quiet_since.store(4_000, Relaxed);
            assert_eq!(patience(&activity, spoken), Err(End::Idle));
        }
    }

    #[test]
    fn a_connection_at_work_has_all_the_time_and_its_idle_time_afterwards() {
        let activity = aged(300);
        let request = activity.begin();
        assert!(patience(&activity, Protocol::Http1).is_ok());
        drop(request);
        assert!(patience(&activity, Protocol::Http1).unwrap() > 70);
    }

    #[test]
    fn a_slow_head_has_its_own_time_but_pings_are_none() {
        let activity = aged(20);
        drop(activity.begin());
        activity.head_waits(true);
        assert!(patience(&activity, Protocol::Http1).unwrap() <= 10);
        // As if it had begun with the connection.
        activity.head_since.store(1, Relaxed);
        assert_eq!(patience(&activity, Protocol::Http1), Err(End::Head));
        assert!(patience(&activity, Protocol::Http2).unwrap() > 70);
        activity.head_waits(false);
        assert!(patience(&activity, Protocol::Http1).unwrap() > 70);
    }

    #[test]
    fn who_has_had_an_answer_and_asks_for_nothing_more_rests() {
        let rest = Duration::from_secs(2);
        let activity = aged(20);
        assert_eq!(activity.restless(rest), rest, "it has not asked for anything yet");
        let request = activity.begin();
        activity.quiet_since.store(1, Relaxed);
        assert_eq!(activity.restless(rest), rest, "one request is answered and one is not");
        drop(request);
        assert!(activity.restless(rest) > Duration::from_secs(1));
        activity.quiet_since.store(1, Relaxed);
        assert_eq!(activity.restless(rest), Duration::ZERO);
        activity.head_waits(true);
        assert_eq!(activity.restless(rest), rest, "another request begins");
        activity.head_waits(false);
        activity.writes(false);
        assert_eq!(activity.restless(rest), rest, "the last answer is not on its way");
    }

    #[test]
    fn who_takes_nothing_is_not_waited_for() {
        let activity = aged(40);
        let _request = activity.begin();
        activity.writes(false);
        assert!(patience(&activity, Protocol::Http1).unwrap() <= 30);
        activity.blocked_since.store(1, Relaxed);
        assert_eq!(patience(&activity, Protocol::Http1), Err(End::Stalled));
        activity.writes(true);
        assert!(patience(&activity, Protocol::Http1).is_ok());
    }

    #[test]
    fn a_body_that_waits_through_the_generations_is_stalled_whatever_the_others_do() {
        let activity = aged(1);
        let (stalled, other) = (activity.begin(), activity.begin());
        let since = stalled.waits();
        for generation in 1..=3 {
            other.wanted(other.waits());
            assert_eq!(activity.age(), generation == 3, "{generation}");
        }
        stalled.wanted(since);
        assert!(!activity.age());
    }
}
