//! Idle connections, kept for the function's next request to the same server.
//!
//! They belong to one revision of one function. Functions share no connection, so that one cannot
//! learn what another has sent or received; and because the grants of a revision never change, a
//! connection that was permitted stays permitted.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};

use super::{config::OutboundConfig, connection::UpstreamConnection, rules::target::Target};

/// How long a connection may take to become ready for its next request: its task must first notice
/// the end of the last one.
const READY: Duration = Duration::from_millis(20);

/// The idle connections of one function.
pub(super) struct IdleConnections {
    list: Mutex<IdleList>,
    /// How long one is kept.
    at_most: Duration,
    /// How many are kept.
    per_function: usize,
    /// Limits those of all functions together.
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct IdleList {
    /// The oldest one first.
    connections: Vec<IdleConnection>,
    /// Whether a task closes the old ones.
    is_swept: bool,
}

struct IdleConnection {
    target: Target,
    connection: UpstreamConnection,
    since: Instant,
    /// Counts against the node's limit.
    _permit: OwnedSemaphorePermit,
}

impl IdleConnections {
    pub(super) fn new(config: &OutboundConfig, permits: Arc<Semaphore>) -> Self {
        let (at_most, per_function) = (config.idle, config.idle_per_function);
        Self { list: Mutex::default(), at_most, per_function, permits }
    }

    /// A connection to `target` that is ready for a request.
    pub(super) async fn take(&self, target: &Target) -> Option<UpstreamConnection> {
        loop {
            let mut connection = self.newest(target)?;
            if let Ok(Ok(())) = time::timeout(READY, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    fn newest(&self, target: &Target) -> Option<UpstreamConnection> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |entry: &IdleConnection| {
            entry.target == *target
                && entry.since.elapsed() < self.at_most
                && !entry.connection.sender.is_closed()
        };
        let at = list.connections.iter().rposition(fits)?;
        Some(list.connections.remove(at).connection)
    }

    /// Keeps a connection. If the function is at its limit, its oldest one is closed; if the node
    /// is, this one is.
    pub(super) fn put(self: &Arc<Self>, target: Target, connection: UpstreamConnection) {
        if connection.sender.is_closed() || self.per_function == 0 {
            return;
        }
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.connections.len() >= self.per_function {
            list.connections.remove(0);
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return };
        let since = Instant::now();
        list.connections.push(IdleConnection { target, connection, since, _permit: permit });
        if !list.is_swept {
            list.is_swept = true;
            // Ends when nothing is left to close, or with the function.
            tokio::spawn(sweep(Arc::downgrade(self), self.at_most));
        }
    }

    /// Closes connections that are too old. Returns when the next one will be.
    fn sweep(&self) -> Option<Instant> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.connections.retain(|entry| {
            entry.since.elapsed() < self.at_most && !entry.connection.sender.is_closed()
        });
        let next = list.connections.first().map(|entry| entry.since + self.at_most);
        list.is_swept = next.is_some();
        next
    }
}

async fn sweep(idle: Weak<IdleConnections>, at_most: Duration) {
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
