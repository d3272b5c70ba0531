//! The backends at the seam of the pool, by the suite for all backends; and a process that is killed.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod durability;

use std::sync::Arc;

use backend_conformance::{MadeBackend, TestClock};
use backend_embedded::{Memory, Sqlite};

mod memory {
    use super::*;

    fn made(clock: TestClock) -> MadeBackend {
        MadeBackend { backend: Arc::new(Memory::new(clock, 1 << 30)), keep: Box::new(()) }
    }

    backend_conformance::key_value_suite!(made);
}

mod sqlite {
    use super::*;

    fn made(clock: TestClock) -> MadeBackend {
        let dir = tempfile::tempdir().unwrap();
        let backend = Arc::new(Sqlite::open(&dir.path().join("state"), clock).unwrap());
        MadeBackend { backend, keep: Box::new(dir) }
    }

    backend_conformance::key_value_suite!(made);
}
