//! Sends HTTP/1.1 requests over a number of connections and measures the latency of the answers.
//!
//! In a closed loop each connection sends its next request when the answer to the last has
//! arrived. In an open loop requests are due at a constant rate, whatever the server does
//! (`arrivals`): the next free connection sends the request that is due, and its latency counts
//! from the time when it was due. A pause of the server thus adds to the latency of all requests
//! that had to wait for it.
//!
//! The generator shares the machine with the server, so it does little: it sends one prepared
//! request, and its parser looks only for status, length and body. Connections and time are
//! bounded.

mod arrivals;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime, time,
};

use self::arrivals::Arrivals;
use crate::{histogram::Histogram, http1};

/// Timeout of the requests in flight at the end. Slower ones are counted as unanswered.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Pause after a connection failed, so that the generator does not flood a server that refuses.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Time for all connections to open before the first request of an open loop is due.
const CONNECTING: Duration = Duration::from_millis(50);

/// When to send requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Each connection sends the next request as soon as the last was answered.
    Closed,
    /// All connections together send this many requests a second.
    Open(f64),
}

/// The requests to send, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub addr: SocketAddr,
    /// The whole request.
    pub request: Vec<u8>,
    /// The body that each answer must have.
    pub expected: Vec<u8>,
    /// When to send it.
    pub load: Load,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Threads, each with its share of the connections.
    pub threads: usize,
    /// How often a request is sent again, at once, when it is refused with `retry-after`.
    pub retries: u32,
    /// Time before anything is counted.
    pub warm_up: Duration,
    /// Time in which answers are counted.
    pub measure: Duration,
}

/// The answers that were counted.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The time in which answers were counted.
    pub elapsed: Duration,
    /// Latency of correct answers. In an open loop: of the answers to requests that were due in the
    /// measured time.
    pub latency: Histogram,
    /// Correct answers that arrived in the measured time.
    pub answered: u64,
    /// Latency of refusals (429 and 503 with `retry-after`), counted in the same way as
    /// `latency`.
    pub refused: Histogram,
    /// Other wrong answers and broken connections, the warm-up included.
    pub errors: u64,
    /// The first of these errors.
    pub first_error: Option<String>,
    /// Requests without an answer five seconds after the end. In an open loop this includes
    /// requests that were due and not sent by then.
    pub unanswered: u64,
}

impl Observed {
    /// Requests without a correct answer, refusals included.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors + self.refused.count()
    }

    fn fail(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }

    fn merge(&mut self, other: Self) {
        self.latency.merge(&other.latency);
        self.refused.merge(&other.refused);
        self.answered += other.answered;
        self.errors += other.errors;
        self.unanswered += other.unanswered;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// The phase of the run. Each connection reads it after each answer.
#[derive(Default)]
struct Phase(AtomicU8);

// The initial value 0 is the warm-up.
const MEASURING: u8 = 1;
const DONE: u8 = 2;

/// Runs the plan. Calls `mark` when counting begins and when it ends.
///
/// # Errors
/// When a thread cannot be started.
pub fn run<T>(plan: Plan, mut mark: impl FnMut() -> T) -> anyhow::Result<(Observed, T, T)> {
    let plan = Arc::new(plan);
    let phase = Arc::new(Phase::default());
    let threads = plan.threads.min(plan.connections).max(1);
    let begin = match plan.load {
        Load::Closed => Instant::now(),
        Load::Open(_) => Instant::now() + CONNECTING,
    };
    let mut workers = Vec::new();
    for index in 0..threads {
        let connections = (plan.connections + threads - 1 - index) / threads;
        let arrivals = match plan.load {
            Load::Closed => None,
            Load::Open(rate) => {
                let length = plan.warm_up + plan.measure;
                Some(Arrivals::share(begin, length, rate, index, threads))
            }
        };
        let (plan, phase) = (Arc::clone(&plan), Arc::clone(&phase));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let counted_from = begin + plan.warm_up;
        let work =
            move || runtime.block_on(share(plan, phase, counted_from, connections, arrivals));
        workers.push(thread::Builder::new().name("generator".into()).spawn(work)?);
    }
    thread::sleep((begin + plan.warm_up).saturating_duration_since(Instant::now()));
    let before = mark();
    let started = Instant::now();
    phase.0.store(MEASURING, Relaxed);
    thread::sleep(plan.measure);
    phase.0.store(DONE, Relaxed);
    let mut all = Observed { elapsed: started.elapsed(), ..Observed::default() };
    let after = mark();
    for worker in workers {
        let share = worker.join().ok().context("a thread of the generator panicked")??;
        all.merge(share);
    }
    Ok((all, before, after))
}

/// The state that the connections of one thread share.
struct Share {
    plan: Arc<Plan>,
    phase: Arc<Phase>,
    /// In an open loop, requests that were due before this time belong to the warm-up.
    counted_from: Instant,
    arrivals: Option<Arrivals>,
    observed: Mutex<Observed>,
}

/// One thread's connections.
async fn share(
    plan: Arc<Plan>,
    phase: Arc<Phase>,
    counted_from: Instant,
    connections: usize,
    arrivals: Option<Arrivals>,
) -> anyhow::Result<Observed> {
    let end = counted_from + plan.measure + LAST_ANSWERS;
    let observed = Mutex::default();
    let share = Arc::new(Share { plan, phase, counted_from, arrivals, observed });
    // The tasks end by themselves, or with this thread's runtime.
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let share = Arc::clone(&share);
            tokio::spawn(async move { share.connection().await })
        })
        .collect();
    if let Some(arrivals) = &share.arrivals {
        arrivals.announce().await.context("waiting until requests are due")?;
    }
    let mut waiting = 0;
    for task in tasks {
        if time::timeout_at(end.into(), task).await.is_err() {
            waiting += 1;
        }
    }
    let unsent = share.arrivals.as_ref().map_or(0, Arrivals::left);
    let mut observed = std::mem::take(&mut *lock(&share.observed));
    observed.unanswered = waiting + unsent;
    Ok(observed)
}

impl Share {
    /// One connection, which is opened again when it breaks.
    async fn connection(&self) {
        loop {
            let Err(error) = self.exchanges().await else { return };
            lock(&self.observed).fail(error.to_string());
            time::sleep(AFTER_FAILURE).await;
            if self.is_over() {
                return;
            }
        }
    }

    /// Whether all requests have been sent.
    fn is_over(&self) -> bool {
        self.arrivals.as_ref().map_or(self.phase() == DONE, |arrivals| arrivals.left() == 0)
    }

    fn phase(&self) -> u8 {
        self.phase.0.load(Relaxed)
    }

    async fn exchanges(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.plan.addr).await?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(4 << 10);
        loop {
            let due = match &self.arrivals {
                None => Instant::now(),
                Some(arrivals) => match arrivals.next().await {
                    Some(due) => due,
                    None => return Ok(()),
                },
            };
            for again in (0..=self.plan.retries).rev() {
                buffer.clear();
                stream.write_all(&self.plan.request).await?;
                let answer = read_answer(&mut stream, &mut buffer).await?;
                if again == 0 || !is_refusal(&buffer, answer) {
                    self.count(due, &buffer, answer);
                    break;
                }
            }
            buffer.clear();
            if self.is_over() {
                return Ok(());
            }
        }
    }

    fn count(&self, due: Instant, buffer: &[u8], answer: http1::Extent) {
        let took = due.elapsed();
        let in_time = self.phase() == MEASURING;
        let counts = if self.arrivals.is_some() { due >= self.counted_from } else { in_time };
        let mut observed = lock(&self.observed);
        if is_refusal(buffer, answer) {
            if counts {
                observed.refused.record(took);
            }
            return;
        }
        if answer.status != 200 || !http1::body_is(buffer, answer, &self.plan.expected) {
            observed.fail(in_one_line(buffer, answer));
            return;
        }
        observed.answered += u64::from(in_time);
        if counts {
            observed.latency.record(took);
        }
    }
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<http1::Extent> {
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::other("the server closed the connection"));
        }
        if let Some(answer) = http1::response(buffer).map_err(io::Error::other)? {
            let ends = answer.end == buffer.len();
            let excess = || io::Error::other("bytes after the end of the response");
            return if ends { Ok(answer) } else { Err(excess()) };
        }
    }
}

/// Whether the server refuses the request and says when to try again.
fn is_refusal(buffer: &[u8], answer: http1::Extent) -> bool {
    matches!(answer.status, 429 | 503) && http1::has_header(&buffer[..answer.head], b"retry-after")
}

/// A wrong answer as one line of text.
fn in_one_line(buffer: &[u8], answer: http1::Extent) -> String {
    let body = http1::body(buffer, answer);
    let start = String::from_utf8_lossy(&body[..body.len().min(200)]).replace('\n', " ");
    format!("status {}: {start}", answer.status)
}

/// The lock is never contended: all tasks run on one thread.
fn lock(observed: &Mutex<Observed>) -> std::sync::MutexGuard<'_, Observed> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    /// Starts a server for one test. Returns a plan that loads it in a closed loop.
    fn plan(path: &str) -> Plan {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let app = Router::new()
                .route("/ok", get(async || "hello"))
                .route("/bad", get(async || StatusCode::BAD_GATEWAY))
                .route("/pause", get(pause))
                .route("/never", get(std::future::pending::<StatusCode>));
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        Plan {
            addr,
            request: format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n").into(),
            expected: b"hello".into(),
            load: Load::Closed,
            connections: 3,
            threads: 2,
            retries: 0,
            warm_up: Duration::from_millis(20),
            measure: Duration::from_millis(200),
        }
    }

    async fn pause() -> &'static str {
        time::sleep(Duration::from_millis(50)).await;
        "hello"
    }

    #[test]
    fn answers_are_counted_and_timed() {
        let mut marks = 0;
        let (observed, before, after) = run(plan("/ok"), || {
            marks += 1;
            marks
        })
        .unwrap();
        assert_eq!((before, after), (1, 2));
        assert!(observed.latency.count() > 10);
        assert!(observed.latency.quantile_us(0.5) > 0.0);
        assert_eq!(observed.answered, observed.latency.count());
        assert_eq!((observed.errors, observed.unanswered), (0, 0));
        assert!(observed.elapsed >= Duration::from_millis(200));
    }

    #[test]
    fn other_statuses_are_errors() {
        let (observed, ..) = run(plan("/bad"), || ()).unwrap();
        assert_eq!(observed.latency.count(), 0);
        assert!(observed.errors > 0);
        assert!(observed.first_error.unwrap().starts_with("status 502"));
    }

    #[test]
    fn another_body_is_an_error() {
        let plan = Plan { expected: b"hallo".into(), ..plan("/ok") };
        let (observed, ..) = run(plan, || ()).unwrap();
        assert_eq!(observed.latency.count(), 0);
        assert_eq!(observed.first_error.unwrap(), "status 200: hello");
    }

    #[test]
    fn an_open_loop_sends_at_its_rate() {
        let plan = Plan { load: Load::Open(500.0), ..plan("/ok") };
        let (observed, ..) = run(plan, || ()).unwrap();
        // 500 a second for 0.2 seconds; a request that is due at an end may or may not count.
        assert!(observed.latency.count().abs_diff(100) <= 2, "{}", observed.latency.count());
        assert_eq!((observed.errors, observed.unanswered), (0, 0));
    }

    #[test]
    fn the_wait_for_a_connection_counts_as_latency() {
        // Three connections send at most 60 a second; the last of 200 * 0.22 waits half a second.
        let plan = Plan { load: Load::Open(200.0), ..plan("/pause") };
        let (observed, ..) = run(plan, || ()).unwrap();
        assert!(observed.latency.count().abs_diff(40) <= 2, "{}", observed.latency.count());
        assert!(observed.latency.quantile_us(1.0) > 300_000.0);
        assert_eq!(observed.unanswered, 0);
    }

    #[test]
    fn a_server_that_never_answers_does_not_stall_the_generator() {
        let (observed, ..) = run(plan("/never"), || ()).unwrap();
        assert_eq!((observed.latency.count(), observed.unanswered), (0, 3));
    }
}
