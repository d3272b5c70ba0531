//! A storm of uploads: several owners upload without a pause, and the gateway compiles each upload.

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

/// Concurrent uploads: more than most machines compile at once, so that some always wait.
const OWNERS: usize = 4;

/// The owners of a storm.
pub struct Storm {
    stop: Arc<AtomicBool>,
    owners: Vec<JoinHandle<anyhow::Result<u64>>>,
}

impl Storm {
    /// Starts to upload `guest`, each time with a different number from `next` in its bytes.
    /// Several storms can share `next`.
    ///
    /// # Errors
    /// When the token cannot be read or a thread cannot be started.
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

    /// Stops the uploads and returns their number.
    ///
    /// # Errors
    /// When the gateway refused an upload.
    pub fn finish(self) -> anyhow::Result<u64> {
        self.stop.store(true, Relaxed);
        let mut count = 0;
        for owner in self.owners {
            count += owner.join().ok().context("a thread that uploads panicked")??;
        }
        Ok(count)
    }
}
