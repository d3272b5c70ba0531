//! Defines functions of an interface by operations on the host.

use wasmtime::component::{ComponentNamedList, ComponentType, Lift, LinkerInstance, Lower};

use crate::host::{
    Host,
    capabilities::{answer::StoreOutcome, refused::Refused},
};

/// How guests call the functions of an interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A guest waits for each call. Both engines have that.
    Blocking,
    /// A guest may go on with something else.
    Concurrent,
}

/// An interface, to which functions are added.
pub(super) struct InterfaceFunctions<'a, 'l> {
    pub(super) instance: &'a mut LinkerInstance<'l, Host>,
    pub(super) calls: CallKind,
}

/// The answer of an operation as a result of WIT.
pub(super) fn result<T, E: From<Refused>>(
    _: &mut Host,
    outcome: Result<T, Refused>,
) -> wasmtime::Result<Result<T, E>> {
    Ok(outcome.map_err(E::from))
}

impl InterfaceFunctions<'_, '_> {
    /// Adds a function: `begin` starts its operation, and `finish` makes its result of the outcome.
    pub(super) fn add<P, T, R>(
        &mut self,
        name: &str,
        begin: fn(&mut Host, P) -> wasmtime::Result<StoreOutcome<T>>,
        finish: fn(&mut Host, Result<T, Refused>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + 'static,
        T: Send + 'static,
        R: ComponentType + Lower + Send + Sync + 'static,
    {
        match self.calls {
            CallKind::Blocking => {
                self.instance.func_wrap_async(name, move |mut store, given: P| {
                    Box::new(async move {
                        let answer = begin(store.data_mut(), given)?;
                        let outcome = answer.outcome().await;
                        Ok((finish(store.data_mut(), outcome)?,))
                    })
                })
            }
            CallKind::Concurrent => {
                self.instance.func_wrap_concurrent(name, move |store, given: P| {
                    Box::pin(async move {
                        let answer = store.with(|mut access| begin(access.get(), given))?;
                        let outcome = answer.outcome().await;
                        store.with(|mut access| Ok((finish(access.get(), outcome)?,)))
                    })
                })
            }
        }
    }
}
