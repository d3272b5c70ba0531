//! Users with passwords (RFC 7617). The gateway knows slow hashes of these only.

use std::{collections::HashMap, fmt, num::NonZeroU32, str::FromStr};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use gateway_api::BasicView;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};

/// Users of a route.
const USERS: usize = 64;
const USER_BYTES: usize = 128;
/// Bytes of a password that is looked at.
const PASSWORD_BYTES: usize = 1 << 10;
const REALM_BYTES: usize = 64;
/// The rounds of a new hash: what OWASP recommends for PBKDF2 with SHA-256.
const ROUNDS: u32 = 600_000;
/// The rounds that a hash may have. The most take half a second.
const ROUNDS_LEAST: u32 = 100_000;
const ROUNDS_MOST: u32 = 2_000_000;
const SALT_BYTES: usize = 16;
const SALT_BYTES_MOST: usize = 64;
/// The name of the hash in its text.
const NAME: &str = "pbkdf2-sha256";

/// The users of a route.
#[derive(Debug)]
pub(super) struct BasicRules {
    users: HashMap<String, PasswordHash>,
    realm: String,
}

/// A password, as far as it is known: PBKDF2 with SHA-256 (RFC 8018).
///
/// As a text `$pbkdf2-sha256$i=600000$SALT$HASH`, with Base64 without `=`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: [u8; 32],
}

/// Why a text is not a [`PasswordHash`].
#[derive(Debug, thiserror::Error)]
#[error(
    "expected what `mayfly route password` prints: $pbkdf2-sha256$i=ROUNDS$SALT$HASH with \
     {ROUNDS_LEAST} to {ROUNDS_MOST} rounds"
)]
pub(crate) struct NotAPasswordHash;

impl BasicRules {
    /// Checks what an owner asks for. An error says what is wrong, and names the member.
    pub(super) fn new(route: &str, view: &BasicView) -> Result<Self, String> {
        if !(1..=USERS).contains(&view.users.len()) {
            return Err(format!("basic.users: 1 to {USERS} are allowed"));
        }
        let user = |(name, hash): (&String, &String)| {
            let visible = name.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b':');
            if !visible || name.trim() != name || !(1..=USER_BYTES).contains(&name.len()) {
                return Err(format!(
                    "basic.users: {name:?} cannot be the name of a user: 1 to {USER_BYTES} visible \
                     ASCII characters without a colon"
                ));
            }
            let hash =
                hash.parse().map_err(|error| format!("basic.users: that of {name:?}: {error}"))?;
            Ok((name.clone(), hash))
        };
        let realm = view.realm.as_deref().unwrap_or(route);
        let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\';
        if !(1..=REALM_BYTES).contains(&realm.len()) || !realm.bytes().all(plain) {
            return Err(format!(
                "basic.realm: 1 to {REALM_BYTES} visible ASCII characters without quotes are allowed"
            ));
        }
        let users = view.users.iter().map(user).collect::<Result<_, _>>()?;
        Ok(Self { users, realm: realm.to_owned() })
    }

    /// What browsers show.
    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// The hash of a user's password.
    pub(super) fn hash_of(&self, user: &str) -> Option<&PasswordHash> {
        self.users.get(user)
    }
}

/// The user and the password that a caller has sent.
pub(super) fn decode(sent: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(sent).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    let fits = user.len() <= USER_BYTES && password.len() <= PASSWORD_BYTES;
    fits.then(|| (user.to_owned(), password.to_owned()))
}

impl PasswordHash {
    /// The hash of a password, with a salt of its own.
    pub(crate) fn of(password: &str) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(Self::with(password, salt.to_vec()))
    }

    /// One that no password has, to spend the same time on a user that does not exist.
    pub(super) fn of_no_password() -> Self {
        let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
        Self { rounds, salt: vec![0; SALT_BYTES], hash: [0; 32] }
    }

    fn with(password: &str, salt: Vec<u8>) -> Self {
        let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
        let mut hash = [0; 32];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut hash);
        Self { rounds, salt, hash }
    }

    /// Whether it is that of a password. Takes a tenth of a second, and as long for every password.
    pub(super) fn is_of(&self, password: &str) -> bool {
        let Self { rounds, salt, hash } = self;
        pbkdf2::verify(PBKDF2_HMAC_SHA256, *rounds, salt, password.as_bytes(), hash).is_ok()
    }

    /// What tells it from others.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.hash
    }
}

impl FromStr for PasswordHash {
    type Err = NotAPasswordHash;

    fn from_str(text: &str) -> Result<Self, NotAPasswordHash> {
        let mut parts = text.split('$');
        let parts = [(); 6].map(|()| parts.next());
        let [Some(""), Some(NAME), Some(rounds), Some(salt), Some(hash), None] = parts else {
            return Err(NotAPasswordHash);
        };
        let rounds = rounds.strip_prefix("i=").and_then(|rounds| rounds.parse::<u32>().ok());
        let rounds = rounds.filter(|rounds| (ROUNDS_LEAST..=ROUNDS_MOST).contains(rounds));
        let rounds = rounds.and_then(NonZeroU32::new).ok_or(NotAPasswordHash)?;
        let decode = |text| BASE64_STANDARD_NO_PAD.decode(text).map_err(|_| NotAPasswordHash);
        let salt = decode(salt)?;
        if !(SALT_BYTES..=SALT_BYTES_MOST).contains(&salt.len()) {
            return Err(NotAPasswordHash);
        }
        let hash = decode(hash)?.try_into().map_err(|_| NotAPasswordHash)?;
        Ok(Self { rounds, salt, hash })
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| BASE64_STANDARD_NO_PAD.encode(bytes);
        write!(f, "${NAME}$i={}${}${}", self.rounds, encode(&self.salt), encode(&self.hash))
    }
}

/// Shows nothing that could be tried passwords against.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_survives_as_text_and_knows_its_password() {
        let hash = PasswordHash::of("open sesame").unwrap();
        let read: PasswordHash = hash.to_string().parse().unwrap();
        assert_eq!(read, hash);
        assert!(read.is_of("open sesame"));
        assert!(!read.is_of("open Sesame") && !PasswordHash::of_no_password().is_of(""));
        assert_ne!(PasswordHash::of("open sesame").unwrap(), hash, "each has a salt of its own");
        // RFC 7914, section 11, has this vector, with 80,000 rounds.
        let mut derived = [0; 64];
        let rounds = NonZeroU32::new(80_000).unwrap();
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, b"NaCl", b"Password", &mut derived);
        assert_eq!(derived[..4], [0x4d, 0xdc, 0xd8, 0xf6]);
    }

    #[test]
    fn other_texts_are_no_hashes() {
        let good = PasswordHash::of_no_password().to_string();
        assert!(good.parse::<PasswordHash>().is_ok());
        for wrong in [
            String::new(),
            "secret".to_owned(),
            good.replace("i=600000", "i=1"),
            good.replace("i=600000", "i=3000000"),
            good.replace("sha256", "sha1"),
            good[..good.len() - 1].to_owned(),
            format!("{good}$"),
            good.replace("AAAAAAAAAAAAAAAAAAAAAA$", "AAAA$"),
        ] {
            assert!(wrong.parse::<PasswordHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_may_have_a_colon_and_a_user_may_not() {
        let sent = |text: &str| decode(&BASE64_STANDARD.encode(text));
        assert_eq!(sent("a:b:c"), Some(("a".to_owned(), "b:c".to_owned())));
        assert_eq!(sent(":"), Some((String::new(), String::new())));
        assert_eq!((sent("a"), decode("YTpi!")), (None, None));
    }
}
