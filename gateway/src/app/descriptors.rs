//! The limit of open files and sockets of this process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit, and returns it. The soft limits of common systems are
/// low for the sake of programs that use `select`.
pub(crate) fn raise() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If this fails, the old limit stays.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}
