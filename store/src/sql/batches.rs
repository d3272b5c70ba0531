//! Writes of many callers in one transaction, so that the disk flushes once for all of them.
//!
//! A write waits in a list. The first one starts a task that takes what is in the list, makes it one
//! transaction, commits it and tells each caller, until the list is empty. While one transaction is
//! flushed to the disk, the next ones gather. A caller that goes away does not take back its write.

use std::{
    error::Error as _,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    Error, Result,
    sql::{Database, WriteTransaction},
};

/// Writes in one transaction. A flush takes about a millisecond, and so do these.
const BATCH: usize = 128;

/// Writes that wait for a transaction. More are refused: the disk is too slow for them.
const WAITING_MAX: usize = 4_096;

/// What a write does within its transaction.
pub(crate) type Applying<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A database, and the writes that wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    database: Database,
    waiting: Arc<Mutex<WaitingWrites>>,
}

#[derive(Default)]
struct WaitingWrites {
    writes: Vec<Box<dyn BatchedWrite>>,
    /// Whether a task takes them.
    taken_care_of: bool,
}

impl fmt::Debug for WaitingWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingWrites").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

impl Batches {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, waiting: Arc::default() }
    }

    /// The database.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Applies a write, and returns when its transaction is on the disk. A quota that refuses the write
    /// must have changed nothing; the others of the transaction go on.
    pub(crate) async fn submit<T: Send + 'static>(
        &self,
        apply: impl for<'a> FnOnce(&'a mut WriteTransaction) -> Applying<'a, T> + Send + 'static,
    ) -> Result<T> {
        let (reply, outcome) = oneshot::channel();
        let begin = {
            let mut waiting = self.lock();
            if waiting.writes.len() >= WAITING_MAX {
                return Err(Error::Busy);
            }
            waiting.writes.push(Box::new(Submitted { apply, reply }));
            !mem::replace(&mut waiting.taken_care_of, true)
        };
        if begin {
            // It ends by itself as soon as nothing waits.
            tokio::spawn(Carer { batches: self.clone(), done: false }.run());
        }
        // Without a reply, the task has ended before its time: the runtime stops.
        outcome.await.unwrap_or(Err(Error::Busy))
    }

    fn lock(&self) -> MutexGuard<'_, WaitingWrites> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes care of the writes. If it is dropped early, those that wait are refused, and the next one
/// starts another.
struct Carer {
    batches: Batches,
    done: bool,
}

impl Carer {
    async fn run(mut self) {
        while let Some(writes) = self.next() {
            commit(&self.batches.database, writes).await;
        }
    }

    /// The next writes. Without any, the care ends.
    fn next(&mut self) -> Option<Vec<Box<dyn BatchedWrite>>> {
        let mut waiting = self.batches.lock();
        let count = waiting.writes.len().min(BATCH);
        if count == 0 {
            waiting.taken_care_of = false;
            self.done = true;
            return None;
        }
        Some(waiting.writes.drain(..count).collect())
    }
}

impl Drop for Carer {
    fn drop(&mut self) {
        if !self.done {
            let mut waiting = self.batches.lock();
            waiting.taken_care_of = false;
            waiting.writes.clear();
        }
    }
}

/// Tells a caller what became of its write, once it is known whether the transaction was committed.
type Told = Box<dyn FnOnce(Option<Error>) + Send>;

/// A write, whatever it returns.
trait BatchedWrite: Send {
    /// Fails if the transaction has failed.
    fn apply(self: Box<Self>, tx: &mut WriteTransaction) -> Applying<'_, Told>;

    /// Tells the caller that the write was not tried.
    fn refuse(self: Box<Self>, error: Error);
}

/// A write, and the caller that waits for it.
struct Submitted<F, T> {
    apply: F,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> BatchedWrite for Submitted<F, T>
where
    F: for<'a> FnOnce(&'a mut WriteTransaction) -> Applying<'a, T> + Send + 'static,
    T: Send + 'static,
{
    fn apply(self: Box<Self>, tx: &mut WriteTransaction) -> Applying<'_, Told> {
        let Self { apply, reply } = *self;
        Box::pin(async move {
            // A caller that has gone away needs no answer.
            match apply(tx).await {
                Ok(done) => Ok::<Told, _>(Box::new(move |failed| {
                    let _ = reply.send(failed.map_or(Ok(done), Err));
                })),
                Err(refused @ Error::Quota { .. }) => Ok::<Told, _>(Box::new(move |_failed| {
                    let _ = reply.send(Err(refused));
                })),
                Err(error) => {
                    let _ = reply.send(Err(again(&error)));
                    Err(error)
                }
            }
        })
    }

    fn refuse(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

/// Makes writes one transaction. If it fails, all of them have failed.
async fn commit(database: &Database, writes: Vec<Box<dyn BatchedWrite>>) {
    let mut told: Vec<Told> = Vec::with_capacity(writes.len());
    let mut writes = writes.into_iter();
    let committed = async {
        let mut tx = database.begin().await?;
        for write in writes.by_ref() {
            told.push(write.apply(&mut tx).await?);
        }
        tx.commit().await?;
        Ok(())
    };
    let failed = committed.await.err();
    for tell in told {
        tell(failed.as_ref().map(again));
    }
    if let Some(error) = failed {
        writes.for_each(|write| write.refuse(again(&error)));
    }
}

/// The error of a transaction, for one more of its callers.
fn again(error: &Error) -> Error {
    match error {
        Error::Busy => Error::Busy,
        Error::NoSpace => Error::NoSpace,
        other => {
            let reason = other.source().map_or_else(|| other.to_string(), ToString::to_string);
            Error::Database { source: reason.into() }
        }
    }
}
