//! Certificates of owners' hosts, with their private keys, which are encrypted as secrets are.

use secrecy::SecretString;
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Quota, Result, Store, Tenant,
    access::{secret::SealingKey, tenant::read_tenant},
    directory::blocking,
    sql::{WriteTransaction, json, to_json},
};

/// A certificate to be stored.
#[derive(Clone, Debug)]
pub struct NewCertificate<'a> {
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: &'a str,
    /// The chain, as PEM.
    pub chain: &'a str,
    /// The private key, as PEM. `Debug` does not show it.
    pub key: SecretString,
    /// The hosts that it is for, `*.` at the beginning of a wildcard.
    pub hosts: Vec<String>,
    /// The SHA-256 of its first certificate.
    pub fingerprint: String,
    /// When it becomes valid, in Unix milliseconds.
    pub not_before_ms: i64,
    /// When it expires, in Unix milliseconds.
    pub not_after_ms: i64,
    /// The number of certificates of all tenants that must not be exceeded.
    pub max: u64,
    /// The current time, in Unix milliseconds.
    pub now_ms: i64,
}

/// A stored certificate, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRecord {
    /// Unique across tenants, and never used again.
    pub id: i64,
    /// The owner.
    pub tenant: Tenant,
    /// Unique within its tenant.
    pub name: String,
    /// The chain, as PEM.
    pub chain: String,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// The SHA-256 of its first certificate.
    pub fingerprint: String,
    /// When it becomes valid, in Unix milliseconds.
    pub not_before_ms: i64,
    /// When it expires, in Unix milliseconds.
    pub not_after_ms: i64,
    /// When it was first stored, in Unix milliseconds.
    pub created_ms: i64,
    /// When it was last replaced, in Unix milliseconds.
    pub updated_ms: i64,
}

impl Store {
    /// Stores a certificate, or replaces all of it, and returns whether it is new. When this returns,
    /// it survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::HostTaken`] when another certificate is for one of its hosts; [`Error::Quota`],
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Io`], [`Error::Database`].
    pub async fn put_certificate(
        &self,
        new: NewCertificate<'_>,
    ) -> Result<(CertificateRecord, bool)> {
        let path = self.directory().secrets_key();
        let key =
            blocking("creating the key of the secrets", move || SealingKey::read_or_create(&path))
                .await?;
        let sealed = key.seal(&identity(&new.tenant, new.name), &new.key)?;
        let mut tx = self.main_db().begin().await?;
        let before: Option<i64> =
            sqlx::query_scalar("SELECT id FROM certificates WHERE tenant = $1 AND name = $2")
                .bind(new.tenant.as_str())
                .bind(new.name)
                .fetch_optional(&mut *tx)
                .await?;
        if before.is_none() {
            admit(&mut tx, new.max).await?;
        }
        let row = sqlx::query(
            "INSERT INTO certificates (tenant, name, chain, sealed, hosts, fingerprint,
                                       not_before_ms, not_after_ms, created_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
             ON CONFLICT (tenant, name) DO UPDATE
             SET chain = excluded.chain, sealed = excluded.sealed, hosts = excluded.hosts,
                 fingerprint = excluded.fingerprint, not_before_ms = excluded.not_before_ms,
                 not_after_ms = excluded.not_after_ms, updated_ms = excluded.updated_ms
             RETURNING *",
        )
        .bind(new.tenant.as_str())
        .bind(new.name)
        .bind(new.chain)
        .bind(sealed)
        .bind(to_json(&new.hosts))
        .bind(&new.fingerprint)
        .bind(new.not_before_ms)
        .bind(new.not_after_ms)
        .bind(new.now_ms)
        .fetch_one(&mut *tx)
        .await?;
        let stored = read_certificate(&row)?;
        take_hosts(&mut tx, &stored).await?;
        tx.commit().await?;
        Ok((stored, before.is_none()))
    }

    /// The certificate of a tenant with this name.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn certificate(
        &self,
        tenant: &Tenant,
        name: &str,
    ) -> Result<Option<CertificateRecord>> {
        let row = sqlx::query("SELECT * FROM certificates WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_str())
            .bind(name)
            .fetch_optional(self.main_db().readers())
            .await?;
        row.as_ref().map(read_certificate).transpose()
    }

    /// At most `limit` certificates of a tenant, ordered by name, after the name `after`.
    ///
    /// # Errors
    ///
    /// As [`Store::certificate`].
    pub async fn certificates(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CertificateRecord>> {
        sqlx::query(
            "SELECT * FROM certificates
             WHERE tenant = $1 AND ($2 IS NULL OR name > $2) ORDER BY name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(self.main_db().readers())
        .await?
        .iter()
        .map(read_certificate)
        .collect()
    }

    /// All certificates of all tenants with their keys, for the start. A key is `None` if it cannot be
    /// decrypted: the key file is missing or was replaced, or the row was changed.
    ///
    /// # Errors
    ///
    /// As [`Store::certificate`], and [`Error::Io`] when the key file cannot be read.
    pub async fn open_certificates(
        &self,
    ) -> Result<Vec<(CertificateRecord, Option<SecretString>)>> {
        let rows =
            sqlx::query("SELECT * FROM certificates").fetch_all(self.main_db().readers()).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.directory().secrets_key();
        let key =
            blocking("reading the key of the secrets", move || SealingKey::read(&path)).await?;
        let open = |row: &SqliteRow| {
            let certificate = read_certificate(row)?;
            let sealed: Vec<u8> = row.try_get("sealed")?;
            let identity = identity(&certificate.tenant, &certificate.name);
            let private = key.as_ref().and_then(|key| key.open(&identity, sealed));
            Ok((certificate, private))
        };
        rows.iter().map(open).collect()
    }

    /// Deletes a certificate, and returns whether it existed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn delete_certificate(&self, tenant: &Tenant, name: &str) -> Result<bool> {
        let delete = sqlx::query("DELETE FROM certificates WHERE tenant = $1 AND name = $2");
        Ok(self.main_db().change(delete.bind(tenant.as_str()).bind(name)).await? > 0)
    }
}

async fn admit(tx: &mut WriteTransaction, max: u64) -> Result<()> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM certificates").fetch_one(&mut **tx).await?;
    if count.cast_unsigned() < max {
        Ok(())
    } else {
        Err(Error::Quota { quota: Quota::Certificates, max })
    }
}

/// Gives the hosts to a certificate, in place of those that it had. The transaction that fails because
/// of another one is dropped, and so rolled back.
async fn take_hosts(tx: &mut WriteTransaction, certificate: &CertificateRecord) -> Result<()> {
    let hosts = to_json(&certificate.hosts);
    let taken: Option<String> = sqlx::query_scalar(
        "SELECT host FROM certificate_hosts
         WHERE certificate <> $1 AND host IN (SELECT value FROM json_each($2))
         ORDER BY host LIMIT 1",
    )
    .bind(certificate.id)
    .bind(&hosts)
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(host) = taken {
        return Err(Error::HostTaken { host });
    }
    sqlx::query("DELETE FROM certificate_hosts WHERE certificate = $1")
        .bind(certificate.id)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO certificate_hosts (host, certificate)
         SELECT value, $1 FROM json_each($2)",
    )
    .bind(certificate.id)
    .bind(&hosts)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The row that a key belongs to. No identity of a secret begins with a zero byte.
fn identity(tenant: &Tenant, name: &str) -> Vec<u8> {
    format!("\0certificate\0{tenant}\0{name}").into_bytes()
}

fn read_certificate(row: &SqliteRow) -> Result<CertificateRecord> {
    Ok(CertificateRecord {
        id: row.try_get("id")?,
        tenant: read_tenant(row)?,
        name: row.try_get("name")?,
        chain: row.try_get("chain")?,
        hosts: json(row, "hosts")?,
        fingerprint: row.try_get("fingerprint")?,
        not_before_ms: row.try_get("not_before_ms")?,
        not_after_ms: row.try_get("not_after_ms")?,
        created_ms: row.try_get("created_ms")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}
