//! Two tenants that use the same names.

use secrecy::ExposeSecret as _;
use store::{
    Digest, IdempotentRequest, LogQuery, LogSource, NewLogLine, NewRevision, NewSecret, NewToken,
    Quotas, SecretRecord, Store, Tenant,
};

use crate::support::{ACTOR, TestStore, new, ours, publish, settings, tenant};

fn theirs() -> Tenant {
    tenant("theirs")
}

/// The function `f` of both, with different bytes.
async fn both_publish(test: &TestStore) {
    test.publish("f", b"ours").await;
    let new = NewRevision { tenant: theirs(), ..new("f") };
    publish(&test.store, new, b"theirs").await.unwrap();
}

#[tokio::test]
async fn functions_of_the_same_name_are_not_seen_or_changed_by_the_other_tenant() {
    let test = TestStore::new().await;
    both_publish(&test).await;
    test.publish("f", b"ours, again").await;
    let before = test.store.function(&theirs(), "f").await.unwrap().unwrap();
    assert_eq!((&before.function.tenant, before.revision.number), (&theirs(), 1));
    assert_eq!(before.revision.digest, Digest::of(b"theirs"));

    test.store.describe(&ours(), "f", "only ours", 2_000).await.unwrap().unwrap();
    test.store.activate(&ours(), "f", 1, ACTOR, 3_000).await.unwrap().unwrap();
    test.store.change_settings(settings("f", 1, 7)).await.unwrap().unwrap();
    let missing = test.store.activate(&theirs(), "f", 2, ACTOR, 5_000).await.unwrap();
    assert_eq!(missing, None, "only ours has a second revision");
    assert_eq!(test.store.revision(&theirs(), "f", 2).await.unwrap(), None);
    assert_eq!(test.store.revisions(&ours(), "f", None, 9).await.unwrap().len(), 3);
    let revisions = test.store.revisions(&theirs(), "f", None, 9).await.unwrap();
    assert_eq!(revisions.as_slice(), std::slice::from_ref(&before.revision));
    let uploaded = test.store.is_active_digest(&theirs(), "f", &Digest::of(b"ours")).await;
    assert_eq!(uploaded.unwrap(), None);

    assert!(test.store.delete_function(&ours(), "f").await.unwrap());

    assert_eq!(test.store.function(&theirs(), "f").await.unwrap().as_ref(), Some(&before));
    assert_eq!(test.store.functions(&ours(), None, 9).await.unwrap(), []);
    assert_eq!(test.store.functions(&theirs(), None, 9).await.unwrap(), [before]);
}

async fn put_secret(store: &Store, tenant: Tenant, value: &str) -> SecretRecord {
    let name = "api-key";
    let value = value.into();
    let new = NewSecret { tenant, name, value, hosts: Vec::new(), functions: None, now_ms: 1 };
    let (secret, is_new) = store.put_secret(new).await.unwrap();
    assert!(is_new);
    secret
}

async fn opened(store: &Store) -> Vec<(Tenant, Option<String>)> {
    let opened = store.open_secrets().await.unwrap().into_iter();
    let mut values: Vec<_> = opened
        .map(|(secret, value)| (secret.tenant, value.map(|it| it.expose_secret().to_owned())))
        .collect();
    values.sort();
    values
}

#[tokio::test]
async fn secrets_of_the_same_name_have_a_value_for_each_tenant() {
    let test = TestStore::new().await;
    let our_secret = put_secret(&test.store, ours(), "our value").await;
    let their_secret = put_secret(&test.store, theirs(), "their value").await;

    assert_eq!(test.store.secrets(&ours()).await.unwrap(), [our_secret]);
    assert_eq!(test.store.secrets(&theirs()).await.unwrap(), [their_secret]);
    let (our_value, their_value) = (Some("our value".into()), Some("their value".into()));
    let expected = [(ours(), our_value), (theirs(), their_value.clone())];
    assert_eq!(opened(&test.store).await, expected);

    assert!(test.store.delete_secret(&ours(), "api-key").await.unwrap());
    assert!(!test.store.delete_secret(&ours(), "api-key").await.unwrap());
    assert_eq!(opened(&test.store).await, [(theirs(), their_value)]);
}

#[tokio::test]
async fn a_secret_whose_row_is_given_to_another_tenant_does_not_open() {
    let test = TestStore::new().await;
    put_secret(&test.store, ours(), "our value").await;
    let mut db = test.other_client("mayfly.db").await;

    sqlx::query("UPDATE secrets SET tenant = 'theirs'").execute(&mut db).await.unwrap();

    assert_eq!(opened(&test.store).await, [(theirs(), None)]);
}

fn token(tenant: Tenant, id: &str) -> NewToken {
    NewToken {
        tenant,
        id: id.to_owned(),
        name: "ci".to_owned(),
        hash: [1; 32],
        scopes: vec!["deploy".to_owned()],
        created_ms: 1,
        expires_ms: None,
    }
}

#[tokio::test]
async fn tokens_of_the_same_name_are_listed_and_revoked_by_their_own_tenant() {
    let test = TestStore::new().await;
    test.store.add_token(token(ours(), "a")).await.unwrap();
    test.store.add_token(token(theirs(), "b")).await.unwrap();
    let ids = async |tenant: Tenant| {
        let tokens = test.store.tokens(&tenant).await.unwrap();
        tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };

    assert_eq!((ids(ours()).await, ids(theirs()).await), (vec!["a".into()], vec!["b".into()]));
    assert!(!test.store.revoke_token(&ours(), "b", 2).await.unwrap());
    let theirs_token = test.store.token("b").await.unwrap().unwrap();
    assert_eq!((theirs_token.tenant, theirs_token.revoked_ms), (theirs(), None));
    assert!(test.store.revoke_token(&theirs(), "b", 3).await.unwrap());
    assert_eq!(test.store.token("a").await.unwrap().unwrap().revoked_ms, None);
}

#[tokio::test]
async fn idempotency_keys_of_the_same_name_have_a_reply_for_each_tenant() {
    let test = TestStore::new().await;
    let request =
        |fingerprint| IdempotentRequest { key: "k", token: "t", fingerprint: [fingerprint; 32] };
    let reply = async |tenant| test.store.recorded_reply(&tenant, "k", 1_001).await.unwrap();
    let named = NewRevision { request: Some(request(1)), ..new("f") };
    publish(&test.store, named, b"ours").await.unwrap();
    assert!(reply(theirs()).await.is_none());

    let named = NewRevision { tenant: theirs(), ..new("f") };
    publish(&test.store, named, b"theirs").await.unwrap();
    let active = test.store.function(&theirs(), "f").await.unwrap().unwrap();
    test.store.record_reply(request(2), &active, &Quotas::default(), 1_000).await.unwrap();

    let (our_reply, their_reply) = (reply(ours()).await.unwrap(), reply(theirs()).await.unwrap());
    assert_eq!((our_reply.fingerprint, our_reply.created), ([1; 32], true));
    assert_eq!(our_reply.active.revision.digest, Digest::of(b"ours"));
    assert_eq!((their_reply.fingerprint, their_reply.created), ([2; 32], false));
    assert_eq!(their_reply.active, active);
}

#[tokio::test]
async fn functions_of_the_same_name_have_log_lines_of_their_own() {
    let test = TestStore::new().await;
    both_publish(&test).await;
    let id = async |tenant| test.store.function(&tenant, "f").await.unwrap().unwrap().function.id;
    let (our_id, their_id) = (id(ours()).await, id(theirs()).await);
    let line = |function_id, text: &str| NewLogLine {
        function_id,
        time_ms: 5,
        invocation: "i".to_owned(),
        revision: 1,
        stream: LogSource::Stdout,
        line: text.to_owned(),
    };
    let lines = [line(our_id, "ours"), line(their_id, "theirs")];
    test.store.append_logs(&lines).await.unwrap();
    let read = async |function_id| {
        let query = LogQuery { after: None, invocation: Some("i"), limit: 9 };
        let lines = test.store.logs(function_id, query).await.unwrap();
        lines.into_iter().map(|line| line.line).collect::<Vec<_>>()
    };

    assert_eq!(
        (read(our_id).await, read(their_id).await),
        (vec!["ours".into()], vec!["theirs".into()])
    );
    test.store.delete_function(&ours(), "f").await.unwrap();
    assert_eq!(test.store.trim_logs(9).await.unwrap(), 1);
    assert_eq!((read(our_id).await, read(their_id).await), (vec![], vec!["theirs".into()]));
}
