//! API tokens.

use store::{Error, NewToken, TokenRecord};

use crate::support::{TestStore, ours};

fn token(id: &str, created_ms: i64) -> NewToken {
    NewToken {
        tenant: ours(),
        id: id.to_owned(),
        name: "laptop".to_owned(),
        hash: [0xab; 32],
        scopes: vec!["functions:write".to_owned(), "logs:read".to_owned()],
        created_ms,
        expires_ms: Some(9_000),
    }
}

#[tokio::test]
async fn a_token_is_found_by_its_id_and_listed_by_its_age() {
    let test = TestStore::new().await;
    test.store.add_token(token("b", 1)).await.unwrap();
    test.store.add_token(token("a", 2)).await.unwrap();

    let test = test.reopen().await;

    let NewToken { tenant, id, name, hash, scopes, created_ms, expires_ms } = token("a", 2);
    let expected =
        TokenRecord { tenant, id, name, hash, scopes, created_ms, expires_ms, revoked_ms: None };
    assert_eq!(test.store.token("a").await.unwrap(), Some(expected));
    assert_eq!(test.store.token("c").await.unwrap(), None);
    let all = test.store.tokens(&ours()).await.unwrap();
    assert_eq!(all.iter().map(|token| token.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[tokio::test]
async fn a_token_is_revoked_once() {
    let test = TestStore::new().await;
    test.store.add_token(token("a", 1)).await.unwrap();

    assert!(test.store.revoke_token(&ours(), "a", 5).await.unwrap());
    assert!(test.store.revoke_token(&ours(), "a", 6).await.unwrap());
    assert!(!test.store.revoke_token(&ours(), "b", 5).await.unwrap());

    assert_eq!(test.store.token("a").await.unwrap().unwrap().revoked_ms, Some(5));
}

#[tokio::test]
async fn a_token_id_is_issued_once() {
    let test = TestStore::new().await;
    test.store.add_token(token("a", 1)).await.unwrap();

    let again = test.store.add_token(NewToken { hash: [0; 32], ..token("a", 2) }).await;

    assert!(matches!(again, Err(Error::Conflict)), "{again:?}");
    assert_eq!(test.store.token("a").await.unwrap().unwrap().hash, [0xab; 32]);
}

#[tokio::test]
async fn debug_output_shows_no_hash() {
    let test = TestStore::new().await;
    test.store.add_token(token("a", 1)).await.unwrap();

    let stored = format!("{:?}", test.store.token("a").await.unwrap());

    assert!(!stored.contains("171") && !format!("{:?}", token("a", 1)).contains("171"), "{stored}");
}
