//! The header `Server-Timing`: how an invocation started, and how long each of its phases took.
//!
//! `tier;desc=loaded, instantiate;dur=0.012, guest;dur=0.020, total;dur=0.045`: durations are in
//! milliseconds, as the W3C specifies, so that the developer tools of a browser show them.

use http::{HeaderName, HeaderValue};
use runtime_pool::Start;

pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The header's value.
pub(crate) fn value(start: &Start) -> HeaderValue {
    let mut text = Vec::with_capacity(160);
    text.extend_from_slice(b"tier;desc=");
    text.extend_from_slice(start.tier.as_str().as_bytes());
    for (phase, took) in start.phases.iter() {
        text.extend_from_slice(b", ");
        text.extend_from_slice(phase.as_str().as_bytes());
        text.extend_from_slice(b";dur=");
        write_ms(&mut text, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    // Words and digits are always a valid header value.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("tier"))
}

/// Writes microseconds as milliseconds with three decimals. `format!` would take ten times as long,
/// which matters if every response has this header.
fn write_ms(text: &mut Vec<u8>, us: u64) {
    let mut digits = [0; 20];
    let mut rest = us;
    let mut at = digits.len();
    // At least four digits: one before the point, three behind it.
    while rest > 0 || at > digits.len() - 4 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let point = digits.len() - 3;
    text.extend_from_slice(&digits[at..point]);
    text.push(b'.');
    text.extend_from_slice(&digits[point..]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime_pool::{Phase, Phases, Tier};

    use super::*;

    fn ms(us: u64) -> String {
        let mut text = Vec::new();
        write_ms(&mut text, us);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn durations_are_milliseconds_with_three_decimals() {
        assert_eq!(ms(0), "0.000");
        assert_eq!(ms(7), "0.007");
        assert_eq!(ms(12_345), "12.345");
        assert_eq!(ms(u64::MAX), "18446744073709551.615");
    }

    #[test]
    fn only_phases_that_the_invocation_went_through_are_named() {
        let mut phases = Phases::default();
        phases.set(Phase::Total, Duration::from_micros(1_500));
        phases.set(Phase::Guest, Duration::from_micros(20));
        let start = Start { tier: Tier::Warm, phases };
        assert_eq!(value(&start), "tier;desc=warm, guest;dur=0.020, total;dur=1.500");
    }
}
