//! Writes to stores until it is killed, and says what was acknowledged.

use std::{io::Write as _, process::ExitCode, sync::Arc};

use backend_embedded::Sqlite;
use bytes::Bytes;
use runtime_pool::{Expect, GuestStore, KeyValue as _, Put, StoreId};

const WRITERS: usize = 8;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(dir) = std::env::args().nth(1) else { return ExitCode::FAILURE };
    let Ok(backend) = Sqlite::open(dir.as_ref(), Arc::new(|| 0)) else { return ExitCode::FAILURE };
    let backend = Arc::new(backend);
    let store = Arc::new(GuestStore::new(StoreId(1), u64::MAX, u64::MAX));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(writer, Arc::clone(&backend), Arc::clone(&store))))
        .collect();
    for writer in writers {
        // It writes until it is killed.
        if writer.await.is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn write(writer: usize, backend: Arc<Sqlite>, store: Arc<GuestStore>) {
    for round in 0_u64.. {
        let key = format!("{writer}/{round}");
        let value = Bytes::from(key.repeat(50));
        let (expect, ttl, metadata) = (Expect::Absent, None, None);
        let put = Put { key: &key, value, expect, ttl, metadata };
        if backend.put(&store, put).await.is_err()
            || backend.increment(&store, "count", 1).await.is_err()
        {
            return;
        }
        // One system call for each line, so that none is written in part.
        if std::io::stdout().write_all(format!("{key}\n").as_bytes()).is_err() {
            return;
        }
    }
}
