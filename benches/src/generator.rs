//! A closed loop of HTTP/1.1 requests: each connection sends the next one when the answer to the
//! last has arrived.
//!
//! It shares the machine with the server, so it does little: one request, written beforehand, and
//! a parser that only looks for status and length. Bounded in connections and in time.

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

use crate::{histogram::Histogram, http1};

/// How long requests in flight at the end get. Those that take longer are counted as stalled.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Pause of a connection that failed. A server that refuses is not to be flooded.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What to send, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub addr: SocketAddr,
    /// The whole request.
    pub request: Vec<u8>,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Threads, each with its share of the connections.
    pub threads: usize,
    /// Time before anything is counted.
    pub warm_up: Duration,
    /// Time in which answers are counted.
    pub measure: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// How long answers were counted.
    pub elapsed: Duration,
    /// Answers with status 200, by how long they took.
    pub latency: Histogram,
    /// Other answers and broken connections, the warm-up included.
    pub errors: u64,
    /// The first of those.
    pub first_error: Option<String>,
    /// Connections that still waited for an answer five seconds after the end.
    pub stalled: usize,
}

impl Observed {
    fn fail(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }

    fn merge(&mut self, other: Self) {
        self.latency.merge(&other.latency);
        self.errors += other.errors;
        self.stalled += other.stalled;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// What all connections look at after each answer.
#[derive(Default)]
struct Phase(AtomicU8);

const WARM_UP: u8 = 0;
const MEASURING: u8 = 1;
const DONE: u8 = 2;

/// Runs the plan. `mark` is called when counting begins and when it ends.
///
/// # Errors
/// When a thread cannot be started.
pub fn run<T>(plan: Plan, mut mark: impl FnMut() -> T) -> anyhow::Result<(Observed, T, T)> {
    let plan = Arc::new(plan);
    let phase = Arc::new(Phase::default());
    let threads = plan.threads.min(plan.connections).max(1);
    let mut workers = Vec::new();
    for index in 0..threads {
        let connections = (plan.connections + threads - 1 - index) / threads;
        let (plan, phase) = (Arc::clone(&plan), Arc::clone(&phase));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || runtime.block_on(share(plan, phase, connections));
        workers.push(thread::Builder::new().name("generator".into()).spawn(work)?);
    }
    thread::sleep(plan.warm_up);
    let before = mark();
    let started = Instant::now();
    phase.0.store(MEASURING, Relaxed);
    thread::sleep(plan.measure);
    phase.0.store(DONE, Relaxed);
    let mut all = Observed { elapsed: started.elapsed(), ..Observed::default() };
    let after = mark();
    for worker in workers {
        let share = worker.join().ok().context("a thread of the generator panicked")?;
        all.merge(share);
    }
    Ok((all, before, after))
}

/// One thread's connections.
async fn share(plan: Arc<Plan>, phase: Arc<Phase>, connections: usize) -> Observed {
    let observed = Arc::new(Mutex::new(Observed::default()));
    let end = time::Instant::now() + plan.warm_up + plan.measure + LAST_ANSWERS;
    // They end by themselves, or with this thread's runtime.
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let connection =
                connection(Arc::clone(&plan), Arc::clone(&phase), Arc::clone(&observed));
            tokio::spawn(connection)
        })
        .collect();
    let mut stalled = 0;
    for task in tasks {
        if time::timeout_at(end, task).await.is_err() {
            stalled += 1;
        }
    }
    let mut observed = std::mem::take(&mut *lock(&observed));
    observed.stalled = stalled;
    observed
}

/// One connection, made anew when it breaks.
async fn connection(plan: Arc<Plan>, phase: Arc<Phase>, observed: Arc<Mutex<Observed>>) {
    while phase.0.load(Relaxed) != DONE {
        let Err(error) = exchanges(&plan, &phase, &observed).await else { return };
        lock(&observed).fail(error.to_string());
        time::sleep(AFTER_FAILURE).await;
    }
}

async fn exchanges(plan: &Plan, phase: &Phase, observed: &Mutex<Observed>) -> io::Result<()> {
    let mut stream = TcpStream::connect(plan.addr).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4 << 10);
    loop {
        let started = Instant::now();
        stream.write_all(&plan.request).await?;
        let answer = loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            if let Some(answer) = http1::response(&buffer).map_err(io::Error::other)? {
                break answer;
            }
        };
        if answer.end != buffer.len() {
            return Err(io::Error::other("bytes after the end of the response"));
        }
        let took = started.elapsed();
        match phase.0.load(Relaxed) {
            _ if answer.status != 200 => lock(observed).fail(refusal(&buffer, answer)),
            MEASURING => lock(observed).latency.record(took),
            WARM_UP => {}
            _ => return Ok(()),
        }
        buffer.clear();
        if phase.0.load(Relaxed) == DONE {
            return Ok(());
        }
    }
}

/// An answer that is none, in one line.
fn refusal(buffer: &[u8], answer: http1::Extent) -> String {
    let body = http1::body(buffer, answer);
    let start = String::from_utf8_lossy(&body[..body.len().min(200)]).replace('\n', " ");
    format!("status {}: {start}", answer.status)
}

/// Never contended: the tasks of one thread take turns.
fn lock(observed: &Mutex<Observed>) -> std::sync::MutexGuard<'_, Observed> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    /// A server for the length of a test, and a plan to load it.
    fn plan(path: &str) -> Plan {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let app = Router::new()
                .route("/ok", get(async || "hello"))
                .route("/bad", get(async || StatusCode::BAD_GATEWAY))
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
            connections: 3,
            threads: 2,
            warm_up: Duration::from_millis(20),
            measure: Duration::from_millis(200),
        }
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
        assert_eq!((observed.errors, observed.stalled), (0, 0));
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
    fn a_server_that_never_answers_stalls_nobody() {
        let (observed, ..) = run(plan("/never"), || ()).unwrap();
        assert_eq!((observed.latency.count(), observed.stalled), (0, 3));
    }
}
