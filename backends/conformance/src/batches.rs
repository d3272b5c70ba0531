//! Several writes at once.

use bytes::Bytes;
use runtime_pool::Refused;

use crate::subject::TestedBackend;

async fn write(
    subject: &TestedBackend,
    writes: &[(&str, Option<&'static str>)],
) -> Result<(), Refused> {
    let of_one = |(key, value): &(&str, Option<&'static str>)| {
        ((*key).to_owned(), value.map(|value| Bytes::from_static(value.as_bytes())))
    };
    let writes = writes.iter().map(of_one).collect();
    subject.backend().write_many(subject.store(), writes).await
}

/// Writes and removals of one batch, in their order.
pub async fn a_batch_is_written_whole(subject: TestedBackend) {
    subject.put("gone", "1").await.unwrap();
    subject.put("changed", "1").await.unwrap();
    let before = subject.get("changed").await.unwrap().version;

    let writes = [
        ("new", Some("n")),
        ("gone", None),
        ("never", None),
        ("changed", Some("2")),
        ("twice", Some("first")),
        ("twice", Some("second")),
    ];
    write(&subject, &writes).await.unwrap();
    write(&subject, &[]).await.unwrap();

    assert_eq!(subject.value("new").await.unwrap(), "n");
    assert_eq!(subject.value("gone").await, None);
    let changed = subject.get("changed").await.unwrap();
    assert!(changed.value == "2" && changed.version > before);
    assert_eq!(subject.value("twice").await.unwrap(), "second");
    assert_eq!(subject.usage().await.keys, 3);
}

/// Case L04. A batch that would not fit leaves entries, versions and usage as they were; one that frees what it needs
/// fits.
pub async fn a_batch_without_room_changes_nothing(subject: TestedBackend) {
    subject.put("a", "1").await.unwrap();
    subject.put("b", "2").await.unwrap();
    subject.store().set_quota(u64::MAX, 3);
    let (before, usage) = (subject.get("a").await, subject.usage().await);

    let refused = write(
        &subject,
        &[
            ("a", Some("9")),
            ("c", Some("3")),
            ("b", None),
            ("d", None),
            ("e", Some("5")),
            ("f", Some("6")),
        ],
    )
    .await;

    assert_eq!(refused, Err(Refused::Quota { what: "keys", most: 3 }));
    assert_eq!((subject.get("a").await, subject.usage().await), (before, usage));
    assert_eq!(subject.value("b").await.unwrap(), "2");
    assert_eq!(subject.value("c").await, None);

    write(&subject, &[("c", Some("3")), ("d", Some("4")), ("a", None)]).await.unwrap();
    assert_eq!(subject.usage().await.keys, 3);
}
