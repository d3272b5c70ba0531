//! Checks passwords, which is slow on purpose: on threads apart from those that serve requests, one at
//! a time, and once for each password for a while.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::future::Cache;
use ring::hmac::{self, HMAC_SHA256};
use tokio::{sync::Semaphore, task};

use super::basic::PasswordHash;
use crate::functions::routes::rate::network;

/// Passwords that wait to be checked.
const WAITING: usize = 64;
/// Passwords of one client that wait: one that guesses takes no place of others.
const WAITING_PER_CLIENT: u32 = 8;
/// Passwords that are known to be right.
const KNOWN: u64 = 10_000;
/// How long one is known to be right. A changed hash is another one.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Too many passwords wait already.
#[derive(Debug)]
pub(super) struct TooManyPasswords;

/// Checks passwords of all routes.
pub(super) struct Passwords {
    /// Of what was right, by a hash with a key that is never stored: it says nothing about passwords.
    known: Cache<[u8; 32], ()>,
    key: hmac::Key,
    one_at_a_time: Arc<Semaphore>,
    waiting: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let known = Cache::builder().max_capacity(KNOWN).time_to_live(KNOWN_FOR).build();
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system has random bytes");
        let key = hmac::Key::new(HMAC_SHA256, &key);
        Self { known, key, one_at_a_time: Arc::new(Semaphore::new(1)), waiting: Arc::default() }
    }

    /// Whether a user's password is right. `hash` is `None` for a user that does not exist, which takes
    /// as long.
    pub(super) async fn check(
        &self,
        client: IpAddr,
        user: &str,
        password: &str,
        hash: Option<&PasswordHash>,
    ) -> Result<bool, TooManyPasswords> {
        let proof = hash.map(|hash| self.proof(hash, user, password));
        if let Some(proof) = &proof
            && self.known.get(proof).await.is_some()
        {
            return Ok(true);
        }
        let place = WaitingPlace::take(&self.waiting, network(client))?;
        let permit = Arc::clone(&self.one_at_a_time).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        // The same password may have been checked meanwhile.
        if let Some(proof) = &proof
            && self.known.get(proof).await.is_some()
        {
            return Ok(true);
        }
        let (hash, password) =
            (hash.cloned().unwrap_or_else(PasswordHash::of_no_password), password.to_owned());
        // The thread keeps the permit even if the client leaves.
        let checked = task::spawn_blocking(move || {
            let _held = (permit, place);
            hash.is_of(&password)
        });
        let right = checked.await.unwrap_or(false) && proof.is_some();
        if let Some(proof) = proof.filter(|_| right) {
            self.known.insert(proof, ()).await;
        }
        Ok(right)
    }

    fn proof(&self, hash: &PasswordHash, user: &str, password: &str) -> [u8; 32] {
        let mut text = hmac::Context::with_key(&self.key);
        text.update(hash.bytes());
        // A user has no colon.
        for part in [user, ":", password] {
            text.update(part.as_bytes());
        }
        let mut proof = [0; 32];
        proof.copy_from_slice(text.sign().as_ref());
        proof
    }
}

/// The place of a password that waits, or is being checked.
struct WaitingPlace {
    waiting: Arc<Mutex<HashMap<IpAddr, u32>>>,
    client: IpAddr,
}

impl WaitingPlace {
    fn take(
        waiting: &Arc<Mutex<HashMap<IpAddr, u32>>>,
        client: IpAddr,
    ) -> Result<Self, TooManyPasswords> {
        let mut clients = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let own = clients.get(&client).copied().unwrap_or_default();
        let all: u32 = clients.values().sum();
        if own >= WAITING_PER_CLIENT || all as usize >= WAITING {
            return Err(TooManyPasswords);
        }
        clients.insert(client, own + 1);
        Ok(Self { waiting: Arc::clone(waiting), client })
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        let mut clients = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = clients.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_checked_once_and_guesses_of_one_client_wait_for_no_more_than_their_places()
     {
        let passwords = Arc::new(Passwords::new());
        let hash = PasswordHash::of("right").unwrap();
        let (guesser, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let check = |client, user, password| {
            let (passwords, hash) = (Arc::clone(&passwords), hash.clone());
            let hash = (user == "known").then_some(hash);
            async move { passwords.check(client, user, password, hash.as_ref()).await.ok() }
        };
        let guesses: Vec<_> =
            (0..20).map(|_| task::spawn(check(guesser, "known", "wrong"))).collect();
        assert_eq!(check(other, "known", "right").await, Some(true));
        let mut refused = 0;
        for guess in guesses {
            match guess.await.unwrap() {
                Some(right) => assert!(!right),
                None => refused += 1,
            }
        }
        assert_eq!(refused, 20 - WAITING_PER_CLIENT);
        // Known passwords need no place.
        let all = [(); WAITING_PER_CLIENT as usize]
            .map(|()| WaitingPlace::take(&passwords.waiting, other).ok());
        assert_eq!(check(other, "known", "right").await, Some(true));
        assert_eq!(check(other, "known", "other").await, None);
        drop(all);
        assert_eq!(check(other, "unknown", "right").await, Some(false));
        assert!(passwords.waiting.lock().unwrap().is_empty());
    }
}
