//! Which TLS handshakes may go on at once?
//!
//! A handshake takes little from its client, and keeps memory of the gateway until it ends. At most
//! so many go on at once, and at most an eighth of them for one client. One that finds no place
//! waits for it, and a handshake whose client has let the gateway wait is ended to make room: of the
//! client that has most, the oldest. So neither silent clients nor a burst keep others out.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant},
};

/// A handshake is not ended for another one before it had so much time: a client needs two round
/// trips.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest time between two attempts to get a place.
const RETRY: Duration = Duration::from_millis(50);

/// The handshakes of one listener.
pub(crate) struct Handshakes {
    max: usize,
    places: Mutex<Places>,
    /// Notified when a handshake has ended.
    freed: Notify,
}

#[derive(Default)]
struct Places {
    taken: usize,
    next: u64,
    /// The handshakes of each client, the oldest first.
    by_client: HashMap<IpAddr, VecDeque<Place>>,
}

struct Place {
    id: u64,
    since: Instant,
    /// Dropping it ends the handshake.
    _end: oneshot::Sender<()>,
}

/// The place of one handshake. Dropping it releases the place.
pub(crate) struct HandshakePlace<'a> {
    handshakes: &'a Handshakes,
    client: IpAddr,
    id: u64,
    ended: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, places: Mutex::default(), freed: Notify::new() }
    }

    /// How many handshakes of one client may go on at once.
    fn share(&self) -> usize {
        (self.max / 8).max(1)
    }

    /// Waits for a place until the deadline. `shared` says that many clients use the address.
    pub(crate) async fn enter(
        &self,
        client: IpAddr,
        shared: bool,
        deadline: Instant,
    ) -> Option<HandshakePlace<'_>> {
        let share = if shared { self.max } else { self.share() };
        loop {
            if let Some(place) = self.try_enter(client, share, Instant::now()) {
                return Some(place);
            }
            if Instant::now() >= deadline {
                return None;
            }
            let _ = time::timeout(RETRY, self.freed.notified()).await;
        }
    }

    fn try_enter(&self, client: IpAddr, share: usize, now: Instant) -> Option<HandshakePlace<'_>> {
        let mut places = self.lock();
        let own = places.by_client.get(&client).map_or(0, VecDeque::len);
        if own >= share {
            places.end_oldest(client, now)?;
        } else if places.taken >= self.max {
            let largest = places.largest()?;
            places.end_oldest(largest, now)?;
        }
        let (end, ended) = oneshot::channel();
        let id = places.next;
        places.next += 1;
        places.taken += 1;
        let place = Place { id, since: now, _end: end };
        places.by_client.entry(client).or_default().push_back(place);
        Some(HandshakePlace { handshakes: self, client, id, ended })
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// The client with most handshakes; of several, the one whose oldest is the oldest.
    fn largest(&self) -> Option<IpAddr> {
        let rank = |places: &VecDeque<Place>| {
            (places.len(), Reverse(places.front().map(|oldest| oldest.id)))
        };
        self.by_client.iter().max_by_key(|(_, places)| rank(places)).map(|(client, _)| *client)
    }

    /// Ends the oldest handshake of a client, unless even that has just begun.
    fn end_oldest(&mut self, client: IpAddr, now: Instant) -> Option<()> {
        let oldest = self.by_client.get(&client)?.front()?;
        if now.saturating_duration_since(oldest.since) < PATIENCE {
            return None;
        }
        let id = oldest.id;
        self.remove(client, id);
        Some(())
    }

    fn remove(&mut self, client: IpAddr, id: u64) {
        let Some(places) = self.by_client.get_mut(&client) else { return };
        let Some(at) = places.iter().position(|place| place.id == id) else { return };
        places.remove(at);
        self.taken -= 1;
        if places.is_empty() {
            self.by_client.remove(&client);
        }
    }
}

impl HandshakePlace<'_> {
    /// Returns when the handshake must end, to make room for others.
    pub(crate) async fn ended(&mut self) {
        // The sender is only ever dropped.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        self.handshakes.lock().remove(self.client, self.id);
        self.handshakes.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Case H18.
    #[test]
    fn one_client_has_an_eighth_and_ends_its_own_oldest_for_more() {
        let handshakes = Handshakes::new(16);
        let now = Instant::now();
        let enter = |at| handshakes.try_enter(client(1), handshakes.share(), at);
        let mut oldest = enter(now).unwrap();
        let mut other = enter(now).unwrap();
        assert!(enter(now).is_none(), "both have just begun");
        let third = enter(now + PATIENCE).unwrap();
        assert!(oldest.ended().now_or_never().is_some());
        assert!(other.ended().now_or_never().is_none());
        drop((oldest, third));
        assert!(enter(now).is_some(), "its place is free");
        assert_eq!(handshakes.lock().taken, 1);
        drop(other);
        assert!(handshakes.lock().by_client.is_empty());
    }

    /// Case H18.
    #[test]
    fn a_newcomer_takes_the_place_of_the_client_that_has_most() {
        let handshakes = Handshakes::new(4);
        let now = Instant::now();
        let enter = |last, at| handshakes.try_enter(client(last), 2, at);
        let mut single = enter(1, now).unwrap();
        let mut pair = [enter(2, now).unwrap(), enter(2, now).unwrap()];
        let _fourth = enter(3, now).unwrap();
        assert!(enter(4, now).is_none(), "all have just begun");
        let _newcomer = enter(4, now + PATIENCE).unwrap();
        assert!(single.ended().now_or_never().is_none(), "it is older, but its client has one");
        assert!(pair[0].ended().now_or_never().is_some());
        assert!(pair[1].ended().now_or_never().is_none());
        assert_eq!(handshakes.lock().taken, 4);
    }

    /// Case H18.
    #[tokio::test]
    async fn a_handshake_without_a_place_waits_for_one_until_its_deadline() {
        let handshakes = Handshakes::new(1);
        let soon = || Instant::now() + Duration::from_millis(10);
        let place = handshakes.enter(client(1), false, soon()).await.unwrap();
        assert!(handshakes.enter(client(2), false, soon()).await.is_none());
        let free = async {
            time::sleep(Duration::from_millis(10)).await;
            drop(place);
        };
        let later = Instant::now() + PATIENCE / 2;
        let (entered, ()) = tokio::join!(handshakes.enter(client(2), false, later), free);
        assert!(entered.is_some());
    }
}
