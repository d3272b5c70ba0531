//! How many requests of a route a caller may send: the generic cell rate algorithm.
//!
//! A caller is known by one number, the time at which all its requests so far would have been due at an
//! even pace. A request may come before that time by as much as the burst allows.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use gateway_api::RateView;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::functions::routes::fields::field_name;

/// Callers that are known at a time, of all routes. They take about ten megabytes. A caller that comes
/// beyond that begins anew.
const CALLERS: u64 = 100_000;
/// A caller of which nothing is heard for longer than any window begins anew.
const IDLE: Duration = Duration::from_secs(2 * WINDOW_S as u64);
/// Bounds of an owner's choice.
const REQUESTS: u32 = 1_000_000;
const WINDOW_S: u32 = 3_600;

/// The limit of a route.
#[derive(Debug)]
pub(crate) struct RateLimit {
    requests: u32,
    window_s: u32,
    burst: u32,
    by: RateBy,
    policy: HeaderValue,
}

/// Who has a share of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RateBy {
    /// Nobody: all share one.
    Route,
    /// The client's address; of IPv6 its network of 64 bits.
    Client,
    /// Who the caller has said to be: the name of a key, a user, the subject of a token.
    Key,
    /// The value of a header field.
    Header(HeaderName),
}

/// The request was one too many.
#[derive(Debug)]
pub(crate) struct TooMany {
    /// When the next may come.
    pub(crate) wait: Duration,
    /// The limit as a header field.
    pub(crate) policy: HeaderValue,
}

impl RateLimit {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(crate) fn new(rate: &RateView, knows_callers: bool) -> Result<Self, String> {
        let burst = rate.burst.unwrap_or(rate.requests);
        for (member, value) in [("requests", rate.requests), ("burst", burst)] {
            if !(1..=REQUESTS).contains(&value) {
                return Err(format!("rate.{member}: from 1 to {REQUESTS} are allowed"));
            }
        }
        if !(1..=WINDOW_S).contains(&rate.window_s) {
            return Err(format!("rate.window_s: from 1 to {WINDOW_S} are allowed"));
        }
        let by = match rate.by.as_deref().unwrap_or("client") {
            "route" => RateBy::Route,
            "client" => RateBy::Client,
            "key" if knows_callers => RateBy::Key,
            "key" => {
                let why = "rate.by: the route has none of `api_keys`, `basic`, `jwt` and `hmac`";
                return Err(why.to_owned());
            }
            other => match other.strip_prefix("header:") {
                Some(name) => RateBy::Header(field_name("rate.by", name)?),
                None => {
                    let known = "`client`, `route`, `key` or `header:NAME`";
                    return Err(format!("rate.by: {other:?} is not {known}"));
                }
            },
        };
        let policy = format!("\"route\";q={};w={}", rate.requests, rate.window_s);
        let policy = HeaderValue::try_from(policy).map_err(|error| error.to_string())?;
        Ok(Self { requests: rate.requests, window_s: rate.window_s, burst, by, policy })
    }

    /// Whether the caller is known only by its key.
    pub(crate) fn is_by_key(&self) -> bool {
        self.by == RateBy::Key
    }

    /// The time between two requests at an even pace.
    fn interval_ns(&self) -> u64 {
        u64::from(self.window_s) * 1_000_000_000 / u64::from(self.requests)
    }
}

/// What is known of callers.
#[derive(Debug)]
pub(crate) struct RateCallers {
    since: Instant,
    seed: RandomState,
    /// The times at which they are due, in nanoseconds since `since`.
    due: moka::future::Cache<u64, Arc<AtomicU64>>,
}

impl RateCallers {
    pub(crate) fn new() -> Self {
        let due = moka::future::Cache::builder().max_capacity(CALLERS).time_to_idle(IDLE).build();
        Self { since: Instant::now(), seed: RandomState::new(), due }
    }

    /// Counts a request of a route.
    pub(crate) async fn count(
        &self,
        route: &HeaderValue,
        rate: &RateLimit,
        client: IpAddr,
        headers: &HeaderMap,
        caller: Option<(&'static str, &HeaderValue)>,
    ) -> Result<(), TooMany> {
        let place = match &rate.by {
            RateBy::Route => self.seed.hash_one((route, 0)),
            RateBy::Client => self.seed.hash_one((route, 1, network(client))),
            RateBy::Key => self.seed.hash_one((route, 2, caller)),
            RateBy::Header(name) => self.seed.hash_one((route, 3, headers.get(name))),
        };
        let due = self.due.get_with(place, async { Arc::default() }).await;
        let now = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        take(&due, rate, now).map_err(|wait| TooMany { wait, policy: rate.policy.clone() })
    }
}

/// Takes a request's place at `now`, or says how long to wait for one.
fn take(due: &AtomicU64, rate: &RateLimit, now: u64) -> Result<(), Duration> {
    let interval = rate.interval_ns();
    let ahead = interval.saturating_mul(u64::from(rate.burst - 1));
    let taken = due.fetch_update(Relaxed, Relaxed, |due| {
        let due = due.max(now);
        (due - now <= ahead).then_some(due.saturating_add(interval))
    });
    taken.map(drop).map_err(|due| Duration::from_nanos(due - now - ahead))
}

/// One client of IPv6 may have all addresses of a network.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::from(network.to_be_bytes())
        }
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, window_s: u32, burst: u32) -> RateLimit {
        let view = RateView { requests, window_s, burst: Some(burst), by: None };
        RateLimit::new(&view, false).unwrap()
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_request_an_interval() {
        let (rate, due) = (rate(2, 1, 3), AtomicU64::new(0));
        let at = |ms: u64| take(&due, &rate, ms * 1_000_000);
        assert!((0..3).all(|_| at(10_000).is_ok()));
        assert_eq!(at(10_000), Err(Duration::from_millis(500)));
        assert_eq!(at(10_400), Err(Duration::from_millis(100)));
        assert_eq!((at(10_500), at(10_500).is_err()), (Ok(()), true));
        assert!((0..3).all(|_| at(60_000).is_ok()), "the burst comes back");
    }

    #[test]
    fn addresses_of_a_network_share() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
        assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:1::1")));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.2.2")));
    }

    proptest! {
        /// Whatever the times, in no window are there more than the burst and what the pace allows.
        #[test]
        fn no_window_has_more_than_the_burst_and_its_pace(
            requests in 1..50_u32, window_s in 1..10_u32, burst in 1..50_u32,
            steps in prop::collection::vec(0..400_000_000_u64, 1..200),
        ) {
            let (rate, due) = (rate(requests, window_s, burst), AtomicU64::new(0));
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if take(&due, &rate, now).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) + (to - from) / rate.interval_ns() + 1;
                    prop_assert!((last - first + 1) as u64 <= allowed);
                }
            }
        }
    }
}
