//! The names by which the interfaces are imported. Versions that are drafts have no compatible ones, so each
//! is served by its exact name.

/// What has to be granted for an interface to be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeededGrant {
    /// A store of keys and values.
    KeyValue,
    /// Nothing: it gives what is there.
    Nothing,
}

const WASI_KEY_VALUE: &[&str] = &[
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    BATCH_OF_TWO_SHAPES,
];
pub(crate) const BATCH_OF_TWO_SHAPES: &str = "wasi:keyvalue/batch@0.2.0-draft2";
pub(crate) const SPIN_KEY_VALUE: &str = "fermyon:spin/key-value@2.0.0";
pub(crate) const SPIN_KEY_VALUE_ASYNC: &str = "spin:key-value/key-value@3.0.0";
pub(crate) const MAYFLY_KEY_VALUE: &str = "mayfly:keyvalue/store@0.1.0";

/// `wasi:config`, by the names that it has had. Its functions were always the same.
pub(crate) const CONFIG: &[&str] = &[
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/runtime@0.2.0-draft",
];
pub(crate) const VARIABLES: &str = "fermyon:spin/variables@2.0.0";
pub(crate) const VARIABLES_ASYNC: &str = "spin:variables/variables@3.0.0";
pub(crate) const LOGGING: &[&str] = &["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

/// What an interface needs, if guests are served it. Only guests of WASI 0.3 are served the
/// `asynchronous` ones.
pub(crate) fn served(asynchronous: bool, name: &str) -> Option<NeededGrant> {
    let one_of = |names: &[&str]| names.contains(&name);
    if one_of(WASI_KEY_VALUE)
        || one_of(&[SPIN_KEY_VALUE, MAYFLY_KEY_VALUE])
        || asynchronous && name == SPIN_KEY_VALUE_ASYNC
    {
        return Some(NeededGrant::KeyValue);
    }
    let served = one_of(CONFIG)
        || one_of(LOGGING)
        || name == VARIABLES
        || asynchronous && name == VARIABLES_ASYNC;
    served.then_some(NeededGrant::Nothing)
}

/// What has to be granted for the import `name` to be of use. `None` for other imports.
pub fn needed_grant(name: &str) -> Option<NeededGrant> {
    served(true, name)
}
