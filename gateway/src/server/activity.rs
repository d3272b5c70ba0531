//! The activity of one connection, and the timeouts for a connection without progress.
//!
//! The timers of the protocol libraries do not cover silent clients, half a preface, idle HTTP/2
//! connections and clients that do not read, and they cost one timer for each request. Here each
//! connection has one coarse timer; reading, answering and writing only note the time.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::{
    config::Timeouts,
    server::{h1::framing::RequestRejection, metrics::CloseReason},
};

/// The shortest pause between two checks of a connection.
const PAUSE: Duration = Duration::from_millis(10);
/// Generations of bodies that wait for their client.
const GENERATIONS: usize = 4;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Times in milliseconds since the connection was accepted; 0 means never.
#[derive(Debug)]
pub(crate) struct Activity {
    accepted: Instant,
    in_flight: AtomicU64,
    /// Those of them that are answered, and of whose body the rest is read.
    lingering: AtomicU64,
    /// When the last request ended.
    quiet_since: AtomicU64,
    /// Since when there is an incomplete head.
    head_since: AtomicU64,
    /// Since when the client's system has accepted no bytes.
    blocked_since: AtomicU64,
    /// Whether the client has sent anything since the last check.
    heard: AtomicBool,
    /// Bodies that wait for their client to read, by the generation in which they began to wait.
    waiting: [AtomicU32; GENERATIONS],
    generation: AtomicU32,
    /// Whether a response is on its way whose end is the end of the connection.
    open_ended: AtomicBool,
    rejection: OnceLock<RequestRejection>,
    close_reason: OnceLock<CloseReason>,
    /// Notified when the connection must make room for another one.
    end: Notify,
}

impl Activity {
    /// The activity of a connection that was accepted at `accepted`.
    pub(crate) fn new(accepted: Instant) -> Arc<Self> {
        Arc::new(Self {
            accepted,
            in_flight: AtomicU64::new(0),
            lingering: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            waiting: Default::default(),
            generation: AtomicU32::new(0),
            open_ended: AtomicBool::new(false),
            rejection: OnceLock::new(),
            close_reason: OnceLock::new(),
            end: Notify::new(),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        // Plus one, because 0 means never.
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }

    /// Notes whether an incomplete head has arrived.
    pub(crate) fn head_is_incomplete(&self, incomplete: bool) {
        if !incomplete {
            self.head_since.store(0, Relaxed);
        } else if self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Notes whether the client's system accepted the bytes that were written.
    pub(crate) fn written(&self, accepted: bool) {
        let blocked = self.blocked_since.load(Relaxed) != 0;
        if accepted && blocked {
            self.blocked_since.store(0, Relaxed);
            self.quiet_since.store(self.now(), Relaxed);
        } else if !accepted && !blocked {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// Notes that the client has sent something.
    pub(crate) fn hears(&self) {
        self.heard.store(true, Relaxed);
    }

    /// Whether the client has sent anything since the last call.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.swap(false, Relaxed)
    }

    /// Whether a request is in progress. One that is answered is not, whatever comes of its body.
    pub(crate) fn is_serving(&self) -> bool {
        self.in_flight.load(Relaxed) > self.lingering.load(Relaxed)
    }

    /// Ends the connection, to make room for another one.
    pub(crate) fn make_room(&self) {
        self.end.notify_one();
    }

    /// Returns when the connection must make room for another one.
    pub(crate) async fn must_end(&self) {
        self.end.notified().await;
    }

    /// Notes whether a response is on its way whose end is the end of the connection.
    pub(crate) fn set_open_ended(&self, open_ended: bool) {
        self.open_ended.store(open_ended, Relaxed);
    }

    pub(crate) fn is_open_ended(&self) -> bool {
        self.open_ended.load(Relaxed)
    }

    /// Notes why the client's bytes are rejected.
    pub(crate) fn reject(&self, rejection: RequestRejection) {
        // Only the first reason counts.
        let _ = self.rejection.set(rejection);
        self.close(CloseReason::Malformed);
    }

    /// Why the client's last bytes were rejected, if they were.
    pub(crate) fn rejection(&self) -> Option<RequestRejection> {
        self.rejection.get().copied()
    }

    /// Notes why the gateway will close the connection. Only the first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        let _ = self.close_reason.set(reason);
    }

    /// Why the gateway closes the connection; `None` if the client does.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason.get().copied()
    }

    pub(crate) fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.in_flight.fetch_add(1, Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// How long the connection may remain in its state, or which timeout has passed.
    fn time_left(&self, protocol: Protocol, timeouts: &Timeouts) -> Result<Duration, CloseReason> {
        let left = |since: u64, limit: Duration, reason: CloseReason| {
            let passed = Duration::from_millis(self.now().saturating_sub(since));
            limit.checked_sub(passed).ok_or(reason)
        };
        let blocked = self.blocked_since.load(Relaxed);
        if blocked > 0 {
            return left(blocked, timeouts.stall, CloseReason::Stalled);
        }
        if self.in_flight.load(Relaxed) > 0 {
            return Ok(timeouts.idle);
        }
        let quiet_since = self.quiet_since.load(Relaxed);
        let quiet = if quiet_since == 0 {
            left(0, timeouts.head, CloseReason::Head)?
        } else {
            left(quiet_since, timeouts.idle, CloseReason::Idle)?
        };
        match (protocol, self.head_since.load(Relaxed)) {
            // Bytes on an idle HTTP/2 connection may be pings, which are no requests.
            (Protocol::Http2, _) | (Protocol::Http1, 0) => Ok(quiet),
            (Protocol::Http1, since) => {
                Ok(left(since, timeouts.head, CloseReason::Head)?.min(quiet))
            }
        }
    }

    /// How much is left of `idle_after`, the time after which a connection without requests counts
    /// as idle.
    fn time_to_idle(&self, idle_after: Duration) -> Duration {
        let quiet_since = self.quiet_since.load(Relaxed);
        let active = self.in_flight.load(Relaxed) > 0 || self.blocked_since.load(Relaxed) > 0;
        if quiet_since == 0 || active || self.head_since.load(Relaxed) > 0 {
            return idle_after;
        }
        idle_after.saturating_sub(Duration::from_millis(self.now().saturating_sub(quiet_since)))
    }

    /// Returns `Err` when a timeout has passed, and `Ok` when there was no request, and no part of
    /// one, for as long as `idle_after`.
    pub(crate) async fn watch(
        &self,
        protocol: Protocol,
        timeouts: &Timeouts,
        idle_after: Option<Duration>,
    ) -> Result<(), CloseReason> {
        // Three generations are at least as long as the stall timeout.
        let generation = timeouts.stall / 2;
        let mut next = time::Instant::now() + generation;
        loop {
            let left = self.time_left(protocol, timeouts)?;
            let to_idle = idle_after.map_or(Duration::MAX, |after| self.time_to_idle(after));
            if to_idle.is_zero() {
                return Ok(());
            }
            // A connection may enter a state with a shorter timeout right after this check: never
            // sleep longer than the shortest timeout.
            let sleep = left.min(timeouts.head).min(generation).min(to_idle).max(PAUSE);
            time::sleep(sleep).await;
            if time::Instant::now() >= next {
                next += generation;
                if self.begin_generation() {
                    return Err(CloseReason::Stalled);
                }
            }
        }
    }

    /// Begins the next generation. Whether a body has waited through all of the last ones.
    fn begin_generation(&self) -> bool {
        let generation = self.generation.load(Relaxed).wrapping_add(1);
        self.generation.store(generation, Relaxed);
        let oldest = generation.wrapping_add(1) as usize % GENERATIONS;
        self.waiting[oldest].load(Relaxed) > 0
    }
}

/// A request that is being answered. Dropping it notes the end of the request.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<Activity>);

/// A request that is answered, and of whose body the rest is read.
#[derive(Debug)]
pub(crate) struct LingeringRequest(ActiveRequest);

impl Drop for LingeringRequest {
    fn drop(&mut self) {
        self.0.0.lingering.fetch_sub(1, Relaxed);
    }
}

impl ActiveRequest {
    /// Notes that the request is answered, and only the rest of its body is read.
    pub(crate) fn linger(self) -> LingeringRequest {
        self.0.lingering.fetch_add(1, Relaxed);
        LingeringRequest(self)
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.0
    }

    /// Notes that a body has handed over a chunk and waits for its client to read. Returns the
    /// argument of [`Self::resumed`].
    pub(crate) fn waits(&self) -> usize {
        let generation = self.0.generation.load(Relaxed) as usize % GENERATIONS;
        self.0.waiting[generation].fetch_add(1, Relaxed);
        generation
    }

    /// Notes that the client has read the chunk.
    pub(crate) fn resumed(&self, generation: usize) {
        self.0.waiting[generation].fetch_sub(1, Relaxed);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.now(), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        stall: Duration::from_secs(30),
        half_close: Duration::ZERO,
    };

    /// A connection that was accepted so long ago.
    fn aged(seconds: u64) -> Arc<Activity> {
        Activity::new(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap())
    }

    fn time_left(activity: &Activity, protocol: Protocol) -> Result<u64, CloseReason> {
        activity.time_left(protocol, &TIMEOUTS).map(|left| left.as_secs())
    }

    #[test]
    fn the_first_request_has_the_head_timeout_and_later_ones_the_idle_timeout() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            assert!(time_left(&aged(9), protocol).unwrap() <= 1);
            assert_eq!(time_left(&aged(11), protocol), Err(CloseReason::Head));
            let activity = aged(80);
            activity.quiet_since.store(6_000, Relaxed);
            assert!(time_left(&activity, protocol).unwrap() <= 1);
            activity.quiet_since.store(4_000, Relaxed);
            assert_eq!(time_left(&activity, protocol), Err(CloseReason::Idle));
        }
    }

    #[test]
    fn an_active_connection_does_not_time_out_and_has_its_idle_timeout_afterwards() {
        let activity = aged(300);
        let request = activity.begin();
        assert!(time_left(&activity, Protocol::Http1).is_ok());
        drop(request);
        assert!(time_left(&activity, Protocol::Http1).unwrap() > 70);
    }

    #[test]
    fn a_slow_head_has_its_own_timeout_but_pings_are_not_heads() {
        let activity = aged(20);
        drop(activity.begin());
        activity.head_is_incomplete(true);
        assert!(time_left(&activity, Protocol::Http1).unwrap() <= 10);
        // As if it had begun with the connection.
        activity.head_since.store(1, Relaxed);
        assert_eq!(time_left(&activity, Protocol::Http1), Err(CloseReason::Head));
        assert!(time_left(&activity, Protocol::Http2).unwrap() > 70);
        activity.head_is_incomplete(false);
        assert!(time_left(&activity, Protocol::Http1).unwrap() > 70);
    }

    #[test]
    fn a_connection_is_idle_some_time_after_its_last_response() {
        let idle_after = Duration::from_secs(2);
        let activity = aged(20);
        assert_eq!(activity.time_to_idle(idle_after), idle_after, "there was no request yet");
        let request = activity.begin();
        activity.quiet_since.store(1, Relaxed);
        assert_eq!(
            activity.time_to_idle(idle_after),
            idle_after,
            "one request is answered and one is not"
        );
        drop(request);
        assert!(activity.time_to_idle(idle_after) > Duration::from_secs(1));
        activity.quiet_since.store(1, Relaxed);
        assert_eq!(activity.time_to_idle(idle_after), Duration::ZERO);
        activity.head_is_incomplete(true);
        assert_eq!(activity.time_to_idle(idle_after), idle_after, "another request begins");
        activity.head_is_incomplete(false);
        activity.written(false);
        assert_eq!(
            activity.time_to_idle(idle_after),
            idle_after,
            "the last response is not written yet"
        );
    }

    #[test]
    fn a_client_that_reads_nothing_times_out() {
        let activity = aged(40);
        let _request = activity.begin();
        activity.written(false);
        assert!(time_left(&activity, Protocol::Http1).unwrap() <= 30);
        activity.blocked_since.store(1, Relaxed);
        assert_eq!(time_left(&activity, Protocol::Http1), Err(CloseReason::Stalled));
        activity.written(true);
        assert!(time_left(&activity, Protocol::Http1).is_ok());
    }

    #[test]
    fn a_body_that_waits_through_all_generations_is_stalled_whatever_other_bodies_do() {
        let activity = aged(1);
        let (stalled, other) = (activity.begin(), activity.begin());
        let since = stalled.waits();
        for generation in 1..=3 {
            other.resumed(other.waits());
            assert_eq!(activity.begin_generation(), generation == 3, "{generation}");
        }
        stalled.resumed(since);
        assert!(!activity.begin_generation());
    }
}
