//! How many requests each client has in flight.
//!
//! A connection looks up the count of its client once. Only a trusted proxy, whose connections carry
//! requests of many clients, looks one up for each request.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::server::client_of;

/// Parts of the table, so that connections seldom wait for each other.
const SHARDS: usize = 32;

/// The clients that have a connection or a request in flight.
#[derive(Debug)]
pub(crate) struct Clients {
    shards: [Mutex<HashMap<IpAddr, Known>>; SHARDS],
    hasher: RandomState,
    /// Requests that one client may have in flight.
    max: usize,
}

/// A client in the table.
#[derive(Debug, Default)]
struct Known {
    /// How many [`Client`]s there are of it.
    holders: usize,
    in_flight: Arc<AtomicUsize>,
}

/// A client, as its connections and requests hold it. Dropping the last one forgets it.
#[derive(Debug)]
pub(crate) struct Client {
    clients: Arc<Clients>,
    address: IpAddr,
    in_flight: Arc<AtomicUsize>,
}

/// The permit of one request of a client. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct ClientPermit(Arc<Client>);

impl Clients {
    pub(crate) fn new(max: usize) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), max }
    }

    /// Requests that one client may have in flight.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// The client at this address.
    pub(crate) fn at(self: &Arc<Self>, address: IpAddr) -> Arc<Client> {
        let address = client_of(address);
        let in_flight = {
            let mut shard = self.shard(address);
            let known = shard.entry(address).or_default();
            known.holders += 1;
            Arc::clone(&known.in_flight)
        };
        Arc::new(Client { clients: Arc::clone(self), address, in_flight })
    }

    fn shard(&self, address: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, Known>> {
        let shard = self.hasher.hash_one(address) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// A permit for one more request and the number of the client's others, or `None` if there are
    /// too many.
    pub(crate) fn acquire(client: &Arc<Self>) -> Option<(ClientPermit, usize)> {
        let permit = ClientPermit(Arc::clone(client));
        let others = client.in_flight.fetch_add(1, Relaxed);
        // Beyond the limit, dropping the permit takes this count back.
        (others < client.clients.max).then_some((permit, others))
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut shard = self.clients.shard(self.address);
        if let Entry::Occupied(mut entry) = shard.entry(self.address) {
            entry.get_mut().holders -= 1;
            if entry.get().holders == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(clients: &Clients) -> usize {
        clients.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn a_client_has_one_count_for_all_its_connections_and_is_forgotten_after_the_last() {
        let clients = Arc::new(Clients::new(2));
        let at = |address: &str| clients.at(address.parse().unwrap());
        let connections = [at("2001:db8::1"), at("2001:db8::2"), at("192.0.2.1")];
        assert_eq!(known(&clients), 2);
        let (first, others) = Client::acquire(&connections[0]).unwrap();
        assert_eq!(others, 0);
        let (second, others) = Client::acquire(&connections[1]).unwrap();
        assert_eq!(others, 1);
        assert!(Client::acquire(&connections[0]).is_none());
        assert!(Client::acquire(&connections[2]).is_some(), "another client");
        drop(first);
        // A request outlives its connection.
        let (third, _) = Client::acquire(&connections[0]).unwrap();
        drop(connections);
        assert!(Client::acquire(&at("2001:db8::3")).is_none());
        assert_eq!(known(&clients), 1);
        drop(third);
        assert!(Client::acquire(&at("2001:db8::3")).is_some());
        drop(second);
        assert_eq!(known(&clients), 0);
    }
}
