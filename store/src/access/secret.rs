//! Secrets: values that the gateway puts into requests of guests. They never appear in a guest, in
//! a log or in a response.
//!
//! A value is encrypted with AES-256-GCM under the key in `secrets.key`. Its tenant and its name
//! are authenticated with it, so that a value that was moved to another row does not decrypt.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Result, Store, Tenant,
    access::tenant::read_tenant,
    directory::{blocking, sync_directory},
    sql::{json, to_json},
};

const KEY_BYTES: usize = 32;
/// The action that failed if the system has no random bytes.
const RANDOM_BYTES: &str = "asking the system for random bytes";

/// A secret to be stored.
#[derive(Clone, Debug)]
pub struct NewSecret<'a> {
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: &'a str,
    /// The value. `Debug` does not show it.
    pub value: SecretString,
    /// Hosts that it may be sent to, `*` for every host.
    pub hosts: Vec<String>,
    /// Names of the functions that may use it. `None` stands for all functions of its tenant.
    pub functions: Option<Vec<String>>,
    /// The current time, in Unix milliseconds.
    pub now_ms: i64,
}

/// A stored secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: String,
    /// Hosts that it may be sent to, `*` for every host. Empty if it was stored before hosts had to
    /// be named.
    pub hosts: Vec<String>,
    /// Names of the functions that may use it. `None` stands for all functions of its tenant.
    pub functions: Option<Vec<String>>,
    /// When it was first stored, in Unix milliseconds.
    pub created_ms: i64,
    /// When its value was last replaced, in Unix milliseconds.
    pub updated_ms: i64,
}

/// The key that values are encrypted with. It is erased from memory when dropped.
pub(crate) struct SealingKey(SecretBox<[u8; KEY_BYTES]>);

impl Store {
    /// Stores a secret, or replaces all of it, and returns whether it is new. When this
    /// returns, the secret survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Io`], [`Error::Database`].
    pub async fn put_secret(&self, secret: NewSecret<'_>) -> Result<(SecretRecord, bool)> {
        let path = self.directory().secrets_key();
        let key =
            blocking("creating the key of the secrets", move || SealingKey::read_or_create(&path))
                .await?;
        let sealed = key.seal(&row_identity(&secret.tenant, secret.name), &secret.value)?;
        let mut tx = self.main_db().begin().await?;
        let before = sqlx::query("SELECT 1 FROM secrets WHERE tenant = $1 AND name = $2")
            .bind(secret.tenant.as_str())
            .bind(secret.name)
            .fetch_optional(&mut *tx)
            .await?;
        let row = sqlx::query(
            "INSERT INTO secrets (tenant, name, sealed, hosts, functions, created_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $6)
             ON CONFLICT (tenant, name) DO UPDATE
             SET sealed = excluded.sealed, hosts = excluded.hosts,
                 functions = excluded.functions, updated_ms = $6
             RETURNING *",
        )
        .bind(secret.tenant.as_str())
        .bind(secret.name)
        .bind(sealed)
        .bind(to_json(&secret.hosts))
        .bind(to_json(&secret.functions))
        .bind(secret.now_ms)
        .fetch_one(&mut *tx)
        .await?;
        let stored = read_secret(&row)?;
        tx.commit().await?;
        Ok((stored, before.is_none()))
    }

    /// All secrets of a tenant, ordered by name, without their values.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn secrets(&self, tenant: &Tenant) -> Result<Vec<SecretRecord>> {
        sqlx::query("SELECT * FROM secrets WHERE tenant = $1 ORDER BY name")
            .bind(tenant.as_str())
            .fetch_all(self.main_db().readers())
            .await?
            .iter()
            .map(read_secret)
            .collect()
    }

    /// All secrets of all tenants with their values, for the start. A value is `None` if it cannot
    /// be decrypted: the key file is missing or was replaced, or the row was changed.
    ///
    /// # Errors
    ///
    /// As [`Store::secrets`], and [`Error::Io`] when the key file cannot be read.
    pub async fn open_secrets(&self) -> Result<Vec<(SecretRecord, Option<SecretString>)>> {
        let rows = sqlx::query("SELECT * FROM secrets").fetch_all(self.main_db().readers()).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.directory().secrets_key();
        let key =
            blocking("reading the key of the secrets", move || SealingKey::read(&path)).await?;
        let open = |row: &SqliteRow| {
            let secret = read_secret(row)?;
            let sealed: Vec<u8> = row.try_get("sealed")?;
            let value = key
                .as_ref()
                .and_then(|key| key.open(&row_identity(&secret.tenant, &secret.name), sealed));
            Ok((secret, value))
        };
        rows.iter().map(open).collect()
    }

    /// Deletes a secret, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_secret(&self, tenant: &Tenant, name: &str) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM secrets WHERE tenant = $1 AND name = $2");
        Ok(self.main_db().change(delete.bind(tenant.as_str()).bind(name)).await? > 0)
    }
}

impl SealingKey {
    /// `None` when the file is missing or too short for a key.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut read = Ok(());
        let key = Self(SecretBox::init_with_mut(|bytes: &mut [u8; KEY_BYTES]| {
            read = file.read_exact(bytes);
        }));
        match read {
            Ok(()) => Ok(Some(key)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the key, or creates it for the first secret. The file gets its name only after all of
    /// it is on disk, so that a crash never leaves part of a key.
    pub(crate) fn read_or_create(path: &Path) -> io::Result<Self> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let new = path.with_extension("key.new");
        // A crash may have left it.
        let _ = fs::remove_file(&new);
        let mut filled = Ok(());
        let key = Self(SecretBox::init_with_mut(|bytes: &mut [u8; KEY_BYTES]| {
            filled = SystemRandom::new().fill(bytes);
        }));
        filled.map_err(|_| io::Error::other(RANDOM_BYTES))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(key.0.expose_secret())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), sync_directory)?;
        Ok(key)
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, self.0.expose_secret());
        LessSafeKey::new(key.expect("the key has the length that the cipher requires"))
    }

    /// Encrypts the value of a row under a random nonce. Returns the nonce, then the ciphertext.
    pub(crate) fn seal(&self, identity: &[u8], value: &SecretString) -> Result<Vec<u8>> {
        let failed = |_| Error::Io { action: RANDOM_BYTES, source: io::ErrorKind::Other.into() };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        let mut sealed = value.expose_secret().as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let cipher = self.cipher();
        cipher
            .seal_in_place_append_tag(unique, Aad::from(identity), &mut sealed)
            .map_err(failed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// `None` if the value was not sealed with this key for this row.
    pub(crate) fn open(&self, identity: &[u8], mut sealed: Vec<u8>) -> Option<SecretString> {
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let value = self.cipher().open_in_place(nonce, Aad::from(identity), sealed);
        Some(SecretString::from(std::str::from_utf8(value.ok()?).ok()?))
    }
}

/// The row that a value belongs to. A tenant never contains a zero byte, so that two rows never
/// have the same text.
fn row_identity(tenant: &Tenant, name: &str) -> Vec<u8> {
    format!("{tenant}\0{name}").into_bytes()
}

fn read_secret(row: &SqliteRow) -> Result<SecretRecord> {
    Ok(SecretRecord {
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        hosts: json(row, "hosts")?,
        functions: json(row, "functions")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreConfig;

    fn tenant(name: &str) -> Tenant {
        Tenant::try_from(name).unwrap()
    }

    fn new(name: &'static str, value: &str) -> NewSecret<'static> {
        NewSecret {
            tenant: tenant("t"),
            name,
            value: value.into(),
            hosts: vec!["a.example".into()],
            functions: Some(vec!["f".into()]),
            now_ms: 7,
        }
    }

    async fn opened(store: &Store) -> Vec<(String, Option<String>)> {
        let opened = store.open_secrets().await.unwrap().into_iter();
        opened
            .map(|(secret, value)| {
                (secret.name, value.map(|value| value.expose_secret().to_owned()))
            })
            .collect()
    }

    #[tokio::test]
    async fn a_secret_is_sealed_on_disk_and_opens_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        assert!(store.put_secret(new("a", "hunter2-hunter2")).await.unwrap().1);
        assert!(!store.put_secret(new("a", "hunter3-hunter3")).await.unwrap().1);
        store.close().await;
        for file in fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                let found = bytes.windows(7).any(|part| part == b"hunter2" || part == b"hunter3");
                assert!(!found, "{}", path.display());
            }
        }
        let key = dir.path().join("secrets.key");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);

        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        let value = Some("hunter3-hunter3".to_owned());
        assert_eq!(opened(&store).await, [("a".to_owned(), value)]);
        let listed = store.secrets(&tenant("t")).await.unwrap();
        assert_eq!((&*listed[0].hosts, listed[0].created_ms), (&["a.example".to_owned()][..], 7));
        assert_eq!(listed[0].functions.as_deref(), Some(&["f".to_owned()][..]));
        assert!(store.secrets(&tenant("other")).await.unwrap().is_empty());
        assert!(store.delete_secret(&tenant("t"), "a").await.unwrap());
        assert!(!store.delete_secret(&tenant("t"), "a").await.unwrap());
        assert!(opened(&store).await.is_empty());
    }

    #[tokio::test]
    async fn a_value_opens_only_under_its_own_name_and_with_its_own_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::new(dir.path())).await.unwrap();
        store.put_secret(new("a", "one")).await.unwrap();
        store.put_secret(new("b", "two")).await.unwrap();
        let swap = "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'a')
                    WHERE name = 'b'";
        let mut tx = store.main_db().begin().await.unwrap();
        sqlx::query(swap).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let expected = [("a".to_owned(), Some("one".to_owned())), ("b".to_owned(), None)];
        assert_eq!(opened(&store).await, expected);

        fs::write(dir.path().join("secrets.key"), [7; KEY_BYTES]).unwrap();
        assert_eq!(opened(&store).await[0], ("a".to_owned(), None));
        fs::remove_file(dir.path().join("secrets.key")).unwrap();
        assert_eq!(opened(&store).await[0], ("a".to_owned(), None));
    }
}
