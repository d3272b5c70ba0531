//! Eight clients at once, and whether what they have seen has an order.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use runtime_pool::{Entry, Expect, GuestStore, KeyValue, Put, Removed, Written};
use tokio::task::JoinSet;

use crate::{
    history::{Event, Operation, is_linearizable},
    subject::{TestedBackend, put},
};

const CLIENTS: u64 = 8;
const OPERATIONS: u64 = 250;
const KEYS: [&str; 3] = ["a", "b", "c"];

struct HistoryClient {
    backend: Arc<dyn KeyValue>,
    store: Arc<GuestStore>,
    moments: Arc<AtomicU64>,
    random: u64,
    /// The versions that it has seen last.
    seen: HashMap<&'static str, u64>,
}

/// Case L03. 2,000 random reads, writes, swaps, removals and additions on three keys.
pub async fn what_eight_clients_see_has_an_order(subject: TestedBackend) {
    let moments = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = HistoryClient {
            backend: Arc::clone(subject.backend()),
            store: Arc::clone(subject.store()),
            moments: Arc::clone(&moments),
            random: number * 7_919 + 1,
            seen: HashMap::new(),
        };
        clients.spawn(client.run());
    }
    let mut events: HashMap<&str, Vec<Event>> = HashMap::new();
    while let Some(done) = clients.join_next().await {
        for (key, event) in done.unwrap() {
            events.entry(key).or_default().push(event);
        }
    }

    assert_eq!(events.values().map(Vec::len).sum::<usize>() as u64, CLIENTS * OPERATIONS);
    for (key, events) in events {
        assert!(is_linearizable(&events), "the history of {key} has no order: {events:#?}");
    }
}

impl HistoryClient {
    async fn run(mut self) -> Vec<(&'static str, Event)> {
        let mut events = Vec::new();
        for _ in 0..OPERATIONS {
            let key = KEYS[self.random(3) as usize];
            let called = self.moments.fetch_add(1, SeqCst);
            let operation = self.operate(key).await;
            let answered = self.moments.fetch_add(1, SeqCst);
            events.push((key, Event { called, answered, operation }));
        }
        events
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99_991);
        (self.random >> 33) % below
    }

    async fn operate(&mut self, key: &'static str) -> Operation {
        let value = self.random(1 << 30) as i64;
        match self.random(10) {
            0..3 => {
                let entry = self.backend.get(&self.store, key).await.unwrap();
                self.seen.insert(key, entry.as_ref().map_or(0, |entry| entry.version));
                Operation::Read(entry.as_ref().map(shown))
            }
            3..5 => {
                let put = put(key, value.to_string());
                match self.backend.put(&self.store, put).await.unwrap() {
                    Written::Version(version) => Operation::Write(value, version),
                    Written::Conflict(_) => panic!("anything was expected"),
                }
            }
            5..7 => {
                let expected = self.seen.get(key).copied().unwrap_or(0);
                let expect = if expected == 0 { Expect::Absent } else { Expect::Version(expected) };
                let put = Put { expect, ..put(key, value.to_string()) };
                match self.backend.put(&self.store, put).await.unwrap() {
                    Written::Version(version) => {
                        self.seen.insert(key, version);
                        Operation::Swapped(expected, value, version)
                    }
                    Written::Conflict(entry) => {
                        self.seen.insert(key, entry.as_ref().map_or(0, |entry| entry.version));
                        Operation::Conflict(expected, entry.as_ref().map(shown))
                    }
                }
            }
            7..8 => {
                let removed =
                    self.backend.delete(&self.store, key, Expect::Anything).await.unwrap();
                Operation::Removed(removed == Removed::Entry)
            }
            _ => {
                let delta = self.random(100) as i64 - 50;
                let sum = self.backend.increment(&self.store, key, delta).await.unwrap();
                Operation::Added(delta, sum)
            }
        }
    }
}

fn shown(entry: &Entry) -> (i64, u64) {
    (std::str::from_utf8(&entry.value).unwrap().parse().unwrap(), entry.version)
}
