//! Where the requests of HTTP/1 begin and end in the bytes of a client.

#![no_main]

use libfuzzer_sys::fuzz_target;

// Its tests are in a file that the formatter does not find from here.
#[path = "../../src/server/h1/framing.rs"]
#[rustfmt::skip]
mod framing;
#[path = "../../src/server/h1/requests.rs"]
#[allow(dead_code, reason = "some methods are for connections only")]
mod requests;

use framing::{HeadLimits, head as head_of, with_encoded_target};
use requests::{Remainder, RequestTracker};

const LIMITS: HeadLimits = HeadLimits { bytes: 256, fields: 8, target_bytes: 64 };

/// How many bytes are passed on when they arrive in pieces that end at `cuts`, and whether the
/// connection was ended.
fn passed(bytes: &[u8], cuts: &[usize]) -> (usize, bool) {
    let mut requests = RequestTracker::new(LIMITS);
    let mut begin = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        loop {
            let inspected = requests.inspect(&bytes[begin..end]);
            assert!(inspected.pass <= end - begin);
            begin += inspected.pass;
            match inspected.remainder {
                // An incomplete head is inspected again, with the bytes that follow.
                Remainder::Incomplete => break,
                // Inspected as it was, and passed on in another form.
                Remainder::Unencoded(head) => {
                    let encoded = with_encoded_target(&bytes[begin..begin + head]);
                    let again =
                        head_of(&encoded, &LIMITS).expect("it is valid").expect("it is whole");
                    assert_eq!((again.bytes, again.unencoded), (encoded.len(), 0));
                    begin += head;
                }
                Remainder::Rejected(_) | Remainder::Broken(_) => return (begin, true),
            }
        }
    }
    (begin, false)
}

fuzz_target!(|data: &[u8]| {
    // The first two bytes decide where the others are cut.
    let [first, second, bytes @ ..] = data else { return };
    let mut cuts = [first, second].map(|cut| usize::from(*cut).min(bytes.len()));
    cuts.sort_unstable();
    let (whole, rejected) = passed(bytes, &[]);
    let (pieces, rejected_in_pieces) = passed(bytes, &cuts);
    // The requests are the same however the bytes arrive.
    assert_eq!(rejected, rejected_in_pieces);
    if !rejected {
        assert_eq!(whole, pieces);
    }
});
