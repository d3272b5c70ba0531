//! What one invocation does with what its function was granted, and what is left of its limits.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};

use super::{
    answer::StoreOutcome,
    function::{FunctionCapabilities, OpenPart},
    grants::AllowedAccess,
    refused::Refused,
};
use crate::host::{StoreLimits, store_limits::Held};

/// The kind of operations on stores of keys and values, in metrics.
const KEY_VALUE: &str = "keyvalue";

/// What one invocation has of its function's grants.
pub(crate) struct Capabilities {
    pub(super) function: Arc<FunctionCapabilities>,
    /// Operations on stores so far.
    operations: u64,
    /// Handles that the guest has open.
    handles: usize,
}

impl Capabilities {
    pub(crate) fn new(function: &Arc<FunctionCapabilities>) -> Self {
        let function = Arc::clone(function);
        Self { function, operations: 0, handles: 0 }
    }

    /// Begins to count for the next invocation.
    pub(crate) fn end_invocation(&mut self) {
        self.operations = 0;
    }

    /// Whether the guest may open a store.
    pub(crate) fn has_stores(&self) -> bool {
        !self.function.grants.key_value.is_empty()
    }
}

/// What the interfaces see of a guest's host.
pub(crate) struct CapabilitiesView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) capabilities: Option<&'a mut Capabilities>,
    pub(crate) limits: &'a mut StoreLimits,
}

/// An operation on a store.
#[derive(Clone, Copy)]
pub(super) struct StoreOperation {
    pub(super) word: &'static str,
    /// What has to be allowed.
    pub(super) needs: AllowedAccess,
}

/// An operation that was admitted.
pub(super) struct Begun<'a> {
    pub(super) part: &'a OpenPart,
    pub(super) limits: &'a mut StoreLimits,
}

/// Counts an operation when it ends; as failed if its guest does not wait for it.
struct CountedOperation {
    function: Arc<FunctionCapabilities>,
    operation: &'static str,
    is_counted: bool,
}

impl CountedOperation {
    fn end<T>(&mut self, outcome: &Result<T, Refused>) {
        self.is_counted = true;
        self.function.count(KEY_VALUE, self.operation, outcome);
    }
}

impl Drop for CountedOperation {
    fn drop(&mut self) {
        if !self.is_counted {
            self.function.count_as(KEY_VALUE, self.operation, "failed");
        }
    }
}

impl Capabilities {
    fn spend(&mut self, operations: u64, most: u64) -> Result<(), Refused> {
        let spent = self.operations.saturating_add(operations);
        if spent > most {
            return Err(Refused::TooMany { most });
        }
        self.function.take(operations)?;
        self.operations = spent;
        Ok(())
    }
}

impl CapabilitiesView<'_> {
    /// Opens what `label` stands for.
    pub(super) fn open(&mut self, label: &str) -> Result<OpenPart, Refused> {
        let room = self.check_handles();
        let capabilities = self.capabilities.as_deref().ok_or(Refused::Denied)?;
        let opened = room.and_then(|()| capabilities.function.store(label));
        capabilities.function.count(KEY_VALUE, "open", &opened);
        opened
    }

    /// Whether the guest may have one more handle.
    fn check_handles(&self) -> Result<(), Refused> {
        let most = self.limits.guest.store_handles;
        let open = self.capabilities.as_ref().map_or(0, |capabilities| capabilities.handles);
        if open < most { Ok(()) } else { Err(Refused::Handles { most: most as u64 }) }
    }

    /// Gives the guest a handle.
    pub(super) fn push<H: Send + 'static>(&mut self, handle: H) -> wasmtime::Result<Resource<H>> {
        let resource = self.table.push(handle)?;
        if let Some(capabilities) = self.capabilities.as_deref_mut() {
            capabilities.handles += 1;
        }
        Ok(resource)
    }

    /// Takes a handle back.
    pub(super) fn take<H: Send + 'static>(&mut self, handle: Resource<H>) -> wasmtime::Result<H> {
        let handle = self.table.delete(handle)?;
        if let Some(capabilities) = self.capabilities.as_deref_mut() {
            capabilities.handles = capabilities.handles.saturating_sub(1);
        }
        Ok(handle)
    }

    /// Begins an operation on a part of a store that counts as `cost` operations. It is checked in this
    /// order: access, the limits of the invocation and of the function, what the operation itself checks.
    pub(super) fn begin<T: Send + 'static>(
        &mut self,
        part: &OpenPart,
        operation: StoreOperation,
        cost: usize,
        run: impl FnOnce(Begun<'_>) -> Result<StoreOutcome<T>, Refused>,
    ) -> StoreOutcome<T> {
        let Some(capabilities) = self.capabilities.as_deref_mut() else {
            return StoreOutcome::Now(Err(Refused::Denied));
        };
        let function = Arc::clone(&capabilities.function);
        let mut counted =
            CountedOperation { function, operation: operation.word, is_counted: false };
        let admitted = if !part.access.allows(operation.needs) {
            Err(Refused::Denied)
        } else if part.store.store.is_deleted() {
            Err(Refused::NoStore)
        } else {
            capabilities.spend(cost as u64, self.limits.guest.store_operations)
        };
        let call = Begun { part, limits: &mut *self.limits };
        match admitted
            .and_then(|()| run(call))
            .unwrap_or_else(|refused| StoreOutcome::Now(Err(refused)))
        {
            StoreOutcome::Now(outcome) => {
                counted.end(&outcome);
                StoreOutcome::Now(outcome)
            }
            StoreOutcome::Later(answer) => StoreOutcome::later(async move {
                let outcome = answer.await;
                counted.end(&outcome);
                outcome
            }),
        }
    }

    /// Counts what the host keeps for one more handle.
    pub(super) fn hold_handle(&mut self, bytes: usize) -> Result<Held, Refused> {
        let held = self.check_handles().and_then(|()| hold(self.limits, bytes));
        if let Some(capabilities) = &self.capabilities {
            capabilities.function.count(KEY_VALUE, "compare", &held);
        }
        held
    }
}

impl Begun<'_> {
    /// A whole key: what guests do not see of it, and `key`.
    pub(super) fn key(&self, key: &str) -> Result<String, Refused> {
        let most = self.limits.guest.store_key_bytes;
        if key.is_empty() {
            return Err(Refused::Invalid("a key cannot be empty".to_owned()));
        }
        if self.part.prefix.len() + key.len() > most {
            return Err(Refused::TooLarge { what: "a key", most: most as u64 });
        }
        Ok(format!("{}{key}", self.part.prefix))
    }

    /// Checks the size of a value.
    pub(super) fn check_value(&self, value: &[u8]) -> Result<(), Refused> {
        let most = self.limits.guest.store_value_bytes;
        if value.len() > most {
            return Err(Refused::TooLarge { what: "a value", most: most as u64 });
        }
        Ok(())
    }

    /// An answer for which something has to be waited, and during which the host keeps `bytes` for it.
    pub(super) fn later<T: Send + 'static>(
        self,
        bytes: usize,
        answer: impl Future<Output = Result<T, Refused>> + Send + 'static,
    ) -> Result<StoreOutcome<T>, Refused> {
        let held = hold(self.limits, bytes)?;
        Ok(StoreOutcome::later(async move {
            let answer = answer.await;
            drop(held);
            answer
        }))
    }
}

fn hold(limits: &mut StoreLimits, bytes: usize) -> Result<Held, Refused> {
    let most = limits.guest.host_bytes as u64;
    limits.hold(bytes).map_err(|_| Refused::HostBytes { most })
}
