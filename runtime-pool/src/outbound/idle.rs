//! Connections that wait for the function's next request to the same server.
//!
//! They belong to one revision of one function: what another function has sent or received on a
//! connection is no concern of this one, and the grants of a revision never change.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};

use super::{Policy, connection::Connection, target::Target};

/// How long a connection may take to become ready for its next request: it has to notice that the
/// last one is over.
const READY: Duration = Duration::from_millis(20);

/// The connections of one function that wait.
#[derive(Default)]
pub(super) struct Idle {
    waiting: Mutex<Waiting>,
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
    /// A connection to `target` that can be used at once.
    pub(super) async fn take(&self, target: &Target, at_most: Duration) -> Option<Connection> {
        loop {
            let mut connection = self.newest(target, at_most)?;
            if let Ok(Ok(())) = time::timeout(READY, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    fn newest(&self, target: &Target, at_most: Duration) -> Option<Connection> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |entry: &Entry| {
            entry.target == *target
                && entry.since.elapsed() < at_most
                && !entry.connection.sender.is_closed()
        };
        let at = waiting.connections.iter().rposition(fits)?;
        Some(waiting.connections.remove(at).connection)
    }

    /// Lets a connection wait, unless the function or the node has enough that do.
    pub(super) fn put(policy: &Arc<Policy>, target: Target, connection: Connection) {
        let client = &policy.client;
        if connection.sender.is_closed() || client.config.idle_per_function == 0 {
            return;
        }
        let idle = &policy.idle;
        let mut waiting = idle.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.connections.len() >= client.config.idle_per_function {
            waiting.connections.remove(0);
        }
        let Ok(place) = Arc::clone(&client.idle_places).try_acquire_owned() else { return };
        let since = Instant::now();
        waiting.connections.push(Entry { target, connection, since, _place: place });
        if !waiting.swept {
            waiting.swept = true;
            // Ends when nothing is left to close, or with the function.
            tokio::spawn(sweep(Arc::downgrade(policy), client.config.idle));
        }
    }

    /// Closes those whose time is over. Says when the next one's is.
    fn sweep(&self, at_most: Duration) -> Option<Instant> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.connections.retain(|entry| {
            entry.since.elapsed() < at_most && !entry.connection.sender.is_closed()
        });
        let next = waiting.connections.first().map(|entry| entry.since + at_most);
        waiting.swept = next.is_some();
        next
    }
}

async fn sweep(policy: std::sync::Weak<Policy>, at_most: Duration) {
    let mut next = Instant::now() + at_most;
    loop {
        time::sleep_until(next).await;
        let Some(policy) = policy.upgrade() else { return };
        match policy.idle.sweep(at_most) {
            Some(later) => next = later,
            None => return,
        }
    }
}
