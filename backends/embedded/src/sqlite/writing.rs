//! Writes: one thread makes one transaction of all that wait, so that the disk flushes once for them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use runtime_pool::Refused;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use crate::{
    rules::Clock,
    sqlite::{
        file::OpenError,
        health::Health,
        turn::{WriteOutcome, WriteTurn},
    },
};

/// Writes that wait, and their bytes. Arbitrary: more than a disk writes in the time that callers wait.
const WAITING_MAX: usize = 1_024;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Writes of one transaction, and their bytes, after which it is committed.
const TURN_WRITES: usize = 256;
const TURN_BYTES: usize = 4 << 20;
/// How often what has expired is removed, for how long, and how many entries between looks at the time.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_TIME: Duration = Duration::from_millis(10);
const SWEPT: u32 = 100;

/// The thread that writes.
pub(super) struct StoreWriter {
    jobs: SyncSender<WriteMessage>,
    waiting: Arc<CountedWrites>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct CountedWrites {
    writes: AtomicUsize,
    bytes: AtomicUsize,
}

/// Counts a write that waits, until it is dropped.
struct Counted {
    waiting: Arc<CountedWrites>,
    bytes: usize,
}

/// Answers a caller. It is dropped instead if the transaction was not committed.
type Reply = Box<dyn FnOnce() + Send>;
type Run = Box<dyn FnOnce(&mut WriteTurn<'_>) -> rusqlite::Result<Reply> + Send>;

struct Job {
    run: Run,
    counted: Counted,
}

enum WriteMessage {
    Write(Job),
    Stop,
}

impl fmt::Debug for StoreWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreWriter").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl StoreWriter {
    /// Starts the thread. It ends with [`close`](Self::close), or with this.
    pub(super) fn start(file: Connection, clock: Clock) -> Result<Self, OpenError> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let health = Health::new("writing to stores");
        let thread = thread::Builder::new()
            .name("mayfly-kv-write".to_owned())
            .spawn(move || WriterThread { file, clock, health }.run(&waiting))
            .map_err(OpenError::io("starting the thread that writes stores"))?;
        Ok(Self { jobs, waiting: Arc::default(), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.writes.load(Relaxed)
    }

    /// Does a write in its turn. When this returns, it survives a power cut. If the caller goes before, it is
    /// done all the same.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        write: impl FnOnce(&mut WriteTurn<'_>) -> WriteOutcome<T> + Send + 'static,
    ) -> Result<T, Refused> {
        let counted = Counted::new(&self.waiting, bytes).ok_or(Refused::Busy)?;
        let (answer, answered) = oneshot::channel();
        let run = move |turn: &mut WriteTurn<'_>| -> rusqlite::Result<Reply> {
            let outcome = write(turn)?;
            Ok(Box::new(move || {
                // An error means that the caller has gone.
                let _ = answer.send(outcome);
            }))
        };
        let job = Job { run: Box::new(run), counted };
        self.jobs.try_send(WriteMessage::Write(job)).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => Refused::Unavailable,
        })?;
        answered.await.unwrap_or(Err(Refused::Unavailable))
    }

    /// Ends the thread after what waits.
    pub(super) fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // An error means that it has ended.
            let _ = self.jobs.send(WriteMessage::Stop);
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Counted {
    /// `None` if too many bytes wait. One large write alone is always taken.
    fn new(waiting: &Arc<CountedWrites>, bytes: usize) -> Option<Self> {
        let before = waiting.bytes.fetch_add(bytes, Relaxed);
        waiting.writes.fetch_add(1, Relaxed);
        // Made before the check: a refused write is not counted any longer, either.
        let counted = Self { waiting: Arc::clone(waiting), bytes };
        (before == 0 || before + bytes <= WAITING_BYTES_MAX).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Relaxed);
        self.waiting.writes.fetch_sub(1, Relaxed);
    }
}

struct WriterThread {
    file: Connection,
    clock: Clock,
    health: Health,
}

impl WriterThread {
    fn run(mut self, jobs: &Receiver<WriteMessage>) {
        let mut swept = Instant::now();
        loop {
            match jobs.recv_timeout(SWEEP.saturating_sub(swept.elapsed())) {
                Ok(WriteMessage::Write(first)) => {
                    if !self.write_waiting(first, jobs) {
                        break;
                    }
                }
                Ok(WriteMessage::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if swept.elapsed() >= SWEEP {
                let done = self.sweep();
                self.note(done);
                swept = Instant::now();
            }
        }
        // What is committed is safe without this, and only takes longer to open.
        let _ = self.file.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Writes what waits, and commits it. Returns whether there will be more.
    fn write_waiting(&mut self, first: Job, jobs: &Receiver<WriteMessage>) -> bool {
        let mut stop = false;
        let mut bytes = first.counted.bytes;
        let mut writes = vec![first];
        while writes.len() < TURN_WRITES && bytes < TURN_BYTES {
            match jobs.try_recv() {
                Ok(WriteMessage::Write(job)) => {
                    bytes += job.counted.bytes;
                    writes.push(job);
                }
                Ok(WriteMessage::Stop) => {
                    stop = true;
                    break;
                }
                Err(_nothing_waits) => break,
            }
        }
        let done = self.commit(|turn| {
            let run = |job: Job| Ok((job.counted, (job.run)(turn)?));
            writes.into_iter().map(run).collect::<rusqlite::Result<Vec<_>>>()
        });
        // Only now: what is answered is on the disk. Of a transaction that was rolled back, nothing is
        // answered, and its callers see that.
        if let Some(replies) = self.note(done) {
            for (_counted, reply) in replies {
                reply();
            }
        }
        !stop
    }

    /// Makes one transaction.
    fn commit<T>(
        &mut self,
        write: impl FnOnce(&mut WriteTurn<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let now_ms = (self.clock)();
        let transaction = self.file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut turn = WriteTurn::new(&transaction, now_ms);
        let written = write(&mut turn)?;
        turn.finish()?;
        transaction.commit()?;
        Ok(written)
    }

    /// Removes what has expired.
    fn sweep(&mut self) -> rusqlite::Result<()> {
        let now_ms = (self.clock)();
        // A look that takes no lock: most times there is nothing.
        let any = "SELECT EXISTS (SELECT 1 FROM entries INDEXED BY entries_by_expiry \
                   WHERE expires_ms <= ?1)";
        if self.file.prepare_cached(any)?.query_row([now_ms], |row| row.get(0))? {
            let begun = Instant::now();
            self.commit(|turn| {
                while turn.sweep(SWEPT)? == SWEPT && begun.elapsed() < SWEEP_TIME {}
                Ok(())
            })?;
        }
        Ok(())
    }

    fn note<T>(&self, done: rusqlite::Result<T>) -> Option<T> {
        match done {
            Ok(done) => {
                self.health.works();
                Some(done)
            }
            Err(error) => {
                self.health.failed(&error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::file;

    async fn put(writer: &StoreWriter, key: &'static str, bytes: usize) -> Result<u64, Refused> {
        use runtime_pool::{Expect, StoreId, Written};
        let put = move |turn: &mut WriteTurn<'_>| {
            let room = crate::rules::Room::of(&runtime_pool::GuestStore::new(
                StoreId(1),
                u64::MAX,
                u64::MAX,
            ));
            let value = vec![0; bytes].into();
            let new = super::super::turn::NewEntry { value, expires_ms: None, metadata: None };
            turn.put((StoreId(1), room), key, &new, Expect::Anything)
        };
        match writer.write(bytes, put).await? {
            Written::Version(version) => Ok(version),
            Written::Conflict(_) => unreachable!("anything is expected"),
        }
    }

    /// Case L09.
    #[tokio::test]
    async fn a_full_disk_refuses_writes_and_heals() {
        let dir = tempfile::tempdir().unwrap();
        let path = file::create(dir.path()).unwrap();
        let opened = file::open_writer(&path).unwrap();
        let pages: u32 = opened.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        // SQLite reports a full disk and a full file by the same error.
        opened.pragma_update(None, "max_page_count", pages + 4).unwrap();
        let writer = StoreWriter::start(opened, Arc::new(|| 0)).unwrap();

        put(&writer, "small", 10).await.unwrap();
        let refused = put(&writer, "large", 100_000).await;
        let healed = put(&writer, "other", 10).await;

        assert_eq!(refused, Err(Refused::Unavailable));
        healed.unwrap();
        let reader = file::open_reader(&path, true).unwrap();
        let keys: u32 =
            reader.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap();
        let counted: u32 =
            reader.query_row("SELECT keys FROM usage", [], |row| row.get(0)).unwrap();
        assert_eq!((keys, counted), (2, 2));
    }

    #[tokio::test]
    async fn more_bytes_than_may_wait_are_busy_and_a_closed_writer_is_not_available() {
        let waiting = Arc::new(CountedWrites::default());
        let large = Counted::new(&waiting, 2 * WAITING_BYTES_MAX);
        assert!(large.is_some() && Counted::new(&waiting, 1).is_none());
        drop(large);
        assert!(Counted::new(&waiting, 1).is_some());
        assert_eq!(waiting.writes.load(Relaxed), 0);

        let dir = tempfile::tempdir().unwrap();
        let path = file::create(dir.path()).unwrap();
        let writer = StoreWriter::start(file::open_writer(&path).unwrap(), Arc::new(|| 0)).unwrap();
        writer.close();
        assert_eq!(put(&writer, "late", 1).await, Err(Refused::Unavailable));
    }
}
