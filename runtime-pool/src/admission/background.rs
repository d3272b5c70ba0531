//! The background runtime, in which guests that compute for long continue.
//!
//! A guest begins on the thread that took its request, because most end within microseconds. One
//! that still computes when the epoch ticks moves to the background runtime, whose threads have the
//! lowest priority: the kernel runs them while all other threads are idle, and preempts them as soon
//! as one is not. So a short guest never waits in a queue behind long ones. A function whose guests
//! were long a moment ago begins in the background.

use std::{
    io,
    num::NonZero,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
    thread,
    time::{Duration, Instant},
};

use rustix::process::setpriority_process;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

use crate::{StartError, engine::cpu_meter::thread_cpu_ns};

/// A guest that computes for longer than this without a pause counts as long. It is measured at
/// ticks, which may come right after its start; and starting a large guest takes a millisecond.
const SHORT: Duration = Duration::from_micros(2_500);
/// How long a function begins in the background after one of its guests was long. Afterwards its next
/// guest may keep a request thread busy for three ticks: with this value for 1 % of the time at most.
const REMEMBERED: Duration = Duration::from_millis(1_500);
/// The lowest priority of the normal scheduling class, which is never starved completely.
const NICE: i32 = 19;

/// The threads for long guests. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct BackgroundRuntime(Option<Runtime>);

impl BackgroundRuntime {
    /// Starts as many threads as there are cores: more would not be faster.
    pub(crate) fn start() -> Result<Self, StartError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(thread::available_parallelism().map_or(1, NonZero::get))
            .thread_name("mayfly-long")
            .enable_all()
            // Each poll of a guest takes a tick, which is long. So after each one the runtime looks
            // for tasks that waited for a timer or a socket, or that have just moved here.
            .event_interval(1)
            .global_queue_interval(1)
            .on_thread_start(|| {
                if let Err(error) = lower_priority() {
                    tracing::warn!(%error, "the threads of the background runtime have normal priority");
                }
            })
            .build()
            .map_err(|cause| StartError {
                what: "starting the background runtime",
                cause: cause.into(),
            })?;
        Ok(Self(Some(runtime)))
    }

    /// Decides for one function which of its guests run here.
    pub(crate) fn scheduler(&self) -> BackgroundScheduler {
        BackgroundScheduler {
            runtime: self.handle().clone(),
            since: Instant::now(),
            long_until_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("only drop takes the runtime").handle()
    }
}

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Without waiting for its tasks: this may be dropped on a thread that must not block.
            runtime.shutdown_background();
        }
    }
}

/// Gives the calling thread the lowest priority.
fn lower_priority() -> io::Result<()> {
    Ok(setpriority_process(None, NICE)?)
}

/// Decides where the guests of one function run.
#[derive(Debug)]
pub(crate) struct BackgroundScheduler {
    runtime: Handle,
    since: Instant,
    /// Until when guests begin in the background, in milliseconds after `since`. Zero for never.
    long_until_ms: AtomicU64,
}

impl BackgroundScheduler {
    /// Runs `guest` to its end, in the current task for as long as it is short. Dropping this future
    /// ends the guest.
    pub(crate) async fn run<F>(&self, guest: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        // Boxed, so that it can move to another task after it has begun.
        self.run_boxed(Box::pin(guest), None).await
    }

    /// As [`Self::run`]. `begun` is set if the guest was polled a moment ago: the longest poll so far.
    pub(crate) async fn run_boxed<F>(
        &self,
        mut guest: Pin<Box<F>>,
        begun: Option<Duration>,
    ) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        if begun.is_some() || !self.starts_in_background() {
            let short = WhileShort {
                guest: guest.as_mut(),
                suspect: begun.is_some_and(|longest| longest > SHORT),
                begun: begun.is_some(),
            };
            if let Foreground::Done(output) = short.await {
                return output;
            }
            self.remember_long();
        }
        let task = self.runtime.spawn(async move {
            let mut measured = MeasuredGuest { guest, longest_ns: 0 };
            let output = (&mut measured).await;
            (output, measured.longest_ns)
        });
        match BackgroundTask(task).await {
            Ok((output, longest_ns)) => {
                if is_long(longest_ns) {
                    self.remember_long();
                }
                output
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Whether the guests of the function begin in the background.
    pub(crate) fn starts_in_background(&self) -> bool {
        let until = self.long_until_ms.load(Relaxed);
        until != 0 && self.now_ms() < until
    }

    fn remember_long(&self) {
        let until = self.now_ms() + REMEMBERED.as_millis() as u64;
        self.long_until_ms.store(until, Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }
}

/// The outcome of a guest in its request's task.
enum Foreground<T> {
    Done(T),
    Long,
}

/// Polls a guest until it is done or turns out to be long. A poll that is long by the wall clock, which
/// costs next to nothing to read, only makes it suspect: on a busy machine the thread may have waited
/// for a core. The next poll is measured in CPU time.
struct WhileShort<'a, F> {
    guest: Pin<&'a mut F>,
    suspect: bool,
    /// Whether the guest itself was polled a moment ago, and is not in the next poll.
    begun: bool,
}

impl<F: Future> Future for WhileShort<'_, F> {
    type Output = Foreground<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.begun) {
            // What this poll takes says nothing about the guest.
            return self.guest.as_mut().poll(cx).map(Foreground::Done);
        }
        if self.suspect {
            let started = thread_cpu_ns();
            return match self.guest.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Foreground::Done(output)),
                Poll::Pending if is_long(thread_cpu_ns() - started) => {
                    Poll::Ready(Foreground::Long)
                }
                Poll::Pending => {
                    self.suspect = false;
                    Poll::Pending
                }
            };
        }
        let started = Instant::now();
        match self.guest.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Foreground::Done(output)),
            Poll::Pending => {
                self.suspect = started.elapsed() > SHORT;
                Poll::Pending
            }
        }
    }
}

/// Whether this much CPU time without a pause makes a guest a long one.
fn is_long(cpu_ns: u64) -> bool {
    u128::from(cpu_ns) > SHORT.as_nanos()
}

/// A guest in the background, and the longest time that it has computed without a pause: in CPU time,
/// because these threads are often preempted.
struct MeasuredGuest<F> {
    guest: Pin<Box<F>>,
    longest_ns: u64,
}

impl<F: Future> Future for MeasuredGuest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let started = thread_cpu_ns();
        let result = self.guest.as_mut().poll(cx);
        self.longest_ns = self.longest_ns.max(thread_cpu_ns() - started);
        result
    }
}

/// A task that is aborted when this is dropped.
struct BackgroundTask<T>(JoinHandle<T>);

impl<T> Future for BackgroundTask<T> {
    type Output = Result<T, Box<dyn std::any::Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(output) => Poll::Ready(Ok(output)),
            Err(error) if error.is_panic() => Poll::Ready(Err(error.into_panic())),
            // The runtime is gone, and with it the pool: this future will be dropped, too.
            Err(_) => Poll::Pending,
        }
    }
}

impl<T> Drop for BackgroundTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use tokio::task::yield_now;

    use super::*;

    fn on_a_long_thread() -> bool {
        thread::current().name() == Some("mayfly-long")
    }

    /// Computes for longer than a short guest may, then yields, as a guest does at a tick.
    async fn compute() {
        let started = thread_cpu_ns();
        while u128::from(thread_cpu_ns() - started) <= 2 * SHORT.as_nanos() {}
        yield_now().await;
    }

    #[tokio::test]
    async fn a_short_guest_stays_where_it_began() {
        let threads = BackgroundRuntime::start().unwrap();
        let moved = threads.scheduler().run(async { on_a_long_thread() }).await;
        assert!(!moved);
    }

    #[tokio::test]
    async fn a_guest_that_was_kept_from_computing_is_not_long() {
        let threads = BackgroundRuntime::start().unwrap();
        let scheduler = threads.scheduler();
        let moved = scheduler.run(async {
            for _ in 0..3 {
                // The wall clock advances, the CPU clock of the thread does not.
                thread::sleep(2 * SHORT);
                yield_now().await;
            }
            on_a_long_thread()
        });
        assert!(!moved.await);
        assert!(!scheduler.run(async { on_a_long_thread() }).await);
    }

    #[tokio::test]
    async fn a_long_guest_goes_on_elsewhere_and_the_next_one_begins_there() {
        let threads = BackgroundRuntime::start().unwrap();
        let scheduler = threads.scheduler();
        let long = async {
            let began = on_a_long_thread();
            compute().await;
            compute().await;
            (began, on_a_long_thread())
        };
        assert_eq!(scheduler.run(long).await, (false, true));
        assert!(scheduler.run(async { on_a_long_thread() }).await);
        assert!(
            !threads.scheduler().run(async { on_a_long_thread() }).await,
            "other functions are not affected"
        );
    }

    #[tokio::test]
    async fn a_guest_that_was_long_in_its_first_poll_moves_after_its_second() {
        let threads = BackgroundRuntime::start().unwrap();
        for (first, moves) in [(2 * SHORT, true), (SHORT / 2, false)] {
            let mut began = false;
            let guest = async move {
                poll_fn(|cx| {
                    // As one that was polled already: the first poll here does not reach the guest.
                    if std::mem::replace(&mut began, true) {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                compute().await;
                on_a_long_thread()
            };
            let moved = threads.scheduler().run_boxed(Box::pin(guest), Some(first)).await;
            assert_eq!(moved, moves, "{first:?}");
        }
    }

    #[tokio::test]
    async fn a_guest_without_a_caller_ends_on_the_background_runtime_too() {
        let threads = BackgroundRuntime::start().unwrap();
        let scheduler = threads.scheduler();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let endless = async move {
            let _held = held;
            loop {
                compute().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(50), scheduler.run(endless)).await;
        assert!(waited.is_err());
        while Arc::strong_count(&alive) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_panic_over_there_is_one_over_here() {
        let threads = BackgroundRuntime::start().unwrap();
        let scheduler = threads.scheduler();
        let panicking = tokio::spawn(async move {
            scheduler
                .run(async {
                    compute().await;
                    compute().await;
                    panic!("on purpose");
                })
                .await
        });
        assert!(panicking.await.unwrap_err().is_panic());
    }
}
