//! Reads: on the calling thread where they are short, else on threads of their own.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use runtime_pool::Refused;
use rusqlite::{Connection, ErrorCode, Result};
use tokio::sync::oneshot;

use crate::sqlite::{
    file::{self, OpenError},
    health::Health,
    pace::Pace,
};

/// Threads that read what may take long: as many as processors, within these bounds. They wait for one disk.
const THREADS: (usize, usize) = (2, 8);
/// Reads that wait for a thread. Arbitrary, large enough.
const WAITING_MAX: usize = 1_024;

/// The connections that read.
pub(super) struct Readers {
    path: PathBuf,
    /// Connections for the calling threads, as many as have read at the same time.
    idle: Mutex<Vec<Connection>>,
    jobs: SyncSender<ReadMessage>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<ReadState>,
}

#[derive(Debug)]
struct ReadState {
    pace: Pace,
    health: Health,
}

enum ReadMessage {
    Read(Box<dyn FnOnce(&Connection) + Send>),
    Stop,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Readers {
    /// Starts the threads that read. They end with [`close`](Self::close), or with this.
    pub(super) fn start(path: PathBuf) -> Result<Self, OpenError> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let (least, most) = THREADS;
        let count = thread::available_parallelism().map_or(least, |count| count.get());
        let mut threads = Vec::new();
        for _ in 0..count.clamp(least, most) {
            let (waiting, file) = (Arc::clone(&waiting), file::open_reader(&path, true)?);
            let thread = thread::Builder::new()
                .name("mayfly-kv-read".to_owned())
                .spawn(move || read_all(&file, &waiting))
                .map_err(OpenError::io("starting a thread that reads stores"))?;
            threads.push(thread);
        }
        let health = Health::new("reading stores");
        let shared = Arc::new(ReadState { pace: Pace::default(), health });
        Ok(Self { path, idle: Mutex::default(), jobs, threads: Mutex::new(threads), shared })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_slow(&self) -> bool {
        self.shared.pace.is_slow()
    }

    /// Reads on this thread. `None` if reads are slow just now, or if this one has failed.
    pub(super) fn read_now<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Option<T> {
        let pace = &self.shared.pace;
        if pace.is_slow() {
            return None;
        }
        let begun = Instant::now();
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle().pop();
        let file = match found {
            Some(file) => file,
            None => file::open_reader(&self.path, false).ok()?,
        };
        // A connection that has failed is not used again.
        let read = read(&file).ok()?;
        idle().push(file);
        pace.took(begun.elapsed());
        Some(read)
    }

    /// Reads on a thread of ours. Not at all if the caller has gone before.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let job = move |file: &Connection| {
            if answer.is_closed() {
                return;
            }
            let begun = Instant::now();
            let outcome = read(file);
            shared.pace.took(begun.elapsed());
            // An error means that the caller has gone.
            let _ = answer.send(outcome.map_err(|error| shared.refused(&error)));
        };
        self.jobs.try_send(ReadMessage::Read(Box::new(job))).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => Refused::Unavailable,
        })?;
        answered.await.unwrap_or(Err(Refused::Unavailable))
    }

    /// Ends the threads after what waits.
    pub(super) fn close(&self) {
        let threads: Vec<_> =
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for _ in &threads {
            // An error means that none of them is there.
            let _ = self.jobs.send(ReadMessage::Stop);
        }
        for thread in threads {
            // It does not panic.
            let _ = thread.join();
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl ReadState {
    fn refused(&self, error: &rusqlite::Error) -> Refused {
        if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
            return Refused::Busy;
        }
        self.health.failed(error);
        Refused::Unavailable
    }
}

fn read_all(file: &Connection, waiting: &Mutex<Receiver<ReadMessage>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(ReadMessage::Read(read)) => read(file),
            Ok(ReadMessage::Stop) | Err(_) => return,
        }
    }
}
