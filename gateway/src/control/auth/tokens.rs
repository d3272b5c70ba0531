//! API tokens: `mfy_<id>_<secret>`. Only a hash of the secret is stored.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};
use store::{NewToken, Store, Tenant};
use subtle::{Choice, ConstantTimeEq as _};

use crate::telemetry::clock::now_ms;

const PREFIX: &str = "mfy_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A permission of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Read everything except tokens, secrets, artifacts and the values of environments.
    Read,
    /// Read all of a function, and change functions.
    Deploy,
    /// Everything.
    Admin,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Deploy, Self::Admin].into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether this scope includes `needed`.
    pub(crate) fn covers(self, needed: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Deploy => matches!(needed, Self::Deploy | Self::Read),
            Self::Read => needed == Self::Read,
        }
    }
}

/// A new token. Its secret is not stored anywhere else.
pub(crate) struct Fresh {
    pub(crate) text: String,
    pub(crate) row: NewToken,
}

/// Makes a token.
pub(crate) fn create(
    tenant: &Tenant,
    name: &str,
    scopes: &[Scope],
    expires_ms: Option<i64>,
) -> Result<Fresh, getrandom::Error> {
    let id = hex(&random::<ID_BYTES>()?);
    let secret = hex(&random::<SECRET_BYTES>()?);
    let row = NewToken {
        tenant: tenant.clone(),
        id: id.clone(),
        name: name.to_owned(),
        hash: Sha256::digest(&secret).into(),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_ms: now_ms(),
        expires_ms,
    };
    Ok(Fresh { text: format!("{PREFIX}{id}_{secret}"), row })
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenCheck {
    /// The widest scope of the token, which covers what is needed.
    Allowed(Scope),
    /// It is no token, or no token has its id.
    UnknownId,
    /// There is a token with this id, and it is another one, was revoked, or has expired.
    Wrong,
    /// The token is valid, but its scopes do not permit this.
    Insufficient,
}

/// The id in the text of a token.
pub(crate) fn id(text: &str) -> Option<&str> {
    parts(text).map(|(id, _)| id)
}

fn parts(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(PREFIX)?.split_once('_')
}

/// Checks a token against the store.
pub(crate) async fn check(
    store: &Store,
    tenant: &Tenant,
    text: &str,
    needed: Scope,
) -> Result<TokenCheck, store::Error> {
    let Some((id, secret)) = parts(text) else { return Ok(TokenCheck::UnknownId) };
    let found = store.token(id).await?;
    let equal = proves(secret, found.as_ref().map(|token| &token.hash));
    // This control plane manages one tenant: the token of another one is none here.
    let Some(token) = found.filter(|token| token.tenant == *tenant) else {
        return Ok(TokenCheck::UnknownId);
    };
    let expired = token.expires_ms.is_some_and(|at| at <= now_ms());
    if !equal || token.revoked_ms.is_some() || expired {
        return Ok(TokenCheck::Wrong);
    }
    let widest = token.scopes.iter().filter_map(|scope| Scope::parse(scope)).max();
    Ok(match widest.filter(|scope| scope.covers(needed)) {
        Some(scope) => TokenCheck::Allowed(scope),
        None => TokenCheck::Insufficient,
    })
}

/// Whether `found` is the hash of `secret`. Does the same work if no hash was found, so that the
/// time does not reveal which ids exist.
fn proves(secret: &str, found: Option<&[u8; 32]>) -> bool {
    let expected = found.unwrap_or(&[0; 32]);
    let equal = Sha256::digest(secret).ct_eq(expected);
    (equal & Choice::from(u8::from(found.is_some()))).into()
}

/// Makes an administrator's token if `file` does not contain a valid one, and writes it there: the
/// owner of the data directory can administrate. Returns a token that it has made.
pub(crate) async fn ensure_admin(
    store: &Store,
    tenant: &Tenant,
    file: &Path,
) -> anyhow::Result<Option<String>> {
    if let Ok(text) = fs::read_to_string(file)
        && check(store, tenant, text.trim(), Scope::Admin).await?
            == TokenCheck::Allowed(Scope::Admin)
    {
        return Ok(None);
    }
    let fresh = create(tenant, "admin", &[Scope::Admin], None)?;
    store.add_token(fresh.row).await?;
    write_secret(file, &fresh.text)?;
    Ok(Some(fresh.text))
}

/// Writes a file that only its owner can read, completely or not at all.
fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    let temporary = file.with_extension("token.new");
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut writer = open.open(&temporary)?;
    writeln!(writer, "{text}")?;
    writer.sync_all()?;
    fs::rename(&temporary, file)
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&store::StoreConfig::new(dir.path())).await.unwrap();
        (dir, store)
    }

    /// Case A03.
    #[tokio::test]
    async fn a_token_does_what_its_scope_covers_and_nothing_else() {
        let (_dir, store) = open().await;
        let fresh = create(&Tenant::default(), "ci", &[Scope::Deploy], None).unwrap();
        store.add_token(fresh.row).await.unwrap();
        for (needed, outcome) in [
            (Scope::Read, TokenCheck::Allowed(Scope::Deploy)),
            (Scope::Deploy, TokenCheck::Allowed(Scope::Deploy)),
            (Scope::Admin, TokenCheck::Insufficient),
        ] {
            assert_eq!(
                check(&store, &Tenant::default(), &fresh.text, needed).await.unwrap(),
                outcome
            );
        }
    }

    /// Case A01.
    #[test]
    fn a_token_is_an_id_and_256_random_bits_and_only_its_hash_is_stored() {
        let (one, other) = (
            create(&Tenant::default(), "a", &[], None).unwrap(),
            create(&Tenant::default(), "a", &[], None).unwrap(),
        );
        let (id, secret) = one.text.strip_prefix("mfy_").unwrap().split_once('_').unwrap();
        assert_eq!((id.len(), secret.len()), (16, 64));
        assert!(one.text[4..].bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'_')));
        assert_eq!(id, one.row.id);
        assert_eq!(one.row.hash, <[u8; 32]>::from(Sha256::digest(secret)));
        assert!(one.row.id != other.row.id && one.row.hash != other.row.hash);
    }

    /// Case A02.
    #[test]
    fn a_secret_is_proven_by_its_own_hash_alone() {
        let hash = |secret: &str| <[u8; 32]>::from(Sha256::digest(secret));
        assert!(proves("s", Some(&hash("s"))));
        assert!(!proves("s", Some(&hash("t"))));
        assert!(!proves("s", Some(&[0; 32])));
        assert!(!proves("s", None));
    }

    #[tokio::test]
    async fn wrong_revoked_and_expired_tokens_are_told_from_ids_that_do_not_exist() {
        let (_dir, store) = open().await;
        let outcome =
            async |text: &str| check(&store, &Tenant::default(), text, Scope::Read).await.unwrap();
        let fresh = create(&Tenant::default(), "a", &[Scope::Admin], None).unwrap();
        let id = fresh.row.id.clone();
        store.add_token(fresh.row).await.unwrap();
        for wrong in ["", "x", "mfy_", "mfy_x_y", &fresh.text[1..]] {
            assert_eq!(outcome(wrong).await, TokenCheck::UnknownId, "{wrong}");
        }
        assert_eq!(outcome(&format!("mfy_{id}_x")).await, TokenCheck::Wrong);
        assert_eq!(outcome(&fresh.text).await, TokenCheck::Allowed(Scope::Admin));
        store.revoke_token(&Tenant::default(), &id, 1).await.unwrap();
        assert_eq!(outcome(&fresh.text).await, TokenCheck::Wrong);

        let expired = create(&Tenant::default(), "b", &[Scope::Admin], Some(1)).unwrap();
        store.add_token(expired.row).await.unwrap();
        assert_eq!(outcome(&expired.text).await, TokenCheck::Wrong);
    }

    #[tokio::test]
    async fn a_token_of_another_tenant_is_unknown() {
        let (_dir, store) = open().await;
        let (tenant, other) = (Tenant::default(), Tenant::try_from("other").unwrap());
        let fresh = create(&other, "a", &[Scope::Admin], None).unwrap();
        store.add_token(fresh.row).await.unwrap();
        let outcome = async |tenant| check(&store, tenant, &fresh.text, Scope::Read).await.unwrap();
        assert_eq!(outcome(&tenant).await, TokenCheck::UnknownId);
        assert_eq!(outcome(&other).await, TokenCheck::Allowed(Scope::Admin));
    }

    #[tokio::test]
    async fn the_admin_token_is_made_once_and_again_when_its_file_is_lost() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, store) = open().await;
        let file = dir.path().join("admin.token");
        let first = ensure_admin(&store, &Tenant::default(), &file).await.unwrap().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), first);
        assert!(ensure_admin(&store, &Tenant::default(), &file).await.unwrap().is_none());
        fs::remove_file(&file).unwrap();
        assert_ne!(ensure_admin(&store, &Tenant::default(), &file).await.unwrap().unwrap(), first);
    }
}

#[cfg(test)]
mod timing;
