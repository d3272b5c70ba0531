//! Digests, by which artifacts are addressed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// The prefix that names the algorithm.
const PREFIX: &str = "sha256:";

/// The SHA-256 of an artifact, by which it is addressed.
///
/// It displays as 64 lower-case hexadecimal digits, serialises as `sha256:` followed by these
/// digits, and is parsed from both. Upper case is not accepted, so that the digits of a digest have
/// one spelling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`. This takes about 5 ms per megabyte on a slow processor: use
    /// a thread that may block for large inputs.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from a SHA-256 that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        f.pad(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

/// The first 6 bytes.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.12}…")
    }
}

/// A text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hexadecimal digits, with or without `sha256:` before them")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text).as_bytes();
        if digits.len() != 64 {
            return Err(ParseDigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, ParseDigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseDigestError),
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{PREFIX}{self}"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not every format can lend a `&str`.
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(
            Digest::of(b"").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(format!("{:?}", Digest::of(b"")), "e3b0c44298fc…");
    }

    proptest! {
        #[test]
        fn every_digest_survives_text_and_json(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            let json = serde_json::to_string(&digest).unwrap();

            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(format!("sha256:{digest}").parse(), Ok(digest));
            prop_assert_eq!(&json, &format!("\"sha256:{digest}\""));
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn a_text_that_parses_is_the_text_that_is_displayed(text in "(sha256:)?[0-9a-fA-F]{63,65}|.*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(text.strip_prefix("sha256:").unwrap_or(&text), digest.to_string());
            }
        }

        #[test]
        fn a_digest_with_one_wrong_character_is_refused(
            bytes: [u8; 32], at in 0..64_usize, wrong in "[^0-9a-f]"
        ) {
            let mut text = Digest::from_bytes(bytes).to_string();
            text.replace_range(at..=at, &wrong);

            prop_assert_eq!(text.parse::<Digest>(), Err(ParseDigestError));
        }
    }
}
