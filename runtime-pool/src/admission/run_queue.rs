//! Guests take turns at the processors while those are all busy.
//!
//! A guest begins in the task of its request, as soon as a thread looks at that: as long as threads
//! come by at once, there is nothing to arrange. When they do not, requests whose bytes have
//! arrived wait behind the guests of others without anybody knowing of them. So from there on
//! requests are only looked at, which takes microseconds, and their guests stand in a line from
//! which each pass over the threads' tasks lets a few begin. Whoever would have to stand there for
//! too long is told at once.

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

/// From one look at the threads to the next.
const BEAT: Duration = Duration::from_millis(20);
/// Guests take turns from when a task waits for a thread for longer than this.
const BUSY: Duration = Duration::from_millis(20);
/// They do so until nobody has waited for so many beats.
const CALM: u32 = 25;
/// How long a pass over the tasks of a thread should take: what arrives meanwhile waits for it.
const PASS: Duration = Duration::from_millis(1);
/// The most guests that begin in one pass.
const BATCH: usize = 64;
/// In `due_us`: guests take turns.
const RATIONED: u64 = 0;
/// In `due_us`: nobody watches the threads.
const UNWATCHED: u64 = u64::MAX;

/// The line before the processors. On a cache line of its own: each request reads it, and nobody
/// should wait for what others write beside it.
#[repr(align(128))]
#[derive(Debug)]
pub struct RunQueue {
    began: Instant,
    /// When the watching task will have its turn if no other is before it, in microseconds.
    due_us: AtomicU64,
    /// Guests that wait for their turn.
    waiting: AtomicUsize,
    /// The time from one turn to the next while some wait; zero for not known yet.
    interval_ns: AtomicU64,
    /// Turns that may be taken.
    free: Semaphore,
    /// Turns that were given.
    given: AtomicU64,
    /// The longest that anybody should stand in the line; zero for as long as it takes.
    max: Duration,
    /// What an operator sees of it, in seconds.
    behind: Gauge,
}

impl RunQueue {
    /// Nobody waits, and nobody has to until somebody [watches](Self::watch).
    pub(crate) fn new(max: Duration, behind: Gauge) -> Self {
        Self {
            began: Instant::now(),
            due_us: AtomicU64::new(UNWATCHED),
            waiting: AtomicUsize::new(0),
            interval_ns: AtomicU64::new(0),
            free: Semaphore::new(0),
            given: AtomicU64::new(0),
            max,
            behind,
        }
    }

    /// Whether whoever came now would stand in the line for too long.
    pub fn too_long(&self) -> bool {
        let waiting = self.waiting.load(Relaxed);
        waiting > 0 && !self.max.is_zero() && self.wait(waiting) > self.max
    }

    /// Whether the threads are so busy that guests must take turns. `now` may be a moment ago.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        match self.due_us.load(Acquire) {
            UNWATCHED => false,
            RATIONED => true,
            due => self.since(now, due) > BUSY,
        }
    }

    /// Takes a turn if one is free.
    pub(crate) fn try_take(&self) -> bool {
        self.free.try_acquire().map(|turn| turn.forget()).is_ok()
    }

    /// Waits for a turn.
    pub(crate) async fn take(&self) {
        let _waiting = Waiting::new(&self.waiting);
        // It is never closed.
        if let Ok(turn) = self.free.acquire().await {
            turn.forget();
        }
    }

    /// Watches the threads on which this runs, which are so many, and lets guests take turns on
    /// them while they are busy. Runs until dropped.
    pub async fn watch(self: Arc<Self>, threads: usize) {
        loop {
            let due = self.began.elapsed() + BEAT;
            self.due_us.store(u64::try_from(due.as_micros()).unwrap_or(UNWATCHED), Release);
            time::sleep(BEAT).await;
            // Who was woken is before all others; this takes it to the end of the line.
            task::yield_now().await;
            let behind = self.behind(Instant::now());
            self.behind.set(behind.as_secs_f64());
            // Somebody may have seen the threads busy a moment before they no longer were.
            if behind > BUSY || self.waiting.load(Relaxed) > 0 {
                self.ration(threads).await;
            }
        }
    }

    /// Lets guests take turns until nobody waits any more.
    async fn ration(self: &Arc<Self>, threads: usize) {
        self.due_us.store(RATIONED, Release);
        self.interval_ns.store(0, Relaxed);
        let mut givers = JoinSet::new();
        for _ in 0..threads {
            givers.spawn(Arc::clone(self).give());
        }
        let mut calm = 0;
        while calm < CALM {
            let (since, given) = (Instant::now(), self.given.load(Relaxed));
            time::sleep(BEAT).await;
            let waiting = self.waiting.load(Relaxed);
            calm = if waiting == 0 { calm + 1 } else { 0 };
            self.measure(waiting, self.given.load(Relaxed) - given, since.elapsed());
            self.behind.set(self.wait(waiting).as_secs_f64());
        }
    }

    /// Notes how many turns were given within a time at the end of which some still waited.
    fn measure(&self, waiting: usize, given: u64, within: Duration) {
        if waiting == 0 || given == 0 {
            return;
        }
        let latest = within.as_nanos() as u64 / given;
        let interval = match self.interval_ns.load(Relaxed) {
            0 => latest,
            before => (before * 3 + latest) / 4,
        };
        self.interval_ns.store(interval.max(1), Relaxed);
    }

    /// Gives turns, each time that the thread where this runs has looked at everything else.
    async fn give(self: Arc<Self>) {
        let mut batch: usize = 1;
        let mut since = Instant::now();
        loop {
            let waiting = self.waiting.load(Relaxed);
            if waiting == 0 {
                // Whoever comes meanwhile need not wait.
                self.free.add_permits(batch.saturating_sub(self.free.available_permits()));
                time::sleep(PASS).await;
                since = Instant::now();
                continue;
            }
            let turns = batch.min(waiting);
            self.free.add_permits(turns);
            self.given.fetch_add(turns as u64, Relaxed);
            // The first asks the sockets when no task is left, the second lets those that they
            // woke go before.
            task::yield_now().await;
            step_behind().await;
            let took = since.elapsed();
            since = Instant::now();
            batch = next_batch(batch, took);
        }
    }

    /// How long the watching task has waited by now.
    fn behind(&self, now: Instant) -> Duration {
        self.since(now, self.due_us.load(Acquire))
    }

    fn since(&self, now: Instant, due_us: u64) -> Duration {
        let now = now.saturating_duration_since(self.began);
        now.saturating_sub(Duration::from_micros(due_us))
    }

    /// How long the last of so many has to stand in the line.
    fn wait(&self, waiting: usize) -> Duration {
        let interval = self.interval_ns.load(Relaxed);
        Duration::from_nanos(interval.saturating_mul(waiting as u64))
    }
}

/// So many guests begin in the next pass, if one with `batch` took so long.
fn next_batch(batch: usize, took: Duration) -> usize {
    if took > 2 * PASS {
        (batch / 2).max(1)
    } else if took < PASS / 2 {
        (batch * 2).min(BATCH)
    } else {
        batch
    }
}

/// Goes behind all tasks that are ready by now.
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

/// One that waits; no longer when this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
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

    fn turns(max: Duration) -> Arc<RunQueue> {
        let gauge = Gauge::new("behind", "in a test").unwrap();
        Arc::new(RunQueue::new(max, gauge))
    }

    /// What a request does here: it notes that it was looked at, and its guest computes when it has
    /// its turn, and notes that.
    async fn request(
        turns: Arc<RunQueue>,
        name: usize,
        seen: Arc<Mutex<Vec<(&'static str, usize)>>>,
    ) {
        seen.lock().unwrap().push(("looked at", name));
        if turns.is_busy(Instant::now()) {
            turns.take().await;
        }
        seen.lock().unwrap().push(("began", name));
        let since = Instant::now();
        while since.elapsed() < GUEST {}
    }

    fn only(what: &str, seen: &[(&'static str, usize)]) -> Vec<usize> {
        seen.iter().filter(|(event, _)| *event == what).map(|(_, name)| *name).collect()
    }

    #[tokio::test]
    async fn nobody_takes_turns_where_nobody_watches() {
        let turns = turns(Duration::ZERO);
        assert!(!turns.is_busy(Instant::now() + Duration::from_hours(1)));
        assert!(!turns.too_long());
    }

    #[tokio::test]
    async fn while_threads_are_busy_all_are_looked_at_before_any_but_a_few_begin() {
        const REQUESTS: usize = 100;
        let turns = turns(Duration::ZERO);
        let watch = tokio::spawn(Arc::clone(&turns).watch(1));
        task::yield_now().await;
        // One that keeps the only thread for so long that the watch is late.
        std::thread::sleep(BEAT + 2 * BUSY);
        assert!(turns.is_busy(Instant::now()));
        let seen = Arc::default();
        let all = (0..REQUESTS)
            .map(|name| tokio::spawn(request(Arc::clone(&turns), name, Arc::clone(&seen))));
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
        // When all is calm again, nobody takes turns.
        while turns.due_us.load(Acquire) == RATIONED {
            time::sleep(BEAT).await;
        }
        assert!(!turns.is_busy(Instant::now()));
        assert_eq!(turns.waiting.load(Relaxed), 0);
        watch.abort();
    }

    #[tokio::test]
    async fn who_would_wait_for_too_long_is_told_and_who_gives_up_is_not_counted() {
        let turns = turns(Duration::from_millis(100));
        let waiting: Vec<_> = (0..60)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move { turns.take().await })
            })
            .collect();
        task::yield_now().await;
        assert!(!turns.too_long(), "nobody knows yet how long it takes");
        turns.measure(60, 10, 10 * GUEST);
        assert_eq!(turns.wait(60), 60 * GUEST);
        assert!(turns.too_long());
        for gone in &waiting[..20] {
            gone.abort();
        }
        task::yield_now().await;
        assert!(!turns.too_long());
        let watch = tokio::spawn(Arc::clone(&turns).watch(1));
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
