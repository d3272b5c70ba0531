//! Ids of requests and invocations, as logs and responses name them.
//!
//! An id is a number that was encrypted with a key that lives as long as the process. A count alone
//! would tell each client when the gateway was started and how much it serves for all others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use http::HeaderValue;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bits of a number that count the invocations of a connection: enough for months of them.
const INVOCATION_BITS: u32 = 40;
/// Bits of a number. The rest of a cipher's block is its counter.
const NUMBER_BITS: u32 = NONCE_LEN as u32 * 8;
/// Bits of a number that count connections: enough for a million in a second for 2,000 years.
const CONNECTION_BITS: u32 = NUMBER_BITS - INVOCATION_BITS;

/// Makes the ids of one process.
pub(crate) struct RequestIdSource {
    key: Arc<LessSafeKey>,
    connections: AtomicU64,
}

/// Makes the ids of the invocations that come over one connection. An id is unique within the
/// process, and as unlikely to appear in another one as any random number.
pub(crate) struct RequestIds {
    key: Arc<LessSafeKey>,
    connection: u128,
    used: AtomicU64,
}

impl RequestIdSource {
    /// Ids that nobody else can tell from random numbers.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        Ok(Self::with_key(key))
    }

    fn with_key(key: [u8; 16]) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &key).expect("the key has the cipher's length");
        Self { key: Arc::new(LessSafeKey::new(key)), connections: AtomicU64::new(0) }
    }

    /// Ids for one more connection. Its requests count for themselves: a counter that all threads
    /// share would slow each of them down.
    pub(crate) fn for_connection(&self) -> RequestIds {
        let connection =
            u128::from(self.connections.fetch_add(1, Relaxed)) % (1 << CONNECTION_BITS);
        let (key, used) = (Arc::clone(&self.key), AtomicU64::new(0));
        RequestIds { key, connection: connection << INVOCATION_BITS, used }
    }
}

impl RequestIds {
    /// The id of the connection's next invocation.
    pub(crate) fn next(&self) -> u128 {
        let invocation = u128::from(self.used.fetch_add(1, Relaxed)) % (1 << INVOCATION_BITS);
        encrypted(&self.key, self.connection | invocation)
    }
}

/// One block of AES over the number and a constant: GCM encrypts zeros to exactly that. Different
/// numbers give different blocks, because a block can be decrypted. It takes about 75 ns.
fn encrypted(key: &LessSafeKey, number: u128) -> u128 {
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&number.to_be_bytes()[16 - NONCE_LEN..]);
    let mut block = [0; 16];
    let sealed = key.seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::empty(),
        &mut block,
    );
    // A block is far below the cipher's limit of length, its only error.
    debug_assert!(sealed.is_ok());
    u128::from_be_bytes(block)
}

/// An id as 32 hexadecimal digits.
pub(crate) fn id_text(invocation: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (index, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(invocation >> (124 - 4 * index)) as usize & 0xf];
    }
    text
}

/// The same as a string.
pub(crate) fn id_string(invocation: u128) -> String {
    String::from_utf8_lossy(&id_text(invocation)).into_owned()
}

/// An id as the value of a header.
pub(crate) fn id_header(invocation: u128) -> HeaderValue {
    let text = Bytes::copy_from_slice(&id_text(invocation));
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits are a valid header value")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_its_number_in_hexadecimal() {
        let number = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        assert_eq!(id_text(number), *b"0123456789abcdef0011223344556677");
    }

    #[test]
    fn no_two_invocations_have_the_same_id() {
        let source = RequestIdSource::with_key([7; 16]);
        let ids: HashSet<u128> = (0..100)
            .map(|_| source.for_connection())
            .flat_map(|ids| (0..100).map(|_| ids.next()).collect::<Vec<_>>())
            .collect();
        assert_eq!(ids.len(), 10_000);
    }

    /// Neighbours in time differ in about half of their bits, and equal counts of two processes have
    /// nothing in common.
    #[test]
    fn an_id_tells_nothing_about_the_requests_before_it() {
        let [one, other] = [[1; 16], [2; 16]].map(RequestIdSource::with_key);
        let (ours, theirs) = (one.for_connection(), other.for_connection());
        let next = one.for_connection();
        let mut last = ours.next();
        for _ in 0..1_000 {
            let id = ours.next();
            for other in [last, theirs.next(), next.next()] {
                let differing = (id ^ other).count_ones();
                assert!((24..=104).contains(&differing), "{id:032x} {other:032x}");
            }
            last = id;
        }
    }
}
