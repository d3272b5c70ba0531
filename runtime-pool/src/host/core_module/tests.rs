//! Functions of the host, called by a core module that passes on what a test says: its arguments, its
//! memory and how its allocator behaves.

mod checks;
mod random;
mod shapes;

use std::{fmt::Write as _, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty};
use wasmtime::{Global, Val};
use wasmtime_wasi_http::{Error, WasiHttpView as _, p2::bindings::http::types::Scheme};

use super::*;
use crate::{
    engine::{EngineConfig, EngineKind, pooled_engine},
    host::{
        Host, StoreLimits,
        wasi::{WasiSource, variables::GuestVariables},
    },
    limits::{Limits, NodeMemory},
    metrics::{
        PoolMetrics,
        guest_log::{FunctionKey, FunctionLog, InvocationLog},
    },
    outbound::Outbound,
};

/// How the guest's allocator behaves, by the number that tells it so.
const WELL: i32 = 0;
const AT_A_NUMBER: i32 = 1;
const AFTER_GROWING: i32 = 2;
const CALLS_THE_HOST: i32 = 3;
const TRAPS: i32 = 4;
const RECURSES: i32 = 5;

/// Where a guest that allocates well has its memory: in the second of its two pages.
const ALLOCATED: i32 = 65_536;
const PAGES: usize = 2;

/// A module that imports every function, and exports for each one that calls it.
struct Callers {
    pre: CorePre,
    functions: Vec<(&'static str, FuncType)>,
}

/// An instance of it.
struct TestGuest<'a> {
    callers: &'a Callers,
    store: Store<CoreHost>,
    instance: Instance,
    /// Handles that it has from the start.
    request: i32,
    answer: i32,
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing to wait for")
}

fn host(limits: &Limits) -> Host {
    let metrics = PoolMetrics::register(&prometheus::Registry::new()).unwrap();
    let key = FunctionKey { function: 1, revision: 1, generation: 0, overlay: 0 };
    let lines = tokio::sync::mpsc::channel(1).0;
    let log = Arc::new(FunctionLog::new(key, lines, &limits.guest, metrics));
    let log = InvocationLog::new(log, 1, 1);
    let limits = StoreLimits::new(limits, NodeMemory::unlimited(), Arc::default());
    let source = WasiSource { log: Arc::clone(&log), clock_start: Instant::now() };
    let environment = [("NAME".to_owned(), "value".to_owned())];
    let variables = GuestVariables::Settings(environment.into());
    Host::new(source, variables, Outbound::denied(log), None, None, limits)
}

impl Callers {
    fn new() -> Self {
        let config = EngineConfig { instances: 4, ..EngineConfig::default() };
        let engine = pooled_engine(EngineKind::Lean, &config).unwrap();
        let linker = core_linker(&engine).unwrap();
        let mut store =
            core_store(&engine, host(&Limits::default()), InstanceCount::new(1).take().unwrap());
        let mut functions = Vec::new();
        let (mut imports, mut exports) = (String::new(), String::new());
        for (interface, name) in served_functions() {
            let ty = linker.get(&mut store, interface, name).unwrap().ty(&store);
            let ExternType::Func(ty) = ty else { panic!("{name}") };
            let words = |types: &mut dyn Iterator<Item = ValType>| {
                types.map(|ty| format!("{ty} ")).collect::<String>()
            };
            let parameters = words(&mut ty.params());
            let results = words(&mut ty.results());
            let number = functions.len();
            let signature = format!("(param {parameters}) (result {results})");
            writeln!(
                imports,
                r#"(import "{interface}@0.2.{}" "{name}" (func $f{number} {signature}))"#,
                number % 20,
            )
            .unwrap();
            let arguments: String =
                (0..ty.params().len()).map(|index| format!("local.get {index} ")).collect();
            writeln!(
                exports,
                r#"(func (export "{interface}/{name}") {signature} {arguments} call $f{number})"#,
            )
            .unwrap();
            functions.push((&*format!("{interface}/{name}").leak(), ty));
        }
        let own = include_str!("tests/guest.wat");
        let module = format!("(module {imports} {own} {exports})");
        let module = Module::new(&engine, wat::parse_str(module).unwrap()).unwrap();
        Self { pre: link(&linker, &module, &InstanceCount::new(4)).unwrap(), functions }
    }

    fn guest(&self, limits: &Limits) -> TestGuest<'_> {
        let mut store = core_store(self.pre.engine(), host(limits), self.pre.count().unwrap());
        // A guest that is interrupted would seem to wait.
        store.set_epoch_deadline(1 << 40);
        let instance = ready(self.pre.instance(&mut store)).unwrap();
        let body = Empty::<Bytes>::new().map_err(|never| -> Error { match never {} });
        let request = ::http::Request::post("http://a/path?query").header("x-name", "value");
        let mut http = store.data_mut().host.http();
        let request = http.new_incoming_request(Scheme::Http, request.body(body).unwrap()).unwrap();
        let answer = http.new_response_outparam_from_callback(|_| {}).unwrap();
        let (request, answer) = store.data_mut().give_request(&request, &answer).unwrap();
        let (request, answer) = (request.cast_signed(), answer.cast_signed());
        TestGuest { callers: self, store, instance, request, answer }
    }
}

impl TestGuest<'_> {
    fn global(&mut self, name: &str) -> Global {
        self.instance.get_global(&mut self.store, name).unwrap()
    }

    fn allocate(&mut self, how: i32, at: i32) {
        for (name, value) in [("how", how), ("at", at)] {
            self.global(name).set(&mut self.store, Val::I32(value)).unwrap();
        }
    }

    fn memory(&mut self) -> &mut [u8] {
        self.store.data().guest.memory.unwrap().data_mut(&mut self.store)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.memory()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn write_words(&mut self, at: usize, words: &[i32]) {
        let bytes: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(at, &bytes);
    }

    fn word(&mut self, at: usize) -> i32 {
        i32::from_le_bytes(*self.memory()[at..].first_chunk().unwrap())
    }

    /// Calls a function. None if it waits.
    fn try_call(&mut self, name: &str, arguments: &[i64]) -> Option<wasmtime::Result<i64>> {
        let ty = self.callers.functions.iter().find(|(found, _)| *found == name).unwrap();
        let arguments: Vec<_> =
            ty.1.params()
                .zip(arguments)
                .map(|(ty, value)| match ty {
                    ValType::I64 => Val::I64(*value),
                    _ => Val::I32(*value as i32),
                })
                .collect();
        let mut results = vec![Val::I32(0); ty.1.results().len()];
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let call = function.call_async(&mut self.store, &arguments, &mut results);
        let called = call.now_or_never()?;
        Some(called.map(|()| match results[..] {
            [Val::I32(result)] => result.into(),
            [Val::I64(result)] => result,
            _ => 0,
        }))
    }

    fn call(&mut self, name: &str, arguments: &[i64]) -> i64 {
        let result = self.try_call(name, arguments).expect("it does not wait");
        result.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// The error of a call, without the guest's stack.
    fn error(&mut self, name: &str, arguments: &[i64]) -> String {
        let result = self.try_call(name, arguments).expect("it does not wait");
        result.expect_err(name).root_cause().to_string()
    }
}
