//! Permits for connections: at most so many in all, and for each client address.
//!
//! A client that has all it may gets another one in place of its oldest connection without a request
//! in progress. So connections that do nothing keep no request out, a health check of this machine
//! among them.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::server::{activity::Activity, metrics::CloseReason, peer::client_of};

/// Counts the connections of one listener.
pub(crate) struct ConnectionPermits {
    open: Mutex<OpenConnections>,
    total_max: usize,
    address_max: usize,
    gauge: IntGauge,
    /// Notified when the last connection ends.
    none_open: Notify,
}

#[derive(Default)]
struct OpenConnections {
    total: usize,
    /// The connections of each client, the oldest first.
    by_address: HashMap<IpAddr, VecDeque<Arc<Activity>>>,
}

impl ConnectionPermits {
    pub(crate) fn new(total_max: usize, address_max: usize, gauge: IntGauge) -> Arc<Self> {
        let none_open = Notify::new();
        Arc::new(Self { open: Mutex::default(), total_max, address_max, gauge, none_open })
    }

    /// A permit for one more connection, or why there is none.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        activity: &Arc<Activity>,
    ) -> Result<ConnectionPermit, CloseReason> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total_max {
            return Err(CloseReason::Connections);
        }
        open.total += 1;
        self.gauge.inc();
        let activity = Arc::clone(activity);
        Ok(ConnectionPermit { permits: Arc::clone(self), activity, address: None })
    }

    /// Returns when no connection is open.
    pub(crate) async fn all_released(&self) {
        loop {
            let none_open = self.none_open.notified();
            if self.open.lock().unwrap_or_else(PoisonError::into_inner).total == 0 {
                return;
            }
            none_open.await;
        }
    }

    /// How many connections are open.
    pub(crate) fn taken(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// The permit of one connection. Dropping it releases it.
pub(crate) struct ConnectionPermit {
    permits: Arc<ConnectionPermits>,
    activity: Arc<Activity>,
    address: Option<IpAddr>,
}

impl ConnectionPermit {
    /// Counts the connection for `address`, unless that has too many. To be called once.
    pub(crate) fn count_for(&mut self, address: IpAddr) -> Result<(), CloseReason> {
        let address = client_of(address);
        let mut open = self.permits.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = open.by_address.entry(address).or_default();
        if connections.len() >= self.permits.address_max {
            let idle = connections.iter().position(|connection| !connection.is_serving());
            let idle = idle.and_then(|at| connections.remove(at)).ok_or(CloseReason::Address)?;
            idle.make_room();
        }
        connections.push_back(Arc::clone(&self.activity));
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.permits.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        self.permits.gauge.dec();
        if let Some(address) = self.address
            && let Some(connections) = open.by_address.get_mut(&address)
        {
            // One that has made room for another is not there.
            connections.retain(|connection| !Arc::ptr_eq(connection, &self.activity));
            if connections.is_empty() {
                open.by_address.remove(&address);
            }
        }
        if open.total == 0 {
            self.permits.none_open.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    /// A permit of a connection that serves a request.
    fn acquire(
        permits: &Arc<ConnectionPermits>,
        address: IpAddr,
    ) -> Result<ConnectionPermit, CloseReason> {
        let activity = Activity::new(Instant::now());
        let mut permit = permits.acquire(&activity)?;
        std::mem::forget(activity.begin());
        permit.count_for(address).map(|()| permit)
    }

    #[test]
    fn the_oldest_connection_without_a_request_makes_room_for_another_of_its_client() {
        let permits = ConnectionPermits::new(100, 2, IntGauge::new("a", "b").unwrap());
        let activities: Vec<_> = (0..4).map(|_| Activity::new(Instant::now())).collect();
        let open = |n: usize| {
            let mut permit = permits.acquire(&activities[n])?;
            permit.count_for([192, 0, 2, 1].into()).map(|()| permit)
        };
        let busy = activities[0].begin();
        let _first = open(0).unwrap();
        let second = open(1).unwrap();
        let third = open(2).unwrap();
        assert!(activities[0].must_end().now_or_never().is_none(), "it serves a request");
        assert!(activities[1].must_end().now_or_never().is_some());
        drop(second);
        let _busy = activities[2].begin();
        assert_eq!(open(3).err(), Some(CloseReason::Address), "both serve requests");
        drop(busy);
        let fourth = open(3).unwrap();
        assert!(activities[0].must_end().now_or_never().is_some());
        drop((third, fourth));
        assert_eq!(permits.taken(), 1);
    }

    #[test]
    fn permits_are_counted_by_address_and_released() {
        let permits = ConnectionPermits::new(3, 2, IntGauge::new("a", "b").unwrap());
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let acquire = |address| acquire(&permits, address);
        let first = acquire(a).unwrap();
        let _second = acquire(a).unwrap();
        assert_eq!(acquire(a).err(), Some(CloseReason::Address));
        let _third = acquire(b).unwrap();
        assert_eq!(acquire(b).err(), Some(CloseReason::Connections));
        drop(first);
        assert!(acquire(b).is_ok());
        assert_eq!(permits.taken(), 2);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_share_a_limit() {
        let permits = ConnectionPermits::new(100, 2, IntGauge::new("a", "b").unwrap());
        let acquire = |address: &str| acquire(&permits, address.parse().unwrap());
        let _open = [acquire("2001:db8::1").unwrap(), acquire("2001:db8::2").unwrap()];
        assert_eq!(acquire("2001:db8::3").err(), Some(CloseReason::Address));
        assert!(acquire("2001:db8:0:1::1").is_ok(), "another network");
    }
}
