//! The gateways that a request has come through, so that a function that calls itself in a circle
//! meets an end.

use http::{HeaderMap, HeaderName, HeaderValue};

/// RFC 8586: each node on the way adds its name, and none removes another's.
pub(super) const HEADER: HeaderName = HeaderName::from_static("cdn-loop");
const NAME: &str = "mayfly";

/// The way that a request has come.
#[derive(Clone, Debug)]
pub struct CdnLoop(Box<str>);

impl CdnLoop {
    /// Reads it from a request. Most have none.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(HEADER) {
            return None;
        }
        let values = headers.get_all(HEADER).iter().filter_map(|value| value.to_str().ok());
        Some(Self(values.collect::<Vec<_>>().join(", ").into()))
    }

    /// How many gateways like this one it has come through.
    #[must_use]
    pub fn hops(&self) -> usize {
        // A name may have parameters.
        let names = self.0.split(',').map(|name| name.split(';').next().unwrap_or_default().trim());
        names.filter(|name| name.eq_ignore_ascii_case(NAME)).count()
    }

    /// As a request has it that leaves from here.
    pub(super) fn leaving(trail: Option<&Self>) -> HeaderValue {
        let Some(Self(trail)) = trail else { return HeaderValue::from_static(NAME) };
        HeaderValue::try_from(format!("{trail}, {NAME}")).expect("it was a header's value before")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(values: &[&'static str]) -> Option<CdnLoop> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        CdnLoop::of(&headers)
    }

    fn hops(values: &[&'static str]) -> usize {
        trail(values).map_or(0, |trail| trail.hops())
    }

    #[test]
    fn hops_are_counted_over_all_values_and_among_the_names_of_others() {
        assert_eq!(hops(&[]), 0);
        assert_eq!(hops(&["mayfly"]), 1);
        assert_eq!(hops(&["mayfly", "x, mayfly"]), 2);
        assert_eq!(hops(&["other; mayfly, Mayfly;x=y ,mayfly2,,mayfly"]), 2);
    }

    #[test]
    fn a_request_that_leaves_has_come_one_hop_further() {
        let mut trail = trail(&["other;a=b"]);
        for hops in 0..10 {
            assert_eq!(trail.as_ref().unwrap().hops(), hops);
            trail =
                CdnLoop::of(&HeaderMap::from_iter([(HEADER, CdnLoop::leaving(trail.as_ref()))]));
        }
        let leaving = CdnLoop::leaving(trail.as_ref());
        assert!(leaving.to_str().unwrap().starts_with("other;a=b, mayfly, "));
        assert_eq!(CdnLoop::leaving(None), "mayfly");
    }
}
