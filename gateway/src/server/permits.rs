//! Permits for connections: at most so many in all, and for each client address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::IntGauge;
use tokio::sync::Notify;

use crate::server::{metrics::CloseReason, peer::client_of};

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
    by_address: HashMap<IpAddr, usize>,
}

impl ConnectionPermits {
    pub(crate) fn new(total_max: usize, address_max: usize, gauge: IntGauge) -> Arc<Self> {
        let none_open = Notify::new();
        Arc::new(Self { open: Mutex::default(), total_max, address_max, gauge, none_open })
    }

    /// A permit for one more connection, or why there is none.
    pub(crate) fn acquire(self: &Arc<Self>) -> Result<ConnectionPermit, CloseReason> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total_max {
            return Err(CloseReason::Connections);
        }
        open.total += 1;
        self.gauge.inc();
        Ok(ConnectionPermit { permits: Arc::clone(self), address: None })
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
    address: Option<IpAddr>,
}

impl ConnectionPermit {
    /// Counts the connection for `address`, unless that has too many. To be called once.
    pub(crate) fn count_for(&mut self, address: IpAddr) -> Result<(), CloseReason> {
        let address = client_of(address);
        let mut open = self.permits.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.by_address.get(&address).copied().unwrap_or_default();
        if count >= self.permits.address_max {
            return Err(CloseReason::Address);
        }
        open.by_address.insert(address, count + 1);
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
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
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
    use super::*;

    #[test]
    fn permits_are_counted_by_address_and_released() {
        let permits = ConnectionPermits::new(3, 2, IntGauge::new("a", "b").unwrap());
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let acquire = |address| {
            let mut permit = permits.acquire()?;
            permit.count_for(address).map(|()| permit)
        };
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
        let acquire = |address: &str| {
            let mut permit = permits.acquire()?;
            permit.count_for(address.parse().unwrap()).map(|()| permit)
        };
        let _open = [acquire("2001:db8::1").unwrap(), acquire("2001:db8::2").unwrap()];
        assert_eq!(acquire("2001:db8::3").err(), Some(CloseReason::Address));
        assert!(acquire("2001:db8:0:1::1").is_ok(), "another network");
    }
}
