//! Lists of keys.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use runtime_pool::Expect;

use crate::subject::{TestedBackend, put};

fn names(keys: &runtime_pool::Keys) -> Vec<&str> {
    keys.keys.iter().map(|key| &*key.name).collect()
}

/// Case L06. The order is that of bytes; a prefix has no rules of its own.
pub async fn keys_are_sorted_by_their_bytes_and_stay_in_their_prefix(subject: TestedBackend) {
    let keys = ["b", "a", "a/", "a/é", "a/z", "a\0", "aa", "A", "é", "😀", "a0", "\u{10ffff}", ""];
    for key in keys {
        subject.put(key, "v").await.unwrap();
    }
    let mut sorted = keys;
    sorted.sort_unstable();

    let all = subject.list("", None, 99).await;
    assert_eq!((names(&all), all.more), (sorted.to_vec(), false));
    assert_eq!(names(&subject.list("a/", None, 99).await), ["a/", "a/z", "a/é"]);
    assert_eq!(names(&subject.list("a/", Some("a/"), 99).await), ["a/z", "a/é"]);
    // A cursor outside of the prefix does not lead out of it.
    assert_eq!(names(&subject.list("a/", Some("A"), 1).await), ["a/"]);
    assert!(names(&subject.list("a/", Some("zzz"), 99).await).is_empty());
    assert!(names(&subject.list("a/../", None, 99).await).is_empty());
    assert_eq!(names(&subject.list("\u{10ffff}", None, 99).await), ["\u{10ffff}"]);

    let page = subject.list("a", None, 3).await;
    assert_eq!((names(&page), page.more), (vec!["a", "a\0", "a/"], true));
    let last = subject.list("a", Some("a/é"), 2).await;
    assert_eq!((names(&last), last.more), (vec!["a0", "aa"], false));
}

/// Case L06. What is there all the time comes once, whatever else is written and removed.
pub async fn pages_lose_no_key_and_repeat_none_under_concurrent_writes(subject: TestedBackend) {
    for index in 0..300 {
        subject.put(&format!("{index:03}-stays"), "v").await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let (stop, backend, store) =
        (Arc::clone(&done), Arc::clone(subject.backend()), Arc::clone(subject.store()));
    let writer = tokio::spawn(async move {
        for index in (0..300).cycle().take_while(|_| !stop.load(Relaxed)) {
            let key = format!("{index:03}-moves");
            backend.put(&store, put(&key, "v")).await.unwrap();
            let other = format!("{:03}-moves", (index + 150) % 300);
            backend.delete(&store, &other, Expect::Anything).await.unwrap();
        }
    });

    for limit in [1, 7, 100] {
        let (mut seen, mut stays) = (BTreeSet::new(), 0);
        let mut after: Option<String> = None;
        loop {
            let page = subject.list("", after.as_deref(), limit).await;
            for key in &page.keys {
                assert!(seen.insert(key.name.clone()), "{} comes twice", key.name);
                stays += u32::from(key.name.ends_with("-stays"));
            }
            if !page.more {
                break;
            }
            after = page.keys.last().map(|key| key.name.clone());
        }
        assert_eq!(stays, 300, "pages of {limit}");
    }
    done.store(true, Relaxed);
    writer.await.unwrap();
}
