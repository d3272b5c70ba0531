//! To which of several revisions does this request of a channel go?
//!
//! A channel without weights costs a call nothing. With weights, a draw from 0 to 99 picks a revision:
//! the number of the request, which is random, or a hash of what the caller stays with a revision by.

use std::net::IpAddr;

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use store::{Sticky, Weight};

/// Which revisions get a share of the requests of a channel, besides its own.
#[derive(Debug)]
pub(crate) struct Split<T> {
    /// Each with the upper end of its part of 0 to 99.
    parts: Vec<(u8, T)>,
    sticky: Sticky,
    /// Makes the same caller draw differently in another function.
    seed: i64,
}

impl<T> Split<T> {
    /// `None` where no revision has a share.
    pub(crate) fn new(
        weighted: Vec<(Weight, T)>,
        sticky: Sticky,
        function: i64,
    ) -> Option<Box<Self>> {
        let mut end = 0;
        let parts: Vec<_> = weighted
            .into_iter()
            .map(|(weight, entry)| {
                end += weight.percent;
                (end, entry)
            })
            .collect();
        (!parts.is_empty()).then(|| Box::new(Self { parts, sticky, seed: function }))
    }

    /// The revision that this request goes to; `None` for the channel's own.
    pub(crate) fn pick(&self, headers: &HeaderMap, client: IpAddr, request: u128) -> Option<&T> {
        let draw = match &self.sticky {
            Sticky::None => None,
            Sticky::Client => Some(self.hash(client.to_string().as_bytes())),
            Sticky::Header(name) => headers.get(name).map(|value| self.hash(value.as_bytes())),
            Sticky::Cookie(name) => cookie(headers, name).map(|value| self.hash(value)),
        };
        // A caller that does not say who it is stays with nothing.
        let draw = draw.unwrap_or((request % 100) as u8);
        self.parts.iter().find(|(end, _)| draw < *end).map(|(_, entry)| entry)
    }

    /// The same number from 0 to 99 for the same caller, whatever the weights: a revision whose share
    /// grows keeps the callers that it has.
    fn hash(&self, caller: &[u8]) -> u8 {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(caller);
        let hash = hasher.finalize();
        (u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]) % 100) as u8
    }

    /// The revisions with a share.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().map(|(_, entry)| entry)
    }
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_all(header::COOKIE).iter().find_map(|field| {
        let mut pairs = field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(weights: &[(u32, u8)], sticky: Sticky) -> Box<Split<u32>> {
        let weighted =
            weights.iter().map(|&(revision, percent)| (Weight { revision, percent }, revision));
        Split::new(weighted.collect(), sticky, 7).unwrap()
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn without_weights_there_is_nothing_to_pick() {
        assert!(Split::<u32>::new(Vec::new(), Sticky::Client, 7).is_none());
    }

    #[test]
    fn each_draw_has_its_revision() {
        let split = split(&[(2, 10), (3, 40)], Sticky::None);
        let pick = |draw| split.pick(&HeaderMap::new(), client(1), draw).copied();
        assert_eq!((pick(0), pick(9), pick(10), pick(49)), (Some(2), Some(2), Some(3), Some(3)));
        assert_eq!((pick(50), pick(99), pick(100)), (None, None, Some(2)));
    }

    #[test]
    fn a_caller_stays_with_its_revision_and_a_growing_share_keeps_its_callers() {
        let headers = |user: String| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("x-user"),
                http::HeaderValue::try_from(user).unwrap(),
            )])
        };
        let sticky = || Sticky::Header("x-user".to_owned());
        let (small, large) = (split(&[(2, 20)], sticky()), split(&[(2, 60)], sticky()));
        let mut moved = 0;
        for user in 0..1_000 {
            let headers = headers(format!("user {user}"));
            let first = small.pick(&headers, client(1), 1);
            assert_eq!(first, small.pick(&headers, client(2), 99), "another draw, the same caller");
            if first.is_some() {
                moved += 1;
                assert!(large.pick(&headers, client(1), 1).is_some());
            }
        }
        // Fixed by the hash: 20 percent of 1,000, within five standard deviations.
        assert!((137..=263).contains(&moved), "{moved}");
    }

    #[test]
    fn a_caller_without_the_field_is_drawn_anew() {
        let split = split(&[(2, 50)], Sticky::Cookie("sid".to_owned()));
        let pick = |draw| split.pick(&HeaderMap::new(), client(1), draw).is_some();
        assert!(pick(0) && !pick(99));
    }

    #[test]
    fn the_cookie_of_a_name_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; sid=x=y".parse().unwrap());
        headers.append(header::COOKIE, "b=2;c=3".parse().unwrap());
        assert_eq!(cookie(&headers, "sid"), Some(&b"x=y"[..]));
        assert_eq!(cookie(&headers, "c"), Some(&b"3"[..]));
        assert_eq!((cookie(&headers, "si"), cookie(&headers, "d")), (None, None));
    }

    proptest! {
        #[test]
        fn every_request_has_a_revision(weights in prop::collection::vec((1u32..9, 1u8..=12), 1..8), draw: u128) {
            let split = split(&weights, Sticky::None);
            if let Some(picked) = split.pick(&HeaderMap::new(), client(1), draw) {
                prop_assert!(weights.iter().any(|(revision, _)| revision == picked));
            }
        }
    }
}
