//! Resolves names to addresses.

mod machine;
mod query;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Host;

use self::{
    machine::MachineNames,
    query::{Answer, NoAnswer},
};
use super::{
    config::{NameSource, OutboundConfig},
    failure::OutboundFailure,
    rules::target::Target,
};
use crate::{error::Limit, metrics::PoolMetrics};

/// Look-ups of the operating system at once. Each blocks a thread of the pool that also reads files,
/// until the system gives up.
const SYSTEM_LOOKUPS: usize = 64;
/// The part of the node's look-ups that is kept for functions without another one.
const RESERVE: usize = 8;

/// Resolves names for the whole node.
pub(super) struct Resolver {
    names: Names,
    /// Look-ups of the node at once, without the reserve.
    lookups: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    metrics: PoolMetrics,
}

enum Names {
    Machine(MachineNames),
    System,
    Server(SocketAddr),
}

/// A function's part of the node's look-ups: a function whose names are slow to resolve delays its
/// own requests alone.
pub(super) struct LookupShare {
    lookups: Arc<Semaphore>,
    most: usize,
}

/// Held while a name is resolved.
struct LookupPermit {
    _share: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

impl LookupShare {
    pub(super) fn new(config: &OutboundConfig) -> Self {
        let most = config.lookups_per_function;
        Self { lookups: Arc::new(Semaphore::new(most)), most }
    }
}

impl Resolver {
    pub(super) fn new(config: &OutboundConfig, metrics: PoolMetrics) -> Self {
        let (names, lookups) = match config.resolver {
            NameSource::Machine => (Names::Machine(MachineNames::new()), config.lookups),
            NameSource::System => (Names::System, config.lookups.min(SYSTEM_LOOKUPS)),
            NameSource::Server(server) => (Names::Server(server), config.lookups),
        };
        let reserve = lookups.div_ceil(RESERVE);
        let lookups = Arc::new(Semaphore::new(lookups - reserve));
        Self { names, lookups, reserve: Arc::new(Semaphore::new(reserve)), metrics }
    }

    /// All addresses of a target; at least one.
    pub(super) async fn resolve(
        &self,
        target: &Target,
        share: &LookupShare,
    ) -> Result<Vec<SocketAddr>, OutboundFailure> {
        let addresses = match &target.host {
            Host::Ipv4(ip) => vec![IpAddr::V4(*ip)],
            Host::Ipv6(ip) => vec![IpAddr::V6(*ip)],
            // RFC 6761: these names are resolved without a name server.
            Host::Domain(name) if name == "localhost" || name.ends_with(".localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Host::Domain(name) => {
                let permit = self.permit(share).await;
                let answer = match &self.names {
                    Names::Machine(names) => names.resolve(name).await,
                    Names::System => ask_system(permit, name.clone()).await,
                    Names::Server(server) => query::ask(*server, name).await,
                };
                answer.map_err(|reason| OutboundFailure::Name(reason.to_string()))?
            }
        };
        if addresses.is_empty() {
            return Err(OutboundFailure::Name("it has no address".into()));
        }
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect())
    }

    /// Waits for the function's share first, so that its waiting requests hold nothing of the node's.
    async fn permit(&self, share: &LookupShare) -> LookupPermit {
        let own = self.acquire(&share.lookups).await;
        let is_first = share.lookups.available_permits() + 1 == share.most;
        let node = if is_first {
            tokio::select! {
                biased;
                node = self.acquire(&self.lookups) => node,
                node = Arc::clone(&self.reserve).acquire_owned() => {
                    node.expect("the semaphore is never closed")
                }
            }
        } else {
            self.acquire(&self.lookups).await
        };
        LookupPermit { _share: own, _node: node }
    }

    async fn acquire(&self, lookups: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(lookups).try_acquire_owned() {
            return permit;
        }
        self.metrics.limit_hit(Limit::OutboundLookups);
        Arc::clone(lookups).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// The thread keeps its permit even if the caller stops waiting, because the system's call blocks
/// it until there is an answer.
async fn ask_system(permit: LookupPermit, name: String) -> Answer {
    let asked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|addr| addr.ip()).collect())
    });
    match asked.await {
        Ok(found) => found.map_err(|error: io::Error| NoAnswer::failed(error)),
        Err(error) => Err(NoAnswer::failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use prometheus::Registry;

    use super::*;

    #[test]
    fn a_function_waits_for_its_own_look_ups_and_never_for_all_of_another_ones() {
        let config = OutboundConfig { lookups: 8, lookups_per_function: 4, ..Default::default() };
        let metrics = PoolMetrics::register(&Registry::new()).unwrap();
        let resolver = Resolver::new(&config, metrics);
        let [slow, slower, quick] = [(); 3].map(|()| LookupShare::new(&config));
        let take = |share| resolver.permit(share).now_or_never();
        let mut held: Vec<_> = (0..4).map(|_| take(&slow).unwrap()).collect();
        assert!(take(&slow).is_none(), "its share is used up");
        held.extend((0..3).map(|_| take(&slower).unwrap()));
        assert!(take(&slower).is_none(), "the rest is kept for those without a look-up");
        let served = take(&quick).expect("the reserve is for it");
        assert!(take(&quick).is_none(), "the reserve is for first look-ups");
        drop(served);
        assert!(take(&quick).is_some());
        drop(held);
        assert!(take(&slow).is_some());
    }
}
