//! Reads the state of an instance after its start-up function.

use wasmtime::{
    Store, Val,
    component::{self, Lift, WasmList},
};
use wasmtime_wizer::{ComponentInstanceState, InstanceState, SnapshotVal, ValType};

use crate::host::{Host, ModuleHost};

/// Reads a core module's state through exports that the instrumentation has added.
pub(crate) struct ModuleState<'a> {
    store: &'a mut Store<ModuleHost>,
    instance: wasmtime::Instance,
}

impl<'a> ModuleState<'a> {
    pub(crate) fn new(store: &'a mut Store<ModuleHost>, instance: wasmtime::Instance) -> Self {
        Self { store, instance }
    }
}

impl InstanceState for ModuleState<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self
            .instance
            .get_global(&mut *self.store, name)
            .expect("the instrumentation has added it");
        match global.get(&mut *self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(bits) => SnapshotVal::F32(bits),
            Val::F64(bits) => SnapshotVal::F64(bits),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("the instrumentation refuses references"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self
            .instance
            .get_memory(&mut *self.store, name)
            .expect("the instrumentation has added it");
        contents(memory.data(&*self.store));
    }
}

/// Reads a component's state through functions that the instrumentation has added.
pub(crate) struct ComponentState<'a> {
    store: &'a mut Store<Host>,
    instance: component::Instance,
    /// The first failure. The trait's methods cannot return one, so `check` does afterwards.
    failed: Option<wasmtime::Error>,
}

impl<'a> ComponentState<'a> {
    pub(crate) fn new(store: &'a mut Store<Host>, instance: component::Instance) -> Self {
        Self { store, instance, failed: None }
    }

    /// Fails if reading any part failed.
    pub(crate) fn check(self) -> wasmtime::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    async fn call<R: Lift + Send + Sync + 'static>(
        &mut self,
        instance: &str,
        function: &str,
    ) -> Option<R> {
        let called = async {
            let store = &mut *self.store;
            let function = self
                .instance
                .get_export(&mut *store, None, instance)
                .and_then(|(_, found)| {
                    self.instance.get_export(&mut *store, Some(&found), function)
                })
                .map(|(_, found)| found)
                .ok_or_else(|| wasmtime::format_err!("{instance} has no {function}"))?;
            let function = self.instance.get_typed_func::<(), (R,)>(&mut *store, function)?;
            wasmtime::Result::Ok(function.call_async(&mut *store, ()).await?.0)
        };
        match called.await {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }
}

impl ComponentInstanceState for ComponentState<'_> {
    async fn call_func_ret_list_u8(
        &mut self,
        instance: &str,
        function: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        match self.call::<WasmList<u8>>(instance, function).await {
            Some(list) => contents(list.as_le_slice(&*self.store)),
            None => contents(&[]),
        }
    }

    async fn call_func_ret_s32(&mut self, instance: &str, function: &str) -> i32 {
        self.call(instance, function).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, instance: &str, function: &str) -> i64 {
        self.call(instance, function).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, instance: &str, function: &str) -> u32 {
        self.call::<f32>(instance, function).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, function: &str) -> u64 {
        self.call::<f64>(instance, function).await.unwrap_or_default().to_bits()
    }
}
