//! Uploads without a pause, each to be compiled: what a node with many impatient owners goes through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use serde_json::json;

use crate::{client::Client, gateway::Gateway, guest::Guest};

/// Owners who upload at once: more than compile at once on most machines, so that some always wait.
const OWNERS: usize = 4;

/// The owners of a storm.
pub struct Storm {
    stop: Arc<AtomicBool>,
    owners: Vec<JoinHandle<anyhow::Result<u64>>>,
}

impl Storm {
    /// Begins to upload other forms of `guest`. `next` numbers them, over several storms.
    ///
    /// # Errors
    /// When there is no token, or no thread.
    pub fn start(mayfly: &Gateway, guest: &Guest, next: &Arc<AtomicU64>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut owners = Vec::new();
        for owner in 0..OWNERS {
            let (addr, authorization) = (mayfly.control, mayfly.authorization()?);
            let (stop, next, guest) = (Arc::clone(&stop), Arc::clone(next), guest.clone());
            let upload = move || -> anyhow::Result<u64> {
                let mut control = Client::connect(addr)?;
                let mut count = 0;
                while !stop.load(Relaxed) {
                    let wasm = guest.stamped(next.fetch_add(1, Relaxed));
                    let name = format!("storm-{owner}");
                    Gateway::put(&mut control, &authorization, &name, &wasm, &json!({}))?;
                    count += 1;
                }
                Ok(count)
            };
            owners.push(thread::Builder::new().name("storm".into()).spawn(upload)?);
        }
        Ok(Self { stop, owners })
    }

    /// How many were uploaded.
    ///
    /// # Errors
    /// When one was refused.
    pub fn finish(self) -> anyhow::Result<u64> {
        self.stop.store(true, Relaxed);
        let mut count = 0;
        for owner in self.owners {
            count += owner.join().ok().context("a thread that uploads panicked")??;
        }
        Ok(count)
    }
}
