//! Counters.

use std::sync::Arc;

use runtime_pool::{Put, Refused};
use tokio::task::JoinSet;

use crate::subject::{TestedBackend, put};

/// Case L07. What is added is what a read shows.
pub async fn a_counter_is_decimal_text(subject: TestedBackend) {
    assert_eq!(subject.increment("n", 5).await, Ok(5));
    assert_eq!(subject.increment("n", -7).await, Ok(-2));
    assert_eq!(subject.value("n").await.unwrap(), "-2");
    subject.put("n", "40").await.unwrap();
    let before = subject.get("n").await.unwrap().version;
    assert_eq!(subject.increment("n", 2).await, Ok(42));
    assert!(subject.get("n").await.unwrap().version > before);

    // It keeps what was written with it.
    subject.put_with(Put { metadata: Some("m"), ..put("m", "1") }).await.unwrap();
    assert_eq!(subject.increment("m", 0).await, Ok(1));
    assert_eq!(subject.get("m").await.unwrap().metadata.as_deref(), Some("m"));
}

/// Case L07. Other values, and sums without a place.
pub async fn what_is_no_counter_is_an_error(subject: TestedBackend) {
    for value in ["", "x", "1.5", " 1", "1 ", "0x1", "9223372036854775808"] {
        subject.put("n", value).await.unwrap();
        let refused = subject.increment("n", 1).await;
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{value:?}: {refused:?}");
        assert_eq!(subject.value("n").await.unwrap(), value);
    }
    subject.put("n", vec![0xff]).await.unwrap();
    assert!(subject.increment("n", 1).await.is_err());
    subject.put("n", i64::MAX.to_string()).await.unwrap();
    assert!(matches!(subject.increment("n", 1).await, Err(Refused::Invalid(_))));
    assert_eq!(subject.increment("n", 0).await, Ok(i64::MAX));
    subject.put("n", i64::MIN.to_string()).await.unwrap();
    assert!(subject.increment("n", -1).await.is_err());
}

/// Case L03. 8 clients with 100 additions each.
pub async fn concurrent_additions_are_all_counted(subject: TestedBackend) {
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (backend, store) = (Arc::clone(subject.backend()), Arc::clone(subject.store()));
        clients.spawn(async move {
            for _ in 0..100 {
                backend.increment(&store, "n", 3).await.unwrap();
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }

    assert_eq!(subject.value("n").await.unwrap(), "2400");
}
