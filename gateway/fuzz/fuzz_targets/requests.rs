//! The strict layer of HTTP/1: where requests begin and end in what a client sends.

#![no_main]

use libfuzzer_sys::fuzz_target;

// Its tests are beside it, where the formatter does not look from here.
#[path = "../../src/server/h1/framing.rs"]
#[rustfmt::skip]
mod framing;
#[path = "../../src/server/h1/requests.rs"]
#[allow(dead_code, reason = "what only connections ask is not asked here")]
mod requests;

use framing::HeadLimits;
use requests::{Requests, Rest};

const LIMITS: HeadLimits = HeadLimits { bytes: 256, fields: 8, target_bytes: 64 };

/// What is passed on when the bytes arrive in pieces that end at `cuts`: how many bytes, and
/// whether the connection was ended.
fn passed(bytes: &[u8], cuts: &[usize]) -> (usize, bool) {
    let mut requests = Requests::new(LIMITS);
    let mut begin = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        let seen = requests.look(&bytes[begin..end]);
        assert!(seen.pass <= end - begin);
        begin += seen.pass;
        match seen.rest {
            // A head that has not arrived whole is looked at again, with what follows.
            Rest::Wait => {}
            Rest::Refuse(_) | Rest::Broken(_) => return (begin, true),
        }
    }
    (begin, false)
}

fuzz_target!(|data: &[u8]| {
    // The first bytes say where the rest is cut.
    let [first, second, bytes @ ..] = data else { return };
    let mut cuts = [first, second].map(|cut| usize::from(*cut).min(bytes.len()));
    cuts.sort_unstable();
    let (whole, refused) = passed(bytes, &[]);
    let (pieces, refused_in_pieces) = passed(bytes, &cuts);
    // However the bytes arrive, it is the same requests.
    assert_eq!(refused, refused_in_pieces);
    if !refused {
        assert_eq!(whole, pieces);
    }
});
