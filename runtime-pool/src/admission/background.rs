//! Guests that compute for long go on behind all others.
//!
//! A guest begins on the thread that took its request, because most are done within microseconds.
//! One that still computes when the epoch ticks is taken from there and goes on on threads of the
//! lowest priority: the kernel runs those while nobody else has anything to do, and takes the
//! core from them the moment somebody has. So no short guest ever waits in one queue with long
//! ones. A function that was long a moment ago begins there.

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

/// What a guest may compute without a pause and still not count as long. A tick, which is when it
/// is looked at, may come right after it has begun; and starting a large guest takes a millisecond.
const SHORT: Duration = Duration::from_micros(2_500);
/// How long a function is taken for a long one after it was. Each time it is not, a guest of it
/// may keep a thread of short ones busy for three ticks: this makes that 1 % of the time at most.
const REMEMBERED: Duration = Duration::from_millis(1_500);
/// The lowest priority that does not starve.
const NICE: i32 = 19;

/// The threads of long guests. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct BackgroundRuntime(Option<Runtime>);

impl BackgroundRuntime {
    /// As many as there are cores: more would not make anything faster.
    pub(crate) fn start() -> Result<Self, StartError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(thread::available_parallelism().map_or(1, NonZero::get))
            .thread_name("mayfly-long")
            .enable_all()
            // Each turn of a guest takes a tick, which is long: between any two of them those
            // come in that waited for a timer or a socket, or have just been moved here.
            .event_interval(1)
            .global_queue_interval(1)
            .on_thread_start(|| {
                if let Err(error) = step_back() {
                    tracing::warn!(%error, "long guests run with the priority of all others");
                }
            })
            .build()
            .map_err(|cause| StartError {
                what: "starting the threads of long guests",
                cause: cause.into(),
            })?;
        Ok(Self(Some(runtime)))
    }

    /// The way to these threads for one function.
    pub(crate) fn lane(&self) -> BackgroundLane {
        BackgroundLane {
            threads: self.handle().clone(),
            since: Instant::now(),
            long_until_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("the runtime leaves only when this is dropped").handle()
    }
}

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Without waiting: this may be dropped where nobody may wait.
            runtime.shutdown_background();
        }
    }
}

/// Makes the calling thread give way to all others.
fn step_back() -> io::Result<()> {
    Ok(setpriority_process(None, NICE)?)
}

/// Where the guests of one function run.
#[derive(Debug)]
pub(crate) struct BackgroundLane {
    threads: Handle,
    since: Instant,
    /// Until when guests begin on the threads of long ones, in milliseconds since `since`.
    long_until_ms: AtomicU64,
}

impl BackgroundLane {
    /// Runs `guest` to its end: here for as long as it is short. Dropping this future ends it.
    pub(crate) async fn run<F>(&self, guest: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        // Boxed, so that it can go elsewhere after it has begun.
        let mut guest = Box::pin(guest);
        if !self.was_long() {
            let short = WhileShort { guest: guest.as_mut(), suspect: false };
            if let Ended::Done(output) = short.await {
                return output;
            }
            self.remember();
        }
        let task = self.threads.spawn(async move {
            let mut measured = Measured { guest, longest_ns: 0 };
            let output = (&mut measured).await;
            (output, measured.longest_ns)
        });
        match Task(task).await {
            Ok((output, longest_ns)) => {
                if is_long(longest_ns) {
                    self.remember();
                }
                output
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Whether its guests begin on the threads of long ones.
    pub(crate) fn was_long(&self) -> bool {
        let until = self.long_until_ms.load(Relaxed);
        until != 0 && self.now_ms() < until
    }

    fn remember(&self) {
        let until = self.now_ms() + REMEMBERED.as_millis() as u64;
        self.long_until_ms.store(until, Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }
}

/// How a guest's time on the thread that took its request ended.
enum Ended<T> {
    Done(T),
    Long,
}

/// Polls a guest until it is done or turns out to be long. The clock on the wall, which costs next
/// to nothing, only raises the suspicion: on a busy machine it goes on while the thread waits for
/// a core. The turn after that is measured in CPU time.
struct WhileShort<'a, F> {
    guest: Pin<&'a mut F>,
    suspect: bool,
}

impl<F: Future> Future for WhileShort<'_, F> {
    type Output = Ended<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.suspect {
            let started = thread_cpu_ns();
            return match self.guest.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ended::Done(output)),
                Poll::Pending if is_long(thread_cpu_ns() - started) => Poll::Ready(Ended::Long),
                Poll::Pending => {
                    self.suspect = false;
                    Poll::Pending
                }
            };
        }
        let started = Instant::now();
        match self.guest.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ended::Done(output)),
            Poll::Pending => {
                self.suspect = started.elapsed() > SHORT;
                Poll::Pending
            }
        }
    }
}

/// Whether a guest that has computed for so long without a pause is a long one.
fn is_long(cpu_ns: u64) -> bool {
    u128::from(cpu_ns) > SHORT.as_nanos()
}

/// A guest on a thread of long ones, and the most that it has computed without a pause. That is
/// CPU time: these threads wait for all others.
struct Measured<F> {
    guest: Pin<Box<F>>,
    longest_ns: u64,
}

impl<F: Future> Future for Measured<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let started = thread_cpu_ns();
        let result = self.guest.as_mut().poll(cx);
        self.longest_ns = self.longest_ns.max(thread_cpu_ns() - started);
        result
    }
}

/// A task that is ended when this is dropped.
struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T, Box<dyn std::any::Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(output) => Poll::Ready(Ok(output)),
            Err(error) if error.is_panic() => Poll::Ready(Err(error.into_panic())),
            // The threads are gone, and with them the pool: nobody waits for this any more.
            Err(_) => Poll::Pending,
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::yield_now;

    use super::*;

    fn on_a_long_thread() -> bool {
        thread::current().name() == Some("mayfly-long")
    }

    /// Keeps its thread for longer than a short guest may, then lets go of it, as a guest does
    /// at a tick.
    async fn compute() {
        let started = thread_cpu_ns();
        while u128::from(thread_cpu_ns() - started) <= 2 * SHORT.as_nanos() {}
        yield_now().await;
    }

    #[tokio::test]
    async fn a_short_guest_stays_where_it_began() {
        let threads = BackgroundRuntime::start().unwrap();
        let moved = threads.lane().run(async { on_a_long_thread() }).await;
        assert!(!moved);
    }

    #[tokio::test]
    async fn a_guest_that_was_kept_from_computing_is_not_long() {
        let threads = BackgroundRuntime::start().unwrap();
        let lane = threads.lane();
        let moved = lane.run(async {
            for _ in 0..3 {
                // The clock on the wall goes on; that of the thread does not.
                thread::sleep(2 * SHORT);
                yield_now().await;
            }
            on_a_long_thread()
        });
        assert!(!moved.await);
        assert!(!lane.run(async { on_a_long_thread() }).await);
    }

    #[tokio::test]
    async fn a_long_guest_goes_on_elsewhere_and_the_next_one_begins_there() {
        let threads = BackgroundRuntime::start().unwrap();
        let lane = threads.lane();
        let long = async {
            let began = on_a_long_thread();
            compute().await;
            compute().await;
            (began, on_a_long_thread())
        };
        assert_eq!(lane.run(long).await, (false, true));
        assert!(lane.run(async { on_a_long_thread() }).await);
        assert!(!threads.lane().run(async { on_a_long_thread() }).await, "others are not meant");
    }

    #[tokio::test]
    async fn a_guest_that_nobody_waits_for_ends_wherever_it_is() {
        let threads = BackgroundRuntime::start().unwrap();
        let lane = threads.lane();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let endless = async move {
            let _held = held;
            loop {
                compute().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(50), lane.run(endless)).await;
        assert!(waited.is_err());
        while Arc::strong_count(&alive) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_panic_over_there_is_one_over_here() {
        let threads = BackgroundRuntime::start().unwrap();
        let lane = threads.lane();
        let panicking = tokio::spawn(async move {
            lane.run(async {
                compute().await;
                compute().await;
                panic!("on purpose");
            })
            .await
        });
        assert!(panicking.await.unwrap_err().is_panic());
    }
}
