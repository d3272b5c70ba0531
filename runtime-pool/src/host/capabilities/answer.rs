//! The answer of an operation: known at once, or later.

use std::pin::Pin;

use super::refused::Refused;

/// The answer of an operation. What a backend has at hand is there at once, without a task or a wait.
pub(super) enum StoreOutcome<T> {
    Now(Result<T, Refused>),
    Later(Pin<Box<dyn Future<Output = Result<T, Refused>> + Send>>),
}

impl<T: Send + 'static> StoreOutcome<T> {
    /// An answer for which something has to be waited.
    pub(super) fn later(answer: impl Future<Output = Result<T, Refused>> + Send + 'static) -> Self {
        Self::Later(Box::pin(answer))
    }

    /// Waits for the answer.
    pub(super) async fn outcome(self) -> Result<T, Refused> {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => answer.await,
        }
    }

    /// The same answer in another form.
    pub(super) fn then<U: Send + 'static>(
        self,
        form: impl FnOnce(Result<T, Refused>) -> Result<U, Refused> + Send + 'static,
    ) -> StoreOutcome<U> {
        match self {
            Self::Now(answer) => StoreOutcome::Now(form(answer)),
            Self::Later(answer) => StoreOutcome::later(async move { form(answer.await) }),
        }
    }
}
