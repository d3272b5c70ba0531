//! Counts connections, in all and by address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::IntGauge;
use tokio::sync::Notify;

use super::metrics::End;

/// The connections of one listener.
pub(crate) struct ConnectionPermits {
    open: Mutex<Open>,
    total_max: usize,
    address_max: usize,
    gauge: IntGauge,
    /// Told when the last connection ends.
    empty: Notify,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl ConnectionPermits {
    pub(crate) fn new(total_max: usize, address_max: usize, gauge: IntGauge) -> Arc<Self> {
        let empty = Notify::new();
        Arc::new(Self { open: Mutex::default(), total_max, address_max, gauge, empty })
    }

    /// A place for one more connection, or why there is none.
    pub(crate) fn take(self: &Arc<Self>) -> Result<ConnectionPermit, End> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total_max {
            return Err(End::Connections);
        }
        open.total += 1;
        self.gauge.inc();
        Ok(ConnectionPermit { places: Arc::clone(self), address: None })
    }

    /// Returns when there is no connection.
    pub(crate) async fn all_free(&self) {
        loop {
            let empty = self.empty.notified();
            if self.open.lock().unwrap_or_else(PoisonError::into_inner).total == 0 {
                return;
            }
            empty.await;
        }
    }

    /// How many connections there are.
    pub(crate) fn taken(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// One connection's place; given up when dropped.
pub(crate) struct ConnectionPermit {
    places: Arc<ConnectionPermits>,
    address: Option<IpAddr>,
}

impl ConnectionPermit {
    /// Counts the connection among those of `address`, unless there are too many. To be asked
    /// once.
    pub(crate) fn belongs_to(&mut self, address: IpAddr) -> Result<(), End> {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or_default();
        if here >= self.places.address_max {
            return Err(End::Address);
        }
        open.by_address.insert(address, here + 1);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        self.places.gauge.dec();
        if let Some(address) = self.address
            && let Some(here) = open.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&address);
            }
        }
        if open.total == 0 {
            self.places.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let places = ConnectionPermits::new(3, 2, IntGauge::new("a", "b").unwrap());
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let take = |address| {
            let mut place = places.take()?;
            place.belongs_to(address).map(|()| place)
        };
        let first = take(a).unwrap();
        let _second = take(a).unwrap();
        assert_eq!(take(a).err(), Some(End::Address));
        let _third = take(b).unwrap();
        assert_eq!(take(b).err(), Some(End::Connections));
        drop(first);
        assert!(take(b).is_ok());
        assert_eq!(places.taken(), 2);
    }
}
