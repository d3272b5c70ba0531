//! The run queue: while all processors are busy, guests wait here before they begin.
//!
//! A guest begins in the task of its request, as soon as a thread polls that task. While threads are
//! free nothing needs to be arranged. When they are not, requests whose bytes have arrived wait behind
//! the guests of other requests, and the gateway does not even know of them. So from then on requests
//! are only read, which takes microseconds, and their guests wait in a queue. Each pass over the tasks
//! of a thread lets a few of them begin. A request whose guest would wait for too long is refused at
//! once.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Poll,
    time::{Duration, Instant},
};

use prometheus::Gauge;
use tokio::{
    sync::Semaphore,
    task::{self, JoinSet},
    time,
};

/// The time between two measurements of the scheduling delay.
const BEAT: Duration = Duration::from_millis(20);
/// Guests begin to queue when a task waits for a thread for longer than this.
const BUSY: Duration = Duration::from_millis(20);
/// They stop when the queue was empty at this many measurements in a row.
const CALM: u32 = 25;
/// How long a pass over the tasks of a thread should take. Requests that arrive meanwhile wait.
const PASS: Duration = Duration::from_millis(1);
/// The most guests that begin in one pass.
const BATCH: usize = 64;
/// The value of `due_us` while guests queue.
const QUEUING: u64 = 0;
/// The value of `due_us` before `watch` runs.
const UNWATCHED: u64 = u64::MAX;

/// The queue before the processors. On a cache line of its own: each request reads it, and writes to
/// neighbouring data must not slow that down.
#[repr(align(128))]
#[derive(Debug)]
pub struct RunQueue {
    began: Instant,
    /// When the watching task is due to run next, in microseconds after `began`.
    due_us: AtomicU64,
    /// Guests in the queue.
    waiting: AtomicUsize,
    /// The time from one guest that begins to the next while some wait. Zero while unknown.
    interval_ns: AtomicU64,
    /// Permits to begin.
    permits: Semaphore,
    /// How many permits were granted.
    granted: AtomicU64,
    /// The longest that a guest may wait. Zero means without limit.
    max: Duration,
    /// The scheduling delay in seconds, as a metric.
    delay: Gauge,
}

impl RunQueue {
    /// Guests do not queue before [`Self::watch`] runs.
    pub(crate) fn new(max: Duration, delay: Gauge) -> Self {
        Self {
            began: Instant::now(),
            due_us: AtomicU64::new(UNWATCHED),
            waiting: AtomicUsize::new(0),
            interval_ns: AtomicU64::new(0),
            permits: Semaphore::new(0),
            granted: AtomicU64::new(0),
            max,
            delay,
        }
    }

    /// Whether a guest that joined the queue at this moment would wait for too long.
    pub fn too_long(&self) -> bool {
        let waiting = self.waiting.load(Relaxed);
        waiting > 0 && !self.max.is_zero() && self.expected_wait(waiting) > self.max
    }

    /// Whether the threads are so busy that guests must queue. `now` may be a moment ago.
    pub fn is_busy(&self, now: Instant) -> bool {
        match self.due_us.load(Acquire) {
            UNWATCHED => false,
            QUEUING => true,
            due => self.since(now, due) > BUSY,
        }
    }

    /// Takes a permit to begin, if one is free.
    pub(crate) fn try_enter(&self) -> bool {
        self.permits.try_acquire().map(|permit| permit.forget()).is_ok()
    }

    /// Waits for a permit to begin.
    pub(crate) async fn wait(&self) {
        let _queued = QueuedGuest::new(&self.waiting);
        // The semaphore is never closed.
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
    }

    /// Measures the scheduling delay of the runtime that runs this and that has this many threads, and
    /// makes guests queue while they are busy. Runs until dropped.
    pub async fn watch(self: Arc<Self>, threads: usize) {
        loop {
            let due = self.began.elapsed() + BEAT;
            self.due_us.store(u64::try_from(due.as_micros()).unwrap_or(UNWATCHED), Release);
            time::sleep(BEAT).await;
            // A task that was just woken runs before all others. This takes it to their end.
            task::yield_now().await;
            let delay = self.delay(Instant::now());
            self.delay.set(delay.as_secs_f64());
            // A request may have seen the threads busy a moment ago, and its guest may wait.
            if delay > BUSY || self.waiting.load(Relaxed) > 0 {
                self.ration(threads).await;
            }
        }
    }

    /// Makes guests queue until the queue has been empty for a while.
    async fn ration(self: &Arc<Self>, threads: usize) {
        self.due_us.store(QUEUING, Release);
        self.interval_ns.store(0, Relaxed);
        let mut granting = JoinSet::new();
        for _ in 0..threads {
            granting.spawn(Arc::clone(self).grant());
        }
        let mut calm = 0;
        while calm < CALM {
            let (since, granted) = (Instant::now(), self.granted.load(Relaxed));
            time::sleep(BEAT).await;
            let waiting = self.waiting.load(Relaxed);
            calm = if waiting == 0 { calm + 1 } else { 0 };
            self.measure(waiting, self.granted.load(Relaxed) - granted, since.elapsed());
            self.delay.set(self.expected_wait(waiting).as_secs_f64());
        }
    }

    /// Learns the interval from how many guests began within a time. Without guests that still wait
    /// the number says nothing.
    fn measure(&self, waiting: usize, granted: u64, within: Duration) {
        if waiting == 0 || granted == 0 {
            return;
        }
        let latest = within.as_nanos() as u64 / granted;
        let interval = match self.interval_ns.load(Relaxed) {
            0 => latest,
            before => (before * 3 + latest) / 4,
        };
        self.interval_ns.store(interval.max(1), Relaxed);
    }

    /// Grants permits each time that the thread which runs this has polled all its other tasks.
    async fn grant(self: Arc<Self>) {
        let mut batch: usize = 1;
        let mut since = Instant::now();
        loop {
            let waiting = self.waiting.load(Relaxed);
            if waiting == 0 {
                // Guests that come meanwhile need not wait.
                self.permits.add_permits(batch.saturating_sub(self.permits.available_permits()));
                time::sleep(PASS).await;
                since = Instant::now();
                continue;
            }
            let permits = batch.min(waiting);
            self.permits.add_permits(permits);
            self.granted.fetch_add(permits as u64, Relaxed);
            // The first lets the runtime poll the sockets when no task is ready. The second lets the
            // tasks that these have woken run first.
            task::yield_now().await;
            step_behind().await;
            let took = since.elapsed();
            since = Instant::now();
            batch = next_batch(batch, took);
        }
    }

    /// How long the watching task has been due.
    fn delay(&self, now: Instant) -> Duration {
        self.since(now, self.due_us.load(Acquire))
    }

    fn since(&self, now: Instant, due_us: u64) -> Duration {
        let now = now.saturating_duration_since(self.began);
        now.saturating_sub(Duration::from_micros(due_us))
    }

    /// How long the last of this many waits in the queue.
    fn expected_wait(&self, waiting: usize) -> Duration {
        let interval = self.interval_ns.load(Relaxed);
        Duration::from_nanos(interval.saturating_mul(waiting as u64))
    }
}

/// The number of guests that begin in the next pass, after one with `batch` of them took this long.
fn next_batch(batch: usize, took: Duration) -> usize {
    if took > 2 * PASS {
        (batch / 2).max(1)
    } else if took < PASS / 2 {
        (batch * 2).min(BATCH)
    } else {
        batch
    }
}

/// Lets all tasks run that are ready.
async fn step_behind() {
    let mut stepped = false;
    poll_fn(|context| {
        if stepped {
            return Poll::Ready(());
        }
        stepped = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Counts a guest as waiting until dropped.
struct QueuedGuest<'a>(&'a AtomicUsize);

impl<'a> QueuedGuest<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for QueuedGuest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use prometheus::Gauge;

    use super::*;

    const GUEST: Duration = Duration::from_millis(2);

    fn run_queue(max: Duration) -> Arc<RunQueue> {
        let gauge = Gauge::new("behind", "in a test").unwrap();
        Arc::new(RunQueue::new(max, gauge))
    }

    /// The steps of a request: it records that it was read, waits in the queue if it must, records
    /// that its guest has begun, and computes.
    async fn request(
        run_queue: Arc<RunQueue>,
        name: usize,
        seen: Arc<Mutex<Vec<(&'static str, usize)>>>,
    ) {
        seen.lock().unwrap().push(("looked at", name));
        if run_queue.is_busy(Instant::now()) {
            run_queue.wait().await;
        }
        seen.lock().unwrap().push(("began", name));
        let since = Instant::now();
        while since.elapsed() < GUEST {}
    }

    fn only(what: &str, seen: &[(&'static str, usize)]) -> Vec<usize> {
        seen.iter().filter(|(event, _)| *event == what).map(|(_, name)| *name).collect()
    }

    #[tokio::test]
    async fn a_run_queue_without_its_watching_task_is_never_busy() {
        let run_queue = run_queue(Duration::ZERO);
        assert!(!run_queue.is_busy(Instant::now() + Duration::from_hours(1)));
        assert!(!run_queue.too_long());
    }

    #[tokio::test]
    async fn while_threads_are_busy_all_requests_are_read_before_most_of_them_begin() {
        const REQUESTS: usize = 100;
        let run_queue = run_queue(Duration::ZERO);
        let watch = tokio::spawn(Arc::clone(&run_queue).watch(1));
        task::yield_now().await;
        // Keeps the only thread busy for so long that the watching task is late.
        std::thread::sleep(BEAT + 2 * BUSY);
        assert!(run_queue.is_busy(Instant::now()));
        let seen = Arc::default();
        let all = (0..REQUESTS)
            .map(|name| tokio::spawn(request(Arc::clone(&run_queue), name, Arc::clone(&seen))));
        for request in all.collect::<Vec<_>>() {
            request.await.unwrap();
        }
        let seen = seen.lock().unwrap().clone();
        let looks = seen.iter().take_while(|(event, _)| *event == "looked at").count();
        assert!(looks >= REQUESTS - 1, "{seen:?}");
        assert_eq!(
            only("began", &seen),
            (0..REQUESTS).collect::<Vec<_>>(),
            "first come, first served"
        );
        // When the queue has been empty for a while, guests no longer queue.
        while run_queue.due_us.load(Acquire) == QUEUING {
            time::sleep(BEAT).await;
        }
        assert!(!run_queue.is_busy(Instant::now()));
        assert_eq!(run_queue.waiting.load(Relaxed), 0);
        watch.abort();
    }

    #[tokio::test]
    async fn a_wait_that_would_be_too_long_is_reported_and_cancelled_waits_do_not_count() {
        let run_queue = run_queue(Duration::from_millis(100));
        let waiting: Vec<_> = (0..60)
            .map(|_| {
                let run_queue = Arc::clone(&run_queue);
                tokio::spawn(async move { run_queue.wait().await })
            })
            .collect();
        task::yield_now().await;
        assert!(!run_queue.too_long(), "nothing is known yet about the interval");
        run_queue.measure(60, 10, 10 * GUEST);
        assert_eq!(run_queue.expected_wait(60), 60 * GUEST);
        assert!(run_queue.too_long());
        for gone in &waiting[..20] {
            gone.abort();
        }
        task::yield_now().await;
        assert!(!run_queue.too_long());
        let watch = tokio::spawn(Arc::clone(&run_queue).watch(1));
        for still in waiting.into_iter().skip(20) {
            still.await.unwrap();
        }
        watch.abort();
    }

    #[test]
    fn a_pass_lasts_about_as_long_as_it_should() {
        assert_eq!(next_batch(8, 4 * PASS), 4);
        assert_eq!(next_batch(1, 4 * PASS), 1);
        assert_eq!(next_batch(8, PASS), 8);
        assert_eq!(next_batch(8, PASS / 4), 16);
        assert_eq!(next_batch(BATCH, PASS / 4), BATCH);
    }
}
