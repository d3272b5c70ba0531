//! Log lines.

use store::{LogQuery, LogSource, NewLogLine, StoredLogLine};

use crate::support::{TestStore, ours};

const NEWEST: LogQuery<'_> = LogQuery { after: None, invocation: None, limit: 3 };

fn line(function_id: i64, invocation: &str, text: impl std::fmt::Display) -> NewLogLine {
    NewLogLine {
        function_id,
        time_ms: 5,
        invocation: invocation.to_owned(),
        revision: 7,
        stream: LogSource::Stderr,
        line: format!("{text}"),
    }
}

fn texts(lines: &[StoredLogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.line.as_str()).collect()
}

#[tokio::test]
async fn a_line_is_read_as_it_was_written() {
    let test = TestStore::new().await;
    let written: Vec<_> = [LogSource::Stdout, LogSource::Stderr, LogSource::System]
        .into_iter()
        .map(|stream| NewLogLine { stream, ..line(1, "i", "nul \0, ключ, 🦟") })
        .collect();

    test.store.append_logs(&written).await.unwrap();
    test.store.append_logs(&[]).await.unwrap();

    let read = test.store.logs(1, NEWEST).await.unwrap();
    assert_eq!(read.len(), 3);
    for (read, written) in read.iter().zip(&written) {
        let StoredLogLine { function_id, time_ms, invocation, revision, stream, line, .. } =
            read.clone();
        assert_eq!(
            *written,
            NewLogLine { function_id, time_ms, invocation, revision, stream, line }
        );
    }
}

#[tokio::test]
async fn a_query_returns_the_newest_lines_or_those_after_its_cursor() {
    let test = TestStore::new().await;
    let lines: Vec<_> = (0..10).map(|n| line(1 + n % 2, &format!("i{}", n % 4), n)).collect();
    test.store.append_logs(&lines).await.unwrap();

    let newest = test.store.logs(1, NEWEST).await.unwrap();
    assert_eq!(texts(&newest), ["4", "6", "8"]);
    let first = test.store.logs(1, LogQuery { after: Some(0), ..NEWEST }).await.unwrap();
    assert_eq!(texts(&first), ["0", "2", "4"]);
    let after = Some(first[2].id);
    let rest = test.store.logs(1, LogQuery { after, ..NEWEST }).await.unwrap();
    assert_eq!(texts(&rest), ["6", "8"]);
    let after = Some(rest[1].id);
    assert_eq!(test.store.logs(1, LogQuery { after, ..NEWEST }).await.unwrap(), []);

    let invocation = Some("i2");
    let one = test.store.logs(1, LogQuery { invocation, ..NEWEST }).await.unwrap();
    assert_eq!(texts(&one), ["2", "6"]);
    let after = Some(one[0].id);
    let one = test.store.logs(1, LogQuery { after, invocation, limit: 9 }).await.unwrap();
    assert_eq!(texts(&one), ["6"]);
}

#[tokio::test]
async fn a_batch_of_many_thousands_keeps_its_order() {
    let test = TestStore::new().await;
    let lines: Vec<_> = (0..12_345).map(|n| line(1, "i", n)).collect();

    test.store.append_logs(&lines).await.unwrap();

    let all = LogQuery { after: Some(0), invocation: None, limit: u32::MAX };
    let read = test.store.logs(1, all).await.unwrap();
    assert!(read.iter().map(|line| &line.line).eq(lines.iter().map(|line| &line.line)));
}

#[tokio::test]
async fn trimming_keeps_the_newest_lines_of_functions_that_exist() {
    let test = TestStore::new().await;
    let kept = test.publish("kept", b"x").await.function.id;
    let quiet = test.publish("quiet", b"x").await.function.id;
    let gone = test.publish("gone", b"x").await.function.id;
    let mut lines: Vec<_> = (0..25_000).map(|n| line(kept, "i", n)).collect();
    lines.extend((0..2).map(|n| line(quiet, "i", n)));
    lines.extend((0..5).map(|n| line(gone, "i", n)));
    test.store.append_logs(&lines).await.unwrap();
    test.store.delete_function(&ours(), "gone").await.unwrap();

    assert_eq!(test.store.trim_logs(2).await.unwrap(), 24_998 + 5);
    assert_eq!(test.store.trim_logs(2).await.unwrap(), 0);

    assert_eq!(texts(&test.store.logs(kept, NEWEST).await.unwrap()), ["24998", "24999"]);
    assert_eq!(texts(&test.store.logs(quiet, NEWEST).await.unwrap()), ["0", "1"]);
    assert_eq!(test.store.logs(gone, NEWEST).await.unwrap(), []);
}

#[tokio::test]
async fn a_cursor_stays_good_when_all_lines_were_trimmed() {
    let test = TestStore::new().await;
    let id = test.publish("f", b"x").await.function.id;
    test.store.append_logs(&[line(id, "i", "old")]).await.unwrap();
    let after = Some(test.store.logs(id, NEWEST).await.unwrap()[0].id);

    test.store.trim_logs(0).await.unwrap();
    test.store.append_logs(&[line(id, "i", "new")]).await.unwrap();

    let read = test.store.logs(id, LogQuery { after, ..NEWEST }).await.unwrap();
    assert_eq!(texts(&read), ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_storm_does_not_delay_a_deploy() {
    let test = TestStore::new().await;
    // Another process holds the log's write lock during the test.
    let mut other = test.other_client("logs.db").await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let storm = tokio::spawn({
        let store = test.store.clone();
        async move { store.append_logs(&[line(1, "i", "waits")]).await }
    });

    test.publish("f", b"x").await;

    assert!(!storm.is_finished());
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    storm.await.unwrap().unwrap();
}
