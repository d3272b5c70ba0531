//! What reads and durable writes of the embedded stores cost.
//!
//! `cargo bench --workspace --bench stores`. Criterion measures one read; the lines after it are the median of
//! single reads, with the reading of the clock in it, and how many durable writes a second 1, 8 and 64
//! writers make, with the median of one.

#![expect(clippy::print_stdout, reason = "this is what the program is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use backend_embedded::{Memory, Sqlite};
use bytes::Bytes;
use criterion::Criterion;
use runtime_pool::{Expect, GuestStore, KeyValue, Put, StoreId};
use tokio::{runtime::Runtime, task::JoinSet};

/// Entries of 200 bytes.
const ENTRIES: usize = 100_000;
const SINGLE_READS: usize = 200_000;
const WRITE_TIME: Duration = Duration::from_secs(2);

fn key(index: usize) -> String {
    format!("customer/{index:06}")
}

fn put(key: &str) -> Put<'_> {
    let value = Bytes::from_static(&[7; 200]);
    Put { key, value, expect: Expect::Anything, ttl: None, metadata: None }
}

fn filled(backend: Arc<dyn KeyValue>, runtime: &Runtime) -> (Arc<dyn KeyValue>, Arc<GuestStore>) {
    let store = Arc::new(GuestStore::new(StoreId(1), u64::MAX, u64::MAX));
    for first in (0..ENTRIES).step_by(1_000) {
        let writes =
            (first..first + 1_000).map(|index| (key(index), Some(put("").value))).collect();
        runtime.block_on(backend.write_many(&store, writes)).unwrap();
    }
    (backend, store)
}

/// Reads of keys in an order that no cache likes.
fn reads(
    criterion: &mut Criterion,
    name: &str,
    (backend, store): &(Arc<dyn KeyValue>, Arc<GuestStore>),
) {
    let keys: Vec<String> = (0..ENTRIES).map(|index| key(index * 7_919 % ENTRIES)).collect();
    let mut next = keys.iter().cycle();
    let mut read = || backend.get_now(store, next.next().unwrap()).unwrap().unwrap().unwrap();
    criterion.bench_function(&format!("stores/get/{name}"), |bench| {
        bench.iter(|| black_box(read()));
    });
    let mut times: Vec<Duration> = (0..SINGLE_READS)
        .map(|_| {
            let begun = Instant::now();
            black_box(read());
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (middle, high) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("stores/get/{name}: p50 {middle:?}, p99 {high:?}");
}

async fn write(
    (backend, store): (Arc<dyn KeyValue>, Arc<GuestStore>),
    writer: usize,
) -> Vec<Duration> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < WRITE_TIME {
        let (key, begun) = (key(writer * 1_000 + times.len() % 1_000), Instant::now());
        backend.put(&store, put(&key)).await.unwrap();
        times.push(begun.elapsed());
    }
    times
}

fn writes(
    runtime: &Runtime,
    name: &str,
    subject: &(Arc<dyn KeyValue>, Arc<GuestStore>),
    writers: usize,
) {
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        tasks.spawn_on(write(subject.clone(), writer), runtime.handle());
    }
    let mut times: Vec<Duration> =
        runtime.block_on(tasks.join_all()).into_iter().flatten().collect();
    times.sort_unstable();
    let rate = times.len() as f64 / WRITE_TIME.as_secs_f64();
    let middle = times[times.len() / 2];
    println!("stores/put/{name}/{writers}: {rate:.0} a second, p50 {middle:?}");
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Arc::new(Sqlite::open(dir.path(), Arc::new(|| 0)).unwrap());
    let memory = Arc::new(Memory::new(Arc::new(|| 0), 1 << 30));
    let backends: [(&str, Arc<dyn KeyValue>); 2] = [("sqlite", sqlite), ("memory", memory)];
    let mut criterion = Criterion::default().configure_from_args();
    for (name, backend) in backends {
        let subject = filled(backend, &runtime);
        reads(&mut criterion, name, &subject);
        // Those in memory are not durable, and wait for nothing.
        let writers: &[usize] = if name == "sqlite" { &[1, 8, 64] } else { &[] };
        for writers in writers {
            writes(&runtime, name, &subject, *writers);
        }
    }
    criterion.final_summary();
}
