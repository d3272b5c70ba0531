//! Quotas, and what counts for them.

use std::{collections::BTreeMap, time::Duration};

use runtime_pool::{Expect, Put, Refused, StoreUsage};

use crate::subject::{TestedBackend, put};

/// Case L04. Key, value and metadata count, each byte of them.
pub async fn a_quota_is_exact_at_the_byte(subject: TestedBackend) {
    subject.store().set_quota(20, 99);
    subject.put("a", "123456789").await.unwrap();
    let text = Some("1234");
    let over = subject.put_with(Put { metadata: text, ..put("bb", "12345") }).await;
    assert_eq!(over, Err(Refused::Quota { what: "bytes", most: 20 }));
    assert_eq!(subject.get("bb").await, None);

    subject.put_with(Put { metadata: text, ..put("bb", "1234") }).await.unwrap();
    assert_eq!(subject.usage().await, StoreUsage { bytes: 20, keys: 2 });

    // A replacement counts by what it adds.
    assert!(subject.put("a", "1234567890").await.is_err());
    subject.put("a", "987654321").await.unwrap();
    subject.put("bb", "12345678").await.unwrap();
    assert!(subject.increment("n", 1).await.is_err());
    assert_eq!(subject.usage().await, StoreUsage { bytes: 20, keys: 2 });
}

/// Case L04. The number of keys.
pub async fn a_quota_is_exact_at_the_key(subject: TestedBackend) {
    subject.store().set_quota(u64::MAX, 2);
    subject.put("a", "1").await.unwrap();
    subject.increment("b", 1).await.unwrap();

    assert_eq!(subject.put("c", "1").await, Err(Refused::Quota { what: "keys", most: 2 }));
    assert_eq!(subject.increment("c", 1).await, Err(Refused::Quota { what: "keys", most: 2 }));
    subject.put("a", "more").await.unwrap();
    subject.backend().delete(subject.store(), "a", Expect::Anything).await.unwrap();
    subject.put("c", "1").await.unwrap();
}

/// Case L04. What is there stays, and may become less.
pub async fn a_smaller_quota_lets_a_store_shrink(subject: TestedBackend) {
    subject.put("a", "1234567890").await.unwrap();
    subject.put("b", "1234567890").await.unwrap();
    subject.store().set_quota(5, 1);

    subject.put("a", "12345").await.unwrap();
    assert!(subject.put("a", "123456").await.is_err());
    assert_eq!(subject.value("b").await.unwrap(), "1234567890");
    subject.backend().delete(subject.store(), "b", Expect::Anything).await.unwrap();
    subject.put("a", "1234").await.unwrap();
}

/// Case L04. 500 random writes of all kinds, and then every entry once.
pub async fn usage_agrees_with_a_recount_after_random_writes(subject: TestedBackend) {
    // A linear congruential generator: the same on every run.
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut values: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..500 {
        let key = format!("{}", random(50));
        let len = random(300) as usize;
        match random(4) {
            0 => {
                subject.backend().delete(subject.store(), &key, Expect::Anything).await.unwrap();
                values.remove(&key);
            }
            1 => {
                let metadata = Some("text");
                let ttl = Some(Duration::from_secs(60));
                let put = Put { metadata, ttl, ..put(&key, vec![b'x'; len]) };
                subject.put_with(put).await.unwrap();
                values.insert(key, len + 4);
            }
            2 => {
                let writes = vec![(key.clone(), Some(vec![b'x'; len].into())), ("0".into(), None)];
                subject.backend().write_many(subject.store(), writes).await.unwrap();
                values.insert(key, len);
                values.remove("0");
            }
            _ => {
                subject.put(&key, vec![b'x'; len]).await.unwrap();
                values.insert(key, len);
            }
        }
    }
    let bytes = values.iter().map(|(key, len)| (key.len() + len) as u64).sum();

    assert_eq!(subject.usage().await, StoreUsage { bytes, keys: values.len() as u64 });
    let listed = subject.list("", None, 99).await.keys;
    assert!(listed.iter().map(|key| &key.name).eq(values.keys()));
}

/// Case L11. Nothing is left, also of many entries.
pub async fn a_cleared_store_is_empty(subject: TestedBackend) {
    let many = (0..2_500).map(|index| (format!("{index}"), Some("value".into()))).collect();
    subject.backend().write_many(subject.store(), many).await.unwrap();
    assert_eq!(subject.usage().await.keys, 2_500);

    subject.backend().clear(subject.store()).await.unwrap();

    assert_eq!(subject.usage().await, StoreUsage::default());
    assert!(subject.list("", None, 9).await.keys.is_empty());
    subject.put("new", "1").await.unwrap();
    assert_eq!(subject.usage().await.keys, 1);
}
