//! Named queues: which function gets their messages, and how. The messages themselves are calls in a lane of the
//! queue's.

use crate::{
    Result, Store,
    activity::document::{DocumentRecord, PutDocument, QUEUES},
};

impl Store {
    /// All queues of all tenants, ordered by name, for the start.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Database`](crate::Error::Database),
    /// [`Error::Inconsistent`](crate::Error::Inconsistent).
    pub async fn all_queues(&self) -> Result<Vec<DocumentRecord>> {
        QUEUES.all(self).await
    }

    /// Sets a queue, or replaces all of it, and returns whether it is new. When this returns, it
    /// survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`](crate::Error::Quota) if it is new and there are `max` already;
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database).
    pub async fn put_queue(&self, put: PutDocument, max: u64) -> Result<(DocumentRecord, bool)> {
        QUEUES.put(self, put, max).await
    }

    /// Deletes a queue, and returns whether it existed. Its messages are left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Database`](crate::Error::Database).
    pub async fn delete_queue(&self, id: i64) -> Result<bool> {
        QUEUES.delete(self, id).await
    }
}
