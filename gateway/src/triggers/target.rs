//! Paths and queries of requests, as owners write them.

use http::uri::PathAndQuery;

use crate::request::canonical::canonical_path;

/// Bytes of a path with its query. Arbitrary, large enough.
const PATH_BYTES: usize = 2_048;

/// Checks that functions get a path as its owner has written it. An error says what is wrong.
pub(super) fn check_target(path: &str) -> Result<(), String> {
    if path.len() > PATH_BYTES {
        return Err(format!("at most {PATH_BYTES} bytes are allowed"));
    }
    if !path.starts_with('/') {
        return Err(format!("{path:?} does not begin with `/`"));
    }
    let target: PathAndQuery =
        path.parse().map_err(|error| format!("{path:?} is not a path: {error}"))?;
    match canonical_path(target.path()) {
        Ok(canonical) if canonical == target.path() && target.as_str() == path => Ok(()),
        Ok(canonical) => Err(format!("functions get it as `{canonical}`: write it so")),
        Err(wrong) => Err(format!("{path:?}: {wrong}")),
    }
}
