//! Connections that wait for the function's next request to the same server.
//!
//! They belong to one revision of one function: what another function has sent or received on a
//! connection is no concern of this one, and the grants of a revision never change.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};

use super::{config::OutboundConfig, connection::Connection, target::Target};

/// How long a connection may take to become ready for its next request: it has to notice that the
/// last one is over.
const READY: Duration = Duration::from_millis(20);

/// The connections of one function that wait.
pub(super) struct Idle {
    waiting: Mutex<Waiting>,
    /// How long one may wait.
    at_most: Duration,
    /// How many may wait.
    per_function: usize,
    /// How many of all functions together may wait.
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    /// The longest waiting first.
    connections: Vec<Entry>,
    /// Whether a task closes those whose time is over.
    swept: bool,
}

struct Entry {
    target: Target,
    connection: Connection,
    since: Instant,
    /// The node's share.
    _place: OwnedSemaphorePermit,
}

impl Idle {
    pub(super) fn new(config: &OutboundConfig, places: Arc<Semaphore>) -> Self {
        let (at_most, per_function) = (config.idle, config.idle_per_function);
        Self { waiting: Mutex::default(), at_most, per_function, places }
    }

    /// A connection to `target` that can be used at once.
    pub(super) async fn take(&self, target: &Target) -> Option<Connection> {
        loop {
            let mut connection = self.newest(target)?;
            if let Ok(Ok(())) = time::timeout(READY, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    fn newest(&self, target: &Target) -> Option<Connection> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |entry: &Entry| {
            entry.target == *target
                && entry.since.elapsed() < self.at_most
                && !entry.connection.sender.is_closed()
        };
        let at = waiting.connections.iter().rposition(fits)?;
        Some(waiting.connections.remove(at).connection)
    }

    /// Lets a connection wait, unless the function or the node has enough that do.
    pub(super) fn put(self: &Arc<Self>, target: Target, connection: Connection) {
        if connection.sender.is_closed() || self.per_function == 0 {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.connections.len() >= self.per_function {
            waiting.connections.remove(0);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let since = Instant::now();
        waiting.connections.push(Entry { target, connection, since, _place: place });
        if !waiting.swept {
            waiting.swept = true;
            // Ends when nothing is left to close, or with the function.
            tokio::spawn(sweep(Arc::downgrade(self), self.at_most));
        }
    }

    /// Closes those whose time is over. Says when the next one's is.
    fn sweep(&self) -> Option<Instant> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.connections.retain(|entry| {
            entry.since.elapsed() < self.at_most && !entry.connection.sender.is_closed()
        });
        let next = waiting.connections.first().map(|entry| entry.since + self.at_most);
        waiting.swept = next.is_some();
        next
    }
}

async fn sweep(idle: Weak<Idle>, at_most: Duration) {
    let mut next = Instant::now() + at_most;
    loop {
        time::sleep_until(next).await;
        let Some(idle) = idle.upgrade() else { return };
        match idle.sweep() {
            Some(later) => next = later,
            None => return,
        }
    }
}
