//! The date that responses tell.

use std::cell::RefCell;

use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use crate::telemetry::clock;

thread_local! {
    /// The last second in which this thread was asked, and how it is written.
    static LAST: RefCell<(i64, HeaderValue)> =
        const { RefCell::new((i64::MIN, HeaderValue::from_static(""))) };
}

/// The time of day, to the second, as `date` tells it.
pub(crate) fn now() -> HeaderValue {
    let second = clock::now_ms() / 1_000;
    LAST.with_borrow_mut(|(last, written)| {
        if *last != second {
            (*last, *written) = (second, write(second));
        }
        written.clone()
    })
}

fn write(second: i64) -> HeaderValue {
    let time = Timestamp::from_second(second).unwrap_or_default();
    let written = DateTimePrinter::new().timestamp_to_rfc9110_string(&time);
    HeaderValue::try_from(written.unwrap_or_default()).expect("a date is ASCII text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_asks() {
        assert_eq!(write(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(write(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(now().len(), write(0).len());
    }
}
