//! The header `cdn-loop`: the gateways that a request has passed. It ends loops of functions that
//! call each other.

use http::{HeaderMap, HeaderName, HeaderValue};

/// RFC 8586: each node on the way adds its name, and never removes that of another.
pub(super) const HEADER: HeaderName = HeaderName::from_static("cdn-loop");
const NAME: &str = "mayfly";

/// The value of the header: the names of the nodes that a request has passed.
#[derive(Clone, Debug)]
pub struct CdnLoop(Box<str>);

impl CdnLoop {
    /// Reads it from a request's headers. Most requests do not have one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(HEADER) {
            return None;
        }
        let values = headers.get_all(HEADER).iter().filter_map(|value| value.to_str().ok());
        Some(Self(values.collect::<Vec<_>>().join(", ").into()))
    }

    /// How many gateways of this kind the request has passed.
    #[must_use]
    pub fn hops(&self) -> usize {
        // A name may have parameters.
        let names = self.0.split(',').map(|name| name.split(';').next().unwrap_or_default().trim());
        names.filter(|name| name.eq_ignore_ascii_case(NAME)).count()
    }

    /// The value for a request that leaves this gateway.
    pub(super) fn extended(before: Option<&Self>) -> HeaderValue {
        let Some(Self(before)) = before else { return HeaderValue::from_static(NAME) };
        HeaderValue::try_from(format!("{before}, {NAME}"))
            .expect("it is the value of a header, and a name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdn_loop(values: &[&'static str]) -> Option<CdnLoop> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        CdnLoop::of(&headers)
    }

    fn hops(values: &[&'static str]) -> usize {
        cdn_loop(values).map_or(0, |cdn_loop| cdn_loop.hops())
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
        let mut passed = cdn_loop(&["other;a=b"]);
        for hops in 0..10 {
            assert_eq!(passed.as_ref().unwrap().hops(), hops);
            passed =
                CdnLoop::of(&HeaderMap::from_iter([(HEADER, CdnLoop::extended(passed.as_ref()))]));
        }
        let leaving = CdnLoop::extended(passed.as_ref());
        assert!(leaving.to_str().unwrap().starts_with("other;a=b, mayfly, "));
        assert_eq!(CdnLoop::extended(None), "mayfly");
    }
}
