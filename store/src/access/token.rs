//! API tokens. The store has the SHA-256 of a token's secret part, never the secret part.

use std::fmt;

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    Error, Result, Store, Tenant,
    access::tenant::read_tenant,
    sql::{json, sha256, to_json},
};

/// A token to be stored.
#[derive(Clone)]
pub struct NewToken {
    /// The tenant that it gives access to.
    pub tenant: Tenant,
    /// The public part, by which it is looked up.
    pub id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// SHA-256 of the secret part.
    pub hash: [u8; 32],
    /// The scopes that it grants.
    pub scopes: Vec<String>,
    /// When it was created, in Unix milliseconds.
    pub created_ms: i64,
    /// When it expires, in Unix milliseconds. `None`: never.
    pub expires_ms: Option<i64>,
}

/// A stored token. The caller decides whether it is valid, because the store has no clock.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The tenant that it gives access to.
    pub tenant: Tenant,
    /// The public part, by which it is looked up.
    pub id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// SHA-256 of the secret part. Compare it in constant time.
    pub hash: [u8; 32],
    /// The scopes that it grants.
    pub scopes: Vec<String>,
    /// When it was created, in Unix milliseconds.
    pub created_ms: i64,
    /// When it expires, in Unix milliseconds. `None`: never.
    pub expires_ms: Option<i64>,
    /// When it was revoked, in Unix milliseconds. `None`: it was not revoked.
    pub revoked_ms: Option<i64>,
}

/// Without the hash.
impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("tenant", &self.tenant)
            .field("id", &self.id)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("created_ms", &self.created_ms)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// Without the hash.
impl fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRecord")
            .field("tenant", &self.tenant)
            .field("id", &self.id)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("created_ms", &self.created_ms)
            .field("expires_ms", &self.expires_ms)
            .field("revoked_ms", &self.revoked_ms)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Stores a token. When this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when a token has this id already; [`Error::Busy`],
    /// [`Error::NoSpace`], [`Error::Database`].
    pub async fn add_token(&self, token: NewToken) -> Result<()> {
        let add = sqlx::query(
            "INSERT INTO tokens (id, name, hash, scopes, created_ms, expires_ms, tenant)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(token.id)
        .bind(token.name)
        .bind(token.hash.as_slice())
        .bind(to_json(&token.scopes))
        .bind(token.created_ms)
        .bind(token.expires_ms)
        .bind(token.tenant.as_str());
        match self.main_db().change(add).await? {
            0 => Err(Error::Conflict),
            _ => Ok(()),
        }
    }

    /// The token with this id, also if it has expired or was revoked. Ids are unique across
    /// tenants, because a request names its token before its tenant is known.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Database`], [`Error::Inconsistent`].
    pub async fn token(&self, id: &str) -> Result<Option<TokenRecord>> {
        sqlx::query("SELECT * FROM tokens WHERE id = $1")
            .bind(id)
            .fetch_optional(self.main_db().readers())
            .await?
            .as_ref()
            .map(read_token)
            .transpose()
    }

    /// All tokens of a tenant, oldest first.
    ///
    /// # Errors
    ///
    /// As [`Store::token`].
    pub async fn tokens(&self, tenant: &Tenant) -> Result<Vec<TokenRecord>> {
        sqlx::query("SELECT * FROM tokens WHERE tenant = $1 ORDER BY created_ms, id")
            .bind(tenant.as_str())
            .fetch_all(self.main_db().readers())
            .await?
            .iter()
            .map(read_token)
            .collect()
    }

    /// Revokes a token, and returns whether the tenant has a token with this id. A second
    /// revocation does not change the time of the first.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NoSpace`], [`Error::Database`].
    pub async fn revoke_token(&self, tenant: &Tenant, id: &str, now_ms: i64) -> Result<bool> {
        let revoke = sqlx::query(
            "UPDATE tokens SET revoked_ms = COALESCE(revoked_ms, $1) WHERE id = $2 AND tenant = $3",
        )
        .bind(now_ms)
        .bind(id)
        .bind(tenant.as_str());
        Ok(self.main_db().change(revoke).await? > 0)
    }
}

fn read_token(row: &SqliteRow) -> Result<TokenRecord> {
    Ok(TokenRecord {
        tenant: read_tenant(row)?,
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        hash: sha256(row, "hash")?,
        scopes: json(row, "scopes")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
    })
}
